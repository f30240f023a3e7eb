"""The window: what a viewer has paid for and not yet received, the only thing a seeder can keep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.pay.window import EXPOSED_SATOSHI, Window

PIECE = 256 * 1024


def play(window: Window, pieces: int, seconds: float, round_trip: float) -> Window:
    """`pieces` delivered one after the other, each in `seconds`."""
    now = 0.0
    for _ in range(pieces):
        window.first_block(round_trip)
        window.delivered(PIECE, now, now + seconds)
        now += seconds
    return window


def test_it_starts_at_one_piece() -> None:
    """THREATS 18: a seeder that takes the first payment and sends nothing has one piece's price."""
    assert Window(1, PIECE).pieces == 1


def test_it_grows_by_delivery_only() -> None:
    window = Window(1, PIECE)
    for _ in range(5):
        window.first_block(10.0)
    assert window.pieces == 1
    sizes = [play(window, 1, 0.001, 10.0).pieces for _ in range(4)]
    assert sizes == [2, 3, 4, 5]


def test_it_grows_to_what_the_line_needs() -> None:
    """20 Mbit/s and 100 ms hold one piece of 256 KiB: two more keep the line full."""
    assert play(Window(1, PIECE), 50, PIECE / 2_500_000, 0.1).pieces == 2
    assert play(Window(1, PIECE), 50, PIECE / 25_000_000, 0.1).pieces == 11


def test_a_rate_nobody_knows_yet_is_0_and_then_follows_slowly() -> None:
    window = Window(1, PIECE)
    assert window.rate == 0
    window.delivered(1000, 0.0, 1.0)
    assert window.rate == 1000
    window.delivered(2000, 1.0, 2.0)
    assert window.rate == 1250, "a quarter of the way"


def test_before_a_round_trip_was_measured_two_pieces_are_enough() -> None:
    window = Window(1, PIECE)
    for second in range(5):
        window.delivered(1000 * PIECE, second, second + 1)
    assert window.pieces == 2


def test_a_round_trip_falls_at_once_and_rises_by_a_tenth() -> None:
    """One slow answer is no slow line: 20 pieces a second and 0.1 s are two pieces on their way, 0.11 s as well."""
    window = play(Window(1, PIECE), 50, 0.05, 0.1)
    assert window.pieces == 4
    window.first_block(9.0)
    window.delivered(PIECE, 2.5, 2.55)
    assert window.pieces == 4
    assert play(Window(1, PIECE), 50, 0.05, 0.01).pieces == 2
    fallen = play(Window(1, PIECE), 50, 0.05, 0.1)
    fallen.first_block(0.01)
    fallen.delivered(PIECE, 2.5, 2.55)
    assert fallen.pieces == 2


@pytest.mark.parametrize(("price", "most"), [(1, 20), (3, 6), (20, 1), (21, 1), (1000, 1)])
def test_it_never_exposes_more_than_20_satoshi_or_one_piece(price: int, most: int) -> None:
    assert play(Window(price, PIECE), 100, 1e-9, 10.0).pieces == most


@given(st.integers(1, 2000), st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=40))
def test_whatever_the_clock_says(price: int, deliveries: list[tuple[float, float]]) -> None:
    window = Window(price, PIECE)
    for waited, now in deliveries:
        window.first_block(waited)
        window.delivered(PIECE, now - waited, now)
        assert window.pieces >= 1
        assert (window.pieces - 1) * price <= max(0, EXPOSED_SATOSHI - price)


def test_trust_begins_again() -> None:
    """THREATS 18."""
    window = play(Window(1, PIECE), 50, 1e-3, 1.0)
    window.broken()
    assert window.pieces == 1


def test_a_free_title() -> None:
    assert play(Window(0, PIECE), 100, 1e-9, 10.0).pieces == EXPOSED_SATOSHI
