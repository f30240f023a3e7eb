"""When a payment channel may be opened, paid over, and must be settled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.chain import Header, Network
from bct.channel import timing
from bct.channel.lock import EXPIRY_END, EXPIRY_MIN
from bct.errors import Action, RemoteProtocolError, TemporaryError
from tests.channel_parts import EXPIRY, HOUR, NOW


def block(time: int) -> Header:
    return Header(100, bytes(32), bytes(32), bytes(32), time, time - HOUR)


# -- the clock --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_now_is_the_later_of_clock_and_chain(clock: int, newest: int) -> None:
    assert timing.now_of(clock, block(newest)) == max(clock, newest)


@pytest.mark.parametrize("network", Network)
def test_a_clock_two_hours_behind_the_chain_opens_nothing(network: Network) -> None:
    """THREATS 48: our clock is slow, so an expiry that looks far is near."""
    timing.check_clock(NOW, block(NOW + 2 * HOUR), network)
    with pytest.raises(TemporaryError, match="7201 s ahead of this machine's clock"):
        timing.check_clock(NOW, block(NOW + 2 * HOUR + 1), network)


def test_on_mainnet_a_chain_six_hours_old_opens_nothing() -> None:
    """THREATS 48: we are cut off, and would not see a settlement or a conflict."""
    timing.check_clock(NOW, block(NOW - 6 * HOUR), Network.MAIN)
    with pytest.raises(TemporaryError, match="6 hours old"):
        timing.check_clock(NOW, block(NOW - 6 * HOUR - 1), Network.MAIN)
    timing.check_clock(NOW, block(NOW - 600 * HOUR), Network.REGTEST)


# -- the expiry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("playing", "lifetime", "hours"), [(0, 0, 6), (2 * HOUR, 0, 7), (0, 12 * HOUR, 12), (90 * HOUR, 0, 72)]
)
def test_a_channel_lives_six_hours_at_least_the_film_and_five_more_and_72_at_most(
    playing: int, lifetime: int, hours: int
) -> None:
    assert timing.expiry_for(NOW, playing, lifetime) == NOW + hours * HOUR


@given(st.integers(0, 200 * HOUR), st.integers(0, 200 * HOUR), st.integers(0, 60))
def test_what_a_payer_asks_for_its_payee_takes(playing: int, lifetime: int, travel: int) -> None:
    """Also when the message took up to a minute."""
    timing.check_expiry(timing.expiry_for(NOW, playing, lifetime), NOW + travel)


@pytest.mark.parametrize(
    "expiry",
    [
        NOW - 1,  # past
        NOW + HOUR,  # too near: the refund would overtake the settlement
        NOW + 6 * HOUR - 61,
        NOW + 72 * HOUR + 61,  # too far: the money would be away for ever
        840_000,  # a height
        EXPIRY_MIN - 1,
        EXPIRY_END,  # no 4-byte script number
        2**32 - 1,
        0,
    ],
)
def test_an_expiry_that_cheats_is_refused(expiry: int) -> None:
    """THREATS 5."""
    with pytest.raises(RemoteProtocolError) as error:
        timing.check_expiry(expiry, NOW)
    assert (error.value.reason, error.value.action) == ("bad-expiry", Action.REFUSE)


@pytest.mark.parametrize("expiry", [840_000, EXPIRY_MIN - 1, EXPIRY_END])
def test_bounds_of_the_lock_hold_whatever_time_it_is(expiry: int) -> None:
    """THREATS 5: in 2038 the arithmetic alone would let an overflow pass."""
    with pytest.raises(RemoteProtocolError, match="an expiry is a Unix time"):
        timing.check_expiry(expiry, expiry - 12 * HOUR)


# -- paying and settling ----------------------------------------------------------------------------------------------


def settle_reason(
    now: int,
    *,
    idle_since: int | None = None,
    unmined: bool = False,
    below_floor: bool = False,
    stopping: bool = False,
) -> str | None:
    return timing.settle_reason(
        expiry=EXPIRY,
        now=now,
        idle_since=idle_since,
        idle=900,
        unmined=unmined,
        below_floor=below_floor,
        stopping=stopping,
    )


def test_payments_end_exactly_when_the_payee_settles() -> None:
    """THREATS 7: two hours before the payer can take its money back. No second in between, none in both."""
    for now in range(EXPIRY - 2 * HOUR - 3, EXPIRY - 2 * HOUR + 3):
        assert timing.accepts_payments(EXPIRY, now) == (settle_reason(now) is None)
    assert timing.accepts_payments(EXPIRY, EXPIRY - 2 * HOUR - 1)
    assert settle_reason(EXPIRY - 2 * HOUR) == "expiry"
    assert settle_reason(EXPIRY + 10 * HOUR) == "expiry"


def test_a_channel_is_idle_only_without_a_connection() -> None:
    """THREATS 47: a paused player stays connected and keeps its channel; one that left is settled."""
    assert settle_reason(NOW, idle_since=None) is None
    assert settle_reason(NOW, idle_since=NOW - 899) is None
    assert settle_reason(NOW, idle_since=NOW - 900) == "idle"


def test_a_funding_that_is_not_mined_in_time_ends_the_channel_two_hours_earlier() -> None:
    assert settle_reason(EXPIRY - 4 * HOUR - 1, unmined=True) is None
    assert settle_reason(EXPIRY - 4 * HOUR, unmined=True) == "funding unmined"
    assert settle_reason(EXPIRY - 4 * HOUR, unmined=False) is None


def test_a_channel_whose_settlement_would_pay_too_little_takes_no_more() -> None:
    """THREATS 33."""
    assert settle_reason(NOW, below_floor=True) == "fee floor"


def test_a_node_that_stops_settles_everything() -> None:
    assert settle_reason(NOW, stopping=True) == "shutdown"


def test_a_refund_may_be_sent_once_median_time_has_passed_its_lock_time() -> None:
    """THREATS 6: sent before, it is parked, and a parked one cannot be given another fee."""
    assert not timing.may_refund(EXPIRY, EXPIRY - 1)
    assert not timing.may_refund(EXPIRY, EXPIRY)
    assert timing.may_refund(EXPIRY, EXPIRY + 1)
