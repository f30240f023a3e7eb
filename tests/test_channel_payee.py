"""The payee's checks, one story an attack: the viewer's bytes cheat in exactly one way, nothing changes, and the
honest payment right after is taken.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from bct.bitcoin.keys import ORDER, PrivateKey, sha256d, verify
from bct.bitcoin.tx import TxOutput, sighash, sighash_preimage
from bct.channel.payee import Accepted, Payee, check_lines
from bct.channel.state import Event, State
from bct.channel.timing import SETTLE_BEFORE
from bct.channel.transactions import Commitments, commitment, fee_at
from bct.errors import Action, LocalProtocolError, RemoteProtocolError
from bct.units import Outpoint, Payees, Satoshi
from tests.channel_attacks import another_signature
from tests.channel_parts import (
    ALICE,
    BOB,
    EXPIRY,
    FILM,
    FUNDING,
    NOW,
    PAYEE,
    PAYER,
    SERIES,
    creators,
    key,
    new_payee,
    params,
)

CAPACITY = 10_000
MOST = CAPACITY - fee_at(100, 3)
"""The highest total of a channel with one line and one creator."""


def signed(payee: Payee, *totals: int, by: PrivateKey = PAYER) -> bytes:
    """What an honest payer signs at these totals."""
    return by.sign(Commitments(payee.params, payee.lines).digest(totals))


def pay(payee: Payee, line: int, total: int, signature: bytes, *, now: int = NOW, cap: int | None = None) -> Accepted:
    return payee.accept(line, total, signature, now=now, exposure=cap)


def standing(payee: Payee) -> tuple[object, ...]:
    return payee.totals, payee.signature, payee.state, payee.lines


def refused(
    payee: Payee, reason: str, line: int, total: int, signature: bytes, *, now: int = NOW, cap: int | None = None
) -> None:
    """The payment is refused for this reason and nothing has changed."""
    before = standing(payee)
    with pytest.raises(RemoteProtocolError) as error:
        pay(payee, line, total, signature, now=now, cap=cap)
    assert (error.value.reason, error.value.action) == (reason, Action.REFUSE)
    assert standing(payee) == before


@pytest.fixture
def payee() -> Payee:
    """Open, with 100 sat paid on the film's line."""
    payee = new_payee()
    pay(payee, 0, 100, signed(payee, 100))
    return payee


@pytest.fixture
def two_lines() -> Payee:
    """Open, with 100 sat for the film and 50 for the series."""
    payee = new_payee(lines=(FILM, SERIES))
    pay(payee, 0, 100, signed(payee, 100, 0))
    pay(payee, 1, 50, signed(payee, 100, 50))
    return payee


def and_then_honestly(payee: Payee, *totals: int) -> None:
    """The honest payment that brings line 0 to `totals[0]` is taken."""
    signature = signed(payee, *totals)
    increment = totals[0] - payee.totals[0]
    assert pay(payee, 0, totals[0], signature) == Accepted(totals, signature, increment)
    assert (payee.totals, payee.signature) == (totals, signature)


# -- totals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [100, 99, 1, 0])
def test_a_total_that_does_not_rise(payee: Payee, total: int) -> None:
    """THREATS 9: the signature is good, the money is what we hold already."""
    refused(payee, "not-rising", 0, total, signed(payee, total))
    and_then_honestly(payee, 101)


def test_the_first_total_may_not_be_nothing() -> None:
    """THREATS 10: a price of zero buys nothing."""
    payee = new_payee()
    refused(payee, "not-rising", 0, 0, signed(payee, 0))
    and_then_honestly(payee, 1)


@pytest.mark.parametrize("total", [MOST + 1, CAPACITY, 2**32 - 1, 2**63, 2**64])
def test_a_total_beyond_capacity_less_fee(payee: Payee, total: int) -> None:
    """THREATS 10: no such transaction exists, or only one below the agreed fee."""
    refused(payee, "over-capacity", 0, total, PAYER.sign(bytes(32)))
    and_then_honestly(payee, MOST)


def test_totals_that_each_fit_but_not_together(two_lines: Payee) -> None:
    """THREATS 10, over lines: the sum counts."""
    refused(two_lines, "over-capacity", 0, MOST - 40, PAYER.sign(bytes(32)))
    and_then_honestly(two_lines, 101, 50)


# -- signatures -------------------------------------------------------------------------------------------------------


