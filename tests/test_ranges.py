"""Which pieces some bytes lie in, and which are given away."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bct.errors import ConfigError
from bct.media.boxes import Fragment
from bct.title.ranges import PieceRange, free_start, pieces_of
from bct.units import PieceIndex


def pieces(first: int, count: int) -> PieceRange:
    return PieceRange(PieceIndex(first), count)


def test_bytes_lie_in_every_piece_they_touch() -> None:
    # |0.........9|10.......19|20..
    assert pieces_of(0, 1, 10) == pieces(0, 1)
    assert pieces_of(0, 10, 10) == pieces(0, 1)
    assert pieces_of(9, 11, 10) == pieces(0, 2)
    assert pieces_of(10, 30, 10) == pieces(1, 2)


def test_no_bytes_lie_in_no_piece() -> None:
    with pytest.raises(ConfigError):
        pieces_of(10, 10, 10)


@settings(max_examples=100)
@given(st.integers(0, 10_000), st.integers(1, 5_000), st.integers(1, 999))
def test_the_pieces_of_some_bytes_hold_them_and_no_piece_is_idle(start: int, size: int, piece_length: int) -> None:
    end = start + size
    touched = pieces_of(start, end, piece_length)
    assert touched.first * piece_length <= start < (touched.first + 1) * piece_length
    assert (touched.end - 1) * piece_length < end <= touched.end * piece_length


def test_ranges_count_what_they_share() -> None:
    assert pieces(0, 5).common(pieces(3, 9)) == 2
    assert pieces(0, 5).common(pieces(5, 1)) == 0
    assert pieces(0, 9).common(pieces(2, 3)) == pieces(2, 3).common(pieces(0, 9)) == 3


@pytest.mark.parametrize(("first", "count"), [(-1, 2), (0, 0), (3, -1), (2**32 - 1, 2)])
def test_a_range_that_is_none_cannot_be_made(first: int, count: int) -> None:
    with pytest.raises(ConfigError):
        pieces(first, count)


def test_the_free_start_is_all_that_the_first_seconds_need() -> None:
    #  init   2 s      2 s       2 s
    # |0..99|100..799|800..1499|1500..2199|
    film = [Fragment(i * 2000, 100 + i * 700, 700, True) for i in range(3)]
    assert free_start(2.0, film, 100) == pieces(0, 8)
    assert free_start(2.001, film, 100) == pieces(0, 15)
    assert free_start(60, film, 100) == pieces(0, 22)
    assert free_start(2.0, film, 256) == pieces(0, 4)  # 800 bytes, rounded up
    assert free_start(0, film, 100) == pieces(0, 8)  # the first picture is always free
