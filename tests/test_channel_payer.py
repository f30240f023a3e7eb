"""The payer: what was signed is spent, whatever the payee says, whatever the disk forgot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.keys import verify
from bct.channel.payee import Payee
from bct.channel.payer import Payer
from bct.channel.state import Event, State
from bct.channel.timing import SETTLE_BEFORE
from bct.channel.transactions import Commitments, Lines, Params, Totals, commitment, fee_at, fits
from bct.errors import Action, FundsError, LocalProtocolError, RemoteProtocolError
from bct.units import Payees
from tests.channel_parts import (
    BOB,
    EXPIRY,
    FILM,
    NOW,
    PAYEE,
    PAYER,
    SERIES,
    creators,
    key,
    new_payee,
    new_payer,
    params,
    vectors,
)

PRICE = 10
CAPACITY = 10_000
MOST = CAPACITY - fee_at(100, 3)


def standing(payer: Payer) -> tuple[object, ...]:
    return payer.totals, payer.reserved, payer.spent, payer.state, payer.lines


def proof(fixed: Params, lines: Lines, *totals: int) -> bytes:
    """Our own signature at these totals, as an honest payee shows it in RESUMED."""
    return PAYER.sign(Commitments(fixed, lines).digest(totals))


def handed_over(payer: Payer, payee: Payee, line: int, price: int) -> None:
    payment = payer.pay(line, price, PAYER, now=NOW)
    accepted = payee.accept(payment.line, payment.total, payment.signature, now=NOW, exposure=None)
    assert accepted.increment == price


# -- paying -----------------------------------------------------------------------------------------------------------


def test_a_payee_takes_every_payment_up_to_the_last_satoshi() -> None:
    payer, payee = new_payer(), new_payee()
    for price in (PRICE, 1, MOST - PRICE - 2, 1):
        handed_over(payer, payee, 0, price)
    assert payer.totals == payee.totals == (MOST,)
    assert not payer.room(0, 1)


@given(st.data())
def test_both_sides_agree_after_any_run_of_payments(data: st.DataObject) -> None:
    """Over two lines with some creators in common, until the channel is full."""
    lines = (data.draw(vectors()), data.draw(vectors()))
    fixed = params(max_outputs=20)
    payer, payee = new_payer(fixed, lines), new_payee(fixed, lines)
    for _ in range(data.draw(st.integers(1, 6))):
        line, price = data.draw(st.integers(0, 1)), data.draw(st.integers(1, 4_000))
        if payer.room(line, price):
            handed_over(payer, payee, line, price)
    assert payer.totals == payee.totals
    assert fits(fixed, lines, payer.totals)


def test_nothing_is_paid_past_capacity_less_fee() -> None:
    payer = new_payer()
    payer.pay(0, MOST, PAYER, now=NOW)
    before = standing(payer)
    with pytest.raises(FundsError, match=r"10000 sat of the channel"):
        payer.pay(0, 1, PAYER, now=NOW)
    assert standing(payer) == before


@pytest.mark.parametrize("price", [0, -1])
def test_a_payment_raises_the_total(price: int) -> None:
    payer = new_payer()
    with pytest.raises(LocalProtocolError):
        payer.pay(0, price, PAYER, now=NOW)
    assert payer.paid == 0


def test_nothing_is_paid_in_the_last_two_hours() -> None:
    payer = new_payer()
    payer.pay(0, PRICE, PAYER, now=EXPIRY - SETTLE_BEFORE - 1)
    with pytest.raises(FundsError):
        payer.pay(0, PRICE, PAYER, now=EXPIRY - SETTLE_BEFORE)
    assert payer.totals == (PRICE,)


def test_payments_may_leave_together_with_the_opening() -> None:
    payer = Payer(params(), (FILM,), reserved=(100,))
    assert payer.state is State.OPENING
    assert payer.pay(0, PRICE, PAYER, now=NOW).total == PRICE


@pytest.mark.parametrize("event", [Event.CLOSE, Event.SETTLEMENT_SEEN, Event.EXPIRED, Event.FUNDING_LOST])
def test_nothing_is_paid_once_the_channel_is_spent(event: Event) -> None:
    """THREATS 31: the seeder settles early and goes on taking payments; the outpoint's spend ends it here."""
    payer = new_payer()
    payer.on(event)
    with pytest.raises(LocalProtocolError):
        payer.pay(0, PRICE, PAYER, now=NOW)
    assert payer.paid == 0


