"""One peer's connection: told as two of them joined by a link, or one of them and a stranger's bytes."""

from __future__ import annotations

from contextlib import suppress
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bct.errors import LocalProtocolError, RemoteProtocolError
from bct.torrent import wire
from bct.torrent.connection import Choked, Event, ExtensionMessage, PeerConnection, Requests
from bct.torrent.extension import ExtendedHandshake
from bct.torrent.geometry import Block, Geometry, PieceMap
from tests.vectors.wire import MESSAGES
from tests.wire_parts import LEECHER_ID, SEEDER_ID, End, Owner, film, run

KIB = 1024
GEOMETRY = Geometry(100 * KIB, 32 * KIB)  # pieces of 32, 32, 32, 4 KiB
INFOHASH = bytes(range(20))
FIRST = Block(0, 0, 16 * KIB)
SECOND = Block(0, 16 * KIB, 16 * KIB)
ALL_FOUR = wire.Bitfield(b"\xf0")
PLAIN = wire.Handshake(INFOHASH, SEEDER_ID, bytes(8))
FAST = wire.Handshake(INFOHASH, SEEDER_ID)
EXTENSIONS = {1: "bct_pay", 2: "ut_metadata"}
BCT = wire.Extended(0, ExtendedHandshake(m={"bct_pay": 9, "ut_metadata": 8}).encode())


def frames(*messages: wire.Message | wire.Handshake) -> bytes:
    return b"".join(message.encode() for message in messages)


def said(peer: PeerConnection) -> bytes:
    return b"".join(peer.data_to_send())


def caller(
    handshake: wire.Handshake = FAST, *messages: wire.Message, geometry: Geometry | None = GEOMETRY
) -> PeerConnection:
    """We called; the peer has answered with its handshake and these messages. What we said so far is carried away."""
    peer = PeerConnection(LEECHER_ID, INFOHASH, geometry, extensions=EXTENSIONS, queue_limit=4)
    peer.receive_data(frames(handshake, *messages))
    peer.data_to_send()
    return peer


def server(handshake: wire.Handshake = FAST, *messages: wire.Message) -> PeerConnection:
    """As `caller`, and the peer is unchoked."""
    peer = caller(handshake, *messages)
    peer.unchoke()
    peer.data_to_send()
    return peer


def refused(peer: PeerConnection, *messages: wire.Message) -> str:
    """Why the connection ends."""
    with pytest.raises(RemoteProtocolError) as error:
        peer.receive_data(frames(*messages))
    return error.value.reason


# Handshakes


def test_the_caller_speaks_first_and_the_called_when_accepted() -> None:
    ours = PeerConnection(LEECHER_ID, INFOHASH, GEOMETRY, extensions={})
    theirs = PeerConnection(SEEDER_ID, extensions={})
    assert said(theirs) == b""
    assert theirs.receive_data(said(ours)) == [wire.Handshake(INFOHASH, LEECHER_ID)]
    assert not theirs.is_open
    theirs.accept(INFOHASH, GEOMETRY)
    assert ours.receive_data(said(theirs)) == [wire.Handshake(INFOHASH, SEEDER_ID)]
    assert ours.is_open
    assert theirs.is_open


@given(st.lists(st.integers(1, 40)))
def test_what_comes_before_we_accept_waits(sizes: list[int]) -> None:
    peer = PeerConnection(SEEDER_ID, extensions={}, queue_limit=10)
    stream = frames(FAST, ALL_FOUR, wire.Interested(), wire.Have(1))
    events: list[Event] = []
    for size in [*sizes, len(stream)]:
        events += peer.receive_data(stream[:size])
        stream = stream[size:]
    assert events == [FAST]
    assert peer.accept(INFOHASH, GEOMETRY) == [ALL_FOUR, wire.Interested()]
    assert peer.receive_data(frames(wire.NotInterested())) == [wire.NotInterested()]


def test_nobody_fills_our_memory_before_we_accept() -> None:
    peer = PeerConnection(SEEDER_ID, extensions={})
    peer.receive_data(frames(FAST))
    for _ in range(16):
        peer.receive_data(bytes(64 * KIB))
    with pytest.raises(RemoteProtocolError, match="before our handshake was answered"):
        peer.receive_data(bytes(100 * KIB))