def test_outputs_that_short_the_creator(payee: Payee) -> None:
    """THREATS 11: the viewer signs a transaction that pays all of the 10 sat to the seeder; we rebuild another."""
    fixed = payee.params
    honest = commitment(fixed, payee.lines, (110,))
    creator, seeder, change = honest.outputs
    for crooked in (
        (replace(creator, value=Satoshi(creator.value - 6)), replace(seeder, value=Satoshi(seeder.value + 6)), change),
        (seeder, creator, change),
        (TxOutput(creator.value, seeder.script), seeder, change),
        (seeder, change),
        (creator, seeder, replace(change, value=Satoshi(change.value - 1))),
    ):
        digest = sighash(replace(honest, outputs=crooked), 0, fixed.lock.script(), fixed.capacity)
        refused(payee, "bad-signature", 0, 110, PAYER.sign(digest))
    and_then_honestly(payee, 110)


@pytest.mark.parametrize("flags", [0x01, 0x42, 0x43, 0x61, 0xC1, 0xC2, 0xC3])
def test_other_sighash_flags(payee: Payee, flags: int) -> None:
    """THREATS 13: a signature over other flags covers less; ours is sent with 41 and would not be valid at all."""
    fixed = payee.params
    tx = commitment(fixed, payee.lines, (110,))
    preimage = sighash_preimage(tx, 0, fixed.lock.script(), fixed.capacity)[:-4] + flags.to_bytes(4, "little")
    refused(payee, "bad-signature", 0, 110, PAYER.sign(sha256d(preimage)))
    and_then_honestly(payee, 110)


def test_a_high_s(payee: Payee) -> None:
    """THREATS 13: the settlement would have two ids, and nodes relay none of them."""
    good = signed(payee, 110)
    high = good[:32] + (ORDER - int.from_bytes(good[32:])).to_bytes(32)
    refused(payee, "bad-signature", 0, 110, high)
    and_then_honestly(payee, 110)


@pytest.mark.parametrize("signature", [b"", bytes(64), b"\xff" * 64, bytes(63), bytes(65)])
def test_what_is_no_signature(payee: Payee, signature: bytes) -> None:
    refused(payee, "bad-signature", 0, 110, signature)
    and_then_honestly(payee, 110)


def test_one_flipped_bit(payee: Payee) -> None:
    good = signed(payee, 110)
    for bit in range(0, 512, 37):
        flipped = int.from_bytes(good) ^ (1 << bit)
        refused(payee, "bad-signature", 0, 110, flipped.to_bytes(64))
    and_then_honestly(payee, 110)


def test_a_signature_by_somebody_else(payee: Payee) -> None:
    for other in (PAYEE, key("stranger")):
        refused(payee, "bad-signature", 0, 110, signed(payee, 110, by=other))
    and_then_honestly(payee, 110)


def test_a_signature_of_another_total(payee: Payee) -> None:
    """The viewer says 111 and signs 110: were 111 believed, the seeder could not settle what it served."""
    refused(payee, "bad-signature", 0, 111, signed(payee, 110))
    and_then_honestly(payee, 110)


def test_one_signature_does_not_settle_two_channels(payee: Payee) -> None:
    """THREATS 13: two channels, equal in all but the outpoint; what was signed for one is nothing in the other."""
    twin = new_payee(params(outpoint=Outpoint(FUNDING.txid, FUNDING.index + 1)))
    refused(twin, "bad-signature", 0, 110, signed(payee, 110))
    and_then_honestly(twin, 110)


@pytest.mark.parametrize(
    "other",
    [
        params(capacity=CAPACITY + 1),
        params(rate=101),
        replace(params(), payout=BOB),
        replace(params(), change=BOB),
        replace(params(), lock=replace(params().lock, expiry=EXPIRY + 1)),
    ],
)
def test_a_viewer_with_another_idea_of_the_channel(payee: Payee, other: object) -> None:
    """THREATS 15: another payout, fee or capacity than what was agreed cannot be slipped in with a payment."""
    assert isinstance(other, type(payee.params))
    digest = Commitments(other, payee.lines).digest((110,))
    refused(payee, "bad-signature", 0, 110, PAYER.sign(digest))
    and_then_honestly(payee, 110)


def test_a_viewer_with_other_shares(payee: Payee) -> None:
    """THREATS 15: the film's creator gets 60 %; a viewer that signs for 59 % pays nobody."""
    less = (Payees.of((ALICE, 5900)),)
    refused(payee, "bad-signature", 0, 110, PAYER.sign(Commitments(payee.params, less).digest((110,))))
    and_then_honestly(payee, 110)


# -- lines ------------------------------------------------------------------------------------------------------------


