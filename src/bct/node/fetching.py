"""What is on its way from one peer: pieces asked for, put together, and checked before anyone sees them.

Who could cheat: a seeder that sends other bytes than the torrent's. A piece counts only when its SHA-1 is the one in
the metadata; one that does not match came from this peer alone (a piece is asked of one peer at a time), so the peer is
banned and nothing more is paid to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bct.errors import Action, RemoteProtocolError
from bct.torrent.assembly import PieceBuffer
from bct.torrent.geometry import Block, Geometry
from bct.torrent.wire import Buffer
from bct.units import PieceIndex

if TYPE_CHECKING:
    from bct.node.peer import Peer


@dataclass(slots=True)
class Arriving:
    """A piece under way, and when it was asked for."""

    data: bytearray
    blocks: PieceBuffer[Peer]
    since: float
    alone: bool
    """Nothing else was outstanding when it was asked for: its first block tells the round trip."""


class Fetching:
    """One peer's outstanding pieces, oldest first."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.pieces: dict[PieceIndex, Arriving] = {}
        self.received = 0
        """Bytes of verified pieces."""

    def request(self, piece: PieceIndex, geometry: Geometry, now: float) -> None:
        """Asks for a whole piece; leaves with the next flush."""
        data = bytearray(geometry.size(piece))
        self.pieces[piece] = Arriving(data, PieceBuffer(piece, data), now, alone=not self.pieces)
        self._peer.wire.request(geometry.blocks(piece, self._peer.wire.max_block))

    def block(self, index: int, begin: int, data: Buffer) -> None:
        arriving = self.pieces.get(PieceIndex(index))
        if arriving is None:
            return  # given up meanwhile
        if arriving.alone:
            arriving.alone = False
            self._peer.torrent.first_block(self._peer, arriving.since)
        if arriving.blocks.add(begin, data, self._peer):
            self._complete(PieceIndex(index), arriving)

    def _complete(self, piece: PieceIndex, arriving: Arriving) -> None:
        del self.pieces[piece]
        torrent = self._peer.torrent
        if not arriving.blocks.matches(torrent.hash_of(piece)):
            torrent.failed(self._peer, piece, "corrupt")
            raise RemoteProtocolError("corrupt-piece", f"piece {piece} does not match its hash", Action.BAN)
        self.received += len(arriving.data)
        torrent.complete_piece(self._peer, piece, arriving.data, arriving.since)

    def rejected(self, block: Block) -> None:
        """The peer will not send this block: the whole piece has to come from elsewhere, or be asked again."""
        piece = PieceIndex(block.piece)
        if self.pieces.pop(piece, None):
            self._cancel(piece)
            self._peer.torrent.failed(self._peer, piece, "rejected")

    def dropped(self, blocks: tuple[Block, ...]) -> None:
        """The peer choked us and forgot these."""
        for piece in {PieceIndex(block.piece) for block in blocks}:
            if self.pieces.pop(piece, None):
                self._peer.torrent.failed(self._peer, piece, "choked")

    def give_up(self, piece: PieceIndex) -> None:
        if self.pieces.pop(piece, None):
            self._cancel(piece)

    def _cancel(self, piece: PieceIndex) -> None:
        for block in [b for b in self._peer.wire.requested if b.piece == piece]:
            self._peer.wire.cancel(block)