def test_accepting_is_for_whoever_was_called() -> None:
    for peer in (caller(), PeerConnection(SEEDER_ID, extensions={})):
        with pytest.raises(LocalProtocolError):
            peer.accept(INFOHASH)


def test_another_torrent_is_refused() -> None:
    peer = PeerConnection(LEECHER_ID, bytes(20), GEOMETRY, extensions={})
    with pytest.raises(RemoteProtocolError) as error:
        peer.receive_data(frames(FAST))
    assert error.value.reason == "wrong-infohash"


@pytest.mark.parametrize("first", [b"\x00", b"\x14", b"\xff" * 96, b"\x13BitTorrent protocoL"])
def test_message_encryption_is_recognised_by_its_first_byte(first: bytes) -> None:
    peer = PeerConnection(SEEDER_ID, extensions={})
    with pytest.raises(RemoteProtocolError, match="turn it off") as error:
        peer.receive_data(first)
    assert error.value.reason == "message-encryption"


# Choke, interest


def test_both_begin_choked_and_not_interested() -> None:
    peer = caller()
    assert (peer.choking, peer.peer_choking, peer.interested, peer.peer_interested) == (True, True, False, False)


def test_choke_and_interest_are_said_once() -> None:
    peer = caller()
    for _ in range(2):
        peer.unchoke()
        peer.set_interested(True)
    assert said(peer) == frames(wire.Unchoke(), wire.Interested())
    for _ in range(2):
        peer.choke()
        peer.set_interested(False)
    assert said(peer) == frames(wire.Choke(), wire.NotInterested())


def test_the_peers_choke_and_interest_are_remembered() -> None:
    peer = caller()
    peer.receive_data(frames(wire.Unchoke(), wire.Interested()))
    assert (peer.peer_choking, peer.peer_interested) == (False, True)
    assert peer.receive_data(frames(wire.Choke(), wire.NotInterested())) == [Choked(()), wire.NotInterested()]
    assert (peer.peer_choking, peer.peer_interested) == (True, False)


# The peer's pieces


def test_a_bitfield_is_the_peers_pieces() -> None:
    peer = caller(PLAIN, wire.Bitfield(b"\xa0"), wire.Have(1))
    assert list(peer.pieces or ()) == [0, 1, 2]


@pytest.mark.parametrize(("handshake", "again"), [(PLAIN, wire.Bitfield(b"\x70")), (FAST, wire.HaveAll())])
def test_a_later_bitfield_stands_for_the_haves_it_saves(handshake: wire.Handshake, again: wire.Message) -> None:
    """aria2 says one instead of many haves. What was said before is not taken back."""
    peer = caller(handshake, wire.Bitfield(b"\xa0"))
    assert peer.receive_data(frames(again)) == [wire.Have(1), wire.Have(3)]
    assert list(peer.pieces or ()) == [0, 1, 2, 3]
    assert peer.receive_data(frames(again)) == []


def test_all_and_none_are_said_in_short() -> None:
    assert list(caller(FAST, wire.HaveAll()).pieces or ()) == [0, 1, 2, 3]
    assert list(caller(FAST, wire.HaveNone(), wire.Have(2)).pieces or ()) == [2]


def test_an_extended_handshake_may_come_before_the_bitfield() -> None:
    assert len(caller(FAST, BCT, wire.Port(1), wire.Unchoke(), ALL_FOUR).pieces or ()) == 4


