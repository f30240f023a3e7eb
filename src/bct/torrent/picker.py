"""Which blocks to ask a peer for when order does not matter: rarest piece first (BEP 3 as practised).

For plain downloads of free torrents. A piece once started is finished first, so that there is soon something whole to
give on; when nothing is left that nobody was asked for, blocks are asked for twice. What a playhead wants, and
what is paid, is decided elsewhere.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from bct.torrent.geometry import Block, Geometry, PieceMap


@dataclass(slots=True)
class _Started:
    """A piece of which something was asked for: blocks to ask for, and how many peers were asked for the others."""

    todo: list[Block]
    waiting: dict[Block, int] = field(default_factory=dict)


class Picker:
    """One torrent's download. After each change of rarity the pieces are sorted anew: meant for thousands."""

    def __init__(self, geometry: Geometry, have: PieceMap, order: Sequence[int]) -> None:
        """have: what is there already. order: all piece indices, shuffled by the owner; decides between equally rare
        ones, so that peers that start together do not all ask for the same."""
        self._geometry = geometry
        self._owners = array("H", bytes(2 * geometry.count))
        self._untouched = {index: None for index in order if index not in have}
        self._started: dict[int, _Started] = {}
        self._ranking: list[int] | None = None  # untouched pieces, rarest last; None: rarity has changed since

    @property
    def finished(self) -> bool:
        return not self._untouched and not self._started

    def peer_has(self, pieces: Iterable[int]) -> None:
        """A peer said it has these (its bitfield, or one `have`)."""
        for index in pieces:
            self._owners[index] += 1
        self._ranking = None

    def peer_gone(self, pieces: Iterable[int]) -> None:
        """A peer that had these is no longer there; its unanswered requests go to `give_back`."""
        for index in pieces:
            self._owners[index] -= 1
        self._ranking = None

    def is_interesting(self, pieces: PieceMap) -> bool:
        """Whether such a peer has anything we lack."""
        return any(index in pieces for index in (*self._started, *self._untouched))

    def pick(self, pieces: PieceMap, room: int, requested: Collection[Block] = ()) -> list[Block]:
        """Up to `room` blocks to ask a peer for that has `pieces` and was already asked for `requested`."""
        picked: list[Block] = []
        for block in self._candidates(pieces, requested):
            if len(picked) == room:
                break
            picked.append(block)
        for block in picked:
            self._ask(block)
        return picked

    def _candidates(self, pieces: PieceMap, requested: Collection[Block]) -> Iterator[Block]:
        for index, started in self._started.items():
            if index in pieces:
                yield from reversed(started.todo)
        for index in self._rarest_first(pieces):
            yield from self._geometry.blocks(index)
        if not self._untouched:
            yield from self._second_askings(pieces, requested)

    def _rarest_first(self, pieces: PieceMap) -> Iterator[int]:
        ranking = self._ranking
        if ranking is None:
            ranking = self._ranking = sorted(self._untouched, key=self._owners.__getitem__)[::-1]
        while ranking and ranking[-1] not in self._untouched:
            ranking.pop()
        return (index for index in reversed(ranking) if index in pieces and index in self._untouched)

    def _second_askings(self, pieces: PieceMap, requested: Collection[Block]) -> Iterator[Block]:
        """The blocks that fewest peers were asked for, when all others are asked for as well."""
        if any(started.todo for started in self._started.values()):
            return
        waiting = [item for i, s in self._started.items() if i in pieces for item in s.waiting.items()]
        yield from (block for block, _ in sorted(waiting, key=lambda item: item[1]) if block not in requested)

    def _ask(self, block: Block) -> None:
        index = block.piece
        if index in self._untouched:
            del self._untouched[index]
            self._started[index] = _Started(list(self._geometry.blocks(index))[::-1])
        started = self._started[index]
        if started.todo and started.todo[-1] == block:
            started.todo.pop()
        started.waiting[block] = started.waiting.get(block, 0) + 1

    def received(self, block: Block) -> None:
        """It has come: nobody needs to be asked for it any more."""
        if started := self._started.get(block.piece):
            started.waiting.pop(block, None)

    def give_back(self, blocks: Iterable[Block]) -> None:
        """These will not come from the peer that was asked: it rejected them, choked us or is gone."""
        for block in blocks:
            started = self._started.get(block.piece)
            if not started or block not in started.waiting:
                continue
            started.waiting[block] -= 1
            if not started.waiting[block]:
                del started.waiting[block]
                started.todo.append(block)

    def done(self, index: int) -> None:
        """The piece hashed right."""
        self._started.pop(index, None)

    def failed(self, index: int) -> None:
        """The piece did not hash right: all of it is to be fetched again."""
        self._started.pop(index, None)
        self._untouched[index] = None
        self._ranking = None
