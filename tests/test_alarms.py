"""What an owner is told, and what not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.chain import Header, Network, Outcome
from bct.channel.alarms import Alarm, Outlook, Standing, of_a_channel, of_the_node
from bct.channel.state import Role, State
from tests.channel_parts import EXPIRY, FUNDING, HOUR, NOW

CALM = Outlook(Network.MAIN, NOW)
LATE = Outlook(Network.MAIN, EXPIRY - HOUR)
EARNING = Standing(Role.PAYEE, FUNDING, State.CLOSING, EXPIRY, paid=140)
SPENDING = replace(EARNING, role=Role.PAYER)


def words(*alarms: Alarm) -> list[str]:
    return [one.word for one in alarms]


def block(time: int) -> Header:
    return Header(100, bytes(32), bytes(32), bytes(32), time, time - HOUR)


# -- the node ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "word", "text"),
    [
        (replace(CALM, silent=600), "unreachable", "not answered for 10 min"),
        (replace(CALM, silent=3 * HOUR), "unreachable", "not answered for 3 h"),
        (replace(CALM, newest=block(NOW + 2 * HOUR + 1)), "clock", "2 h behind the newest block"),
        (replace(CALM, newest=block(NOW - 2 * HOUR - 1)), "stale", "2 h old"),
        (replace(CALM, floor=1001), "fees", "miners ask 1001 sat/kB, and no channel is opened above 1000"),
        (replace(CALM, disk_failed=True), "disk", "free the disk"),
    ],
)
def test_each_trouble_of_a_node_has_its_word_and_what_to_do(view: Outlook, word: str, text: str) -> None:
    (alarm,) = of_the_node(view)
    assert alarm.word == word
    assert text in alarm.text


@pytest.mark.parametrize(
    "view",
    [
        replace(CALM, silent=599),
        replace(CALM, newest=block(NOW + 2 * HOUR)),
        replace(CALM, newest=block(NOW - 2 * HOUR)),
        replace(CALM, network=Network.REGTEST, newest=block(NOW - 900 * HOUR)),
        replace(CALM, floor=1000),
    ],
)
def test_what_is_still_in_order_is_not_said(view: Outlook) -> None:
    assert list(of_the_node(view)) == []


# -- a channel we earn on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.OPEN, State.CLOSING])
def test_an_hour_before_its_expiry_a_channel_that_is_not_settled_is_an_alarm(state: State) -> None:
    channel = replace(EARNING, state=state)
    assert list(of_a_channel(channel, replace(LATE, clock=EXPIRY - HOUR - 1))) == []
    (alarm,) = of_a_channel(channel, LATE)
    assert (alarm.word, alarm.about) == ("unsettled", str(FUNDING))
    assert "its payer can take 140 sat back in 60 min" in alarm.text
    (alarm,) = of_a_channel(channel, replace(LATE, clock=EXPIRY))
    assert "140 sat back now" in alarm.text


def test_a_slow_clock_hides_no_alarm() -> None:
    """THREATS 48: the newest block says what time it is."""
    slow = replace(LATE, clock=EXPIRY - 9 * HOUR, newest=block(EXPIRY - HOUR))
    assert words(*of_a_channel(EARNING, slow)) == ["unsettled"]


def test_a_settlement_that_no_block_holds_is_an_alarm_too() -> None:
    settled = replace(EARNING, state=State.SETTLED)
    assert words(*of_a_channel(replace(settled, waits=True), LATE)) == ["unmined"]
    assert words(*of_a_channel(settled, LATE)) == []


@given(st.sampled_from(State), st.integers(EXPIRY - HOUR, EXPIRY + 9 * HOUR))
def test_a_channel_over_which_nothing_was_paid_is_worth_no_alarm(state: State, clock: int) -> None:
    nothing = replace(EARNING, state=state, paid=0)
    assert words(*of_a_channel(nothing, replace(LATE, clock=clock))) == []


@pytest.mark.parametrize(
    ("channel", "word", "text"),
    [
        (replace(EARNING, state=State.REFUNDED), "refunded", "140 sat are lost"),
        (replace(EARNING, contested=True), "contested", "nothing more is served"),
        (replace(EARNING, state=State.SETTLED, short=64), "short", "64 sat less than was paid"),
        (replace(EARNING, answers=(Outcome.ACCEPTED, Outcome.CONFLICT)), "disagree", "accepted, conflict"),
    ],
)
def test_what_went_wrong_is_said_at_any_time(channel: Standing, word: str, text: str) -> None:
    (alarm,) = of_a_channel(channel, CALM)
    assert alarm.word == word
    assert text in alarm.text


@pytest.mark.parametrize("second", [Outcome.KNOWN, Outcome.ACCEPTED, Outcome.UNREACHABLE])
def test_sources_that_do_not_contradict_each_other_are_no_alarm(second: Outcome) -> None:
    assert list(of_a_channel(replace(EARNING, answers=(Outcome.KNOWN, second)), CALM)) == []


# -- a channel we spend on --------------------------------------------------------------------------------------------


def test_an_expired_channel_is_an_alarm_only_for_a_wallet_that_cannot_take_it_back() -> None:
    over = replace(CALM, clock=EXPIRY)
    assert list(of_a_channel(SPENDING, over)) == []
    assert words(*of_a_channel(SPENDING, replace(over, locked=True))) == ["locked"]
    assert words(*of_a_channel(SPENDING, replace(LATE, locked=True))) == []