# -- the mark saved before signing ------------------------------------------------------------------------------------


def test_nothing_is_signed_above_the_saved_mark() -> None:
    """THREATS 55: a crash between signing and saving must not lose the memory of what was signed."""
    payer = Payer(params(), (FILM,))
    assert payer.needs_reserve(0, PRICE)
    with pytest.raises(LocalProtocolError, match=r"above the saved mark 0"):
        payer.pay(0, PRICE, PAYER, now=NOW)
    assert payer.paid == 0
    assert payer.reserve(0, PRICE, step=3 * PRICE) == (3 * PRICE,)
    for _ in range(3):
        assert not payer.needs_reserve(0, PRICE)
        payer.pay(0, PRICE, PAYER, now=NOW)
    assert payer.needs_reserve(0, PRICE)


def test_the_mark_covers_a_price_above_the_step_and_never_falls() -> None:
    payer = Payer(params(), (FILM,))
    assert payer.reserve(0, price=50, step=20) == (50,)
    assert payer.reserve(0, price=1, step=1) == (50,)


def test_marks_stand_apart_for_each_line() -> None:
    payer = Payer(params(), (FILM, SERIES))
    payer.reserve(1, PRICE, step=PRICE)
    with pytest.raises(LocalProtocolError):
        payer.pay(0, PRICE, PAYER, now=NOW)
    assert payer.pay(1, PRICE, PAYER, now=NOW).line == 1


# -- after a restart --------------------------------------------------------------------------------------------------


def test_in_one_run_only_what_was_signed_counts() -> None:
    payer = Payer(params(), (FILM,))
    payer.reserve(0, PRICE, step=100)
    payer.pay(0, PRICE, PAYER, now=NOW)
    assert payer.spent == PRICE


def test_after_a_restart_all_up_to_the_mark_counts_as_spent() -> None:
    """THREATS 55: the log says 10, the mark 100. Anything up to 100 may be in the payee's hands."""
    payer = Payer(params(), (FILM,), totals=(10,), reserved=(100,), state=State.OPEN)
    assert (payer.paid, payer.spent) == (10, 100)


def test_the_doubt_stays_whatever_the_payee_says() -> None:
    """THREATS 55: it shows 40 and may hold 100; nor do payments up to the mark make the sum grow."""
    payer = Payer(params(), (FILM,), totals=(10,), reserved=(100,), state=State.OPEN)
    payer.resumed((40,), proof(payer.params, payer.lines, 40))
    assert (payer.paid, payer.spent) == (40, 100)
    payer.pay(0, 60, PAYER, now=NOW)
    assert (payer.paid, payer.spent) == (100, 100)
    payer.reserve(0, PRICE, step=PRICE)
    payer.pay(0, PRICE, PAYER, now=NOW)
    assert (payer.paid, payer.spent) == (110, 110)


def test_doubts_of_two_lines_add_up_but_not_beyond_the_capacity() -> None:
    """Only one commitment can be mined, so no more can be gone than was locked."""
    lines = (FILM, SERIES)
    payer = Payer(params(), lines, totals=(10, 20), reserved=(100, 50), state=State.OPEN)
    assert payer.spent == 150
    payer = Payer(params(), lines, totals=(10, 20), reserved=(9_000, 9_000), state=State.OPEN)
    assert payer.spent == CAPACITY


def test_a_lower_total_is_never_signed_again_once_the_payee_proves_a_higher_one() -> None:
    """THREATS 29: we came back with an old backup; the payee shows our own signature at 300."""
    payer = Payer(params(), (FILM,), totals=(100,), reserved=(120,), state=State.OPEN)
    payer.resumed((300,), proof(payer.params, payer.lines, 300))
    assert (payer.totals, payer.spent) == ((300,), 300)
    payer.reserve(0, PRICE, step=PRICE)
    assert payer.pay(0, PRICE, PAYER, now=NOW).total == 310


def test_what_the_payee_proved_is_in_the_marks_that_are_saved_next() -> None:
    """THREATS 55: else a second crash would forget it again, when another line's mark is saved."""
    payer = Payer(params(), (FILM, SERIES), totals=(100, 0), reserved=(120, 0), state=State.OPEN)
    payer.resumed((300, 0), proof(payer.params, payer.lines, 300, 0))
    assert payer.reserve(1, PRICE, step=PRICE) == (300, PRICE)


