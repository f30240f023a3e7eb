"""Reads a fragmented MP4 (ISO/IEC 14496-12): its init segment, its fragments, its codecs.

The file may be large and is never loaded: `scan` is given a function that reads some bytes at some offset, walks the
outermost boxes and looks inside ``moov`` and ``moof`` only. Whatever the bytes, it ends after a bounded number of
boxes with a `Movie` or a MediaError; boxes are walked along fixed paths, so nesting cannot exhaust the stack.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from bct.errors import MediaError
from bct.media.codecs import codec_of

Read = Callable[[int, int], bytes]
"""(offset, size) → that many bytes, fewer only at the end of the file."""

MAX_BOXES = 400_000
"""Outermost boxes: a hundred hours of two-second fragments."""
MAX_MOOV = 4 << 20
MAX_MOOF = 16 << 20

_KINDS = {b"vide": "video", b"soun": "audio"}
_NOT_SYNC = 0x0001_0000  # sample_is_non_sync_sample in a sample's flags (8.8.3.1)


@dataclass(frozen=True, slots=True)
class Fragment:
    """One moof and its mdat: the bytes [offset, offset + size) of the file."""

    time_ms: int
    """Decode time of its first sample in the leading track."""
    offset: int
    size: int
    keyframe: bool
    """Whether playback can begin here."""

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Track:
    """kind: "video" or "audio". codec: as RFC 6381 spells it. Sizes are what is shown, after rotation; 0 for audio."""

    id: int
    kind: str
    codec: str
    timescale: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Movie:
    """What `scan` found."""

    tracks: tuple[Track, ...]
    fragments: tuple[Fragment, ...]
    init_size: int
    """Bytes from the start to the end of moov: the init segment, what a MediaSource is fed first."""
    ticks: tuple[int, ...]
    """Each fragment's decode time, and the end of the last one, in the leading track's timescale."""

    @property
    def leading(self) -> Track:
        return _leading(self.tracks)

    @property
    def duration_ms(self) -> int:
        return self.ticks[-1] * 1000 // self.leading.timescale

    @property
    def mime(self) -> str:
        """Media type and codecs, as a MediaSource is asked about."""
        return f'{self.leading.kind}/mp4; codecs="{", ".join(track.codec for track in self.tracks)}"'


class Box(NamedTuple):
    """Where a box begins, where what it holds begins, and where it ends; counted from wherever the walk began."""

    kind: bytes
    start: int
    body: int
    end: int


class _Defaults(NamedTuple):
    """What a sample is when its fragment does not say (trex, tfhd)."""

    duration: int
    flags: int


class _Run(NamedTuple):
    """The leading track's part of one fragment, in ticks."""

    time: int
    duration: int
    keyframe: bool


def scan(read: Read, length: int, start: int = 0) -> Movie:
    """Reads the bytes [start, length) of a file. Raises MediaError unless they are a fragmented MP4 to play."""
    try:
        return _scan(read, length, start)
    except (struct.error, IndexError):
        raise MediaError("the MP4 file is damaged: a box is shorter than what it should hold") from None


