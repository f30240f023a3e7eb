"""What the shell asks of the file that payments are written to."""

from __future__ import annotations

from typing import Protocol


class Ledger(Protocol):
    """Append-only, durable in groups. After one failure it takes nothing more."""

    synced: int
    """Sequence of the last record that is certain to be read back."""

    def append(self, payload: bytes) -> int:
        """Takes a record without waiting; its sequence. Raises StoreError once the disk has failed."""
        ...

    async def wait(self, sequence: int) -> None:
        """Until the record is durable. Raises StoreError if it never will be."""
        ...
