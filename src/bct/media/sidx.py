"""Writes and reads the index box of a fragmented MP4 (sidx, ISO/IEC 14496-12, 8.16.3).

With it at the front, a player that only reads byte ranges knows the film's length and can seek without asking for the
end of the file first, and so without a piece being bought for it.
"""

from __future__ import annotations

import struct
from itertools import pairwise

from bct.errors import MediaError
from bct.media.boxes import Movie, outermost

MAX_FRAGMENTS = 0xFFFF
"""What the box's count field can say."""

_HEAD = struct.Struct(">I4sBxxxIIQQHH")
_ENTRY = struct.Struct(">III")
_FREE = struct.Struct(">I4s")


def sidx_size(fragments: int) -> int:
    """Bytes of an index of that many fragments."""
    return _HEAD.size + _ENTRY.size * fragments


def sidx(movie: Movie, track: int, first_offset: int) -> bytes:
    """The index of one of the tracks, by id, in the leading track's times; `first_offset` bytes stand between it and
    the first fragment."""
    lead, count = movie.leading, len(movie.fragments)
    head = _HEAD.pack(sidx_size(count), b"sidx", 1, track, lead.timescale, movie.ticks[0], first_offset, 0, count)
    starts = [*(fragment.offset for fragment in movie.fragments), movie.fragments[-1].end]
    sizes = [b - a for a, b in pairwise(starts)]
    durations = [b - a for a, b in pairwise(movie.ticks)]
    starts_with_sap = 0x9000_0000  # type 1: decodes from its first sample on
    entries = (
        _ENTRY.pack(size, duration, starts_with_sap if fragment.keyframe else 0)
        for size, duration, fragment in zip(sizes, durations, movie.fragments, strict=True)
    )
    return head + b"".join(entries)


def front(movie: Movie, init: bytes, space: int) -> bytes:
    """What stands before the first fragment, len(init) + space bytes: init segment, free space, and an index a track.

    The free space comes first and every track has an index because ffmpeg, and every player built on it, otherwise
    opens a film by reading the head of each fragment, and so has pieces bought all over it.
    An index that `space` cannot hold is left out: players then look for themselves. space >= 8.
    """
    each, tracks = sidx_size(len(movie.fragments)), len(movie.tracks)
    padding = space - each * tracks
    if padding < _FREE.size or len(movie.fragments) > MAX_FRAGMENTS:
        return init + _free(space)
    indexes = (sidx(movie, track.id, each * (tracks - n)) for n, track in enumerate(movie.tracks, 1))
    return init + _free(padding) + b"".join(indexes)


def _free(size: int) -> bytes:
    return _FREE.pack(size, b"free") + bytes(size - _FREE.size)


def starts(front: bytes) -> list[tuple[float, int]] | None:
    """When, in seconds, and where, in bytes, each fragment begins; last, when and where the last one ends.

    front: the beginning of a film that somebody else made, as much as there is; None when no index stands in it.
    """
    try:
        box = next(box for box in outermost(lambda at, size: front[at : at + size], 1 << 62, 0) if box.kind == b"sidx")
        _, _, version, _, timescale = struct.unpack_from(">I4sBxxxII", front, box.start)
        time, offset = struct.unpack_from(">QQ" if version else ">II", front, box.body + 12)
        count_at = box.body + 12 + (16 if version else 8) + 2
        (count,) = struct.unpack_from(">H", front, count_at)
        entries = [_ENTRY.unpack_from(front, count_at + 2 + i * _ENTRY.size) for i in range(count)]
    except (StopIteration, MediaError, struct.error):
        return None
    if not timescale or any(size >> 31 for size, _, _ in entries):  # the high bit: an index of indexes
        return None
    ticks, at = time, box.end + offset
    found = [(0.0, at)]
    for size, duration, _ in entries:
        ticks, at = ticks + duration, at + size
        found.append(((ticks - time) / timescale, at))
    return found