def _scan(read: Read, length: int, start: int) -> Movie:
    boxes = list(outermost(read, length, start))
    moov = next((box for box in boxes if box.kind == b"moov"), None)
    # Every muxer writes a fragment's mdat right behind its moof.
    places = [(moof, mdat.end) for moof, mdat in pairwise(boxes) if (moof.kind, mdat.kind) == (b"moof", b"mdat")]
    if moov is None or not places:
        raise MediaError("the file is no fragmented MP4: it needs a moov box and then fragments")
    tracks, defaults = _moov(whole(read, moov, MAX_MOOV))
    lead = _leading(tracks)
    runs = [_moof(whole(read, moof, MAX_MOOF), lead.id, defaults) for moof, _ in places]
    ticks = [run.time for run in runs]
    if any(later < earlier for earlier, later in pairwise(ticks)):
        raise MediaError("the MP4 file's fragments do not follow each other in time")
    fragments = tuple(
        Fragment(run.time * 1000 // lead.timescale, moof.start, end - moof.start, run.keyframe)
        for run, (moof, end) in zip(runs, places, strict=True)
    )
    return Movie(tracks, fragments, moov.end - start, (*ticks, runs[-1].time + runs[-1].duration))


def _leading(tracks: tuple[Track, ...]) -> Track:
    """The video if there is one: its keyframes are where fragments begin."""
    return next((track for track in tracks if track.kind == "video"), tracks[0])


def outermost(read: Read, length: int, start: int) -> Iterator[Box]:
    """The boxes of a file's bytes [start, length). Raises MediaError, like all of these, or struct.error."""
    at = start
    for _ in range(MAX_BOXES):
        if at == length:
            return
        box = _box(read(at, 16), at, length)
        yield box
        at = box.end
    raise MediaError(f"the MP4 file has more than {MAX_BOXES} boxes")


def _box(head: bytes, at: int, limit: int) -> Box:
    """The box whose first bytes are `head`, at `at` of something that ends at `limit` (4.2)."""
    size, kind = struct.unpack_from(">I4s", head)
    body = at + 8
    if size == 1:
        (size,) = struct.unpack_from(">Q", head, 8)
        body = at + 16
    elif size == 0:
        size = limit - at
    if at + size < body or at + size > limit:
        raise MediaError(f"the MP4 file is damaged or cut off: box {kind!r} at byte {at} has {size} bytes")
    return Box(kind, at, body, at + size)


def whole(read: Read, box: Box, most: int) -> bytes:
    """What one outermost box holds, at most that many bytes."""
    size = box.end - box.body
    if size > most:
        raise MediaError(f"the MP4 file's box {box.kind!r} has {size} bytes, at most {most} are read")
    return read(box.body, size)


def children(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """The boxes inside a box's body, or inside a part of it."""
    at, limit = start, len(data) if end is None else end
    while at < limit:
        box = _box(data[at : at + 16], at, limit)
        yield box
        at = box.end


def find(data: bytes, *path: bytes) -> bytes:
    """The body of the first box at `path`. Raises MediaError when a box on the way is missing."""
    for kind in path:
        box = next((box for box in children(data) if box.kind == kind), None)
        if box is None:
            raise MediaError(f"the MP4 file is damaged: it lacks a {kind.decode()} box")
        data = data[box.body : box.end]
    return data


def find_all(data: bytes, kind: bytes) -> list[bytes]:
    """The bodies of each box of that kind."""
    return [data[box.body : box.end] for box in children(data) if box.kind == kind]


def _moov(moov: bytes) -> tuple[tuple[Track, ...], dict[int, _Defaults]]:
    tracks = tuple(track for trak in find_all(moov, b"trak") if (track := _trak(trak)) is not None)
    if not tracks:
        raise MediaError("the MP4 file has neither video nor audio")
    defaults = {}
    for trex in find_all(find(moov, b"mvex"), b"trex"):
        track_id, _, duration, _, flags = struct.unpack_from(">5I", trex, 4)
        defaults[track_id] = _Defaults(duration, flags)
    return tracks, defaults


def _trak(trak: bytes) -> Track | None:
    """None for text and other tracks that are neither seen nor heard."""
    (handler,) = struct.unpack_from(">4s", find(trak, b"mdia", b"hdlr"), 8)
    if handler not in _KINDS:
        return None
    kind = _KINDS[handler]
    track_id, width, height = _tkhd(find(trak, b"tkhd"))
    mdhd = find(trak, b"mdia", b"mdhd")
    (timescale,) = struct.unpack_from(">I", mdhd, 20 if mdhd[0] == 1 else 12)
    if timescale == 0:
        raise MediaError("the MP4 file is damaged: a track's timescale is 0")
    return Track(track_id, kind, _codec(find(trak, b"mdia", b"minf", b"stbl", b"stsd"), kind), timescale, width, height)


def _tkhd(tkhd: bytes) -> tuple[int, int, int]:
    """Track id, width, height as shown (8.3.2)."""
    wide = 12 if tkhd[0] == 1 else 0  # version 1 has 64-bit times
    (track_id,) = struct.unpack_from(">I", tkhd, 20 if wide else 12)
    a, b = struct.unpack_from(">ii", tkhd, 40 + wide)
    width, height = (side >> 16 for side in struct.unpack_from(">II", tkhd, 76 + wide))
    quarter_turned = a == 0 and b != 0
    return (track_id, height, width) if quarter_turned else (track_id, width, height)


def _codec(stsd: bytes, kind: str) -> str:
    """From the first sample entry (8.5.2); its boxes stand behind the fixed fields of a picture or a sound."""
    entry = _box(stsd[8:24], 8, len(stsd))
    fixed = 78 if kind == "video" else 28
    boxes = {box.kind: stsd[box.body : box.end] for box in children(stsd, entry.body + fixed, entry.end)}
    return codec_of(entry.kind, boxes)


def _moof(moof: bytes, track_id: int, defaults: dict[int, _Defaults]) -> _Run:
    for traf in find_all(moof, b"traf"):
        tfhd = find(traf, b"tfhd")
        if struct.unpack_from(">I", tfhd, 4) == (track_id,):
            return _traf(traf, _tfhd(tfhd, defaults.get(track_id, _Defaults(0, 0))))
    raise MediaError("the MP4 file has a fragment without the picture")


def _tfhd(tfhd: bytes, default: _Defaults) -> _Defaults:
    """The track's defaults with this fragment's put over them (8.8.7)."""
    (present,) = struct.unpack_from(">I", tfhd)
    at = 8 + 8 * bool(present & 0x01) + 4 * bool(present & 0x02)
    if present & 0x08:
        default = default._replace(duration=struct.unpack_from(">I", tfhd, at)[0])
    at += 4 * bool(present & 0x08) + 4 * bool(present & 0x10)
    if present & 0x20:
        default = default._replace(flags=struct.unpack_from(">I", tfhd, at)[0])
    return default


def _traf(traf: bytes, default: _Defaults) -> _Run:
    tfdt = find(traf, b"tfdt")
    (time,) = struct.unpack_from(">Q" if tfdt[0] == 1 else ">I", tfdt, 4)
    truns = find_all(traf, b"trun")
    duration = sum(_duration(trun, default) for trun in truns)
    return _Run(time, duration, not _first_flags(truns[0], default) & _NOT_SYNC)


def _duration(trun: bytes, default: _Defaults) -> int:
    """Ticks that one run of samples lasts (8.8.8)."""
    present, count = struct.unpack_from(">II", trun)
    if not present & 0x100:
        return int(count) * default.duration
    stride = 4 * (present & 0xF00).bit_count()
    at = _first_sample(present)
    if at + count * stride > len(trun):
        raise MediaError(f"the MP4 file is damaged: a run says it has {count} samples")
    # A sample's duration is the first of its fields.
    return sum(struct.unpack_from(">I", trun, at + i * stride)[0] for i in range(count))


def _first_flags(trun: bytes, default: _Defaults) -> int:
    present, count = struct.unpack_from(">II", trun)
    if count == 0:
        raise MediaError("the MP4 file is damaged: a fragment without samples")
    at = _first_sample(present)
    if present & 0x004:
        at -= 4
    elif present & 0x400:
        at += 4 * (present & 0x300).bit_count()
    else:
        return default.flags
    return int(struct.unpack_from(">I", trun, at)[0])


def _first_sample(present: int) -> int:
    """Where a trun's samples begin: behind flags, count, and the data offset and first flags if they are there."""
    return 8 + 4 * bool(present & 0x001) + 4 * bool(present & 0x004)
