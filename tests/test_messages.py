"""The paid wire's codec: each message there and back, cut, lengthened, damaged, and carried in parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from enum import IntEnum
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import verify
from bct.errors import RemoteProtocolError
from bct.pay import messages as m
from tests.channel_parts import PAYER, key
from tests.make_vectors import ROOT
from tests.vectors.messages import CONTEXT, EACH, IGNORED, REFUSED, is_signed, signed

NUMBERS = {m.U8: 1, m.U16: 2, m.U32: 4, m.U64: 8}
FIXED = {m.HASH: 20, m.KEY: 33, m.NONCE: 16, m.SIGNATURE: 64, m.OUTPOINT: 36, m.INFOHASH: 20, m.DIGEST: 32}
COUNTED = {
    m.TERMS: 2048,
    m.BITS: 1 << 18,
    m.FUNDING: m.MESSAGE_MAX,
    m.TEXT: 1024,
    m.LEAVES: 64 * 29,
    m.PART: m.CHUNK_SIZE,
}
WIDTH = {m.TERMS: 2, m.BITS: 4, m.FUNDING: 4, m.TEXT: 2, m.LEAVES: 2, m.PART: 4}
ANY_U32 = st.integers(0, 2**32 - 1)


def values(codec: m.Codec) -> st.SearchStrategy[Any]:
    if codec in NUMBERS:
        return st.integers(0, 256 ** NUMBERS[codec] - 1)
    if codec in FIXED:
        return st.binary(min_size=FIXED[codec], max_size=FIXED[codec])
    if codec in COUNTED:
        return st.binary(max_size=min(COUNTED[codec], 300))
    return st.lists(ANY_U32, max_size=m.TOTALS_MAX if codec is m.TOTALS else 40).map(tuple)


def all_of(kind: type[m.Message]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{name: values(codec) for name, codec in kind.LAYOUT})


MESSAGES = st.one_of([all_of(kind) for kind in m.MESSAGES])


def refused(raw: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as error:
        m.decode(raw)
    assert error.value.reason == "bad-message"
    return str(error.value)


# -- there and back ---------------------------------------------------------------------------------------------------


@given(MESSAGES)
def test_there_and_back(message: m.Message) -> None:
    assert m.decode(message.encode()) == message


def test_a_payment_is_74_bytes() -> None:
    assert len(m.PiecePayment(2**32 - 1, 255, 2**32 - 1, bytes(64)).encode()) == 74


@given(all_of(m.PiecePayment))
def test_the_hot_path_reads_a_payment_as_the_layout_says(payment: m.PiecePayment) -> None:
    raw, at, read = payment.encode(), 1, []
    for _, codec in m.PiecePayment.LAYOUT:
        value, at = codec.read(raw, at)
        read.append(value)
    assert m.PiecePayment(*read) == m.decode(raw) == payment


def test_types_are_distinct_and_layouts_name_every_field() -> None:
    assert len({kind.TYPE for kind in m.MESSAGES}) == len(m.MESSAGES)
    assert all(kind.TYPE < 0x80 for kind in m.MESSAGES)
    for kind in m.MESSAGES:
        assert [field.name for field in fields(kind)] == [name for name, _ in kind.LAYOUT]


# -- strangers' bytes (THREATS 23) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", EACH, ids=lambda one: type(one).__name__)
def test_cut_at_each_byte(message: m.Message) -> None:
    """THREATS 23: every prefix is refused, and with nothing but RemoteProtocolError."""
    raw = message.encode()
    for end in range(len(raw)):
        refused(raw[:end])


@pytest.mark.parametrize("message", EACH, ids=lambda one: type(one).__name__)
def test_bytes_behind_a_message(message: m.Message) -> None:
    """THREATS 23: nothing rides along."""
    assert "follow" in refused(message.encode() + b"\0")


@given(st.binary(max_size=300))
@example(bytes(74))
@example(b"\x09" + bytes(74))
def test_any_bytes_are_a_message_or_refused(raw: bytes) -> None:
    """THREATS 23: whatever the bytes, one error only; and what is read writes the same bytes again."""
    with suppress(RemoteProtocolError):
        message = m.decode(raw)
        assert message.encode() == raw if message else raw[0] >= 0x80


@given(MESSAGES, st.data())
def test_one_flipped_bit_is_another_message_or_refused(message: m.Message, data: st.DataObject) -> None:
    """THREATS 24: no bit is without meaning, so nothing can be changed under a signature."""
    raw = bytearray(message.encode())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with suppress(RemoteProtocolError):
        assert m.decode(bytes(raw)) != message


@pytest.mark.parametrize("codec", COUNTED, ids=["terms", "bits", "funding", "text", "leaves", "part"])
def test_a_field_may_be_so_long_and_no_longer(codec: m.Codec) -> None:
    """THREATS 23: the limit stands before the bytes, so a giant is refused by its four bytes of length."""
    limit, width = COUNTED[codec], WIDTH[codec]
    assert codec.read(codec.write(bytes(limit)), 0) == (bytes(limit), width + limit)
    with pytest.raises(RemoteProtocolError, match=f"a field of {limit + 1} bytes, at most {limit}"):
        codec.read((limit + 1).to_bytes(width), 0)


@pytest.mark.parametrize(("codec", "width", "limit"), [(m.TOTALS, 1, m.TOTALS_MAX), (m.INDICES, 4, 1 << 18)])
def test_a_list_may_be_so_long_and_no_longer(codec: m.Codec, width: int, limit: int) -> None:
    """THREATS 23."""
    assert len(codec.read(codec.write((1,) * limit), 0)[0]) == limit
    with pytest.raises(RemoteProtocolError, match=f"a list of {limit + 1}, at most {limit}"):
        codec.read((limit + 1).to_bytes(width), 0)


@pytest.mark.parametrize("kind", range(0x100))
def test_unknown_types(kind: int) -> None:
    """From 0x80 on they may be ignored, below they are errors: a new message cannot be taken for an old one."""
    if kind >= 0x80:
        assert m.decode(bytes((kind,)) + b"anything") is None
    elif kind not in {one.TYPE for one in m.MESSAGES}:
        assert "unknown" in refused(bytes((kind,)))


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_vectors_say_is_refused(name: str) -> None:
    refused(bytes.fromhex(REFUSED[name]))


@pytest.mark.parametrize("name", IGNORED)
def test_what_the_vectors_say_is_ignored(name: str) -> None:
    assert m.decode(bytes.fromhex(IGNORED[name])) is None


# -- signatures (THREATS 24, 25) --------------------------------------------------------------------------------------

SIGNED = [signed(one) for one in EACH if is_signed(one)]


def other_contexts() -> Iterator[m.Context]:
    stranger = key("stranger").public
    yield replace(CONTEXT, network=Network.MAIN)
    yield replace(CONTEXT, viewer_random=bytes(16))
    yield replace(CONTEXT, seeder_random=bytes(16))
    yield replace(CONTEXT, viewer_key=stranger)
    yield replace(CONTEXT, seeder_key=stranger)
    yield replace(CONTEXT, viewer_random=CONTEXT.seeder_random, seeder_random=CONTEXT.viewer_random)
    yield replace(CONTEXT, viewer_key=CONTEXT.seeder_key, seeder_key=CONTEXT.viewer_key)


@pytest.mark.parametrize("message", SIGNED, ids=lambda one: type(one).__name__)
def test_a_signature_means_nothing_on_another_connection(message: m.Message) -> None:
    """THREATS 24, 25: another random number, key or network on either side, and it does not hold."""
    digests = [CONTEXT.digest(message), *(context.digest(message) for context in other_contexts())]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("message", SIGNED, ids=lambda one: type(one).__name__)
def test_a_signature_covers_every_field(message: Any) -> None:
    """THREATS 24: each field changed by one bit changes the digest; the signature itself is left out.

    So are a receipt's leaves, which stand behind it: the root before it speaks for them."""
    before, body = CONTEXT.digest(message), message.body()
    assert CONTEXT.digest(replace(message, signature=bytes(64))) == before
    at, names = 0, [name for name, _ in message.LAYOUT]
    assert names[-1] == "signature" or (isinstance(message, m.Receipt) and names[-2:] == ["signature", "leaves"])
    for name, codec in message.LAYOUT[: names.index("signature")]:
        _, end = codec.read(body, at)
        changed = bytearray(body)
        changed[end - 1] ^= 1
        value, _ = codec.read(bytes(changed), at)
        assert CONTEXT.digest(replace(message, **{name: value})) != before, name
        at = end


