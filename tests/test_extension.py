"""The extended handshake (BEP 10) and the metadata exchange (BEP 9)."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.errors import Action, RemoteProtocolError
from bct.torrent import bencode, metadata
from bct.torrent.extension import MAX_METADATA, ExtendedHandshake
from bct.torrent.geometry import BLOCK_SIZE
from bct.torrent.metadata import (
    MetadataData,
    MetadataFetch,
    MetadataReject,
    MetadataRequest,
    MetadataServer,
)
from bct.units import Infohash
from tests.vectors.wire import EXTENDED_HANDSHAKES, METADATA


@pytest.mark.parametrize("handshake", EXTENDED_HANDSHAKES)
def test_a_handshake_travels(handshake: ExtendedHandshake) -> None:
    assert ExtendedHandshake.decode(handshake.encode()) == handshake


@pytest.mark.parametrize("handshake", EXTENDED_HANDSHAKES)
def test_cut_anywhere_it_is_refused(handshake: ExtendedHandshake) -> None:
    raw = handshake.encode()
    for end in range(len(raw)):
        with pytest.raises(RemoteProtocolError):
            ExtendedHandshake.decode(raw[:end])


def test_odd_fields_count_as_not_said() -> None:
    raw = bencode.encode(
        {
            b"m": {b"ut_pex": 300, b"ut_metadata": b"2", b"lt_donthave": 7},
            b"metadata_size": MAX_METADATA + 1,
            b"p": 0,
            b"reqq": -5,
            b"v": [b"not text"],
            b"yourip": b"abc",
            b"upload_only": b"1",
            b"bct": 1,
        }
    )
    assert ExtendedHandshake.decode(raw) == ExtendedHandshake(m={"lt_donthave": 7})


def test_a_client_name_is_any_bytes_but_short() -> None:
    handshake = ExtendedHandshake.decode(bencode.encode({b"v": b"\xff" * 100}))
    assert handshake.v == "\N{REPLACEMENT CHARACTER}" * 64


def test_too_many_extensions_or_bytes_are_refused() -> None:
    many: bencode.Value = {b"m": {b"x%03d" % n: 1 for n in range(65)}}
    for raw in (bencode.encode(many), bencode.encode({b"v": bytes(17_000)})):
        with pytest.raises(RemoteProtocolError):
            ExtendedHandshake.decode(raw)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for decode in (ExtendedHandshake.decode, metadata.decode):
        with suppress(RemoteProtocolError):
            decode(raw)


@pytest.mark.parametrize("message", METADATA, ids=lambda m: type(m).__name__)
def test_a_metadata_message_travels(message: metadata.MetadataMessage) -> None:
    raw = message.encode()
    assert metadata.decode(raw) == message
    for end in range(len(raw) - len(getattr(message, "data", b""))):
        with pytest.raises(RemoteProtocolError):
            metadata.decode(raw[:end])


@pytest.mark.parametrize(
    "raw",
    [b"le", b"d8:msg_typei0ee", b"d8:msg_typei0e5:piecei-1ee", b"d8:msg_typei0e5:piecei0ee" + bytes(BLOCK_SIZE + 1)],
)
def test_metadata_messages_without_sense_are_refused(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        metadata.decode(raw)


def test_an_unknown_metadata_message_is_skipped() -> None:
    assert metadata.decode(b"d8:msg_typei9e5:piecei0ee") is None


INFO = bytes(range(256)) * 150  # 38,400 bytes: two whole parts and one of 5,632
INFOHASH = Infohash(hashlib.sha1(INFO).digest())


def fetched(server: MetadataServer, fetch: MetadataFetch) -> bytes | None:
    info = None
    for request in fetch.requests():
        answer = server.answer(request)
        assert isinstance(answer, MetadataData)
        info = fetch.receive(answer)
    return info


def test_metadata_is_fetched_in_one_round() -> None:
    fetch = MetadataFetch(INFOHASH, len(INFO))
    assert fetched(MetadataServer(INFO), fetch) == INFO
    assert fetch.requests() == []


def test_parts_may_come_in_any_order() -> None:
    server, fetch = MetadataServer(INFO), MetadataFetch(INFOHASH, len(INFO))
    answers = [server.answer(request) for request in fetch.requests()][::-1]
    assert [fetch.receive(a) for a in answers if isinstance(a, MetadataData)] == [None, None, INFO]


def test_large_metadata_is_asked_for_a_window_at_a_time() -> None:
    info = bytes(BLOCK_SIZE * 20 + 1)
    server = MetadataServer(info)
    fetch = MetadataFetch(Infohash(hashlib.sha1(info).digest()), len(info))
    first = fetch.requests()
    assert [r.part for r in first] == list(range(16))
    answer = server.answer(first[0])
    assert isinstance(answer, MetadataData)
    assert fetch.receive(answer) is None
    assert [r.part for r in fetch.requests()] == [16]


def test_a_false_dictionary_bans_the_one_who_gave_it() -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        fetched(MetadataServer(INFO[:-1] + b"x"), MetadataFetch(INFOHASH, len(INFO)))
    assert refused.value.action is Action.BAN


@pytest.mark.parametrize(
    "answer",
    [
        MetadataData(3, len(INFO), bytes(BLOCK_SIZE)),
        MetadataData(0, len(INFO), bytes(BLOCK_SIZE - 1)),
        MetadataData(0, len(INFO) + 1, bytes(BLOCK_SIZE)),
        MetadataData(2, len(INFO), bytes(BLOCK_SIZE)),
    ],
)
def test_parts_nobody_asked_for_are_refused(answer: MetadataData) -> None:
    fetch = MetadataFetch(INFOHASH, len(INFO))
    fetch.requests()
    with pytest.raises(RemoteProtocolError):
        fetch.receive(answer)


def test_a_part_comes_once_and_only_when_asked() -> None:
    fetch = MetadataFetch(INFOHASH, len(INFO))
    part = MetadataData(0, len(INFO), INFO[:BLOCK_SIZE])
    with pytest.raises(RemoteProtocolError):
        fetch.receive(part)
    fetch.requests()
    fetch.receive(part)
    with pytest.raises(RemoteProtocolError):
        fetch.receive(part)


@pytest.mark.parametrize("size", [0, MAX_METADATA + 1])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(RemoteProtocolError):
        MetadataFetch(INFOHASH, size)


def test_nobody_is_answered_without_end() -> None:
    server = MetadataServer(INFO)
    answers = [server.answer(MetadataRequest(part % 3)) for part in range(9)]
    assert [isinstance(a, MetadataData) for a in answers] == [True] * 6 + [False] * 3
    assert MetadataServer(INFO).answer(MetadataRequest(3)) == MetadataReject(3)
