"""Fragmented MP4 files, sound ones and broken ones, read without being loaded."""

import struct
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bct.errors import MediaError
from bct.media.boxes import Fragment, Movie, Track, scan
from bct.media.codecs import codec_of
from bct.media.sidx import front, sidx, sidx_size
from tests import mp4
from tests.mp4 import box, film, full, u32


def read(data: bytes, start: int = 0) -> Movie:
    return scan(lambda offset, size: data[offset : offset + size], len(data), start)


def refuse(data: bytes) -> str:
    with pytest.raises(MediaError) as caught:
        read(data)
    return str(caught.value)


FILM = film()


def moofs() -> list[int]:
    """Where each moof box begins."""
    return [at - 4 for at in range(len(FILM)) if FILM[at : at + 4] == b"moof"]


def test_a_films_tracks_fragments_and_times_are_found() -> None:
    movie = read(FILM)
    one, two, three = moofs()
    assert movie == Movie(
        tracks=(
            Track(1, "video", "avc1.64001f", 12800, 640, 360),
            Track(2, "audio", "mp4a.40.2", 48000, 640, 360),
        ),
        fragments=(
            Fragment(0, one, two - one, keyframe=True),
            Fragment(2000, two, three - two, keyframe=True),
            Fragment(4000, three, len(FILM) - three, keyframe=False),
        ),
        init_size=one,
        ticks=(0, 25600, 51200, 51200 + 50 * 512),
    )
    assert movie.duration_ms == 6000
    assert movie.mime == 'video/mp4; codecs="avc1.64001f, mp4a.40.2"'


def test_only_the_boxes_that_matter_are_read() -> None:
    large = (
        FILM
        + box("free", bytes(50_000))
        + mp4.fragment(
            mp4.traf(full("tfhd", 0, 0x20000, u32(1)), full("tfdt", 0, 0, u32(76800)), full("trun", 0, 0, u32(1))),
            data=10_000_000,
        )
    )
    asked = []

    def reading(offset: int, size: int) -> bytes:
        asked.append(size)
        return large[offset : offset + size]

    assert len(scan(reading, len(large)).fragments) == 4
    assert sum(asked) < 3000


def test_a_film_behind_a_gap_is_read_where_it_lies() -> None:
    moved = read(bytes(5000) + FILM, start=5000)
    assert moved.init_size == read(FILM).init_size
    assert [fragment.offset - 5000 for fragment in moved.fragments] == moofs()


def test_a_film_taken_upright_has_its_sides_exchanged() -> None:
    upright = mp4.moov([mp4.trak(1, "vide", 1000, mp4.avc1(), version=1, matrix=mp4.QUARTER_TURN)], [mp4.trex(1, 40)])
    track = read(upright + one_fragment()).leading
    assert (track.width, track.height) == (360, 640)


def one_fragment(time: int = 0) -> bytes:
    return mp4.fragment(
        mp4.traf(full("tfhd", 0, 0x20000, u32(1)), full("tfdt", 0, 0, u32(time)), full("trun", 0, 0, u32(50)))
    )


def simple(*parts: bytes) -> bytes:
    """A film of one track of 25 pictures a second, and whatever follows its init segment."""
    return mp4.moov([mp4.trak(1, "vide", 1000, mp4.avc1())], [mp4.trex(1, 40)]) + b"".join(parts)


def test_what_a_fragment_says_of_all_its_samples_goes_before_what_the_init_segment_says() -> None:
    #  base data offset 8, sample description 4, duration, size, flags
    tfhd = full("tfhd", 0, 0x3B, u32(1), bytes(8), u32(1, 20, 999, mp4.NOT_SYNC))
    trun = full("trun", 0, 0, u32(50))
    movie = read(simple(mp4.fragment(mp4.traf(tfhd, full("tfdt", 0, 0, u32(0)), trun))))
    assert movie.duration_ms == 50 * 20
    assert not movie.fragments[0].keyframe


