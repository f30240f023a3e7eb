"""Every message of the peer wire: there and back, cut at each byte, and against vectors/wire.json."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.errors import RemoteProtocolError
from bct.torrent import wire
from bct.torrent.geometry import Block
from tests.vectors.wire import HANDSHAKES, MESSAGES, REFUSED

u32 = st.integers(0, 2**32 - 1)
blocks = st.builds(Block, u32, u32, u32)
messages: st.SearchStrategy[wire.Message] = st.one_of(
    *(st.builds(kind) for kind in (wire.Choke, wire.Unchoke, wire.Interested, wire.NotInterested)),
    *(st.builds(kind) for kind in (wire.HaveAll, wire.HaveNone)),
    *(st.builds(kind, u32) for kind in (wire.Have, wire.Suggest, wire.AllowedFast)),
    *(st.builds(kind, blocks) for kind in (wire.Request, wire.Cancel, wire.Reject)),
    st.builds(wire.Bitfield, st.binary()),
    st.builds(wire.Piece, u32, u32, st.binary(min_size=1)),
    st.builds(wire.Port, st.integers(0, 0xFFFF)),
    st.builds(wire.Extended, st.integers(0, 255), st.binary()),
)


def read(frame: bytes) -> wire.Message | None:
    """The one message of a whole frame."""
    assert wire.frame_size(frame, 0) == len(frame)
    return wire.decode(frame[4], memoryview(frame)[5:])


def reason_of[**P](call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> str | None:
    """Why the call is refused; None when it is not."""
    try:
        call(*args, **kwargs)
    except RemoteProtocolError as error:
        return error.reason
    return None


@given(messages)
def test_a_message_travels(message: wire.Message) -> None:
    assert read(message.encode()) == message


@given(messages)
def test_a_frame_tells_its_size_as_soon_as_the_id_is_there(message: wire.Message) -> None:
    frame = message.encode()
    assert [wire.frame_size(frame[:end], 0) for end in range(5)] == [4, 4, 4, 4, 5]
    assert {wire.frame_size(frame[:end], 0) for end in range(5, len(frame))} <= {len(frame)}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_body_of_another_length_is_refused(message: wire.Message) -> None:
    """Messages of fixed length fit no other; those with a tail say how little is too little."""
    body = message.encode()[5:]
    least = {wire.Bitfield.ID: 0, wire.Piece.ID: 9, wire.Extended.ID: 1}.get(message.ID)
    for end in range(len(body) + 2):
        fits = end == len(body) if least is None else end >= least
        part = memoryview(body + b"\0")[:end]
        assert reason_of(wire.decode, message.ID, part) == (None if fits else "bad-message")


@given(st.integers(0, 255), st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(kind: int, body: bytes) -> None:
    try:
        message = wire.decode(kind, memoryview(body))
    except RemoteProtocolError:
        return
    assert message is None or message.encode()[5:] == body


@given(st.binary(min_size=5, max_size=12))
def test_no_frame_is_longer_than_its_kind_may_be(head: bytes) -> None:
    length, longest = int.from_bytes(head[:4]), wire.MAX_FRAMES.get(head[4], 16 * 1024)
    refused = reason_of(wire.frame_size, head, 0)
    assert refused == ("too-long" if length > longest else None)


def test_an_unknown_id_is_skipped() -> None:
    assert wire.decode(21, memoryview(b"anything")) is None


def test_a_keep_alive_is_four_bytes_whatever_follows() -> None:
    assert wire.frame_size(wire.KEEP_ALIVE, 0) == 4
    assert wire.frame_size(wire.KEEP_ALIVE + b"\xff\xff", 0) == 4


@pytest.mark.parametrize("name", REFUSED)
def test_refused_frames_are_refused_for_the_reason_given(name: str) -> None:
    frame, reason = REFUSED[name]
    with pytest.raises(RemoteProtocolError) as refused:
        read(bytes.fromhex(frame))
    assert refused.value.reason == reason


@pytest.mark.parametrize("handshake", HANDSHAKES)
def test_a_handshake_travels(handshake: wire.Handshake) -> None:
    assert wire.Handshake.decode(handshake.encode()) == handshake


def test_reserved_bits_say_what_is_spoken() -> None:
    ours, plain = HANDSHAKES
    assert (ours.extended, ours.fast) == (True, True)
    assert (plain.extended, plain.fast) == (False, False)


@given(st.integers(0, 80))
def test_a_handshake_has_one_length(size: int) -> None:
    raw = (HANDSHAKES[0].encode() + bytes(20))[:size]
    if size == wire.HANDSHAKE_SIZE:
        wire.Handshake.decode(raw)
        return
    with pytest.raises(RemoteProtocolError, match=f"68 bytes, got {size}"):
        wire.Handshake.decode(raw)


def test_another_protocol_is_no_handshake() -> None:
    with pytest.raises(RemoteProtocolError, match="BitTorrent protocol"):
        wire.Handshake.decode(b"\x13BitTorrent protocoL" + bytes(48))
