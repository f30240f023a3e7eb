"""What the shell asks of whatever remembers receipts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bct.pay.messages import Context, Receipt
from bct.title.terms import Terms
from bct.units import Outpoint


@dataclass(frozen=True, slots=True)
class SavedReceipt:
    """One epoch of a payment channel. receipt: as the payer signed it, on the connection that `context` is of.

    terms: what the creator signed, for each leaf, in order. countersignature: the payee's, 64 bytes; empty while there
    is none.
    """

    receipt: Receipt
    context: Context
    terms: tuple[Terms, ...]
    countersignature: bytes = b""

    @property
    def outpoint(self) -> Outpoint:
        return Outpoint.unpack(self.receipt.outpoint)


class ReceiptStore(Protocol):
    """Every method returns when the change is durable. Raises StoreError."""

    async def put_receipt(self, saved: SavedReceipt) -> None:
        """Adds the epoch, or replaces the one with this number: it was said again, or signed by the payee."""
        ...

    async def receipts(self, outpoint: Outpoint) -> list[SavedReceipt]:
        """All of one payment channel's, oldest first."""
        ...