@pytest.mark.parametrize(
    ("handshake", "messages", "reason"),
    [
        (PLAIN, [wire.Bitfield(b"\xf8")], "bad-bitfield"),
        (PLAIN, [wire.Bitfield(b"\xf0\0")], "bad-bitfield"),
        (PLAIN, [wire.Bitfield(b"")], "bad-bitfield"),
        (PLAIN, [wire.Have(1), wire.Bitfield(b"\xf8")], "bad-bitfield"),
        (PLAIN, [wire.Have(1), wire.HaveAll()], "no-fast"),
        (FAST, [wire.HaveAll(), wire.HaveNone()], "late-have-none"),
        (PLAIN, [wire.HaveAll()], "no-fast"),
        (PLAIN, [wire.HaveNone()], "no-fast"),
        (PLAIN, [wire.Suggest(0)], "no-fast"),
        (PLAIN, [wire.AllowedFast(0)], "no-fast"),
        (PLAIN, [wire.Reject(FIRST)], "no-fast"),
        (FAST, [wire.Have(4)], "bad-index"),
        (FAST, [wire.Suggest(4)], "bad-index"),
        (FAST, [wire.AllowedFast(4)], "bad-index"),
        (FAST, [wire.Reject(FIRST)], "unrequested-reject"),
        (FAST, [wire.Piece(0, 0, b"x")], "unrequested-block"),
    ],
)
def test_words_that_do_not_fit_end_the_connection(
    handshake: wire.Handshake, messages: list[wire.Message], reason: str
) -> None:
    assert refused(caller(handshake), *messages) == reason


def test_having_a_piece_twice_is_one_event() -> None:
    assert caller().receive_data(frames(wire.Have(1), wire.Have(1))) == [wire.Have(1)]


def test_pieces_wait_until_the_torrent_is_known() -> None:
    peer = caller(FAST, ALL_FOUR, wire.AllowedFast(3), geometry=None)
    assert peer.receive_data(frames(wire.Unchoke())) == [wire.Unchoke()]
    assert peer.pieces is None
    assert peer.set_geometry(GEOMETRY) == [ALL_FOUR, wire.AllowedFast(3)]
    assert len(peer.pieces or ()) == 4


def test_pieces_that_waited_are_judged_all_the_same() -> None:
    for bad in (wire.Have(4), wire.Bitfield(b"\xff")):
        peer = caller(FAST, bad, geometry=None)
        with pytest.raises(RemoteProtocolError):
            peer.set_geometry(GEOMETRY)


def test_what_waits_for_the_torrent_is_bounded() -> None:
    peer = caller(FAST, geometry=None)
    assert refused(peer, *repeat(wire.Have(0), 5000)) == "too-many"


def test_bitfields_that_wait_for_the_torrent_are_few() -> None:
    """Each may have 64 KiB; as many as there may be messages would be 256 MiB of a connection that gives nothing."""
    longest = wire.Bitfield(bytes(wire.MAX_BITFIELD))
    peer = caller(FAST, *repeat(longest, 8), geometry=None)
    assert refused(peer, longest) == "too-many"


# What we say we have


@pytest.mark.parametrize(
    ("handshake", "have", "expected"),
    [
        (FAST, [0, 1, 2, 3], wire.HaveAll()),
        (FAST, [], wire.HaveNone()),
        (FAST, [0, 2], wire.Bitfield(b"\xa0")),
        (PLAIN, [0, 1, 2, 3], ALL_FOUR),
        (PLAIN, [0, 2], wire.Bitfield(b"\xa0")),
    ],
)
def test_our_pieces_are_said_as_shortly_as_both_can(
    handshake: wire.Handshake, have: list[int], expected: wire.Message
) -> None:
    peer, pieces = caller(handshake), PieceMap(4)
    for index in have:
        pieces.add(index)
    peer.send_pieces(pieces)
    assert said(peer) == frames(expected)


def test_nothing_is_said_about_nothing_without_fast() -> None:
    peer = caller(PLAIN)
    peer.send_pieces(PieceMap(4))
    peer.send_have_none()
    peer.suggest(0)
    peer.allow_fast(0)
    peer.send_extended_handshake(ExtendedHandshake())
    assert said(peer) == b""


def test_small_words() -> None:
    peer = caller()
    peer.send_have_none()
    peer.have(2)
    peer.suggest(1)
    peer.allow_fast(3)
    peer.port(6881)
    peer.keep_alive()
    words = wire.HaveNone(), wire.Have(2), wire.Suggest(1), wire.AllowedFast(3), wire.Port(6881)
    assert said(peer) == frames(*words) + wire.KEEP_ALIVE


# We ask


