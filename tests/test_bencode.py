"""Bencoding: one value, one spelling, and nothing a stranger writes gets further than a RemoteProtocolError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.errors import RemoteProtocolError
from bct.torrent import bencode
from bct.torrent.bencode import Value

LIMIT = 1 << 20

values: st.SearchStrategy[Value] = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=10), inner, max_size=5),
    max_leaves=20,
)


def refused(raw: bytes, limit: int = LIMIT) -> bool:
    try:
        bencode.decode(raw, limit)
    except RemoteProtocolError as error:
        return error.reason == "bad-bencoding"
    return False


@given(values)
def test_what_is_written_is_read_again(value: Value) -> None:
    assert bencode.decode(bencode.encode(value), LIMIT) == value


@given(st.binary(max_size=60) | st.text("ilde0123456789:-ab", max_size=40).map(str.encode))
def test_what_is_read_would_be_written_so(raw: bytes) -> None:
    if not refused(raw):
        assert bencode.encode(bencode.decode(raw, LIMIT)) == raw


@given(values)
def test_cut_anywhere_it_is_refused(value: Value) -> None:
    raw = bencode.encode(value)
    assert all(refused(raw[:end]) for end in range(len(raw)))


@pytest.mark.parametrize(
    "raw",
    [
        b"i-0e",
        b"i00e",
        b"i01e",
        b"i-01e",
        b"i+1e",
        b"i 1e",
        b"ie",
        b"i1_0e",
        b"i99999999999999999999e",
        "i\u0661e".encode(),
        b"01:a",
        b"-1:a",
        b"1_0:aaaaaaaaaa",
        b"9999999999:a",
        b"1:ab",
        b"d1:b0:1:a0:e",
        b"d1:a0:1:a0:e",
        b"di1e0:e",
        b"d1:ae",
        b"e",
        b"",
    ],
)
def test_other_spellings_are_refused(raw: bytes) -> None:
    assert refused(raw)


def test_keys_are_sorted_when_written() -> None:
    assert bencode.encode({b"b": 1, b"a": [b"", -5]}) == b"d1:al0:i-5ee1:bi1ee"


def test_nesting_is_bounded() -> None:
    deep = bencode.MAX_DEPTH
    assert not refused(b"l" * deep + b"0:" + b"e" * deep)
    assert refused(b"l" * (deep + 1) + b"0:" + b"e" * (deep + 1))
    assert refused(b"l" * 500_000)
    assert refused(b"d0:" * 300_000)


def test_values_and_bytes_are_bounded() -> None:
    assert refused(b"l" + b"le" * bencode.MAX_VALUES + b"e")
    assert refused(b"5:abcde", limit=6)
    assert not refused(b"5:abcde", limit=7)


def test_a_prefix_says_where_it_ends() -> None:
    assert bencode.decode_prefix(b"d1:ai1eeRAW", LIMIT) == ({b"a": 1}, 8)


def test_only_a_dictionary_will_do() -> None:
    with pytest.raises(RemoteProtocolError, match="dictionary was expected, not list"):
        bencode.decode_dict(b"le", LIMIT)
