"""Tracks that begin at different moments are brought into step for players that read one edit and no empty ones."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bct.errors import MediaError
from bct.media.boxes import Box, children, find, find_all
from bct.media.sync import patches
from tests import mp4
from tests.mp4 import full, u32

Edits = list[tuple[int, int]]


def film(picture: Edits, sound: Edits, version: int = 0) -> bytes:
    """Two fragments at 0 s and 2 s; the picture counts in milliseconds, the sound in 48,000ths of a second."""
    moov = mp4.moov(
        [
            mp4.trak(1, "vide", 1000, mp4.avc1(), version, edits=picture),
            mp4.trak(2, "soun", 48000, mp4.mp4a(), version, edits=sound),
        ],
        [mp4.trex(1, 40), mp4.trex(2, 1024)],
    )
    return moov + b"".join(mp4.fragment(part(1, 2000 * i, version), part(2, 96000 * i, version)) for i in range(2))


def part(track: int, time: int, version: int) -> bytes:
    when = struct.pack(">Q" if version else ">I", time)
    return mp4.traf(full("tfhd", 0, 0, u32(track)), full("tfdt", version, 0, when), full("trun", 0, 0, u32(50)))


def patched(data: bytes) -> bytes:
    changed = bytearray(data)
    for offset, new in patches(lambda offset, size: data[offset : offset + size], len(data)):
        changed[offset : offset + len(new)] = new
    assert len(changed) == len(data)
    return bytes(changed)


def unshown(data: bytes) -> list[int]:
    """The media time of each track's one edit."""
    found = []
    for trak in find_all(find(data, b"moov"), b"trak"):
        elst = find(trak, b"edts", b"elst")
        ((_, media_time, rate),) = struct.iter_unpack(">QqI" if elst[0] else ">IiI", elst[8:])
        assert (elst[4:8], rate) == (u32(1), 1 << 16)
        found.append(media_time)
    return found


def times(data: bytes) -> list[list[int]]:
    """Each fragment's decode times, picture and sound."""
    moofs = find_all(data, b"moof")
    return [[int.from_bytes(find(traf, b"tfdt")[4:]) for traf in find_all(moof, b"traf")] for moof in moofs]


IN_STEP = [[0, 0], [2000, 96000]]


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(
    ("picture", "sound", "cut", "shifted"),
    [
        ([(0, 0)], [(0, 0)], [0, 0], IN_STEP),
        ([(0, 80)], [(0, 1024)], [80, 1024], IN_STEP),
        # Sound half a second late: its own times say so.
        ([(0, 80)], [(500, -1), (0, 0)], [80, 0], [[0, 24000], [2000, 120000]]),
        # Picture half a second late: the sound before it is not played.
        ([(500, -1), (0, 80)], [(0, 1024)], [80, 25024], IN_STEP),
        # Both late: what counts is the difference.
        ([(500, -1), (0, 0)], [(750, -1), (0, 0)], [0, 0], [[0, 12000], [2000, 108000]]),
        ([(500, -1), (0, 0)], [(250, -1), (0, 0)], [0, 12000], IN_STEP),
    ],
)
def test_every_track_ends_with_one_edit_and_in_step(
    picture: Edits, sound: Edits, cut: list[int], shifted: list[list[int]], version: int
) -> None:
    changed = patched(film(picture, sound, version))
    assert unshown(changed) == cut
    assert times(changed) == shifted


def test_what_the_shorter_list_leaves_is_free_space() -> None:
    changed = patched(film([(500, -1), (0, 0)], [(500, -1), (0, 0)]))
    for trak in find_all(find(changed, b"moov"), b"trak"):
        boxes: list[Box] = list(children(find(trak, b"edts")))
        assert [box.kind for box in boxes] == [b"elst", b"free"]


def test_a_film_without_edits_or_without_a_beginning_stays_as_it_is() -> None:
    assert patched(mp4.film()) == mp4.film()
    assert patched(mp4.box("free")) == mp4.box("free")


@settings(max_examples=200)
@given(st.integers(0, len(film([(9, -1), (0, 0)], [(0, 9)])) - 1), st.binary(min_size=1, max_size=4))
def test_whatever_the_bytes_the_only_error_is_a_media_error(at: int, other: bytes) -> None:
    data = film([(9, -1), (0, 0)], [(0, 9)])
    with suppress(MediaError):
        patches(lambda offset, size: (data[:at] + other + data[at + len(other) :])[offset : offset + size], len(data))