def asking(handshake: wire.Handshake = FAST) -> PeerConnection:
    """Unchoked, and FIRST and SECOND asked for."""
    peer = caller(handshake, ALL_FOUR, wire.Unchoke())
    peer.request([FIRST, SECOND])
    peer.data_to_send()
    return peer


def test_requests_leave_in_one_buffer() -> None:
    peer = caller(FAST, ALL_FOUR, wire.Unchoke())
    peer.request([FIRST, SECOND, FIRST])
    peer.request([SECOND])
    assert peer.data_to_send() == [frames(wire.Request(FIRST), wire.Request(SECOND))]
    assert list(peer.requested) == [FIRST, SECOND]


def test_a_block_asked_for_arrives_once() -> None:
    peer = asking()
    block = wire.Piece(0, 16 * KIB, bytes(16 * KIB))
    assert peer.receive_data(frames(block)) == [block]
    assert list(peer.requested) == [FIRST]
    assert refused(peer, block) == "unrequested-block"


def test_a_block_of_another_length_was_not_asked_for() -> None:
    assert refused(asking(), wire.Piece(0, 0, bytes(16 * KIB - 1))) == "unrequested-block"


def test_a_cancelled_block_may_still_arrive_and_is_dropped() -> None:
    peer = asking()
    peer.cancel(FIRST)
    peer.cancel(FIRST)
    assert said(peer) == frames(wire.Cancel(FIRST))
    assert peer.receive_data(frames(wire.Piece(0, 0, bytes(16 * KIB)))) == []
    assert refused(peer, wire.Piece(0, 0, bytes(16 * KIB))) == "unrequested-block"


def test_a_cancelled_block_may_be_rejected() -> None:
    peer = asking()
    peer.cancel(FIRST)
    assert peer.receive_data(frames(wire.Reject(FIRST), wire.Reject(SECOND))) == [wire.Reject(SECOND)]


def test_without_fast_a_choke_drops_what_we_asked_for() -> None:
    peer = asking(PLAIN)
    assert peer.receive_data(frames(wire.Choke())) == [Choked((FIRST, SECOND))]
    assert list(peer.requested) == []
    assert peer.receive_data(frames(wire.Piece(0, 0, bytes(16 * KIB)))) == []  # it was on its way


def test_with_fast_a_choke_drops_nothing() -> None:
    peer = asking()
    assert peer.receive_data(frames(wire.Choke())) == [Choked(())]
    assert len(peer.requested) == 2


def test_allowed_fast_pieces_may_be_asked_for_while_choked() -> None:
    peer = caller(FAST, ALL_FOUR, wire.AllowedFast(2))
    assert [peer.may_request(index) for index in range(4)] == [False, False, True, False]
    peer.receive_data(frames(wire.Unchoke()))
    assert peer.may_request(0)


def test_room_is_what_both_queues_take() -> None:
    peer = asking()
    assert peer.room == 2
    peer.receive_data(frames(wire.Extended(0, ExtendedHandshake(reqq=3).encode())))
    assert peer.room == 1


# The peer asks


def test_a_run_of_requests_is_one_event() -> None:
    third = Block(3, 0, 4 * KIB)
    stream = frames(wire.Interested(), wire.Request(FIRST), wire.Request(SECOND), wire.Request(third), wire.Have(0))
    assert server().receive_data(stream) == [wire.Interested(), Requests((FIRST, SECOND, third)), wire.Have(0)]


def test_a_request_is_served_once_and_uncopied() -> None:
    peer = server()
    peer.receive_data(frames(wire.Request(FIRST)))
    data = memoryview(bytes(16 * KIB))
    assert peer.send_block(0, 0, data)
    header, body = peer.data_to_send()
    assert body is data
    assert bytes(header) + bytes(data) == frames(wire.Piece(0, 0, data))
    assert not peer.send_block(0, 0, data)
    assert peer.data_to_send() == []


def test_a_request_repeated_while_it_waits_is_one_request() -> None:
    peer = server()
    assert peer.receive_data(frames(wire.Request(FIRST), wire.Request(FIRST))) == [Requests((FIRST,))]
    assert peer.receive_data(frames(wire.Request(FIRST))) == []