def test_a_payee_that_lost_some_does_not_lower_us() -> None:
    payer = Payer(params(), (FILM,), totals=(100,), reserved=(120,), state=State.OPEN)
    payer.resumed((90,), proof(payer.params, payer.lines, 90))
    assert payer.totals == (100,)
    payer.resumed((0,), bytes(64))
    assert payer.totals == (100,)


def test_a_line_that_the_payee_never_heard_of_is_none() -> None:
    """Both count lines in the order in which they were added: its number is the next one's."""
    payer = Payer(params(), (FILM, SERIES), totals=(100, 0), reserved=(120, 0), state=State.OPEN)
    payer.resumed((110,), proof(payer.params, payer.lines, 110, 0))
    assert (payer.totals, payer.lines, payer.reserved) == ((110,), (FILM,), (120,))
    assert payer.add_line(Payees.of((BOB, 1))) == 1
    assert (payer.totals, payer.spent) == ((110, 0), 120)


@pytest.mark.parametrize(("total", "mark"), [(5, 5), (0, 5)])
def test_a_line_that_was_paid_on_stays_whatever_the_payee_says(total: int, mark: int) -> None:
    """THREATS 55: what was signed, or may have been before a crash, is spent."""
    payer = Payer(params(), (FILM, SERIES), totals=(100, total), reserved=(120, mark), state=State.OPEN)
    payer.resumed((100,), proof(payer.params, payer.lines, 100, 0))
    assert (payer.lines, payer.spent) == ((FILM, SERIES), 125)


@pytest.mark.parametrize(
    "totals",
    [(101,), (MOST,), (MOST + 1,), (CAPACITY,), (2**32 - 1,), (2**63,), (2**64,), (100, 1), (100, 0)],
)
def test_totals_we_did_not_sign(totals: Totals) -> None:
    """THREATS 55: the payee claims more than it was given, or a line we never added. Forged, whatever the number."""
    payer = Payer(params(), (FILM,), totals=(100,), reserved=(120,), state=State.OPEN)
    before = standing(payer)
    for signature in (bytes(64), proof(payer.params, payer.lines, 100), key("stranger").sign(bytes(32))):
        with pytest.raises(RemoteProtocolError) as error:
            payer.resumed(totals, signature)
        assert (error.value.reason, error.value.action) == ("bad-resume", Action.CLOSE)
        assert standing(payer) == before


def test_totals_that_together_with_ours_are_more_than_the_capacity() -> None:
    """THREATS 55: our log was lost; the payee hid (0, 9000), let us sign (5000, 0), and now shows what it hid.

    Both are genuine, but no transaction pays both, so there is nothing to go on from.
    """
    payer = Payer(params(), (FILM, SERIES), totals=(5_000, 0), reserved=(5_000, 9_000), state=State.OPEN)
    before = standing(payer)
    with pytest.raises(RemoteProtocolError, match="more than the channel holds"):
        payer.resumed((0, 9_000), proof(payer.params, payer.lines, 0, 9_000))
    assert standing(payer) == before
    assert payer.spent == CAPACITY


def test_totals_that_fit_no_commitment_though_ours_above_them_do() -> None:
    """A creator's share may dip from 1 sat to 0 as the total rises, and the fee with it: lower may cost more."""
    big, small = creators(2)
    fixed, lines = params(capacity=10_324, rate=1000), (Payees.of((big, 2500), (small, 1)),)
    assert [fits(fixed, lines, (total,)) for total in (9_995, 9_996)] == [False, True]
    payer = Payer(fixed, lines, totals=(9_996,), state=State.OPEN)
    with pytest.raises(RemoteProtocolError):
        payer.resumed((9_995,), bytes(64))


# -- what the payee missed -------------------------------------------------------------------------------------------


def test_nothing_is_signed_above_our_totals_whatever_the_payee_says_it_has() -> None:
    """THREATS 55: a refusal's totals are a claim. Said to be high on one line and behind on another, they would have
    the catching-up payment, whose signature covers all lines, give the high one away."""
    payer = Payer(params(), (FILM, SERIES), totals=(10, 10), reserved=(100, 100), state=State.OPEN)
    (payment,) = payer.missed((9_000, 4), PAYER)
    assert (payment.line, payment.total) == (1, 10)
    assert payment.signature == proof(payer.params, payer.lines, 10, 10)


