"""What a payment channel locks and what miners get for it, before anything is signed."""

from __future__ import annotations

import pytest

from bct.channel.transactions import Params, fee_at, fits
from bct.errors import FundsError
from bct.pay import capacity, offers
from bct.pay.payer_session import Offered
from bct.title.terms import Terms
from bct.units import Payees
from tests.channel_parts import ALICE, BOB, CAROL, FILM, NOW, SERIES, key, params
from tests.pay_parts import IDENTITY, POLICY, Seeder, Wire, terms

RATE = 100


def offered(of: Terms | None = None) -> Offered:
    wire = Wire(Seeder())
    nonce = offers.new_nonce(b"secret", wire.terms.infohash, NOW, bytes(4))
    named = of or terms()
    return Offered(offers.make_offer(POLICY, named, wire.context, IDENTITY, key("payee").public, nonce), named)


def test_a_channel_holds_the_pieces_and_the_settlements_fee_to_the_last_satoshi() -> None:
    locked = capacity.to_lock(offered(), RATE, 62)
    fixed: Params = params(locked)
    assert fits(fixed, (FILM,), (62,))
    assert not fits(fixed, (FILM,), (63,))


def test_a_channel_for_three_titles_has_outputs_for_three_creators() -> None:
    locked = capacity.to_lock(offered(), RATE, 3 * 62, titles=3)
    lines = (FILM, Payees.of((BOB, 6000)), Payees.of((CAROL, 6000)))
    assert fits(params(locked), lines, (62, 62, 62))
    assert not fits(params(locked), lines, (62, 62, 63))


def test_no_more_outputs_are_paid_for_than_a_channel_can_have() -> None:
    assert POLICY.max_outputs == 8
    assert capacity.to_lock(offered(), RATE, 1_000, titles=50) == 1_000 + fee_at(RATE, 8)


def test_a_small_channel_is_worth_eight_pieces() -> None:
    assert capacity.to_lock(offered(terms(price=5)), RATE, 5) == 40 + fee_at(RATE, 3)


def test_the_end_costs_the_dearer_of_settlement_and_refund() -> None:
    assert [capacity.end_fee(RATE, payees) for payees in (1, 2, 3)] == [32, 34, 37]
    assert [fee_at(RATE, payees + 2) for payees in (1, 2, 3)] == [30, 34, 37]


def test_a_line_costs_what_its_new_creators_add_to_the_end() -> None:
    assert capacity.line_fee(RATE, (FILM,), Payees.of((BOB, 100))) == 2
    assert capacity.line_fee(RATE, (FILM,), Payees.of((ALICE, 100))) == 0
    assert capacity.line_fee(RATE, (FILM, SERIES), Payees.of((CAROL, 1), (BOB, 1))) == 3


@pytest.mark.parametrize(("fees", "locked", "fine"), [(72, 100, True), (201, 804, True), (201, 803, False)])
def test_fees_out_of_proportion(fees: int, locked: int, fine: bool) -> None:
    """Above a quarter of the capacity, and above 200 sat as well: a short film is not refused for its fees."""
    if fine:
        capacity.check_fees(fees, locked)
        return
    with pytest.raises(FundsError, match="out of proportion"):
        capacity.check_fees(fees, locked)