def test_a_flipped_line_byte(two_lines: Payee) -> None:
    """THREATS 24: a payment for the film, sent on as one for the series."""
    refused(two_lines, "bad-signature", 1, 110, signed(two_lines, 110, 50))
    and_then_honestly(two_lines, 110, 50)


@pytest.mark.parametrize("line", [2, 3, 255])
def test_a_line_that_was_never_added(two_lines: Payee, line: int) -> None:
    """THREATS 20: nothing can be paid to, or had from, a line both sides did not agree on."""
    refused(two_lines, "bad-line", line, 110, signed(two_lines, 110, 50))
    and_then_honestly(two_lines, 110, 50)


def test_what_is_paid_on_one_line_is_not_counted_on_another(two_lines: Payee) -> None:
    """THREATS 20: totals stand apart; the film's 60 sat more leave the series at 50."""
    assert pay(two_lines, 0, 160, signed(two_lines, 160, 50)).increment == 60
    assert two_lines.totals == (160, 50)
    assert two_lines.paid == 210
    refused(two_lines, "not-rising", 1, 50, signed(two_lines, 160, 50))


def test_a_payment_that_lowers_another_line_silently(two_lines: Payee) -> None:
    """The viewer raises the film's total and signs for a series at 0; we rebuild with the 50 we hold."""
    refused(two_lines, "bad-signature", 0, 110, signed(two_lines, 110, 0))
    and_then_honestly(two_lines, 110, 50)


def test_a_further_line_is_paid_beside_the_first(payee: Payee) -> None:
    payee.add_line(1, SERIES)
    assert payee.totals == (100, 0)
    assert pay(payee, 1, 40, signed(payee, 100, 40)) == Accepted((100, 40), signed(payee, 100, 40), 40)
    and_then_honestly(payee, 101, 40)


def test_a_signature_from_before_a_line_was_added_still_settles(payee: Payee) -> None:
    before, _ = payee.settlement(PAYEE)
    payee.add_line(1, SERIES)
    assert payee.settlement(PAYEE)[0] == before


@pytest.mark.parametrize("number", [0, 2, 255])
def test_lines_are_numbered_in_order(payee: Payee, number: int) -> None:
    before = standing(payee)
    with pytest.raises(RemoteProtocolError) as error:
        payee.add_line(number, SERIES)
    assert (error.value.reason, error.value.action) == ("bad-line", Action.REFUSE)
    assert standing(payee) == before
    payee.add_line(1, SERIES)


def test_a_line_with_more_creators_than_outputs_were_agreed(payee: Payee) -> None:
    """THREATS 51: each creator would swell the settlement by 34 bytes."""
    before = standing(payee)
    six_more = Payees.of(*((who, 100) for who in creators(6)))
    with pytest.raises(RemoteProtocolError) as error:
        payee.add_line(1, six_more)
    assert (error.value.reason, standing(payee)) == ("too-many-outputs", before)
    payee.add_line(1, Payees.of(*((who, 100) for who in creators(5))))


def test_a_first_line_with_too_many_creators() -> None:
    with pytest.raises(RemoteProtocolError, match="3 outputs; 32 and 2 are taken"):
        check_lines(params(max_outputs=2), (FILM,))


# -- time, state, exposure --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [EXPIRY - SETTLE_BEFORE, EXPIRY - 1, EXPIRY, EXPIRY + 1])
def test_a_payment_too_late_to_be_settled(payee: Payee, now: int) -> None:
    """THREATS 7: from two hours before the expiry nothing is taken, for we are settling then."""
    refused(payee, "expiring", 0, 110, signed(payee, 110), now=now)


def test_a_payment_in_the_last_second(payee: Payee) -> None:
    assert pay(payee, 0, 110, signed(payee, 110), now=EXPIRY - SETTLE_BEFORE - 1).increment == 10


@pytest.mark.parametrize(
    "events",
    [
        [Event.CLOSE],
        [Event.SETTLEMENT_SEEN],
        [Event.REFUND_SEEN],
        [Event.FUNDING_LOST],
        [Event.SETTLEMENT_SEEN, Event.BURIED],
    ],
)
def test_a_payment_over_a_channel_that_is_not_open(payee: Payee, events: list[Event]) -> None:
    """What was broadcast cannot be raised any more: the 10 sat would be for nothing."""
    for event in events:
        payee.on(event)
    refused(payee, "not-open", 0, 110, signed(payee, 110))
    with pytest.raises(RemoteProtocolError) as error:
        payee.add_line(1, SERIES)
    assert (error.value.reason, error.value.action) == ("not-open", Action.REFUSE)


