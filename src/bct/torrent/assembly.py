"""Blocks into a piece, and the judgement over it: its SHA-1, and who gave which part.

Trust: a block is a stranger's claim until the whole piece hashes right. When it does not and one peer gave all of it,
that peer lied; when several did, nobody is proven guilty yet: fetch the piece again from one of them alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

from bct.torrent.geometry import Block
from bct.torrent.wire import Buffer


class PieceBuffer[Peer: Hashable]:
    """One piece while it is collected. `buffer` has exactly the piece's size and belongs to this object meanwhile; it
    may be used again afterwards."""

    __slots__ = ("_givers", "_missing", "_view", "buffer", "index")

    def __init__(self, index: int, buffer: bytearray) -> None:
        self.index = index
        self.buffer = buffer
        self._view = memoryview(buffer)  # a bytearray would copy twice what is assigned to a part of it
        self._missing = len(buffer)
        self._givers: dict[int, Peer] = {}

    def add(self, begin: int, data: Buffer, peer: Peer) -> bool:
        """True when the piece is complete now. A block that is there already is not taken again: the first giver is
        answerable for it. The range lies inside the piece: `PeerConnection` has seen to that."""
        if begin not in self._givers:
            self._givers[begin] = peer
            self._view[begin : begin + len(data)] = data
            self._missing -= len(data)
        return not self._missing

    def has(self, block: Block) -> bool:
        return block.begin in self._givers

    def matches(self, digest: bytes) -> bool:
        """Whether the complete piece has this SHA-1."""
        return hashlib.sha1(self.buffer, usedforsecurity=False).digest() == digest

    @property
    def givers(self) -> frozenset[Peer]:
        """Everybody a part is from. One alone with a piece that does not match: it lied."""
        return frozenset(self._givers.values())
