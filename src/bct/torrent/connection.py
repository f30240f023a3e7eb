"""One peer's connection as a machine without a socket: bytes in, events out; words in, buffers out (BEP 3, 6, 10).

It parses, checks and keeps the books of one connection: handshakes, choke and interest both ways, the peer's pieces,
requests outstanding both ways, extension ids per direction. What to serve, to whom and for how much is its owner's to
decide: a request that is well-formed and within the queue becomes an event, and the owner answers `send_block` or
`reject`.

Trust: the peer may send anything at any time. `receive_data` raises RemoteProtocolError and nothing else; after that
the connection is over. Indices and ranges in events lie inside the torrent. A block in an event was asked for. What a
peer can make us remember is bounded: one unfinished frame (paid for byte by byte), `queue_limit` requests, and
`_MAX_EARLY` messages and `_MAX_EARLY_BYTES` while the metadata is unknown.

An outgoing connection is given the infohash and speaks first. An incoming one learns it from the peer's handshake:
nothing behind that is read until the owner has called `accept`.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from bct.errors import LocalProtocolError, RemoteProtocolError
from bct.torrent import wire
from bct.torrent.extension import BCT_PAY, ExtendedHandshake
from bct.torrent.geometry import BLOCK_SIZE, Block, Geometry, PieceMap
from bct.torrent.wire import (
    AllowedFast,
    Bitfield,
    Buffer,
    Cancel,
    Choke,
    Extended,
    Handshake,
    Have,
    HaveAll,
    HaveNone,
    Interested,
    Message,
    NotInterested,
    Piece,
    Port,
    Reject,
    Request,
    Suggest,
    Unchoke,
)

_MAX_EARLY = 4096
"""Messages about pieces kept while the number of pieces is unknown."""
_MAX_EARLY_BYTES = 8 * wire.MAX_BITFIELD
"""And of these, bytes of bitfields."""
_MAX_CANCELLED = 1024
"""Cancelled requests remembered, so that a block already on its way is no offence."""
_UNSAID_QUEUE = 250
"""Requests a peer is taken to accept that did not say `reqq`."""

_PIECE_HEAD = struct.Struct(">5xII")
_REQUESTS = struct.Struct(">IBIII")  # one whole frame: runs of them are read in one go


class Phase(Enum):
    HANDSHAKE = "handshake"  # theirs has not come
    ARRIVED = "arrived"  # theirs has come in, ours waits for the owner to `accept`
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Choked:
    """The peer will not serve us. Without BEP 6 it also forgets what we asked: these requests are to be made anew."""

    dropped: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Requests:
    """New requests to answer, in order. Each is within one piece, at most `max_block` long, and not a repetition."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class ExtensionMessage:
    """A message of an extension we named in our handshake."""

    name: str
    payload: bytes


type Event = (
    Handshake
    | ExtendedHandshake
    | ExtensionMessage
    | Choked
    | Unchoke
    | Interested
    | NotInterested
    | Have
    | Bitfield
    | HaveAll
    | HaveNone
    | Requests
    | Cancel
    | Piece
    | Reject
    | Suggest
    | AllowedFast
    | Port
)


