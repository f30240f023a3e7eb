"""What a watchman without keys takes, and what not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.keys import ORDER
from bct.bitcoin.script import p2pkh, push, push_signature, pushed_signatures
from bct.bitcoin.tx import Tx, TxInput, TxOutput, sighash
from bct.channel.lock import EXPIRY_END, Lock
from bct.channel.payee import Payee
from bct.channel.transactions import settlement
from bct.channel.watched import Checked, Watched, check, check_time, decode, encode, is_newer
from bct.errors import RemoteProtocolError
from bct.units import Outpoint, PubKeyHash, Satoshi
from tests.channel_parts import (
    CHANGE,
    EXPIRY,
    FUNDING,
    HOUR,
    LOCK,
    NOW,
    PAYEE,
    PAYER,
    SEEDER,
    SERIES,
    key,
    new_payee,
    new_payer,
    params,
)

CAPACITY = 10_000


def funding_of(lock: Lock, value: int = CAPACITY) -> Tx:
    return Tx((TxInput(FUNDING),), (TxOutput(Satoshi(1), p2pkh(CHANGE)), TxOutput(Satoshi(value), lock.script())))


def paid(total: int, lock: Lock = LOCK, lines: tuple[int, ...] = ()) -> tuple[Tx, Payee]:
    """The funding, and a payee that was paid so much. lines: totals of a second line, one after the other."""
    funding = funding_of(lock)
    fixed = params(CAPACITY, outpoint=Outpoint(funding.txid, 1), lock=lock)
    payer, payee = new_payer(fixed), new_payee(fixed)
    payment = payer.pay(0, total, PAYER, now=NOW)
    payee.accept(0, total, payment.signature, now=NOW, exposure=None)
    for price in lines:
        line = payer.add_line(SERIES)
        if line == len(payee.lines):
            payee.add_line(line, SERIES)
        payer.reserve(line, price, CAPACITY)
        payment = payer.pay(line, price, PAYER, now=NOW)
        payee.accept(line, payment.total, payment.signature, now=NOW, exposure=None)
    return funding, payee


def watched(total: int = 62, *, lines: tuple[int, ...] = (), change: PubKeyHash = CHANGE) -> Watched:
    funding, payee = paid(total, lines=lines)
    tx, _ = payee.settlement(PAYEE)
    return Watched((funding.serialize(),), tx.serialize(), change)


def crooked(change: Callable[[Tx], Tx]) -> Watched:
    """A settlement changed after both have signed."""
    good = watched()
    return replace(good, settlement=change(Tx.parse(good.settlement)).serialize())


def resigned(change: Callable[[Tx], Tx]) -> Watched:
    """A settlement changed, and signed by both as it is then."""
    funding = funding_of(LOCK)
    unsigned = change(Tx.parse(watched().settlement))
    digest = sighash(unsigned, 0, LOCK.script(), Satoshi(CAPACITY))
    tx = settlement(unsigned, PAYEE.sign(digest), PAYER.sign(digest))
    tx = replace(unsigned, inputs=(replace(unsigned.inputs[0], script=tx.inputs[0].script), *unsigned.inputs[1:]))
    return Watched((funding.serialize(),), tx.serialize(), CHANGE)


def refused(one: Watched) -> str:
    with pytest.raises(RemoteProtocolError) as error:
        check(one)
    return str(error.value)


def test_what_a_settlement_says_of_its_channel() -> None:
    funding = funding_of(LOCK)
    found = check(watched(62))
    assert found.outpoint == Outpoint(funding.txid, 1)
    assert (found.capacity, found.lock, found.paid) == (CAPACITY, LOCK, 62)
    assert found.due == EXPIRY - 2 * HOUR + 15 * 60


def test_parents_of_the_funding_come_along() -> None:
    one = watched()
    parent = Tx((TxInput(FUNDING),), (TxOutput(Satoshi(5), p2pkh(CHANGE)),)).serialize()
    assert check(replace(one, funding=(parent, *one.funding))).paid == 62
    assert "1 to 6" in refused(replace(one, funding=(parent,) * 6 + one.funding))
    assert "1 to 6" in refused(replace(one, funding=()))


def test_a_signature_that_is_not_the_channels() -> None:
    other = key("somebody else")
    funding, _ = paid(62)
    unsigned = Tx.parse(watched().settlement)
    digest = sighash(unsigned, 0, LOCK.script(), Satoshi(CAPACITY))
    for first, second, who in ((other, PAYER, "payee"), (PAYEE, other, "payer"), (PAYER, PAYEE, "payee")):
        tx = settlement(unsigned, first.sign(digest), second.sign(digest))
        assert f"not signed by the channel's {who}" in refused(Watched((funding.serialize(),), tx.serialize(), CHANGE))


def test_another_channels_settlement() -> None:
    """Of the same two keys: the signatures are good, and for something else."""
    elsewhere = funding_of(LOCK, CAPACITY + 1).serialize()
    assert "does not spend the funding" in refused(replace(watched(), funding=(elsewhere,)))
    other = Lock(PAYER.public, PAYEE.public, EXPIRY + 1)
    funding, payee = paid(62, other)
    tx, _ = payee.settlement(PAYEE)
    assert "does not spend the funding" in refused(Watched(watched().funding, tx.serialize(), CHANGE))
    assert check(Watched((funding.serialize(),), tx.serialize(), CHANGE)).lock == other


def with_input(tx: Tx, **change: object) -> Tx:
    return replace(tx, inputs=(replace(tx.inputs[0], **change),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda tx: replace(tx, version=2), "version 1"),
        (lambda tx: replace(tx, locktime=EXPIRY), "no lock time"),
        (lambda tx: with_input(tx, sequence=0xFFFFFFFE), "the last sequence"),
        (lambda tx: replace(tx, inputs=tx.inputs * 2), "one input"),
        (lambda tx: replace(tx, outputs=()), "1 to 20 outputs"),
        (lambda tx: replace(tx, outputs=tx.outputs * 7), "1 to 20 outputs"),
        (lambda tx: replace(tx, outputs=(TxOutput(Satoshi(5), b"\x51"),)), "pays to the hash of a key"),
        (lambda tx: replace(tx, outputs=(TxOutput(Satoshi(CAPACITY + 1), p2pkh(SEEDER)),)), "more than the 10000 sat"),
        (lambda tx: with_input(tx, outpoint=Outpoint(tx.inputs[0].outpoint.txid, 0)), "no payment channel's lock"),
        (lambda tx: with_input(tx, outpoint=Outpoint(tx.inputs[0].outpoint.txid, 2)), "does not spend the funding"),
    ],
)
def test_what_no_payee_makes_though_both_have_signed_it(change: Callable[[Tx], Tx], text: str) -> None:
    assert text in refused(resigned(change))


def unlocked(script: Callable[[bytes], bytes]) -> Callable[[Tx], Tx]:
    return lambda tx: with_input(tx, script=script(tx.inputs[0].script))


@pytest.mark.parametrize(
    "script",
    [
        lambda script: b"",
        lambda script: script + b"\x51",
        lambda script: b"\x51" + script,
        lambda script: script + push_signature(PAYEE.sign(bytes(32))),
        lambda script: script[: 1 + script[0]],
        lambda script: b"\x4c" + script,
        lambda script: script[:-1] + b"\xc1",
        lambda script: push(b"\x30" * 71) * 2,
    ],
)
def test_an_unlocking_script_with_anything_else_in_it(script: Callable[[bytes], bytes]) -> None:
    """Nodes would not relay it, or it is not what was signed."""
    assert "two signatures and nothing else" in refused(crooked(unlocked(script)))


def test_a_high_s_is_refused() -> None:
    """Nodes do not relay it."""

    def high(script: bytes) -> bytes:
        ours, theirs = pushed_signatures(script) or []
        s = ORDER - int.from_bytes(theirs[32:])
        return push_signature(ours) + push_signature(theirs[:32] + s.to_bytes(32))

    assert "not signed by the channel's payer" in refused(crooked(unlocked(high)))


def test_outputs_changed_behind_the_signatures() -> None:
    def more_for_the_seeder(tx: Tx) -> Tx:
        alice, seeder, change = tx.outputs
        return replace(tx, outputs=(alice, replace(seeder, value=Satoshi(seeder.value + 1)), change))

    assert "not signed by" in refused(crooked(more_for_the_seeder))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_words(junk: bytes) -> None:
    for one in (Watched((junk,), junk, CHANGE), replace(watched(), settlement=junk), Watched((junk,), b"", CHANGE)):
        refused(one)


@given(st.data())
def test_a_settlement_cut_or_flipped_anywhere_is_refused(data: st.DataObject) -> None:
    good = watched()
    at = data.draw(st.integers(0, len(good.settlement) - 1))
    refused(replace(good, settlement=good.settlement[:at]))
    flipped = bytearray(good.settlement)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    refused(replace(good, settlement=bytes(flipped)))


@given(st.lists(st.binary(max_size=60), max_size=4).map(tuple), st.binary(max_size=60), st.binary(max_size=21))
def test_it_travels_as_json(funding: tuple[bytes, ...], settled: bytes, change: bytes) -> None:
    one = Watched(funding, settled, PubKeyHash(change))
    assert decode(encode(one)) == one


@given(st.one_of(st.binary(max_size=60), st.sampled_from((encode(watched())[:-2], b"[" * 9999, b'{"funding":["0"]}'))))
def test_what_is_no_json_of_it_is_refused(junk: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(junk)


# -- which is the newer -----------------------------------------------------------------------------------------------


@given(st.integers(1, 500), st.integers(1, 500))
def test_the_newer_is_the_one_that_pays_more(one: int, other: int) -> None:
    assert is_newer(check(watched(one)), check(watched(other))) == (one > other)


def test_a_step_at_which_an_output_vanishes_is_a_step_up_all_the_same() -> None:
    """The payer's change may rise there: one output less costs 3 sat less."""
    steps = [check(watched(1, lines=(1,) * count)) for count in range(1, 30)]
    assert all(is_newer(new, old) for old, new in pairwise(steps))


def test_an_older_one_is_not_dressed_up_by_another_word_about_the_change() -> None:
    old, new = check(watched(62)), check(watched(100))
    disguised = check(watched(62, change=SEEDER))
    assert disguised.paid > new.paid
    assert not is_newer(disguised, new)
    assert not is_newer(disguised, old)


# -- for how long -----------------------------------------------------------------------------------------------------


def expiring(expiry: int) -> Checked:
    return replace(check(watched()), lock=Lock(PAYER.public, PAYEE.public, expiry))


@pytest.mark.parametrize("expiry", [NOW - 7 * 24 * HOUR + 1, NOW, NOW + 74 * HOUR])
def test_channels_that_can_live_are_watched(expiry: int) -> None:
    check_time(expiring(expiry), NOW)


@pytest.mark.parametrize("expiry", [NOW - 7 * 24 * HOUR, NOW + 74 * HOUR + 1, EXPIRY_END - 1])
def test_channels_that_cannot_live_take_no_room(expiry: int) -> None:
    with pytest.raises(RemoteProtocolError):
        check_time(expiring(expiry), NOW)
