"""What the node asks of whatever keeps a torrent's pieces."""

from __future__ import annotations

from typing import Protocol

from bct.torrent.geometry import PieceMap
from bct.torrent.wire import Buffer
from bct.units import PieceIndex


class PieceStore(Protocol):
    """The verified pieces of one torrent. Raises StoreError when the disk refuses."""

    @property
    def pieces(self) -> PieceMap:
        """What is there and has been verified."""
        ...

    def read(self, index: PieceIndex) -> memoryview:
        """A whole piece that is in `pieces`; the view stays valid as long as it is held."""
        ...

    def write(self, index: PieceIndex, data: Buffer) -> None:
        """Keeps a piece whose hash has been checked."""
        ...

    def close(self) -> None: ...
