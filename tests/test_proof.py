"""Proofs as a payee meets them: honest ones, and each lie that can be told with one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bsv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.keys import sha256d
from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.proof import MAX_ANCESTORS, MAX_BEEF, Beef, Unproven
from bct.bitcoin.tx import FINAL, MAX_MONEY, Tx, TxInput, TxOutput
from bct.errors import LocalProtocolError, RemoteProtocolError
from bct.units import Outpoint, Satoshi, Txid, txid_from_hex

STANDARD: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "brc62_brc74.json").read_text())
HEIGHT = 700_000


def leaf(number: int) -> Txid:
    return Txid(sha256d(number.to_bytes(4)))


def spending(*outpoints: Outpoint, pays: Iterable[int], sequence: int = FINAL, locktime: int = 0) -> Tx:
    outputs = tuple(TxOutput(Satoshi(value), b"\x51") for value in pays)
    return Tx(tuple(TxInput(one, b"\x51", sequence) for one in outpoints), outputs, 1, locktime)


MINED = spending(Outpoint(leaf(9), 0), pays=(10_000, 5_000))
PATH = MerklePath.of_branch(HEIGHT, MINED.txid, 1, [leaf(0), leaf(1)])
ROOTS = {HEIGHT: PATH.root(MINED.txid)}
MIDDLE = spending(Outpoint(MINED.txid, 0), pays=(9_000,))
PAYMENT = spending(Outpoint(MIDDLE.txid, 0), Outpoint(MINED.txid, 1), pays=(13_000,))


def proof_of(*txs: Tx) -> Beef:
    """Of the last of these, with the mined one proven, as a liar would put it together: unchecked."""
    return Beef(txs[-1].txid, txs, {MINED.txid: PATH})


def refused(act: Callable[[], object], told: str, reason: str = "bad-proof") -> None:
    with pytest.raises(RemoteProtocolError, match=told) as error:
        act()
    assert error.value.reason == reason


class TestHonestProof:
    def test_the_example_of_brc_62_checks(self) -> None:
        raw = bytes.fromhex(STANDARD["beef"]["hex"])
        subject = txid_from_hex(STANDARD["beef"]["subject"])
        beef = Beef.parse(bytes.fromhex("01010101") + subject + raw)
        assert beef.serialize()[36:] == raw
        (height,) = beef.heights()
        assert height == STANDARD["beef"]["height"]
        mined = beef.transactions[0].txid
        (payment,) = beef.check({height: beef.proofs[mined].root(mined)}).unproven
        assert (payment.txid, payment.fee, payment.size) == (subject, 2, 191)

    def test_built_sent_read_and_checked(self) -> None:
        sources = {tx.txid: tx for tx in (MINED, MIDDLE)}
        sent = Beef.build(PAYMENT, sources, {MINED.txid: PATH}).serialize()
        ancestry = Beef.parse(sent).check(ROOTS)
        assert ancestry.subject == PAYMENT
        size = len(MIDDLE.serialize())
        assert ancestry.unproven[0] == Unproven(MIDDLE.txid, Satoshi(1_000), size, final=True)
        assert [(one.txid, one.fee) for one in ancestry.unproven] == [(MIDDLE.txid, 1_000), (PAYMENT.txid, 1_000)]

    def test_the_bsv_library_reads_what_is_sent(self) -> None:
        raw = Beef.build(PAYMENT, {tx.txid: tx for tx in (MINED, MIDDLE)}, {MINED.txid: PATH}).serialize()
        theirs = bsv.Transaction.from_beef(raw[36:])
        assert txid_from_hex(theirs.txid()) == PAYMENT.txid
        parents = [one.source_transaction for one in theirs.inputs]
        assert [txid_from_hex(tx.txid()) for tx in parents] == [MIDDLE.txid, MINED.txid]
        assert bytes.fromhex(parents[1].merkle_path.compute_root(parents[1].txid()))[::-1] == ROOTS[HEIGHT]

    def test_each_branch_of_its_ancestors_is_followed(self) -> None:
        """Two unproven parents, each with a parent of its own."""
        other = spending(Outpoint(leaf(8), 0), pays=(10_000,))
        path = MerklePath.of_branch(HEIGHT + 1, other.txid, 0, [None])
        aside = spending(Outpoint(other.txid, 0), pays=(9_000,))
        payment = spending(Outpoint(MIDDLE.txid, 0), Outpoint(aside.txid, 0), pays=(17_000,))
        beef = Beef(payment.txid, (MINED, other, MIDDLE, aside, payment), {MINED.txid: PATH, other.txid: path})
        assert beef.check({**ROOTS, HEIGHT + 1: path.root(other.txid)}).subject == payment

    def test_what_is_mined_needs_no_ancestors(self) -> None:
        beef = Beef.build(MINED, {}, {MINED.txid: PATH})
        assert Beef.parse(beef.serialize()).check(ROOTS).unproven == ()

    def test_version_2_says_the_same(self) -> None:
        v1 = proof_of(MINED, PAYMENT).serialize()
        bump = PATH.serialize()
        txs = b"\x01\x00" + MINED.serialize() + b"\x00" + PAYMENT.serialize()
        v2 = v1[:36] + bytes.fromhex("0200beef01") + bump + b"\x02" + txs
        assert Beef.parse(v2) == Beef.parse(v1)

    def test_one_path_serves_two_transactions(self) -> None:
        other = spending(Outpoint(leaf(8), 0), pays=(700,))
        path = MerklePath.of_branch(HEIGHT, MINED.txid, 0, [other.txid])
        child = spending(Outpoint(MINED.txid, 0), Outpoint(other.txid, 0), pays=(10_600,))
        beef = Beef(child.txid, (MINED, other, child), {MINED.txid: path, other.txid: path})
        raw = beef.serialize()
        assert raw.count(path.serialize()) == 1
        assert Beef.parse(raw).check({HEIGHT: path.root(other.txid)}).unproven[0].fee == 100

    @pytest.mark.parametrize(
        ("locktime", "sequence", "final"), [(0, 0, True), (5, FINAL, True), (5, FINAL - 1, False), (0, FINAL, True)]
    )
    def test_what_a_clock_may_hold_back_is_reported(self, locktime: int, sequence: int, final: bool) -> None:
        child = spending(Outpoint(MINED.txid, 0), pays=(1,), locktime=locktime, sequence=sequence)
        assert proof_of(MINED, child).check(ROOTS).unproven[0].final is final

    @pytest.mark.parametrize(("fee", "enough"), [(99, False), (100, True), (101, True)])
    def test_a_fee_is_measured_against_a_rate(self, fee: int, enough: bool) -> None:
        assert Unproven(leaf(0), Satoshi(fee), 1_000, True).pays(100) is enough

    def test_a_fee_that_lacks_a_thousandth_of_a_satoshi_is_too_low(self) -> None:
        assert not Unproven(leaf(0), Satoshi(1_000), 10_000_001, True).pays(100)

    def test_paying_no_fee_is_no_lie_and_is_reported(self) -> None:
        free = spending(Outpoint(MINED.txid, 0), pays=(10_000,))
        (reported,) = proof_of(MINED, free).check(ROOTS).unproven
        assert reported.fee == 0
        assert not reported.pays(1)

    def test_our_own_gap_is_our_bug(self) -> None:
        with pytest.raises(LocalProtocolError, match="without the transaction"):
            Beef.build(PAYMENT, {MINED.txid: MINED}, {MINED.txid: PATH})


class TestLies:
    def test_a_block_we_know_otherwise_or_not_at_all(self) -> None:
        beef = proof_of(MINED, PAYMENT)
        refused(lambda: beef.check({HEIGHT: leaf(3)}), "not in our block 700000")
        refused(lambda: beef.check({}), "not in our block 700000")

    def test_an_ancestor_that_nobody_ever_saw(self) -> None:
        refused(lambda: proof_of(MIDDLE).check(ROOTS), "missing or comes after")

    def test_money_out_of_nothing(self) -> None:
        greedy = spending(Outpoint(MINED.txid, 0), pays=(10_001,))
        refused(lambda: proof_of(MINED, greedy).check(ROOTS), "pays out 10001 sat of 10000")

    def test_money_out_of_nothing_half_way(self) -> None:
        greedy = spending(Outpoint(MINED.txid, 0), pays=(10_001,))
        payment = spending(Outpoint(greedy.txid, 0), pays=(9_000,))
        refused(lambda: proof_of(MINED, greedy, payment).check(ROOTS), "pays out 10001 sat of 10000")

    def test_one_coin_twice_in_one_transaction(self) -> None:
        twice = spending(Outpoint(MINED.txid, 0), Outpoint(MINED.txid, 0), pays=(20_000,))
        refused(lambda: proof_of(MINED, twice).check(ROOTS), "spent twice")

    def test_one_coin_twice_in_two_transactions(self) -> None:
        other = spending(Outpoint(MINED.txid, 0), pays=(8_000,))
        payment = spending(Outpoint(MIDDLE.txid, 0), Outpoint(other.txid, 0), pays=(17_000,))
        refused(lambda: proof_of(MINED, MIDDLE, other, payment).check(ROOTS), "spent twice")

    def test_an_output_that_is_not_there(self) -> None:
        refused(
            lambda: proof_of(MINED, spending(Outpoint(MINED.txid, 2), pays=(1,))).check(ROOTS), "there are 2 outputs"
        )

    def test_no_inputs_or_no_outputs(self) -> None:
        refused(lambda: proof_of(spending(pays=(1,))).check(ROOTS), "0 inputs and 1 outputs")
        refused(lambda: proof_of(MINED, spending(Outpoint(MINED.txid, 0), pays=())).check(ROOTS), "0 outputs")

    def test_a_child_before_its_parent(self) -> None:
        refused(lambda: proof_of(MINED, PAYMENT, MIDDLE).check(ROOTS), "missing or comes after")

    def test_a_transaction_twice(self) -> None:
        refused(lambda: proof_of(MINED, MINED, PAYMENT).check(ROOTS), "is there twice")

    def test_a_stranger_among_the_ancestors(self) -> None:
        stray = spending(Outpoint(MINED.txid, 1), pays=(1,))
        refused(lambda: proof_of(MINED, stray, MIDDLE).check(ROOTS), "1 of 3 transactions are unrelated")

    def test_ancestors_of_what_is_mined_are_not_needed(self) -> None:
        mined = spending(Outpoint(MINED.txid, 0), pays=(9_000,))
        later = MerklePath.of_branch(HEIGHT + 1, mined.txid, 0, [leaf(5)])
        child = spending(Outpoint(mined.txid, 0), pays=(8_000,))
        beef = Beef(child.txid, (MINED, mined, child), {MINED.txid: PATH, mined.txid: later})
        roots = {**ROOTS, HEIGHT + 1: later.root(mined.txid)}
        refused(lambda: beef.check(roots), "1 of 3 transactions are unrelated")

    def test_a_subject_that_is_not_there(self) -> None:
        refused(lambda: replace(proof_of(MINED), subject=leaf(0)).check(ROOTS), "lacks its subject")

    def test_two_hashes_posing_as_a_transaction(self) -> None:
        """64 bytes that are a transaction and, hashed, an inner node: whoever mines it could prove anything below."""
        posing = spending(Outpoint(leaf(0), 0), pays=(1,))
        posing = replace(posing, outputs=(replace(posing.outputs[0], script=b"\x51" * 3),))
        assert len(posing.serialize()) == 64
        path = MerklePath.of_branch(HEIGHT, posing.txid, 0, [leaf(1)])
        beef = Beef(posing.txid, (posing,), {posing.txid: path})
        refused(lambda: beef.check({HEIGHT: path.root(posing.txid)}), "64 bytes")

    def test_more_ancestors_than_anyone_should_wait_for(self) -> None:
        chain = [MINED]
        for step in range(MAX_ANCESTORS + 2):
            chain.append(spending(Outpoint(chain[-1].txid, 0), pays=(9_000 - step,)))
        assert len(proof_of(*chain[:-1]).check(ROOTS).unproven) == MAX_ANCESTORS + 1
        refused(lambda: proof_of(*chain).check(ROOTS), "at most 5 below", reason="too-many-unconfirmed")

    def test_more_money_than_there_is(self) -> None:
        rich = spending(Outpoint(leaf(9), 0), pays=(MAX_MONEY, MAX_MONEY))
        path = MerklePath.of_branch(HEIGHT, rich.txid, 0, [leaf(0)])
        child = spending(Outpoint(rich.txid, 0), Outpoint(rich.txid, 1), pays=(1,))
        beef = Beef(child.txid, (rich, child), {rich.txid: path})
        refused(lambda: beef.check({HEIGHT: path.root(rich.txid)}), "pays out 1 sat of 4200000000000000")

    def test_all_the_money_there_is(self) -> None:
        richest = spending(Outpoint(leaf(9), 0), pays=(MAX_MONEY,))
        path = MerklePath.of_branch(HEIGHT, richest.txid, 0, [leaf(0)])
        child = spending(Outpoint(richest.txid, 0), pays=(1,))
        beef = Beef(child.txid, (richest, child), {richest.txid: path})
        assert beef.check({HEIGHT: path.root(richest.txid)}).unproven[0].fee == MAX_MONEY - 1


class TestBytes:
    RAW = proof_of(MINED, MIDDLE, PAYMENT).serialize()

    def test_cut_anywhere_it_is_refused(self) -> None:
        for size in range(len(self.RAW)):
            with pytest.raises(RemoteProtocolError):
                Beef.parse(self.RAW[:size])

    @pytest.mark.parametrize(
        ("raw", "told"),
        [
            (RAW + b"\0", "1 bytes follow"),
            (b"\x02" + RAW[1:], "does not begin like an Atomic BEEF"),
            (RAW[:36] + bytes.fromhex("0300beef") + RAW[40:], "version 0300beef is unknown"),
            (RAW[:-1] + b"\x02", "with .1. or without .0. a Merkle path, got 2"),
            (RAW[:-1] + b"\x01\x01", "path 1 is named, 1 were sent"),
            (bytes(MAX_BEEF + 1), "at most 1048576"),
            (RAW[:36] + bytes.fromhex("0200beef000102") + bytes(64), "got 2"),
        ],
    )
    def test_bytes_that_cannot_be_a_proof(self, raw: bytes, told: str) -> None:
        refused(lambda: Beef.parse(raw), told)

    def test_the_least_that_a_count_may_announce_is_read(self) -> None:
        """Paths of 3 bytes and transactions of 11: no room is asked for that is not needed."""
        paths, nothing = bytes.fromhex("000100") * 20, bytes(11) * 20
        head = self.RAW[:40]
        assert Beef.parse(head + b"\x14" + paths + b"\0").transactions == ()
        assert len(Beef.parse(head + b"\0\x14" + nothing).transactions) == 20

    def test_the_longest_proof_that_is_read(self) -> None:
        refused(lambda: Beef.parse(bytes(MAX_BEEF)), "does not begin like an Atomic BEEF")

    @given(st.integers(0, len(RAW) - 1), st.binary(min_size=1, max_size=4))
    def test_altered_anywhere_it_is_refused_in_words_or_still_true(self, at: int, patch: bytes) -> None:
        altered = self.RAW[:at] + patch + self.RAW[at + len(patch) :]
        try:
            ancestry = Beef.parse(altered).check(ROOTS)
        except RemoteProtocolError:
            return
        assert sum(o.value for o in ancestry.subject.outputs) <= 15_000

    @given(st.binary(max_size=400))
    def test_noise_is_refused(self, noise: bytes) -> None:
        with pytest.raises(RemoteProtocolError):
            Beef.parse(noise).check(ROOTS)
        with pytest.raises(RemoteProtocolError):
            Beef.parse(self.RAW[:40] + noise).check(ROOTS)
