"""A fragmented MP4 and what is in it; and what players of it want next."""

from __future__ import annotations

from typing import Any

from bct.media.boxes import scan
from bct.media.ingest import piece_length_for
from bct.media.playback import Playback, Timeline
from bct.media.sidx import sidx
from tests import mp4


def build() -> dict[str, Any]:
    data = mp4.film()
    movie = scan(lambda offset, size: data[offset : offset + size], len(data))
    timeline = Timeline.of_fragments(movie.fragments, movie.duration_ms / 1000, len(data))
    playing = Playback(timeline, read_ahead=2.5)
    first = playing.open(0, len(data), now=100)
    playing.advance(first, 1000, now=101)
    playing.open(len(data) - 50, len(data), now=101.5)
    return {
        "film": data.hex(),
        "movie": {
            "mime": movie.mime,
            "duration_ms": movie.duration_ms,
            "init": movie.init_size,
            "fragments": [[one.time_ms, one.offset, one.size, one.keyframe] for one in movie.fragments],
        },
        "sidx": sidx(movie, movie.leading.id, 0).hex(),
        "playback": {
            "read_ahead": 2.5,
            "moves": [
                {"open": [0, len(data)], "now": 100},
                {"advance": 1000, "now": 101},
                {"open": [len(data) - 50, len(data)], "now": 101.5},
            ],
            "now": 102,
            "wanted": [[want.start, want.end, round(want.deadline, 6)] for want in playing.wanted(102)],
        },
        "piece_length": {str(length): piece_length_for(length) for length in (1, 1 << 31, (1 << 31) + 1, 5 << 30)},
    }