@pytest.mark.parametrize(
    "block",
    [Block(4, 0, 1), Block(3, 0, 4 * KIB + 1), Block(0, 0, 0), Block(0, 0, 16 * KIB + 1), Block(0, 32 * KIB, 1)],
)
def test_a_request_outside_the_torrent_ends_the_connection(block: Block) -> None:
    assert refused(server(), wire.Request(block)) == "bad-request"


def test_a_request_of_another_length_ends_the_connection() -> None:
    with pytest.raises(RemoteProtocolError):
        server().receive_data(bytes.fromhex("0000000906") + bytes(60))


def test_nothing_can_be_asked_for_while_the_torrent_is_unknown() -> None:
    peer = caller(FAST, geometry=None)
    peer.unchoke()
    assert refused(peer, wire.Request(FIRST)) == "bad-request"


def test_bct_peers_may_ask_for_large_blocks() -> None:
    whole = Block(0, 0, 32 * KIB)
    assert server(FAST, BCT).receive_data(frames(wire.Request(whole))) == [Requests((whole,))]
    not_ours = wire.Extended(0, ExtendedHandshake(m={"ut_metadata": 1}).encode())
    assert refused(server(FAST, not_ours), wire.Request(whole)) == "bad-request"


def five() -> list[wire.Request]:
    return [wire.Request(Block(0, KIB * n, KIB)) for n in range(5)]


def test_requests_over_the_queue_are_rejected() -> None:
    peer = server()
    (event,) = peer.receive_data(frames(*five()))
    assert event == Requests(tuple(request.block for request in five()[:4]))
    assert said(peer) == frames(wire.Reject(five()[4].block))


def test_without_fast_a_queue_run_over_ends_the_connection() -> None:
    assert refused(server(PLAIN), *five()) == "queue-full"


def test_requests_while_choked_are_rejected_or_without_fast_forgotten() -> None:
    for handshake, answer in ((FAST, frames(wire.Reject(FIRST))), (PLAIN, b"")):
        peer = caller(handshake)
        assert peer.receive_data(frames(wire.Request(FIRST))) == []
        assert said(peer) == answer
        assert not peer.send_block(0, 0, bytes(16 * KIB))


def test_choking_rejects_what_waits_but_for_allowed_fast_pieces() -> None:
    peer, third = server(), Block(3, 0, 4 * KIB)
    peer.allow_fast(3)
    peer.receive_data(frames(wire.Request(FIRST), wire.Request(third)))
    peer.data_to_send()
    peer.choke()
    assert said(peer) == frames(wire.Choke(), wire.Reject(FIRST))
    assert list(peer.pending) == [third]
    peer.send_block(3, 0, bytes(4 * KIB))
    assert peer.receive_data(frames(wire.Request(third))) == [Requests((third,))]


def test_a_cancel_is_answered_and_the_block_not_sent() -> None:
    peer = server()
    peer.receive_data(frames(wire.Request(FIRST)))
    assert peer.receive_data(frames(wire.Cancel(FIRST), wire.Cancel(FIRST))) == [wire.Cancel(FIRST)]
    assert said(peer) == frames(wire.Reject(FIRST))
    assert not peer.send_block(0, 0, bytes(16 * KIB))


def test_a_request_is_rejected_once() -> None:
    peer = server()
    peer.receive_data(frames(wire.Request(FIRST)))
    peer.reject(FIRST)
    peer.reject(FIRST)
    assert said(peer) == frames(wire.Reject(FIRST))


# Extensions


def test_each_side_chooses_the_ids_it_receives_under() -> None:
    peer = caller(FAST, BCT)
    assert peer.supports("bct_pay")
    peer.send_extension("bct_pay", b"pay")
    assert said(peer) == frames(wire.Extended(9, b"pay"))
    assert peer.receive_data(frames(wire.Extended(1, b"ok"))) == [ExtensionMessage("bct_pay", b"ok")]
    assert peer.receive_data(frames(wire.Extended(9, b"not ours"))) == []


