"""Which piece to get from whom, next.

Pure: what is wanted, in the order of its deadlines, and what each source can do, in; an assignment out. A piece goes
to the source that is likely to deliver it soonest; where two are alike, to the cheaper one. A source takes no more
than its window: what is asked for ahead of delivery is what a viewer can lose.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from bct.units import PieceIndex

_UNKNOWN_RATE = 256 * 1024.0
"""Bytes per second assumed of a source that has delivered nothing yet."""


@dataclass(slots=True)
class Source[Key: Hashable]:
    """One peer as the schedule sees it. price: satoshis it asks for a piece, None where it does not have it or cannot
    be paid for it now. room: pieces its window still takes. waiting: bytes asked of it. rate: bytes per second, 0 if
    unknown."""

    key: Key
    price: Callable[[PieceIndex], int | None]
    room: int
    waiting: int
    rate: float

    def eta(self, size: int) -> float:
        """Seconds until a piece of `size` bytes asked for now would be here."""
        return (self.waiting + size) / (self.rate or _UNKNOWN_RATE)


@dataclass(frozen=True, slots=True)
class Assignment[Key: Hashable]:
    piece: PieceIndex
    source: Key
    price: int


def assign[Key: Hashable](
    wanted: Iterable[PieceIndex], sources: list[Source[Key]], size: Callable[[PieceIndex], int]
) -> list[Assignment[Key]]:
    """wanted: pieces not owned and not on their way, most urgent first; one named twice is got once. Uses up the
    sources' room."""
    made: dict[PieceIndex, Assignment[Key]] = {}
    if not any(source.room for source in sources):
        return []
    for piece in wanted:
        if piece in made:
            continue
        offers = [(s, price) for s in sources if s.room and (price := s.price(piece)) is not None]
        if not offers:
            continue
        source, price = min(offers, key=lambda offer: (offer[0].eta(size(piece)), offer[1]))
        source.room -= 1
        source.waiting += size(piece)
        made[piece] = Assignment(piece, source.key, price)
        if not any(source.room for source in sources):
            break
    return list(made.values())
