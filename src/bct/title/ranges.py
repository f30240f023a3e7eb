"""Between a file's bytes and its pieces: which pieces a byte range touches, and which of them are given away.

Byte ranges are half open, ``[start, end)``, in the one file of a torrent. Nothing here knows a price; `terms` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bct.errors import ConfigError
from bct.media.boxes import Fragment
from bct.units import PieceIndex


@dataclass(frozen=True, slots=True, order=True)
class PieceRange:
    """`count` >= 1 neighbouring pieces from `first` on; both fit 32 bits. Raises ConfigError otherwise."""

    first: PieceIndex
    count: int

    def __post_init__(self) -> None:
        if self.first < 0 or self.count < 1 or self.end > 2**32:
            raise ConfigError(f"{self.count} pieces from piece {self.first} on is no range of pieces")

    @property
    def end(self) -> PieceIndex:
        """The first piece after the range."""
        return PieceIndex(self.first + self.count)

    def __contains__(self, piece: int) -> bool:
        return self.first <= piece < self.end

    def __iter__(self) -> Iterator[PieceIndex]:
        return (PieceIndex(piece) for piece in range(self.first, self.end))

    def common(self, other: PieceRange) -> int:
        """How many pieces lie in both."""
        return max(0, min(self.end, other.end) - max(self.first, other.first))


def pieces_of(start: int, end: int, piece_length: int) -> PieceRange:
    """The pieces that bytes [start, end) touch, `start` < `end`. Raises ConfigError for an empty range."""
    first = start // piece_length
    return PieceRange(PieceIndex(first), -(-end // piece_length) - first)


def free_start(seconds: float, fragments: Sequence[Fragment], piece_length: int) -> PieceRange:
    """What a creator gives away so that playback starts while the payment channel opens.

    It is everything a player needs to show the first `seconds`: the init segment and each fragment that begins before
    then (the first one always), rounded up to whole pieces.
    """
    end = max(f.end for i, f in enumerate(fragments) if i == 0 or f.time_ms < seconds * 1000)
    return pieces_of(0, end, piece_length)
