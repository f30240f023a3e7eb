"""What the node asks of whatever keeps torrents' pieces."""

from __future__ import annotations

from typing import Protocol

from bct.torrent.geometry import PieceMap
from bct.torrent.metainfo import Metainfo
from bct.torrent.wire import Buffer
from bct.units import PieceIndex


class PieceStore(Protocol):
    """The verified pieces of one torrent. Raises StoreError when the disk refuses."""

    pieces: PieceMap
    """What is there and has been verified."""

    def read(self, index: PieceIndex) -> memoryview:
        """A whole piece that is in `pieces`; the view stays valid as long as it is held."""
        ...

    def write(self, index: PieceIndex, data: Buffer) -> None:
        """Keeps a piece whose hash has been checked."""
        ...

    def sync(self) -> None:
        """Makes durable what was written. Blocks for as long as the disk takes."""
        ...

    def close(self) -> None: ...


class PieceStores(Protocol):
    """Where the stores of all torrents come from. Raises StoreError."""

    def open(self, metainfo: Metainfo) -> PieceStore:
        """The torrent's store, made if need be."""
        ...

    def adopt(self, metainfo: Metainfo, name: str) -> PieceStore:
        """Takes in the file `name` of the incoming folder, which holds the whole torrent."""
        ...