def test_our_extended_handshake_names_ids_and_queue() -> None:
    peer = caller()
    peer.send_extended_handshake(ExtendedHandshake(v="bct", bct={b"v": 1}))
    raw = said(peer)
    assert raw[4:6] == bytes((wire.Extended.ID, 0))
    sent = ExtendedHandshake.decode(raw[6:])
    assert sent == ExtendedHandshake(m={"bct_pay": 1, "ut_metadata": 2}, v="bct", reqq=4, bct={b"v": 1})


def test_extensions_can_be_taken_back_and_strange_ones_are_not_kept() -> None:
    peer = caller(FAST, BCT)
    peer.receive_data(frames(wire.Extended(0, ExtendedHandshake(m={"bct_pay": 0, "ut_pex": 3}).encode())))
    assert [peer.supports(name) for name in ("bct_pay", "ut_metadata", "ut_pex")] == [False, True, False]
    with pytest.raises(LocalProtocolError):
        peer.send_extension("bct_pay", b"")


# Whatever the bytes


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(RemoteProtocolError):
        server(FAST, BCT).receive_data(raw)
    with suppress(RemoteProtocolError):
        PeerConnection(SEEDER_ID, extensions={}).receive_data(raw)


@given(
    st.lists(
        st.sampled_from(MESSAGES) | st.builds(wire.Extended, st.integers(0, 3), st.binary(max_size=30)), max_size=12
    )
)
def test_any_messages_are_read_or_refused(messages: list[wire.Message]) -> None:
    peer = asking()
    with suppress(RemoteProtocolError):
        peer.receive_data(frames(*messages))
    assert len(peer.pending) <= peer.queue_limit


@given(st.lists(st.integers(1, 60), min_size=1))
def test_however_the_stream_is_cut_the_events_are_the_same(sizes: list[int]) -> None:
    block = wire.Piece(0, 0, bytes(16 * KIB))
    stream = frames(BCT, wire.Interested(), *five()[:4], wire.Port(2), block) + wire.KEEP_ALIVE + frames(wire.Have(1))
    whole = asking(FAST)
    whole.unchoke()
    expected = flat(whole.receive_data(stream))
    cut = asking(FAST)
    cut.unchoke()
    events: list[Event] = []
    for size in [*sizes, len(stream)]:
        events += cut.receive_data(bytearray(stream[:size]))
        stream = stream[size:]
    assert flat(events) == expected


def flat(events: list[Event]) -> list[Event]:
    """Requests one by one: how many come in one event depends on the cut."""
    return [Requests((b,)) for e in events if isinstance(e, Requests) for b in e.blocks] + [
        e for e in events if not isinstance(e, Requests)
    ]


def test_an_idle_connection_holds_no_frame() -> None:
    peer = caller(FAST, ALL_FOUR)
    peer.receive_data(frames(wire.Have(0))[:7])
    assert peer._held
    peer.receive_data(frames(wire.Have(0))[7:])
    assert peer._held is None


# The whole story


@settings(max_examples=20)
@given(st.lists(st.sampled_from([1, 3, 17, 1000, 16_397, 40_000]), min_size=1, max_size=8), st.integers(1, 200_000))
def test_a_small_torrent_is_downloaded_however_the_link_cuts_it(sizes: list[int], length: int) -> None:
    content, meta = film(length)
    a, b = End(1), End(2)
    leecher, seeder = Owner.calling(a, meta), Owner.called(b, meta, content)
    a.start(leecher)
    b.start(seeder)
    run(a, b, (size for _ in repeat(None) for size in (*sizes, 100_000)))
    assert leecher.picker.finished
    assert leecher.content == content
    assert seeder.peer.pieces is not None
    assert seeder.peer.pieces.full
    assert not leecher.peer.interested


def test_two_halves_make_a_whole_on_both_sides() -> None:
    content, meta = film(200_000)
    a, b = End(1), End(2)
    first, second = Owner.calling(a, meta), Owner.called(b, meta)
    for index in range(meta.geometry.count):
        owner = (first, second)[index % 2]
        start = meta.geometry.offset(index)
        owner.content[start : start + meta.geometry.size(index)] = content[start : start + meta.geometry.size(index)]
        owner.have.add(index)
        del owner.picker._untouched[index]
    a.start(first)
    b.start(second)
    run(a, b, repeat(5000))
    assert first.content == second.content == content