def test_the_type_is_signed_too() -> None:
    """THREATS 24: a receipt of the payer's cannot be shown as one that the payee countersigned."""
    receipt = next(one for one in SIGNED if isinstance(one, m.Receipt))
    same = m.ReceiptSigned(*(getattr(receipt, name) for name, _ in m.ReceiptSigned.LAYOUT))
    assert same.body() == receipt.body(before="leaves")
    assert verify(PAYER.public, CONTEXT.digest(receipt), receipt.signature)
    assert not verify(PAYER.public, CONTEXT.digest(same), receipt.signature)


def test_only_signed_messages_have_a_digest() -> None:
    with pytest.raises(ValueError, match="not a signed message"):
        CONTEXT.digest(m.LineAdded(1, 1))


# -- in parts ---------------------------------------------------------------------------------------------------------


def join(joiner: m.Joiner, parts: list[bytes]) -> m.Message | None:
    for before, part in pairwise(parts):
        assert joiner.receive(before) is None, part
    return joiner.receive(parts[-1])


def opening(size: int) -> m.ChannelOpen:
    return m.ChannelOpen(7, bytes(16), PAYER.public, 0, 1_800_043_200, bytes(20), 100, 8, 900, bytes(size))


FRAME = len(opening(0).encode())
"""Bytes of a CHANNEL_OPEN beside its funding."""