def test_a_step_for_which_no_commitment_exists_is_the_payees_fault() -> None:
    """Claimed totals from which the way up to ours leads over one whose fee does not fit, though that of ours does."""
    big, small = creators(2)
    fixed, lines = params(capacity=10_324, rate=1000), (FILM, Payees.of((big, 2500), (small, 1)))
    assert [fits(fixed, lines, totals) for totals in ((1, 9_995), (1, 9_996))] == [False, True]
    payer = Payer(fixed, lines, totals=(1, 9_996), state=State.OPEN)
    with pytest.raises(RemoteProtocolError) as error:
        payer.missed((0, 9_995), PAYER)
    assert (error.value.reason, error.value.action) == ("bad-totals", Action.CLOSE)


def test_what_was_missed_on_several_lines_is_signed_one_line_at_a_time() -> None:
    """Each signature covers the lines that have caught up and, at what the payee has, those that have not."""
    lines = (FILM, SERIES, Payees.of((creators(1)[0], 100)))
    payer = Payer(params(), lines, totals=(10, 20, 30), state=State.OPEN)
    payments = payer.missed((10, 5, 7), PAYER)
    assert [(payment.line, payment.total) for payment in payments] == [(1, 20), (2, 30)]
    assert payments[0].signature == proof(payer.params, lines, 10, 20, 7)
    assert payments[1].signature == proof(payer.params, lines, 10, 20, 30)


def test_what_was_missed_by_a_payee_that_never_heard_of_the_last_line() -> None:
    """Nothing was paid on it, for it has not been agreed on: `Payer.missed` is no place to begin."""
    payer = Payer(params(), (FILM, SERIES), totals=(10, 0), state=State.OPEN)
    (payment,) = payer.missed((7,), PAYER)
    assert (payment.line, payment.total) == (0, 10)
    assert payment.signature == proof(payer.params, payer.lines, 10, 0)


# -- lines ------------------------------------------------------------------------------------------------------------


def test_titles_of_the_same_creators_share_a_line() -> None:
    payer = new_payer()
    assert payer.add_line(SERIES) == 1
    assert payer.add_line(FILM) == 0
    assert payer.add_line(SERIES) == 1
    assert (payer.totals, payer.reserved[1]) == ((0, 0), 0)


def test_a_new_line_starts_without_doubt() -> None:
    payer = Payer(params(), (FILM,), totals=(10,), reserved=(100,), state=State.OPEN)
    payer.add_line(SERIES)
    assert payer.spent == 100


def test_no_line_is_added_that_the_payee_would_refuse() -> None:
    payer = new_payer()
    before = standing(payer)
    with pytest.raises(FundsError):
        payer.add_line(Payees.of(*((who, 100) for who in creators(6))))
    assert standing(payer) == before


# -- closing ----------------------------------------------------------------------------------------------------------


def test_closing_a_channel_over_which_nothing_was_paid() -> None:
    payer, payee = new_payer(), new_payee()
    payee.accept_close(payer.totals, payer.sign_close(PAYER))
    tx, ours = payee.settlement(PAYEE)
    assert payer.settlement(ours, PAYER) == tx


def test_the_payer_rebuilds_the_settlement_from_one_signature() -> None:
    payer, payee = new_payer(lines=(FILM, SERIES)), new_payee(lines=(FILM, SERIES))
    handed_over(payer, payee, 0, 62)
    handed_over(payer, payee, 1, 100)
    tx, ours = payee.settlement(PAYEE)
    assert payer.settlement(ours, PAYER) == tx
    assert tx.outputs == commitment(payer.params, payer.lines, (62, 100)).outputs


def test_a_payees_signature_over_anything_else_is_not_broadcast() -> None:
    """THREATS 12: an older state, or another channel's."""
    payer, payee = new_payer(), new_payee()
    handed_over(payer, payee, 0, 62)
    _, older = payee.settlement(PAYEE)
    handed_over(payer, payee, 0, 1)
    for signature in (older, bytes(64), payer.sign_close(PAYER)):
        with pytest.raises(RemoteProtocolError) as error:
            payer.settlement(signature, PAYER)
        assert (error.value.reason, error.value.action) == ("bad-close", Action.CLOSE)


def test_a_payment_is_the_signature_of_the_settlement() -> None:
    payer = new_payer()
    payment = payer.pay(0, 62, PAYER, now=NOW)
    digest = Commitments(payer.params, payer.lines).digest((62,))
    assert verify(PAYER.public, digest, payment.signature)
    assert not verify(PAYEE.public, digest, payment.signature)
