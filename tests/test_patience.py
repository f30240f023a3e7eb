"""How often something that may fail is tried."""

from __future__ import annotations

from bct.channel.patience import Patience


def tries(patience: Patience, until: int) -> list[int]:
    """The seconds in which it was tried, when asked in each."""
    found = []
    for now in range(1000, 1000 + until):
        if patience.due(now):
            patience.tried(now)
            found.append(now - 1000)
    return found


def test_at_once_and_then_ever_more_rarely_down_to_a_bound() -> None:
    assert tries(Patience(5, 60), 300) == [0, 5, 15, 35, 75, 135, 195, 255]


def test_the_first_try_is_due_whatever_the_clock_says() -> None:
    assert Patience(5, 60).due(-1e9)


def test_a_first_pause_above_the_bound_is_the_bound() -> None:
    assert tries(Patience(100, 10), 31) == [0, 10, 20, 30]
