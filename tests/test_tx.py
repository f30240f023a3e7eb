"""Transactions out of a stranger's bytes: exactly what was written, or one kind of error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.script import p2pkh, p2pkh_hash, push, script_number
from bct.bitcoin.tx import MAX_MONEY, Reader, Tx, TxInput, TxOutput, compact_size
from bct.errors import RemoteProtocolError
from bct.units import Outpoint, PubKeyHash, Satoshi, Txid

U32 = st.integers(0, 2**32 - 1)
SCRIPT = st.one_of(st.binary(max_size=80), st.binary(min_size=250, max_size=260))
OUTPOINTS = st.builds(Outpoint, st.binary(min_size=32, max_size=32).map(Txid), U32)
INPUTS = st.lists(st.builds(TxInput, OUTPOINTS, SCRIPT, U32), max_size=3).map(tuple)
OUTPUTS = st.lists(st.builds(TxOutput, st.integers(0, MAX_MONEY).map(Satoshi), SCRIPT), max_size=3).map(tuple)
TXS = st.builds(Tx, INPUTS, OUTPUTS, U32, U32)

ONE = Tx(
    (TxInput(Outpoint(Txid(b"\1" * 32), 7), b"unlock", 5), TxInput(Outpoint(Txid(b"\2" * 32), 0))),
    (TxOutput(Satoshi(1), b"lock"), TxOutput(Satoshi(MAX_MONEY), b"")),
    version=2,
    locktime=9,
)


@given(TXS)
def test_a_transaction_reads_back(tx: Tx) -> None:
    assert Tx.parse(tx.serialize()) == tx


@given(TXS, st.binary(max_size=40), st.binary(min_size=1, max_size=40))
def test_one_among_other_bytes_ends_where_it_ends(tx: Tx, before: bytes, after: bytes) -> None:
    raw = before + tx.serialize()
    assert Tx.parse_at(raw + after, len(before)) == (tx, len(raw))
    with pytest.raises(RemoteProtocolError, match=f"{len(after)} bytes follow"):
        Tx.parse(tx.serialize() + after)


def test_cut_at_each_byte() -> None:
    raw = ONE.serialize()
    for end in range(len(raw)):
        with pytest.raises(RemoteProtocolError):
            Tx.parse(raw[:end])


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_is_a_transaction_written_the_one_way_there_is(raw: bytes) -> None:
    try:
        tx = Tx.parse(raw)
    except RemoteProtocolError:
        return
    assert tx.serialize() == raw


@given(st.integers(0, len(ONE.serialize()) - 1), st.integers(0, 255))
def test_one_changed_byte_is_refused_or_changes_the_id(at: int, byte: int) -> None:
    """Nothing in a transaction's bytes is without meaning: else one id would have two meanings."""
    raw = ONE.serialize()
    other = raw[:at] + bytes((byte,)) + raw[at + 1 :]
    try:
        tx = Tx.parse(other)
    except RemoteProtocolError:
        return
    assert (tx == ONE) == (other == raw)
    assert tx.serialize() == other


@pytest.mark.parametrize("value", [MAX_MONEY + 1, 2**63, 2**64 - 1])
def test_an_output_of_more_than_there_will_ever_be(value: int) -> None:
    raw = ONE.serialize().replace(struct.pack("<Q", MAX_MONEY), struct.pack("<Q", value))
    with pytest.raises(RemoteProtocolError, match="more than there will ever be"):
        Tx.parse(raw)


@pytest.mark.parametrize("claimed", [100, 2**32, 2**64 - 1])
def test_a_count_that_cannot_be_there_costs_nothing(claimed: int) -> None:
    raw = struct.pack("<I", 1) + compact_size(claimed) + bytes(100)
    with pytest.raises(RemoteProtocolError, match=f"{claimed} items announced, 100 bytes left|early"):
        Tx.parse(raw)


@pytest.mark.parametrize(
    "wide", ["fd0000", "fdfc00", "fe00000000", "feffff0000", "ff0000000000000000", "ffffffffff00000000"]
)
def test_a_number_has_one_spelling(wide: str) -> None:
    with pytest.raises(RemoteProtocolError, match="where fewer do"):
        Reader(bytes.fromhex(wide)).size()


@given(st.integers(0, 2**64 - 1))
def test_compact_sizes_read_back(n: int) -> None:
    assert Reader(compact_size(n)).size() == n


# -- scripts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "head"), [(2, "02"), (75, "4b"), (76, "4c4c"), (255, "4cff"), (256, "4d0001"), (65_535, "4dffff")]
)
def test_a_push_has_the_shortest_head(size: int, head: str) -> None:
    assert push(b"x" * size) == bytes.fromhex(head) + b"x" * size


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, ""), (1, "01"), (127, "7f"), (128, "8000"), (255, "ff00"), (500_000_000, "0065cd1d"), (2**31 - 1, "ffffff7f")],
)
def test_script_numbers(number: int, written: str) -> None:
    assert script_number(number).hex() == written


@given(st.binary(min_size=20, max_size=20), st.integers(0, 24), st.integers(1, 255))
def test_p2pkh_is_known_to_the_byte(who: bytes, at: int, flip: int) -> None:
    script = p2pkh(PubKeyHash(who))
    assert p2pkh_hash(script) == who
    assert p2pkh_hash(script + b"\0") is None
    assert p2pkh_hash(script[:-1]) is None
    other = script[:at] + bytes((script[at] ^ flip,)) + script[at + 1 :]
    assert p2pkh_hash(other) == (other[3:23] if 3 <= at < 23 else None)
