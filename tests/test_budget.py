"""The cap of a play: never passed, not by one satoshi."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.errors import FundsError
from bct.pay.budget import Budget


@given(st.integers(0, 200), st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=30))
def test_whatever_is_tried(limit: int, tries: list[tuple[bool, int]]) -> None:
    budget = Budget(limit)
    for fees, amount in tries:
        before, allowed = budget.total, budget.allows(amount)
        try:
            (budget.commit if fees else budget.spend)(amount)
        except FundsError:
            assert not allowed
            assert budget.total == before
        assert budget.total <= limit
        assert budget.left() == limit - budget.total


def test_fees_count_as_well_as_pieces() -> None:
    budget = Budget(100)
    budget.commit(74)
    budget.spend(26)
    assert (budget.fees, budget.pieces, budget.left()) == (74, 26, 0)
    with pytest.raises(FundsError, match="the next piece would cost 1 sat; 100 of at most 100 sat are spent"):
        budget.spend(1)
    with pytest.raises(FundsError, match="miner fees would cost 1 sat"):
        budget.commit(1)


def test_each_channel_adds_its_fees_and_what_nobody_ever_saw_comes_back() -> None:
    budget = Budget(100)
    budget.commit(40)
    budget.commit(30)
    assert (budget.fees, budget.left()) == (70, 30)
    budget.release(40)
    assert (budget.fees, budget.left()) == (30, 70)


def test_one_title_unless_more_are_said() -> None:
    assert (Budget(5).more, Budget(5, 2).more) == (0, 2)


def test_without_a_cap() -> None:
    budget = Budget(None)
    budget.spend(10**9)
    assert (budget.left(), budget.allows(10**12)) == (None, True)
