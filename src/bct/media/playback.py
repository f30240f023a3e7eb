"""What the players of one film want to read next, and by when.

A player is whoever reads byte ranges: it opens a reader at some byte, takes bytes in order for a while, opens another
elsewhere to seek or to look at the end of the file, and says nothing about what it shows. What is known is where each
reader is and when it took what. From this follows an estimate of when its next byte is due: taking a second's worth of
film puts that off by a second, and a reader that has to wait is due now. So a player that has filled its buffer is
less urgent than one that has just been opened, and one that was starved is not thought to be late for ever.

Times are seconds on any clock that does not go back; bytes are offsets in the film's file, ranges half open.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from bct.media import sidx
from bct.media.boxes import Fragment


class Want(NamedTuple):
    """The bytes [start, end), wanted at `deadline`, which is never before now."""

    start: int
    end: int
    deadline: float


class Step(NamedTuple):
    """A stretch of the file, [start, end), that is needed as a whole when playback comes to `time`."""

    time: float
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """Which bytes belong to which second of the film. The steps cover the file from its first byte to its last."""

    steps: tuple[Step, ...]
    duration: float

    @classmethod
    def of_fragments(cls, fragments: Sequence[Fragment], duration: float, length: int) -> Timeline:
        """What stands before the first fragment belongs to it, what stands behind one belongs to the one before."""
        starts = [0, *(fragment.offset for fragment in fragments[1:]), length]
        steps = (
            Step(fragment.time_ms / 1000, start, end)
            for fragment, (start, end) in zip(fragments, pairwise(starts), strict=True)
        )
        return cls(tuple(steps), duration)

    @classmethod
    def of_index(cls, front: bytes, length: int) -> Timeline | None:
        """From the index at the beginning of the film, `front`; None when there is none, or one of another file."""
        found = sidx.starts(front)
        if not found or len(found) < 2 or found[-1][1] > length:
            return None
        if any(later <= earlier for (_, earlier), (_, later) in pairwise(found)):
            return None
        places = [0, *(start for _, start in found[1:-1]), length]
        steps = (Step(time, start, end) for (time, _), (start, end) in zip(found, pairwise(places), strict=False))
        return cls(tuple(steps), found[-1][0])

    @classmethod
    def of_bitrate(cls, bits_per_second: int, length: int) -> Timeline:
        """For a file about which no more is known: a step a second."""
        size = max(1, bits_per_second // 8)
        steps = (Step(at / size, at, min(at + size, length)) for at in range(0, length, size))
        return cls(tuple(steps), length / size)

    def index_of(self, offset: int) -> int:
        """The step that holds a byte of the file."""
        return bisect_right(self.steps, offset, key=lambda step: step.start) - 1

    def time_of(self, offset: int) -> float:
        """When a byte is played, as though a step's bytes were spread evenly over it. 0 <= offset <= length."""
        index = self.index_of(offset)
        step = self.steps[index]
        until = self.steps[index + 1].time if index + 1 < len(self.steps) else self.duration
        return step.time + (until - step.time) * (offset - step.start) / (step.end - step.start)


class Reader:
    """One open byte range. `due`: when its next byte is expected to be needed."""

    __slots__ = ("due", "end", "position")

    def __init__(self, position: int, end: int, due: float) -> None:
        self.position = position
        self.end = end
        self.due = due


class Playback:
    """Every reader of one film."""

    def __init__(self, timeline: Timeline, read_ahead: float) -> None:
        """read_ahead: seconds of film beyond each reader's place that are wanted as well."""
        self.read_ahead = read_ahead
        self._timeline = timeline
        self._readers: list[Reader] = []

    @property
    def reading(self) -> bool:
        return bool(self._readers)

    def learn(self, timeline: Timeline) -> None:
        """The film's own index has come; until now its bitrate was guessed."""
        self._timeline = timeline

    def open(self, start: int, end: int, now: float) -> Reader:
        """Somebody begins to read [start, end) and waits for the first byte."""
        reader = Reader(start, end, now)
        self._readers.append(reader)
        return reader

    def advance(self, reader: Reader, position: int, now: float) -> None:
        """The reader has taken everything before `position`."""
        taken = self._timeline.time_of(position) - self._timeline.time_of(reader.position)
        reader.due = max(now, reader.due + taken)
        reader.position = position

    def close(self, reader: Reader) -> None:
        self._readers.remove(reader)

    def remaining(self) -> float:
        """Seconds of film from the reader that is furthest behind to the end; all of it while nobody reads."""
        behind = min((reader.position for reader in self._readers), default=0)
        return self._timeline.duration - self._timeline.time_of(behind)

    def wanted(self, now: float) -> Iterable[Want]:
        """What to have next, most urgent first; no byte twice. Of equally urgent readers the newest comes first: it
        is where somebody has just moved to."""
        if len(self._readers) == 1:
            return self._of(self._readers[0], now)  # in order already, and nobody to share with
        wants = [want for reader in reversed(self._readers) for want in self._of(reader, now)]
        wants.sort(key=lambda want: want.deadline)
        found: list[Want] = []
        for want in wants:
            found += _without(want, found)
        return found

    def _of(self, reader: Reader, now: float) -> Iterator[Want]:
        if reader.position >= reader.end:
            return
        here = self._timeline.time_of(reader.position)
        due = max(now, reader.due)
        for step in self._timeline.steps[self._timeline.index_of(reader.position) :]:
            if step.start >= reader.end or step.time > here + self.read_ahead:
                return
            start, end = max(step.start, reader.position), min(step.end, reader.end)
            yield Want(start, end, due + max(0.0, step.time - here))


def _without(want: Want, others: Sequence[Want]) -> list[Want]:
    """The parts of `want` that none of `others` has."""
    parts = [want]
    for other in others:
        parts = [
            Want(start, end, part.deadline)
            for part in parts
            for start, end in ((part.start, min(part.end, other.start)), (max(part.start, other.end), part.end))
            if start < end
        ]
    return parts
