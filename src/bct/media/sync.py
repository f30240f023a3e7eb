"""Keeps picture and sound in step where a player knows nothing of edit lists.

A recording's tracks seldom begin at the same moment. ffmpeg writes the difference into edit lists: "this track is empty
for 480 ms", or "its first 1,024 ticks are not shown" (the run-up of an AAC encoder, or the delay between decoding and
showing a picture). Every player reads a single edit of the second kind; browsers fed through a MediaSource overlook the
first, and lips and words drift apart by that much. So the film is made to begin with its picture, a track that begins
later says so in its fragments' own times, one that begins earlier has its start cut, and each track keeps one edit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bct.errors import MediaError
from bct.media.boxes import MAX_MOOF, MAX_MOOV, Box, Read, children, find, outermost, whole

Patch = tuple[int, bytes]
"""Bytes to put over the file's at an offset."""


@dataclass(frozen=True, slots=True)
class _Track:
    id: int
    video: bool
    timescale: int
    elst: Box
    empty: float
    """Seconds that pass before the track begins."""
    unshown: int
    """Ticks at its beginning that are not shown."""


def patches(read: Read, length: int, start: int = 0) -> list[Patch]:
    """What to change in a fragmented MP4 of bytes [start, length), as ffmpeg writes it. Raises MediaError."""
    try:
        return list(_patches(read, length, start))
    except (struct.error, LookupError, ArithmeticError, ValueError):
        raise MediaError("the MP4 file is damaged: its edit lists cannot be read") from None


def _patches(read: Read, length: int, start: int) -> Iterator[Patch]:
    boxes = list(outermost(read, length, start))
    moov = next((box for box in boxes if box.kind == b"moov"), None)
    if moov is None:
        return
    body = whole(read, moov, MAX_MOOV)
    tracks = list(_tracks(body))
    begin = next((track.empty for track in tracks if track.video), 0.0)
    late: dict[int, int] = {}
    for track in tracks:
        ticks = round((track.empty - begin) * track.timescale) - track.unshown
        yield moov.body + track.elst.start, _one_edit(body[track.elst.start : track.elst.end], max(0, -ticks))
        late[track.id] = max(0, ticks)
    for box in boxes:
        if box.kind == b"moof" and any(late.values()):
            yield from _delayed(whole(read, box, MAX_MOOF), box.body, late)


def _tracks(moov: bytes) -> Iterator[_Track]:
    """Those that have an edit list."""
    (movie_scale,) = struct.unpack_from(">I", find(moov, b"mvhd"), 12)
    for trak in children(moov):
        edts = _child(moov, trak, b"edts") if trak.kind == b"trak" else None
        elst = _child(moov, edts, b"elst") if edts else None
        if not edts or not elst:
            continue
        body = moov[trak.body : trak.end]
        (scale,) = struct.unpack_from(">I", _times(find(body, b"mdia", b"mdhd")), 0)
        (track_id,) = struct.unpack_from(">I", _times(find(body, b"tkhd")), 0)
        video = find(body, b"mdia", b"hdlr")[8:12] == b"vide"
        edits = list(_edits(moov[elst.body : elst.end]))
        empty = sum(duration for duration, media_time in edits if media_time < 0)
        unshown = sum(media_time for _, media_time in edits if media_time > 0)
        yield _Track(track_id, video, scale, elst, empty / movie_scale, unshown)


def _times(body: bytes) -> bytes:
    """What follows creation and modification time in a box that begins with them."""
    return body[20:] if body[0] == 1 else body[12:]


def _edits(elst: bytes) -> Iterator[tuple[int, int]]:
    """(duration, media time) of each entry (14496-12, 8.6.6)."""
    (count,) = struct.unpack_from(">I", elst, 4)
    layout = _layout(elst)
    for number in range(min(count, len(elst))):
        duration, media_time, _ = layout.unpack_from(elst, 8 + number * layout.size)
        yield duration, media_time


def _layout(elst: bytes) -> struct.Struct:
    return struct.Struct(">QqI") if elst[0] == 1 else struct.Struct(">IiI")


def _one_edit(box: bytes, ticks: int) -> bytes:
    """The elst box with one edit that leaves out the track's first `ticks`, and free space for what it had besides."""
    version = box[8]
    edit = _layout(box[8:]).pack(0, ticks, 1 << 16)
    elst = struct.pack(">I4sB3xI", 16 + len(edit), b"elst", version, 1) + edit
    rest = len(box) - len(elst)
    return elst + (struct.pack(">I4s", rest, b"free") + bytes(rest - 8) if rest else b"")


def _delayed(moof: bytes, base: int, late: dict[int, int]) -> Iterator[Patch]:
    """Puts off the decode times of those tracks (8.8.12) by so many ticks."""
    for traf in children(moof):
        tfhd, tfdt = (_child(moof, traf, kind) if traf.kind == b"traf" else None for kind in (b"tfhd", b"tfdt"))
        if not tfhd or not tfdt:
            continue
        (track_id,) = struct.unpack_from(">I", moof, tfhd.body + 4)
        time = struct.Struct(">Q" if moof[tfdt.body] == 1 else ">I")
        (ticks,) = time.unpack_from(moof, tfdt.body + 4)
        yield base + tfdt.body + 4, time.pack(ticks + late.get(track_id, 0))


def _child(data: bytes, parent: Box, kind: bytes) -> Box | None:
    return next((box for box in children(data, parent.body, parent.end) if box.kind == kind), None)