def test_what_stands_between_fragments_is_passed_over() -> None:
    data = simple(box("styp"), one_fragment(), box("emsg", bytes(99)), one_fragment(2000), box("mfra", bytes(30)))
    assert [fragment.time_ms for fragment in read(data).fragments] == [0, 2000]


def test_large_boxes_and_a_last_box_without_a_size_are_understood() -> None:
    fragment = one_fragment()
    wide = fragment[:-108] + u32(1) + b"mdat" + struct.pack(">Q", 116) + bytes(100)
    assert read(simple(wide)).fragments[0].size == len(fragment) + 8
    open_end = fragment[:-108] + u32(0) + b"mdat" + bytes(777)
    assert read(simple(open_end)).fragments[0].size == len(fragment) + 677


def test_a_file_that_is_no_fragmented_film_is_refused() -> None:
    assert "no fragmented MP4" in refuse(b"")
    assert "no fragmented MP4" in refuse(simple())
    assert "no fragmented MP4" in refuse(box("ftyp") + one_fragment())
    assert "lacks a mvex box" in refuse(box("moov", mp4.trak(1, "vide", 1000, mp4.avc1())) + one_fragment())
    assert "neither video nor audio" in refuse(mp4.moov([mp4.trak(1, "text", 1000, b"")], []) + one_fragment())
    assert "timescale is 0" in refuse(mp4.moov([mp4.trak(1, "vide", 0, mp4.avc1())], []) + one_fragment())
    assert "cannot be played" in refuse(
        mp4.moov([mp4.trak(1, "vide", 1000, box("mp4v", bytes(78)))], []) + one_fragment()
    )
    assert "do not follow each other" in refuse(simple(one_fragment(2000), one_fragment(0)))
    assert "without the picture" in refuse(simple(one_fragment().replace(u32(0x20000, 1), u32(0x20000, 9))))


def test_a_film_cut_at_any_byte_is_refused_or_shorter() -> None:
    whole = read(FILM)
    for size in range(len(FILM)):
        try:
            shorter = read(FILM[:size])
        except MediaError:
            continue
        assert len(shorter.fragments) < len(whole.fragments)


def test_boxes_that_lie_about_their_size_are_refused() -> None:
    assert "has 0 bytes" in refuse(u32(1) + b"moov" + bytes(8))
    assert "has 7 bytes" in refuse(u32(7) + b"moov")
    assert "has 4294967295 bytes" in refuse(u32(0xFFFFFFFF) + b"moov")
    assert "has 4999999 bytes, at most" in refuse(box("moov", bytes(4_999_999)) + box("moof") + box("mdat"))
    too_many = full("trun", 0, 0x100, u32(0xFFFFFFFF, 1, 2))
    traf = mp4.traf(full("tfhd", 0, 0, u32(1)), full("tfdt", 0, 0, u32(0)), too_many)
    assert "a run says it has 4294967295 samples" in refuse(simple(mp4.fragment(traf)))


def test_a_million_boxes_or_a_thousand_levels_hold_nobody_up() -> None:
    started = time.perf_counter()
    assert "more than 400000 boxes" in refuse(box("free") * 1_000_000)
    deep = b""
    for _ in range(1000):
        deep = box("moov", deep)
    assert "neither video nor audio" in refuse(deep + box("moof") + box("mdat"))
    assert "neither video nor audio" in refuse(box("moov", box("free") * 500_000) + box("moof") + box("mdat"))
    countless = full("trun", 0, 0, u32(0xFFFFFFFF))
    traf = mp4.traf(full("tfhd", 0, 0, u32(1)), full("tfdt", 0, 0, u32(0)), countless)
    assert read(simple(mp4.fragment(traf))).duration_ms == 40 * 0xFFFFFFFF
    assert time.perf_counter() - started < 20


