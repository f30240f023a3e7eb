"""Offers remember nothing: whether we made one, for what and when is in its nonce."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.channel.transactions import fee_at
from bct.errors import Action, RemoteProtocolError
from bct.pay import offers
from bct.units import Payees
from tests.channel_parts import NOW, creators, key
from tests.pay_parts import FILM_TERMS, IDENTITY, POLICY, Seeder, Wire, terms

SECRET = b"the node's secret"
FILM = FILM_TERMS.infohash


def nonce(now: int = NOW, random: bytes = b"abcd") -> bytes:
    return offers.new_nonce(SECRET, FILM, now, random)


def refused(secret: bytes, infohash: bytes, of: bytes, now: int) -> str:
    with pytest.raises(RemoteProtocolError) as error:
        offers.check_nonce(secret, infohash, of, now)
    assert (error.value.reason, error.value.action) == ("bad-nonce", Action.REFUSE)
    return str(error.value)


@pytest.mark.parametrize("age", [-60, 0, 1800, 3600])
def test_our_nonce_within_the_hour(age: int) -> None:
    offers.check_nonce(SECRET, FILM, nonce(), NOW + age)


@pytest.mark.parametrize("age", [-61, 3601, 10**6])
def test_too_old_or_from_the_future(age: int) -> None:
    assert f"{age} s old" in refused(SECRET, FILM, nonce(), NOW + age)


def test_of_another_secret_or_torrent() -> None:
    """THREATS 24: a second node, or another title, does not take it."""
    assert "not ours" in refused(b"other", FILM, nonce(), NOW)
    assert "not ours" in refused(SECRET, bytes(20), nonce(), NOW)


@given(st.integers(0, 127))
def test_one_flipped_bit(bit: int) -> None:
    """THREATS 22: openings under invented nonces are refused before anything is asked or kept."""
    changed = bytearray(nonce())
    changed[bit // 8] ^= 1 << bit % 8
    refused(SECRET, FILM, bytes(changed), NOW)


def test_two_nonces_of_one_second() -> None:
    """One nonce, one payee key, one channel."""
    assert nonce(random=b"abcd") != nonce(random=b"abce")


@pytest.mark.parametrize(("price", "people"), [(1, 1), (0, 1), (7, 3), (1000, 16)])
def test_the_least_capacity_is_eight_pieces_and_a_settlement(price: int, people: int) -> None:
    assert offers.least_capacity(100, price, people) == 8 * price + fee_at(100, people + 2)


def test_an_offer_leaves_room_for_every_creator() -> None:
    many = Payees.of(*((who, 500) for who in creators(12)))
    wire = Wire(Seeder(), terms("chorus", payees=many))
    wire.deliver()
    assert wire.payer.offered
    assert wire.payer.offered.offer.max_outputs == 14


def test_what_we_offer_passes_our_own_check() -> None:
    wire = Wire(Seeder())
    made = offers.make_offer(POLICY, FILM_TERMS, wire.context, IDENTITY, key("payee").public, nonce())
    offers.check_offer(made, FILM_TERMS, wire.context, 1000)


def test_a_free_title_has_no_offer() -> None:
    assert Wire(Seeder(), terms("gift", price=0)).to_viewer == []
