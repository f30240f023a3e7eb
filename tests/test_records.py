"""Ledger records: there and back, and nothing else is taken for one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.errors import StoreError
from bct.pay import records
from bct.pay.records import Bought, Lined, Opened, Paid, Pieces, Record, Reserved
from bct.units import Infohash, Outpoint, PieceIndex, Txid
from tests.channel_parts import vectors

U32 = st.integers(0, 2**32 - 1)
OUTPOINTS = st.builds(Outpoint, st.binary(min_size=32, max_size=32).map(Txid), U32)
LINES = st.integers(0, 255)
TITLES = st.binary(min_size=20, max_size=20).map(Infohash)
PIECES = (OUTPOINTS, LINES, TITLES, U32.map(PieceIndex), U32)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(Paid, OUTPOINTS, LINES, U32, st.binary(min_size=64, max_size=64)),
    st.builds(Opened, *PIECES),
    st.builds(Bought, *PIECES),
    st.builds(Reserved, OUTPOINTS, st.lists(U32, max_size=32).map(tuple)),
    st.builds(Lined, OUTPOINTS, LINES, vectors()),
    st.builds(Pieces, OUTPOINTS, LINES, TITLES, U32, st.lists(U32.map(PieceIndex), min_size=1, max_size=8).map(tuple)),
)


@given(RECORDS)
def test_there_and_back(record: Record) -> None:
    assert records.decode(records.encode(record)) == record


def test_a_payment_takes_106_bytes() -> None:
    """One for each piece: this is what the disk sees of a film."""
    assert len(records.encode(Paid(Outpoint(Txid(bytes(32)), 0), 0, 1, bytes(64)))) == 106


@given(RECORDS)
def test_cut_or_lengthened(record: Record) -> None:
    raw = records.encode(record)
    for wrong in (*(raw[:end] for end in range(len(raw))), raw + b"\0"):
        with pytest.raises(StoreError):
            records.decode(wrong)


@given(st.binary(max_size=120))
def test_any_bytes(raw: bytes) -> None:
    with suppress(StoreError):
        assert records.encode(records.decode(raw)) == raw


@pytest.mark.parametrize("kind", [0, 7, 255])
def test_a_newer_versions_record(kind: int) -> None:
    with pytest.raises(StoreError, match="made by a newer bct"):
        records.decode(bytes((kind,)) + bytes(105))