class PeerConnection:
    """Sans-IO: feed `receive_data`, carry away `data_to_send`. Both sides start choked and not interested."""

    __slots__ = (
        "_cancelled",
        "_early",
        "_early_bytes",
        "_extension_names",
        "_fast_for_peer",
        "_fast_for_us",
        "_held",
        "_is_first",
        "_out",
        "_pending",
        "_phase",
        "_requested",
        "_their_ids",
        "choking",
        "geometry",
        "infohash",
        "interested",
        "peer",
        "peer_choking",
        "peer_extended",
        "peer_id",
        "peer_interested",
        "pieces",
        "queue_limit",
    )

    def __init__(
        self,
        peer_id: bytes,
        infohash: bytes | None = None,
        geometry: Geometry | None = None,
        *,
        extensions: Mapping[int, str],
        queue_limit: int = 500,
    ) -> None:
        """peer_id: ours, 20 bytes. infohash: given for an outgoing connection, None for an incoming one. geometry:
        None until the metadata is known. extensions: the ids (1 to 255) under which we want to receive, and their
        names; the mapping may be shared by all connections. queue_limit: requests each side may have unanswered."""
        self.peer_id = peer_id
        self.infohash = infohash
        self.geometry = geometry
        self.queue_limit = queue_limit
        self.peer: Handshake | None = None
        """The peer's handshake, once it has come."""
        self.peer_extended: ExtendedHandshake | None = None
        """The peer's newest extended handshake."""
        self.pieces: PieceMap | None = PieceMap(geometry.count) if geometry else None
        """What the peer says it has; None while the metadata is unknown."""
        self.choking = self.peer_choking = True
        self.interested = self.peer_interested = False
        self._phase = Phase.HANDSHAKE
        self._is_first = True  # no message about pieces has come
        self._extension_names = extensions
        self._their_ids: dict[str, int] = {}
        self._held: bytearray | None = None
        self._out: list[Buffer] = []
        self._early: list[Message] = []
        self._early_bytes = 0
        self._requested: dict[Block, None] = {}  # by us, in the order asked
        self._cancelled: dict[Block, None] = {}
        self._pending: dict[Block, None] = {}  # by the peer
        self._fast_for_us: set[int] | None = None
        self._fast_for_peer: set[int] | None = None
        if infohash is not None:
            self._out.append(Handshake(infohash, peer_id).encode())

    # What is so

    @property
    def is_open(self) -> bool:
        """Both handshakes are through."""
        return self._phase is Phase.OPEN

    @property
    def fast(self) -> bool:
        """Both sides speak BEP 6 (we always do)."""
        return self.peer is not None and self.peer.fast

    @property
    def max_block(self) -> int:
        """Bytes one request may ask for, either way: more between two bct peers."""
        return wire.LARGE_BLOCK_SIZE if self.supports(BCT_PAY) else BLOCK_SIZE

    @property
    def requested(self) -> Collection[Block]:
        """What we asked for and wait for, oldest first."""
        return self._requested.keys()

    @property
    def pending(self) -> Collection[Block]:
        """What the peer asked for and waits for, oldest first."""
        return self._pending.keys()

    @property
    def room(self) -> int:
        """How many more requests the peer's queue and ours take."""
        said = self.peer_extended and self.peer_extended.reqq
        return max(0, min(said or _UNSAID_QUEUE, self.queue_limit) - len(self._requested))

    def may_request(self, index: int) -> bool:
        """Whether the peer would look at a request for this piece now."""
        return not self.peer_choking or (self._fast_for_us is not None and index in self._fast_for_us)

    def supports(self, extension: str) -> bool:
        """Whether both sides named this extension."""
        return extension in self._their_ids

    # What the owner decides

    def accept(self, infohash: bytes, geometry: Geometry | None = None) -> list[Event]:
        """Answers an incoming handshake with ours; to be followed at once by the extended handshake and the pieces.
        Returns what had already arrived behind the peer's handshake. Raises RemoteProtocolError."""
        if self._phase is not Phase.ARRIVED:
            raise LocalProtocolError(f"there is no handshake to accept in phase {self._phase.value}")
        self.infohash = infohash
        self._out.append(Handshake(infohash, self.peer_id).encode())
        self._phase = Phase.OPEN
        if geometry:
            self.set_geometry(geometry)
        held, self._held = self._held, None
        return self.receive_data(held or b"")

    def set_geometry(self, geometry: Geometry) -> list[Event]:
        """The metadata is known now. Returns the messages about pieces that waited for it. Raises
        RemoteProtocolError when they do not fit the torrent."""
        self.geometry = geometry
        self.pieces = PieceMap(geometry.count)
        early, self._early = self._early, []
        events: list[Event] = []
        for message in early:
            self._on_message(message, events)
        return events

    # What we say

    def data_to_send(self) -> list[Buffer]:
        """What was said since the last call, as buffers in order. They must leave before anything said later."""
        out, self._out = self._out, []
        return out

    def keep_alive(self) -> None:
        self._out.append(wire.KEEP_ALIVE)

    def send_extended_handshake(self, facts: ExtendedHandshake) -> None:
        """`m` and `reqq` are filled in here. Does nothing when the peer does not speak BEP 10."""
        if self.peer is None or not self.peer.extended:
            return
        ids = {name: number for number, name in self._extension_names.items()}
        self._say(Extended(0, replace(facts, m=ids, reqq=self.queue_limit).encode()))

    def send_extension(self, name: str, payload: bytes) -> None:
        """One message of an extension the peer `supports`."""
        if not self.supports(name):
            raise LocalProtocolError(f"the peer does not speak {name}")
        self._say(Extended(self._their_ids[name], payload))

    def send_pieces(self, pieces: PieceMap) -> None:
        """What we say we have: the first message about pieces, or never. In BEP 6's short form where it can be."""
        if self.fast and not len(pieces):
            self._say(HaveNone())
        elif self.fast and pieces.full:
            self._say(HaveAll())
        elif len(pieces):
            self._say(Bitfield(pieces.to_bytes()))

    def send_have_none(self) -> None:
        """`send_pieces` while the metadata is unknown."""
        if self.fast:
            self._say(HaveNone())

    def have(self, index: int) -> None:
        self._say(Have(index))

    def suggest(self, index: int) -> None:
        if self.fast:
            self._say(Suggest(index))

    def allow_fast(self, index: int) -> None:
        """The peer may ask for this piece even while choked."""
        if self.fast:
            self._fast_for_peer = self._fast_for_peer or set()
            self._fast_for_peer.add(index)
            self._say(AllowedFast(index))

    def port(self, port: int) -> None:
        self._say(Port(port))

    def set_interested(self, interested: bool) -> None:
        if interested is not self.interested:
            self.interested = interested
            self._say(Interested() if interested else NotInterested())

    def unchoke(self) -> None:
        if self.choking:
            self.choking = False
            self._say(Unchoke())

    def choke(self) -> None:
        """What the peer waits for is rejected, but for its allowed-fast pieces."""
        if self.choking:
            return
        self.choking = True
        self._say(Choke())
        for block in [b for b in self._pending if not self._may_ask(b)]:
            self.reject(block)

    def request(self, blocks: Iterable[Block]) -> None:
        """Asks for blocks; all leave in one buffer. The owner has seen `may_request` and `room`."""
        fresh = dict.fromkeys(block for block in blocks if block not in self._requested)
        self._requested.update(fresh)
        if fresh:
            self._out.append(b"".join([_REQUESTS.pack(13, Request.ID, *block) for block in fresh]))

    def cancel(self, block: Block) -> None:
        """We no longer want it; it may arrive all the same, and is dropped then."""
        if block in self._requested:
            self._forget(block)
            self._say(Cancel(block))

    def send_block(self, index: int, begin: int, data: Buffer) -> bool:
        """Serves one request. False, and nothing is said, when the peer does not wait for it (any more). `data` is
        not copied and must not change until it has left."""
        length = len(data)
        try:
            del self._pending[Block(index, begin, length)]
        except KeyError:
            return False
        self._out += (wire.piece_header(index, begin, length), data)
        return True

    def reject(self, block: Block) -> None:
        """Refuses one request. Without BEP 6 there is no word for it: the request is forgotten."""
        if block in self._pending:
            del self._pending[block]
            if self.fast:
                self._say(Reject(block))

    def _say(self, message: Message) -> None:
        self._out.append(message.encode())

    # What the peer says

    def receive_data(self, data: Buffer) -> list[Event]:
        """Takes any bytes of the stream. Returns what happened, in order; views in `Piece` events are valid as long as
        `data` is, and at most until the next call. Raises RemoteProtocolError: the connection is over then."""
        events: list[Event] = []
        view = memoryview(data)
        if self._held is not None:
            view = self._complete_held(view, events)
        end = self._parse(view, events)
        if end < len(view):
            self._hold(view[end:])
        return events

    def _complete_held(self, view: memoryview, events: list[Event]) -> memoryview:
        """Adds to the unfinished frame just what it lacks, and handles it when it is whole. Returns the rest."""
        held, self._held = self._held or bytearray(), None
        while view and (lacking := self._unit_size(held) - len(held)) > 0:
            held += view[:lacking]
            view = view[lacking:]
        if self._parse(memoryview(held), events) < len(held):
            self._held = held
        return view

    def _unit_size(self, data: Buffer) -> int:
        """Bytes of the frame or handshake that `data` begins with, as far as can be told yet."""
        return wire.frame_size(data, 0) if self._phase is not Phase.HANDSHAKE else wire.HANDSHAKE_SIZE

    def _hold(self, rest: memoryview) -> None:
        if self._held is None:
            self._held = bytearray(rest)
        else:
            self._held += rest
        if len(self._held) > wire.MAX_EXTENDED + 4:
            raise RemoteProtocolError("too-long", f"{len(self._held)} bytes came before our handshake was answered")

    def _parse(self, view: memoryview, events: list[Event]) -> int:
        """Handles what is whole at the beginning of `view`. Returns where that ends."""
        at = self._parse_handshake(view, events) if self._phase is Phase.HANDSHAKE else 0
        there = len(view)
        while self._phase is Phase.OPEN and (end := at + wire.frame_size(view, at)) <= there:
            if end - at > 4:
                kind = view[at + 4]
                if kind == Piece.ID:
                    self._on_piece(view[at:end], events)
                elif kind == Request.ID and end - at == _REQUESTS.size:
                    end = self._on_requests(view, at, events)
                elif message := wire.decode(kind, view[at + 5 : end]):
                    self._on_message(message, events)
            at = end
        return at

    def _parse_handshake(self, view: memoryview, events: list[Event]) -> int:
        head = bytes(view[: len(wire.PROTOCOL)])
        if not wire.PROTOCOL.startswith(head):
            raise _encrypted(head)
        if len(view) < wire.HANDSHAKE_SIZE:
            return 0
        handshake = Handshake.decode(view[: wire.HANDSHAKE_SIZE])
        if self.infohash is not None and handshake.infohash != self.infohash:
            raise RemoteProtocolError(
                "wrong-infohash", f"asked for {self.infohash.hex()}, the peer answers for {handshake.infohash.hex()}"
            )
        self.peer = handshake
        self._phase = Phase.ARRIVED if self.infohash is None else Phase.OPEN
        events.append(handshake)
        return wire.HANDSHAKE_SIZE

    def _on_message(self, message: Message, events: list[Event]) -> None:
        match message:
            case Choke():
                events.append(self._on_choke())
            case Unchoke():
                self.peer_choking = False
                events.append(message)
            case Interested() | NotInterested():
                self.peer_interested = isinstance(message, Interested)
                events.append(message)
            case Extended():
                self._on_extended(message, events)
            case Port():
                events.append(message)
            case Cancel():
                self._on_cancel(message, events)
            case Reject():
                self._on_reject(message, events)
            case _:
                self._on_pieces(message, events)

    def _on_choke(self) -> Choked:
        self.peer_choking = True
        if self.fast:
            return Choked(())
        dropped = tuple(self._requested)
        for block in dropped:
            self._forget(block)
        return Choked(dropped)

    def _on_pieces(self, message: Message, events: list[Event]) -> None:
        """What a peer says about its pieces can be judged only when the torrent is known; until then it waits."""
        if self.geometry is None or self.pieces is None:
            self._early.append(message)
            self._early_bytes += len(message.bits) if isinstance(message, Bitfield) else 0
            if len(self._early) > _MAX_EARLY or self._early_bytes > _MAX_EARLY_BYTES:
                text = f"{len(self._early)} messages and {self._early_bytes} bytes about a torrent we asked about"
                raise RemoteProtocolError("too-many", text)
            return
        match message:
            case Bitfield() | HaveAll() | HaveNone() if self._is_first:
                self.pieces = self._all_pieces(message, self.geometry.count)
                events.append(message)
            case Bitfield() | HaveAll():  # aria2 says it again where that is shorter than a `have` for each new piece
                new = self.pieces.lacking(self._all_pieces(message, self.geometry.count))
                events += [Have(index) for index in new if self.pieces.add(index)]
            case HaveNone():
                raise RemoteProtocolError("late-have-none", "'have none' is the first word about pieces, or not said")
            case Have(index):
                if self.pieces.add(self.geometry.check_piece(index)):
                    events.append(message)
            case Suggest(index):
                self._needs_fast(message)
                self.geometry.check_piece(index)
                events.append(message)
            case AllowedFast(index):
                self._needs_fast(message)
                self._fast_for_us = self._fast_for_us or set()
                self._fast_for_us.add(self.geometry.check_piece(index))
                events.append(message)
        self._is_first = False

    def _all_pieces(self, message: Bitfield | HaveAll | HaveNone, count: int) -> PieceMap:
        if isinstance(message, Bitfield):
            return PieceMap.from_bytes(message.bits, count)
        self._needs_fast(message)
        return PieceMap(count, full=isinstance(message, HaveAll))

    def _on_requests(self, view: memoryview, at: int, events: list[Event]) -> int:
        """Handles the run of requests that starts at `at`, as many as are whole. Returns where it ends."""
        blocks = []
        whole = (len(view) - at) // _REQUESTS.size * _REQUESTS.size
        for length, kind, *block in _REQUESTS.iter_unpack(view[at : at + whole]):
            if length != 13 or kind != Request.ID:
                break
            blocks.append(Block(*block))
        if taken := self._take(blocks):
            events.append(Requests(taken))
        return at + len(blocks) * _REQUESTS.size

    def _take(self, blocks: list[Block]) -> tuple[Block, ...]:
        """Which of these requests become the owner's to answer. Repetitions are skipped, those that may not be asked
        or do not fit the queue are refused."""
        geometry, longest, pending = self.geometry, self.max_block, self._pending
        taken = []
        for block in blocks:
            if geometry is None or block.length > longest or not geometry.holds(block):
                raise _bad_request(block, longest, geometry)
            if block in pending:
                continue
            pending[block] = None
            if self._may_ask(block) and self._has_place(block):
                taken.append(block)
            else:
                self.reject(block)
        return tuple(taken)

    def _may_ask(self, block: Block) -> bool:
        return not self.choking or (self._fast_for_peer is not None and block.piece in self._fast_for_peer)

    def _has_place(self, block: Block) -> bool:
        if len(self._pending) <= self.queue_limit:
            return True
        if not self.fast:
            raise RemoteProtocolError("queue-full", f"over {self.queue_limit} requests wait, {block} is one too many")
        return False

    def _on_cancel(self, message: Cancel, events: list[Event]) -> None:
        """BEP 6 wants an answer to each request, a cancelled one too."""
        if message.block in self._pending:
            self.reject(message.block)
            events.append(message)

    def _on_piece(self, frame: memoryview, events: list[Event]) -> None:
        """The hot path of a download; the same as `Piece.decode` of what is behind the id."""
        length = len(frame) - _PIECE_HEAD.size
        if length < 1:
            raise RemoteProtocolError("bad-message", f"a piece message of {len(frame)} bytes carries no data")
        index, begin = _PIECE_HEAD.unpack_from(frame)
        block = Block(index, begin, length)
        if self._requested.pop(block, self) is None:
            events.append(Piece(index, begin, frame[_PIECE_HEAD.size :]))
        elif self._cancelled.pop(block, self) is not None:
            raise RemoteProtocolError("unrequested-block", f"{block} came without having been asked for")

    def _on_reject(self, message: Reject, events: list[Event]) -> None:
        self._needs_fast(message)
        block = message.block
        if block in self._requested:
            del self._requested[block]
            events.append(message)
        elif block in self._cancelled:
            del self._cancelled[block]
        else:
            raise RemoteProtocolError("unrequested-reject", f"{block} was rejected without having been asked for")

    def _on_extended(self, message: Extended, events: list[Event]) -> None:
        """Ids we did not name are skipped: BEP 10 leaves them to whoever knows them."""
        if message.extension == 0:
            self.peer_extended = handshake = ExtendedHandshake.decode(message.payload)
            ids = self._their_ids | {n: i for n, i in handshake.m.items() if n in self._extension_names.values()}
            self._their_ids = {name: number for name, number in ids.items() if number}
            events.append(handshake)
        elif name := self._extension_names.get(message.extension):
            events.append(ExtensionMessage(name, message.payload))

    def _forget(self, block: Block) -> None:
        """Moves a request of ours to those that may still be answered."""
        del self._requested[block]
        self._cancelled[block] = None
        if len(self._cancelled) > _MAX_CANCELLED:
            del self._cancelled[next(iter(self._cancelled))]

    def _needs_fast(self, message: Message) -> None:
        if not self.fast:
            raise RemoteProtocolError("no-fast", f"{type(message).__name__} needs BEP 6, which was not agreed on")


def _encrypted(head: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        "message-encryption",
        f"it begins with {head.hex()} and not with a handshake: the peer tries message encryption, which is not spoken "
        "here; turn it off in that client ('allow' or 'disable', not 'require')",
    )


def _bad_request(block: Block, longest: int, geometry: Geometry | None) -> RemoteProtocolError:
    torrent = f"{geometry.count} pieces of {geometry.piece_length}" if geometry else "not known here yet"
    return RemoteProtocolError("bad-request", f"{block} of at most {longest} bytes; the torrent is {torrent}")
