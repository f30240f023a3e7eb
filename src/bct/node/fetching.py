"""What is on its way from one peer: pieces asked for, put together, and checked before anyone sees them.

Who could cheat: a seeder that sends other bytes than the torrent's. A piece counts only when its SHA-1 is the one in
the metadata; one that does not match came from this peer alone (a piece is asked of one peer at a time), so the peer is
banned and nothing more is paid to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bct.errors import Action, RemoteProtocolError
from bct.torrent.assembly import PieceBuffer
from bct.torrent.connection import PeerConnection
from bct.torrent.geometry import Block, Geometry
from bct.torrent.wire import Buffer
from bct.units import PieceIndex


class Orderer(Protocol):
    """Who hears what became of the pieces."""

    def hash_of(self, piece: PieceIndex) -> bytes:
        """Its SHA-1, 20 bytes."""
        ...

    def arriving(self, since: float) -> None:
        """The first block of a piece that was asked for alone, at `since`, is here."""
        ...

    def arrived(self, piece: PieceIndex, data: bytearray, since: float) -> None:
        """The piece is complete and true. `data` is used again once this returns."""
        ...

    def failed(self, piece: PieceIndex, why: str) -> None:
        """It will not come: one word says why."""
        ...


@dataclass(slots=True)
class Arriving:
    """A piece under way, and when it was asked for. Times are steady seconds."""

    data: bytearray
    blocks: PieceBuffer[str]
    since: float
    touched: float
    """When bytes of it last came."""
    alone: bool
    """Nothing else was outstanding when it was asked for: its first block tells the round trip."""


class Fetching:
    """One peer's outstanding pieces, oldest first."""

    __slots__ = ("_clock", "_orderer", "_spare", "_wire", "pieces", "received")

    def __init__(self, wire: PeerConnection, orderer: Orderer, clock: Callable[[], float]) -> None:
        self._wire = wire
        self._orderer = orderer
        self._clock = clock
        self._spare: list[bytearray] = []  # of a piece's size: a fresh one costs more than what is put into it
        self.pieces: dict[PieceIndex, Arriving] = {}
        self.received = 0
        """Bytes of verified pieces."""

    def request(self, piece: PieceIndex, geometry: Geometry) -> None:
        """Asks for a whole piece; leaves with the next flush."""
        size, now = geometry.size(piece), self._clock()
        data = self._spare.pop() if self._spare and len(self._spare[-1]) == size else bytearray(size)
        self.pieces[piece] = Arriving(data, PieceBuffer(piece, data), now, now, alone=not self.pieces)
        self._wire.request(geometry.blocks(piece, self._wire.max_block))

    def block(self, index: int, begin: int, data: Buffer, now: float) -> None:
        piece = PieceIndex(index)
        arriving = self.pieces.get(piece)
        if arriving is None:
            return  # given up meanwhile
        arriving.touched = now
        if arriving.alone:
            arriving.alone = False
            self._orderer.arriving(arriving.since)
        if arriving.blocks.add(begin, data, ""):
            self._complete(piece, arriving)

    def _complete(self, piece: PieceIndex, arriving: Arriving) -> None:
        del self.pieces[piece]
        if not arriving.blocks.matches(self._orderer.hash_of(piece)):
            self._orderer.failed(piece, "corrupt")
            raise RemoteProtocolError("corrupt-piece", f"piece {piece} does not match its hash", Action.BAN)
        self.received += len(arriving.data)
        self._orderer.arrived(piece, arriving.data, arriving.since)
        if not self._spare:
            self._spare.append(arriving.data)

    def rejected(self, block: Block) -> None:
        """The peer will not send this block: the whole piece has to come from elsewhere, or be asked again."""
        piece = PieceIndex(block.piece)
        if self.give_up(piece):
            self._orderer.failed(piece, "rejected")

    def dropped(self, blocks: tuple[Block, ...]) -> None:
        """The peer choked us and forgot these."""
        for piece in {PieceIndex(block.piece) for block in blocks}:
            if self.pieces.pop(piece, None):
                self._orderer.failed(piece, "choked")

    def give_up(self, piece: PieceIndex) -> bool:
        """Stops waiting for a piece; False when it was not under way."""
        if self.pieces.pop(piece, None) is None:
            return False
        for block in [b for b in self._wire.requested if b.piece == piece]:
            self._wire.cancel(block)
        return True
