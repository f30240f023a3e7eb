"""What becomes of a film on its way into a torrent, and who can do it: the words the node and the back-end share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Protocol

from bct.errors import MediaError
from bct.media.boxes import Movie


class Stage(Enum):
    """In this order; COPY may be followed by ENCODE when copying turns out not to do."""

    PROBE = "probe"
    COPY = "copy"  # packets stay as they are, only the container is new
    ENCODE = "encode"
    HASH = "hash"


LONGEST_FRAGMENT_MS = 12_000
"""The keyframes of common encoders are up to ten seconds apart; a film with fewer cannot be sought in."""
SMALLEST_PIECE = 256 * 1024
MOST_PIECES = 8192
"""Of a film of 2 GiB; larger ones get larger pieces."""

Progress = Callable[[Stage, float], None]
"""Called with the stage and how much of it is done, 0 to 1, never falling within a stage."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """A film that can be published. `path`: the fragmented MP4 of `length` bytes; `movie`: what is in it.

    piece_hashes: SHA-1 of each piece, 20 bytes, in order.
    """

    path: str
    length: int
    movie: Movie
    piece_length: int
    piece_hashes: tuple[bytes, ...]

    @property
    def bitrate(self) -> int:
        """Bits per second over the whole film, sound included."""
        return self.length * 8000 // max(1, self.movie.duration_ms)


def can_be_sought(movie: Movie) -> bool:
    """Whether playback can begin at every fragment and none is too long to wait for."""
    starts = [*(fragment.time_ms for fragment in movie.fragments), movie.duration_ms]
    return all(fragment.keyframe for fragment in movie.fragments) and all(
        after - before <= LONGEST_FRAGMENT_MS for before, after in pairwise(starts)
    )


def check_whole(duration: float | None, seconds: float) -> None:
    """Raises MediaError when much less could be read than the `duration` that a file claims. In seconds."""
    if duration and duration - seconds > 2 and seconds < 0.9 * duration:
        said = f"it says it lasts {duration:.0f} s, but only {seconds:.0f} s of it could be read"
        raise MediaError(f"the file is cut off or damaged: {said}")


def piece_length_for(length: int) -> int:
    """256 KiB up to 2 GiB, then doubled for each doubling of the film."""
    piece_length = SMALLEST_PIECE
    while length > piece_length * MOST_PIECES:
        piece_length *= 2
    return piece_length


class Ingester(Protocol):
    """Makes a film out of whatever file a creator has."""

    async def ingest(self, source: str, target: str, progress: Progress) -> Ingested:
        """Reads the file `source`, leaves the film at `target`, or nothing at all.

        Raises MediaError when no film can be made of it, StoreError when the disk refuses.
        """
        ...
