"""Writes the index box of a fragmented MP4 (sidx, ISO/IEC 14496-12, 8.16.3).

With it at the front, a player that only reads byte ranges knows the film's length and can seek without asking for the
end of the file first, and so without a piece being bought for it.
"""

from __future__ import annotations

import struct
from itertools import pairwise

from bct.errors import MediaError
from bct.media.boxes import Movie

_HEAD = struct.Struct(">I4sBxxxIIQQHH")
_ENTRY = struct.Struct(">III")
_MAX_FRAGMENTS = 0xFFFF


def sidx_size(fragments: int) -> int:
    """Bytes of an index of that many fragments."""
    return _HEAD.size + _ENTRY.size * fragments


def sidx(movie: Movie, first_offset: int) -> bytes:
    """The index of `movie`; `first_offset` bytes stand between the index and the first fragment.

    Raises MediaError when there are more fragments than the box can name.
    """
    count = len(movie.fragments)
    if count > _MAX_FRAGMENTS:
        raise MediaError(f"{count} fragments do not fit one index, which names at most {_MAX_FRAGMENTS}")
    lead = movie.leading
    head = _HEAD.pack(sidx_size(count), b"sidx", 1, lead.id, lead.timescale, movie.ticks[0], first_offset, 0, count)
    starts = [*(fragment.offset for fragment in movie.fragments), movie.fragments[-1].end]
    sizes = [b - a for a, b in pairwise(starts)]
    durations = [b - a for a, b in pairwise(movie.ticks)]
    starts_with_sap = 0x9000_0000  # type 1: decodes from its first sample on
    entries = (
        _ENTRY.pack(size, duration, starts_with_sap if fragment.keyframe else 0)
        for size, duration, fragment in zip(sizes, durations, movie.fragments, strict=True)
    )
    return head + b"".join(entries)