def test_a_payment_before_the_funding_was_checked() -> None:
    payee = Payee(params(), (FILM,))
    refused(payee, "not-open", 0, 10, signed(payee, 10))
    payee.on(Event.AGREED)
    and_then_honestly(payee, 10)


def test_the_exposure_cap(payee: Payee) -> None:
    """THREATS 2: no block holds the funding yet; to the satoshi, and free once one does."""
    refused(payee, "exposure", 0, 1_001, signed(payee, 1_001), cap=1_000)
    assert pay(payee, 0, 1_000, signed(payee, 1_000), cap=1_000).increment == 900
    assert pay(payee, 0, 1_001, signed(payee, 1_001), cap=None).increment == 1


def test_the_exposure_cap_counts_all_lines(two_lines: Payee) -> None:
    refused(two_lines, "exposure", 0, 151, signed(two_lines, 151, 50), cap=200)
    assert pay(two_lines, 0, 150, signed(two_lines, 150, 50), cap=200).increment == 50


def test_a_conflict_freezes_the_channel(payee: Payee) -> None:
    """THREATS 58: cap 0; what is held stays held."""
    refused(payee, "exposure", 0, 101, signed(payee, 101), cap=0)
    assert payee.can_settle


def test_the_cheap_checks_come_before_the_signature(payee: Payee) -> None:
    """A stranger's garbage costs a comparison, not a curve operation."""
    refused(payee, "not-rising", 0, 100, b"")
    refused(payee, "over-capacity", 0, CAPACITY, b"")
    refused(payee, "exposure", 0, 200, b"", cap=150)
    refused(payee, "expiring", 0, 200, b"", now=EXPIRY)


# -- closing and settling ---------------------------------------------------------------------------------------------


def test_a_channel_over_which_nothing_was_paid_is_settled_by_the_closing_signature() -> None:
    payee = new_payee()
    assert not payee.can_settle
    with pytest.raises(LocalProtocolError):
        payee.settlement(PAYEE)
    payee.accept_close((0,), signed(payee, 0))
    assert payee.can_settle
    tx, _ = payee.settlement(PAYEE)
    assert [o.value for o in tx.outputs] == [CAPACITY - fee_at(100, 1)]


@pytest.mark.parametrize("totals", [(99,), (101,), (), (100, 0)])
def test_closing_at_totals_that_are_not_the_newest(payee: Payee, totals: tuple[int, ...]) -> None:
    """THREATS 29: a viewer that closes lower."""
    before = standing(payee)
    signature = signed(payee, totals[0]) if totals else bytes(64)
    with pytest.raises(RemoteProtocolError) as error:
        payee.accept_close(totals, signature)
    assert (error.value.reason, standing(payee)) == ("bad-totals", before)
    payee.accept_close((100,), signed(payee, 100))


def test_closing_with_a_signature_that_is_none(payee: Payee) -> None:
    before = standing(payee)
    with pytest.raises(RemoteProtocolError) as error:
        payee.accept_close((100,), signed(payee, 99))
    assert (error.value.reason, standing(payee)) == ("bad-signature", before)


def test_a_second_signature_at_the_same_totals_does_not_change_the_settlements_id(payee: Payee) -> None:
    """THREATS 14: a viewer signs the same totals with another nonce once the settlement is on its way."""
    sent, _ = payee.settlement(PAYEE)
    other = another_signature(PAYER, Commitments(payee.params, payee.lines).digest((100,)))
    assert verify(PAYER.public, Commitments(payee.params, payee.lines).digest((100,)), other)
    assert other != payee.signature
    payee.accept_close((100,), other)
    assert payee.settlement(PAYEE)[0].txid == sent.txid


def test_the_settlement_is_the_newest_commitment(payee: Payee) -> None:
    pay(payee, 0, 110, signed(payee, 110))
    tx, ours = payee.settlement(PAYEE)
    assert tx.outputs == commitment(payee.params, payee.lines, (110,)).outputs
    assert verify(PAYEE.public, Commitments(payee.params, payee.lines).digest((110,)), ours)


def test_only_the_channels_own_key_settles(payee: Payee) -> None:
    with pytest.raises(LocalProtocolError):
        payee.settlement(key("another channel's payee"))


def test_a_channel_comes_back_from_the_ledger_as_it_was(payee: Payee) -> None:
    back = Payee(payee.params, payee.lines, payee.totals, payee.signature, State.OPEN)
    assert standing(back) == standing(payee)
    assert back.settlement(PAYEE) == payee.settlement(PAYEE)
    refused(back, "not-rising", 0, 100, signed(payee, 100))
    and_then_honestly(back, 101)