@settings(max_examples=300)
@given(st.integers(0, len(FILM) - 1), st.binary(min_size=1, max_size=4))
def test_whatever_the_bytes_the_only_error_is_a_media_error(at: int, other: bytes) -> None:
    with suppress(MediaError):
        read(FILM[:at] + other + FILM[at + len(other) :])


@pytest.mark.parametrize(
    ("entry", "kind", "body", "codec"),
    [
        ("avc1", "avcC", "0142c01effe1", "avc1.42c01e"),
        ("avc3", "avcC", "014d401fffe1", "avc3.4d401f"),
        ("hvc1", "hvcC", "0101600000009000000000003f", "hvc1.1.6.L63.90"),
        ("hev1", "hvcC", "0102200000009000000000003f", "hev1.2.4.L63.90"),
        ("hvc1", "hvcC", "0121600000000000000000007b", "hvc1.1.6.H123"),
        ("hvc1", "hvcC", "01416000000090010000000099", "hvc1.A1.6.L153.90.1"),
        ("av01", "av1C", "81014c00", "av01.0.01M.10"),
        ("av01", "av1C", "8108cc00", "av01.0.08H.10"),
        ("av01", "av1C", "81056c00", "av01.0.05M.12"),
        ("av01", "av1C", "81050c00", "av01.0.05M.08"),
        ("vp09", "vpcC", "010000000215a202", "vp09.02.21.10"),
        ("vp09", "vpcC", "01000000001f8202", "vp09.00.31.08"),
        ("mp4a", "esds", "00000000" + mp4.ESDS.hex(), "mp4a.40.2"),
        ("mp4a", "esds", "00000000038080802200010004808080144015" + "00" * 11 + "05808080021190", "mp4a.40.2"),
        ("mp4a", "esds", "00000000031900010004114015" + "00" * 11 + "0502f95006", "mp4a.40.42"),
        ("mp4a", "esds", "00000000031a0001e000000261620000040d6b15" + "00" * 11, "mp4a.6B"),
        ("Opus", "dOps", "00", "opus"),
        ("fLaC", "dfLa", "00", "flac"),
    ],
)
def test_codecs_are_spelt_as_browsers_ask_for_them(entry: str, kind: str, body: str, codec: str) -> None:
    assert codec_of(entry.encode(), {kind.encode(): bytes.fromhex(body)}) == codec


def test_a_codec_without_its_box_or_unknown_is_refused() -> None:
    with pytest.raises(MediaError, match="lacks its"):
        codec_of(b"avc1", {})
    with pytest.raises(MediaError, match="cannot be played"):
        codec_of(b"ac-3", {})


def test_the_index_names_each_fragment() -> None:
    movie = read(FILM)
    index = sidx(movie, 1, 24)
    assert len(index) == sidx_size(3)
    size, kind, version, track, timescale, earliest, first, reserved, count = struct.unpack_from(">I4sIIIQQHH", index)
    assert (size, kind, version, reserved) == (len(index), b"sidx", 1 << 24, 0)
    assert (track, timescale, earliest, first, count) == (1, 12800, 0, 24, 3)
    entries = list(struct.iter_unpack(">III", index[40:]))
    assert [entry[0] for entry in entries] == [fragment.size for fragment in movie.fragments]
    assert [entry[1] for entry in entries] == [25600, 25600, 25600]
    assert [entry[2] >> 28 for entry in entries] == [9, 9, 0]  # the last one begins without a keyframe


def test_the_front_fills_its_space_exactly_with_or_without_an_index() -> None:
    movie = read(FILM)
    init = FILM[: movie.init_size]
    needed = len(movie.tracks) * sidx_size(3) + 8
    for space in (8, needed - 1, needed, 5000):
        data = front(movie, init, space)
        assert len(data) == len(init) + space
        assert (b"sidx" in data) == (space >= needed)
        shown = read(data + FILM[movie.init_size :])
        assert shown.ticks == movie.ticks
        assert [fragment.offset - space for fragment in shown.fragments] == moofs()
