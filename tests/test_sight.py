"""What the chain's word about an outpoint means for a channel."""

from __future__ import annotations

import pytest

from bct.bitcoin.tx import FINAL, Tx, TxInput
from bct.channel.lock import REFUND_SEQUENCE
from bct.channel.state import Event, State
from bct.node.sight import DEEP, Sight
from tests.channel_parts import FUNDING

SETTLEMENT = Tx((TxInput(FUNDING, sequence=FINAL),), ())
REFUND = Tx((TxInput(FUNDING, sequence=REFUND_SEQUENCE),), ())
TIP = 1_000


@pytest.mark.parametrize("state", State)
def test_an_outpoint_that_nothing_spends_is_news_only_where_something_had_been_seen(state: State) -> None:
    seen = state in (State.SETTLED, State.REFUNDED)
    assert Sight(None, None).meaning(state, TIP) is (Event.UNSEEN if seen else None)


@pytest.mark.parametrize("height", [None, TIP, TIP - DEEP])
def test_which_way_it_was_spent_is_told_by_the_sequence(height: int | None) -> None:
    assert Sight(SETTLEMENT, height).meaning(State.OPEN, TIP) is Event.SETTLEMENT_SEEN
    assert Sight(REFUND, height).meaning(State.CLOSING, TIP) is Event.REFUND_SEEN


def test_what_was_seen_is_final_a_hundred_blocks_later_and_no_earlier() -> None:
    assert Sight(SETTLEMENT, TIP - DEEP + 1).meaning(State.SETTLED, TIP) is Event.SETTLEMENT_SEEN
    assert Sight(SETTLEMENT, TIP - DEEP).meaning(State.SETTLED, TIP) is Event.BURIED
    assert Sight(REFUND, TIP - DEEP).meaning(State.REFUNDED, TIP) is Event.BURIED
    assert Sight(SETTLEMENT, None).meaning(State.SETTLED, TIP) is Event.SETTLEMENT_SEEN


def test_the_other_way_is_noted_before_it_is_final_however_deep() -> None:
    """A node that was off for a day comes back to a refund where it had left a settlement."""
    assert Sight(REFUND, TIP - 5 * DEEP).meaning(State.SETTLED, TIP) is Event.REFUND_SEEN


def test_only_a_spend_without_a_block_waits() -> None:
    assert [Sight(None, None).waits, Sight(REFUND, None).waits, Sight(REFUND, 7).waits] == [False, True, False]