@settings(max_examples=20, deadline=None)
@given(st.integers(0, m.MESSAGE_MAX - FRAME))
@example(m.CHUNK_SIZE - FRAME)
@example(m.CHUNK_SIZE - FRAME + 1)
@example(2 * m.CHUNK_SIZE - FRAME)
@example(m.MESSAGE_MAX - FRAME)
def test_a_long_message_travels_in_parts(size: int) -> None:
    message, joiner = opening(size), m.Joiner()
    parts = m.chunked(message.encode())
    assert all(len(part) <= m.CHUNK_SIZE + 6 for part in parts)
    assert join(joiner, parts) == message
    assert joiner.receive(m.LineAdded(1, 1).encode()) == m.LineAdded(1, 1)


def test_parts_beyond_a_mebibyte() -> None:
    """THREATS 22, 23: what one connection makes us remember ends at the limit."""
    joiner, part = m.Joiner(), m.Chunk(1, bytes(m.CHUNK_SIZE)).encode()
    for _ in range(m.MESSAGE_MAX // m.CHUNK_SIZE):
        assert joiner.receive(part) is None
    with pytest.raises(RemoteProtocolError, match="more than 1048576 bytes"):
        joiner.receive(m.Chunk(0, b"x").encode())


@pytest.mark.parametrize("size", [0, 1, m.CHUNK_SIZE - 1])
def test_a_part_that_is_not_the_last_is_full(size: int) -> None:
    """THREATS 23: a million parts of one byte would cost a million times their worth to keep and to join."""
    with pytest.raises(RemoteProtocolError, match="has 32768 bytes"):
        m.Joiner().receive(m.Chunk(1, bytes(size)).encode())


def test_an_empty_last_part() -> None:
    joiner = m.Joiner()
    joiner.receive(m.Chunk(1, bytes(m.CHUNK_SIZE)).encode())
    with pytest.raises(RemoteProtocolError, match="nothing"):
        joiner.receive(m.Chunk(0, b"").encode())


def test_another_message_between_two_parts() -> None:
    joiner = m.Joiner()
    joiner.receive(m.Chunk(1, bytes(m.CHUNK_SIZE)).encode())
    with pytest.raises(RemoteProtocolError, match="between two chunks"):
        joiner.receive(m.LineAdded(1, 1).encode())


def test_parts_of_a_part() -> None:
    """THREATS 23: no nesting."""
    with pytest.raises(RemoteProtocolError, match="inside a chunk"):
        m.Joiner().receive(m.Chunk(0, m.Chunk(0, b"x").encode()).encode())


def test_parts_of_garbage() -> None:
    with pytest.raises(RemoteProtocolError, match="unknown"):
        m.Joiner().receive(m.Chunk(0, b"\0").encode())


# -- reasons ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    ["not-open", "bad-line", "not-rising", "over-capacity", "exposure", "expiring", "bad-signature"],
)
def test_each_refusal_of_the_payee_has_a_number(reason: str) -> None:
    assert m.Refusal.of(reason).name.lower().replace("_", "-") == reason


@pytest.mark.parametrize(
    ("told", "numbers"),
    [
        ("reasons of CHANNEL_CLOSE", m.CloseReason),
        ("reasons of PAYMENT_REFUSED", m.Refusal),
        ("codes of CHANNEL_ERROR", m.Fault),
    ],
)
def test_the_numbers_are_those_of_the_protocol_page(told: str, numbers: type[IntEnum]) -> None:
    page = (ROOT / "docs/PROTOCOL.md").read_text(encoding="utf-8")
    (listed,) = re.findall(rf"\* {told}: (.*?)\n(?=\*|\n)", page, re.DOTALL)
    assert {name: int(number) for number, name in re.findall(r"(\d+)\s+([A-Z_]+)", listed)} == {
        one.name: one.value for one in numbers
    }


def test_the_version_that_is_spoken() -> None:
    assert m.VERSION == 1
