"""The extended format: as another implementation writes it, there and back, cut and padded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bsv.transaction import Transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from bct.bitcoin import extended
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx, TxOutput
from bct.errors import LocalProtocolError, RemoteProtocolError
from bct.units import Outpoint, Satoshi
from tests.coins import Coin, new_key, spend

PARENT = Tx((), tuple(TxOutput(Satoshi(10_000 + n), p2pkh(new_key().hash)) for n in range(5)))


def some(count: int) -> tuple[Tx, list[TxOutput]]:
    """A transaction that spends so many outputs of `PARENT`, and these outputs."""
    spent = [PARENT.outputs[n] for n in range(count)]
    coins = [Coin(Outpoint(PARENT.txid, n), output.value, new_key()) for n, output in enumerate(spent)]
    return spend(*coins, parts=2), spent


def test_it_is_what_the_bsv_sdk_writes() -> None:
    tx, spent = some(3)
    theirs = Transaction.from_hex(tx.serialize().hex())
    assert theirs
    for one in theirs.inputs:
        one.source_transaction = Transaction.from_hex(PARENT.serialize().hex())
    assert extended.serialize(tx, spent) == theirs.to_ef()


@given(st.integers(1, 5))
@settings(max_examples=5)
def test_it_reads_back(count: int) -> None:
    tx, spent = some(count)
    assert extended.parse(extended.serialize(tx, spent)) == (tx, tuple(spent))


def test_cut_at_each_byte_it_is_refused_and_so_is_more() -> None:
    tx, spent = some(1)
    raw = extended.serialize(tx, spent)
    for end in range(len(raw)):
        with pytest.raises(RemoteProtocolError) as caught:
            extended.parse(raw[:end])
        assert caught.value.reason == "bad-tx"
    with pytest.raises(RemoteProtocolError, match="1 bytes follow"):
        extended.parse(raw + b"\0")
    with pytest.raises(RemoteProtocolError, match="its marker is missing"):
        extended.parse(tx.serialize())


def test_a_plain_reader_takes_it_for_no_transaction() -> None:
    with pytest.raises(RemoteProtocolError):
        Tx.parse(extended.serialize(*some(1)))


def test_each_input_says_what_it_spends() -> None:
    tx, spent = some(2)
    with pytest.raises(LocalProtocolError, match="2 inputs spend as many outputs, got 1"):
        extended.serialize(tx, spent[:1])
    assert extended.parse(extended.serialize(replace(tx, locktime=7), spent))[0].locktime == 7
