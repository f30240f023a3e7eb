"""Arithmetic of pieces and blocks, in one place, and the set of pieces somebody has.

Trust: a stranger names pieces and ranges by number; nothing is indexed by such a number before `Geometry.holds` or
`Geometry.check_piece` has said that it lies inside the torrent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bct.errors import ConfigError, RemoteProtocolError
from bct.units import PieceIndex

BLOCK_SIZE = 16 * 1024
"""Bytes every client asks for at most in one request (BEP 3 as practised)."""


class Block(NamedTuple):
    """A byte range inside one piece: what one request asks for. Sizes in bytes."""

    piece: int
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a torrent of `length` bytes falls into pieces of `piece_length`; the last one may be shorter."""

    length: int
    piece_length: int
    count: int = field(init=False)
    """Number of pieces."""
    last_size: int = field(init=False)
    """Bytes of the last piece."""

    def __post_init__(self) -> None:
        if self.length < 1 or self.piece_length < 1:
            raise ConfigError(f"a torrent needs bytes: length {self.length}, piece length {self.piece_length}")
        count = -(-self.length // self.piece_length)
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "last_size", self.length - (count - 1) * self.piece_length)

    def size(self, index: int) -> int:
        """Bytes of one piece."""
        return self.piece_length if index < self.count - 1 else self.last_size

    def offset(self, index: int) -> int:
        """Where a piece starts in the torrent."""
        return index * self.piece_length

    def locate(self, offset: int) -> tuple[PieceIndex, int]:
        """The piece a byte of the torrent lies in, and where in that piece."""
        index, begin = divmod(offset, self.piece_length)
        return PieceIndex(index), begin

    def blocks(self, index: int, block_size: int = BLOCK_SIZE) -> Iterator[Block]:
        """The requests that fetch one whole piece, in order."""
        size = self.size(index)
        for begin in range(0, size, block_size):
            yield Block(index, begin, min(block_size, size - begin))

    def holds(self, block: Block) -> bool:
        """Whether the range is not empty and lies inside one piece of this torrent. Numbers are never negative here:
        they come from unsigned fields."""
        index, begin, length = block
        return length > 0 and index < self.count and begin + length <= self.size(index)

    def check_piece(self, index: int) -> PieceIndex:
        """The proof that a stranger's number is a piece of this torrent. Raises RemoteProtocolError('bad-index')."""
        if index >= self.count:
            raise RemoteProtocolError("bad-index", f"piece {index} of a torrent with {self.count} pieces")
        return PieceIndex(index)


class PieceMap:
    """The set of pieces somebody has. While it is all or none of them it costs no more than saying so."""

    __slots__ = ("_bits", "_full", "count")

    def __init__(self, count: int, full: bool = False) -> None:
        self.count = count
        self._full = full
        self._bits: bytearray | None = None

    @classmethod
    def from_bytes(cls, raw: bytes, count: int) -> PieceMap:
        """BEP 3's bitfield: high bit of the first byte is piece 0. Raises RemoteProtocolError('bad-bitfield')."""
        if len(raw) != (count + 7) // 8:
            raise RemoteProtocolError("bad-bitfield", f"a bitfield of {len(raw)} bytes for {count} pieces")
        if raw and raw[-1] & (0xFF >> ((count - 1) % 8 + 1)):
            raise RemoteProtocolError("bad-bitfield", f"spare bits are set behind piece {count - 1}")
        pieces = cls(count)
        pieces._bits = bytearray(raw)
        return pieces

    def to_bytes(self) -> bytes:
        """Inverse of `from_bytes`."""
        size = (self.count + 7) // 8
        if self._full:
            return (((1 << self.count) - 1) << (size * 8 - self.count)).to_bytes(size)
        return bytes(self._bits or size)

    def add(self, index: int) -> bool:
        """False when it was there already."""
        if index in self:
            return False
        if self._bits is None:
            self._bits = bytearray((self.count + 7) // 8)
        self._bits[index >> 3] |= 0x80 >> (index & 7)
        return True

    def lacking(self, other: PieceMap) -> list[int]:
        """What `other`, of the same torrent, has and this one has not; in order."""
        size = (self.count + 7) // 8
        new = int.from_bytes(other.to_bytes()) & ~int.from_bytes(self.to_bytes())
        spread = enumerate(new.to_bytes(size))
        return [8 * at + bit for at, byte in spread if byte for bit in range(8) if byte & 0x80 >> bit]

    def __contains__(self, index: int) -> bool:
        return self._full or (self._bits is not None and bool(self._bits[index >> 3] & (0x80 >> (index & 7))))

    def __len__(self) -> int:
        if self._full:
            return self.count
        return int.from_bytes(self._bits or b"").bit_count()

    def __iter__(self) -> Iterator[int]:
        return (index for index in range(self.count) if index in self)

    @property
    def full(self) -> bool:
        """Whether no piece is missing."""
        return len(self) == self.count
