"""One peer's connection in the shell: carries bytes between a transport, the wire machine and the sessions.

It decides nothing about pieces or money: requests go to its `Serving`, blocks to its `Fetching`, bct_pay messages to
the session of the side we are on. A peer that breaks the protocol is told nothing and cut off; why is logged in one
word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import PrivateKey, is_public_key
from bct.config import WireConfig
from bct.errors import Action, BctError, RemoteProtocolError, StoreError
from bct.node.fetching import Fetching
from bct.node.serving import Serving
from bct.pay.account import Verdict
from bct.pay.messages import VERSION, Context, HaveDelta, HaveMap, Joiner, Message, chunked
from bct.torrent.bencode import Value
from bct.torrent.connection import Choked, Event, ExtensionMessage, PeerConnection, Requests
from bct.torrent.extension import BCT_PAY, UT_METADATA, ExtendedHandshake
from bct.torrent.geometry import Block, Geometry, PieceMap
from bct.torrent.transport import Connection
from bct.torrent.wire import (
    Bitfield,
    Buffer,
    Cancel,
    Handshake,
    Have,
    HaveAll,
    HaveNone,
    Interested,
    Piece,
    Reject,
    Unchoke,
)
from bct.units import Infohash, PieceIndex

log = structlog.get_logger()

EXTENSIONS = {1: BCT_PAY, 2: UT_METADATA}
RANDOM_SIZE = 16
UNREAD_MOST = 8 << 20
"""Bytes said to a peer and not taken by the system at which it is cut off: it asks, but does not read."""
EARLY_MAPS = 8
"""Words about pieces kept while the number of pieces is unknown."""


class Torrent(Protocol):
    """What a connection needs of the torrent that it is about."""

    infohash: Infohash

    @property
    def geometry(self) -> Geometry | None: ...
    @property
    def metadata_size(self) -> int | None: ...
    @property
    def identity(self) -> PrivateKey | None: ...
    @property
    def complete(self) -> bool: ...
    @property
    def sells(self) -> bool: ...
    @property
    def speaks_bct(self) -> bool: ...
    def joined(self, peer: Peer) -> None: ...
    def introduce(self, peer: Peer) -> None: ...
    def extended(self, peer: Peer, handshake: ExtendedHandshake) -> None: ...
    def changed(self, peer: Peer) -> None: ...
    def metadata(self, peer: Peer, payload: bytes) -> None: ...
    def message(self, peer: Peer, message: Message) -> None: ...
    def gate(self, peer: Peer, block: Block) -> Verdict: ...
    def read(self, block: Block) -> Buffer: ...
    def hash_of(self, piece: PieceIndex) -> bytes: ...
    def arriving(self, peer: Peer, since: float) -> None: ...
    def arrived(self, peer: Peer, piece: PieceIndex, data: bytearray, since: float) -> None: ...
    def failed(self, peer: Peer, piece: PieceIndex, why: str) -> None: ...
    def gone(self, peer: Peer) -> None: ...


class Door(Protocol):
    """What a connection needs of the node it belongs to."""

    config: WireConfig
    network: Network
    client: str
    peer_id: bytes
    clock: Callable[[], float]
    random: Callable[[int], bytes]

    @property
    def port(self) -> int: ...
    def swarm_for(self, infohash: bytes) -> Torrent | None: ...
    def ban(self, peer: Peer) -> None: ...
    def gone(self, peer: Peer) -> None: ...


class Peer:
    """The `Receiver` of one connection. An outgoing one knows its torrent; an incoming one learns it."""

    def __init__(self, connection: Connection, hub: Door, swarm: Torrent | None, now: float) -> None:
        self.connection = connection
        self.hub = hub
        self.swarm = swarm
        self.outgoing = swarm is not None
        self.wire = PeerConnection(
            hub.peer_id,
            swarm.infohash if swarm else None,
            swarm.geometry if swarm else None,
            extensions=EXTENSIONS,
            queue_limit=hub.config.request_queue,
        )
        self.serving = Serving(self.wire, connection)
        self.fetching = Fetching(self.wire, self, hub.clock)
        self.context: Context | None = None
        self.true_pieces: PieceMap | None = None
        """What a bct peer really has; the bitfield shows only what is free."""
        self.opened_at = now
        self.heard_at = now
        self.said_at = now
        self.closed = False
        self.fault: RemoteProtocolError | None = None
        """What it did, when that is why the connection ended."""
        self.ended = asyncio.Event()
        """Set when the connection is over and everybody has let go of it."""
        self._random = hub.random(RANDOM_SIZE)
        self._key: PrivateKey | None = None
        self._joiner = Joiner()
        self._early: list[HaveMap | HaveDelta] = []
        connection.start(self)
        self.flush()

    def __repr__(self) -> str:
        return f"{self.connection.remote[0]}:{self.connection.remote[1]}"

    # -- Receiver -----------------------------------------------------------------------------------------------------

    def received(self, data: memoryview) -> None:
        self.heard_at = self.hub.clock()
        try:
            for event in self.wire.receive_data(data):
                self._on(event)
        except RemoteProtocolError as error:
            self.fail(error)
        except StoreError as error:
            self._stop(error)
        self.flush()

    def drained(self) -> None:
        self.serve()

    def serve(self) -> None:
        """Goes on with what the peer asked for, as far as the gate lets it."""
        if self.closed or self.swarm is None:
            return
        try:
            self.serving.go_on(self._gate, self.swarm.read)
        except RemoteProtocolError as error:
            self.fail(error)
        except StoreError as error:
            self._stop(error)
        self.flush()

    def _gate(self, block: Block) -> Verdict:
        return self.torrent.gate(self, block)

    def lost(self, error: BctError | None) -> None:
        self.closed = True
        self.serving.lost()
        self.hub.gone(self)
        if self.swarm:
            self.swarm.gone(self)
        self.ended.set()

    # -- Orderer: what `Fetching` reports ---------------------------------------------------------------------------

    def hash_of(self, piece: PieceIndex) -> bytes:
        return self.torrent.hash_of(piece)

    def arriving(self, since: float) -> None:
        self.torrent.arriving(self, since)

    def arrived(self, piece: PieceIndex, data: bytearray, since: float) -> None:
        self.torrent.arrived(self, piece, data, since)

    def failed(self, piece: PieceIndex, why: str) -> None:
        self.torrent.failed(self, piece, why)

    # -- saying things ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Everything said since the last flush leaves in one write: a payment together with its requests."""
        if buffers := self.wire.data_to_send():
            self.said_at = self.hub.clock()
            self.connection.send(buffers)
            if self.connection.buffered > UNREAD_MOST and not self.closed:
                self.fail(RemoteProtocolError("unread", f"{self.connection.buffered} bytes wait for the peer to read"))

    def say(self, message: Message) -> None:
        """Nothing, to a peer that took the extension back: `_extended` is about to cut it off."""
        if self.wire.supports(BCT_PAY):
            for part in chunked(message.encode()):
                self.wire.send_extension(BCT_PAY, part)

    def fail(self, error: RemoteProtocolError) -> None:
        """Ends the connection because of what the peer did."""
        log.info("peer refused", peer=str(self), reason=error.reason, text=str(error))
        if error.action is Action.BAN:
            self.hub.ban(self)
        self.fault = error
        self.close()

    def _stop(self, error: StoreError) -> None:
        """Our disk refuses: what it cannot remember must not go on."""
        log.error("disk refuses", peer=str(self), text=str(error))
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.flush()
            self.closed = True
            self.connection.close()

    # -- events -------------------------------------------------------------------------------------------------------

    def _on(self, event: Event) -> None:
        if self.closed:
            return
        match event:
            case Requests(blocks):
                self.serving.ask(blocks)
                self.serving.go_on(self._gate, self.torrent.read)
            case Piece(index, begin, data):
                self.fetching.block(index, begin, data, self.heard_at)
            case ExtensionMessage(name, payload):
                self._extension(name, payload)
            case Handshake():
                self._handshake(event)
            case ExtendedHandshake():
                self._extended(event)
            case Have() | Bitfield() | HaveAll() | HaveNone() | Unchoke():
                self.torrent.changed(self)
            case Choked(dropped):
                self.fetching.dropped(dropped)
            case Reject(block):
                self.fetching.rejected(block)
            case Cancel(block):
                self.serving.cancelled(block)
            case Interested():
                self.wire.unchoke()

    @property
    def torrent(self) -> Torrent:
        """The torrent, once the handshake has named it."""
        if self.swarm is None:
            raise RemoteProtocolError("no-handshake", "a message came before the torrent was named")
        return self.swarm

    def _handshake(self, handshake: Handshake) -> None:
        if handshake.peer_id == self.hub.peer_id:
            raise RemoteProtocolError("ourselves", "this connection leads back to this node")
        if self.outgoing:
            self._introduce()
            return
        swarm = self.hub.swarm_for(handshake.infohash)
        if swarm is None:
            raise RemoteProtocolError("unknown-torrent", f"{handshake.infohash.hex()} is not here")
        self.swarm = swarm
        swarm.joined(self)
        later = self.wire.accept(swarm.infohash, swarm.geometry)
        self._introduce()
        for event in later:
            self._on(event)

    def _introduce(self) -> None:
        """The extended handshake, and what we show of our pieces."""
        swarm = self.torrent
        self._key = key = swarm.identity or PrivateKey(self.hub.random(32))
        net = self.hub.network.value
        ours: dict[bytes, Value] = {b"v": VERSION, b"net": net, b"random": self._random, b"id": key.public}
        self.wire.send_extended_handshake(
            ExtendedHandshake(
                v=self.hub.client,
                p=self.hub.port,
                metadata_size=swarm.metadata_size,
                upload_only=swarm.complete,
                bct=ours if swarm.speaks_bct else None,
            )
        )
        swarm.introduce(self)

    def _extended(self, handshake: ExtendedHandshake) -> None:
        if self.context is None and self.wire.supports(BCT_PAY) and handshake.bct is not None:
            self.context = self._context(handshake.bct)
        if self.context and not self.wire.supports(BCT_PAY):  # a later handshake may take an extension back (BEP 10)
            raise RemoteProtocolError("bct-gone", "the peer does not speak bct_pay any more")
        self.torrent.extended(self, handshake)

    def _context(self, theirs: Mapping[bytes, Value]) -> Context:
        """What binds signatures to this connection. The side that serves the title is its seeder."""
        version, network = theirs.get(b"v"), theirs.get(b"net")
        random, key = theirs.get(b"random"), theirs.get(b"id")
        if version != VERSION:
            raise RemoteProtocolError("bct-version", f"the peer speaks bct_pay {version!r:.20}, this node {VERSION}")
        if network != self.hub.network.value:
            raise RemoteProtocolError(
                "wrong-network", f"the peer is on network {network!r:.20}, not {self.hub.network.value}"
            )
        if not isinstance(random, bytes) or len(random) != RANDOM_SIZE:
            raise RemoteProtocolError("bad-handshake", f"the peer's random number is not {RANDOM_SIZE} bytes")
        if not isinstance(key, bytes) or not is_public_key(key) or self._key is None:
            raise RemoteProtocolError("bad-handshake", "the peer's id is no public key")
        if self.torrent.sells:
            return Context(self.hub.network, random, self._random, key, self._key.public)
        return Context(self.hub.network, self._random, random, self._key.public, key)

    def _extension(self, name: str, payload: bytes) -> None:
        if name == UT_METADATA:
            self.torrent.metadata(self, payload)
            return
        if self.context is None:
            raise RemoteProtocolError("no-handshake", "bct_pay was spoken before the extended handshake")
        message = self._joiner.receive(payload)
        match message:
            case None:
                return
            case HaveMap() | HaveDelta():
                self._pieces_said(message)
            case _:
                self.torrent.message(self, message)

    def _pieces_said(self, message: HaveMap | HaveDelta) -> None:
        """What the peer truly has. Like its bitfield, it can be judged only when the torrent is known."""
        geometry = self.torrent.geometry
        if geometry is None:
            if len(self._early) >= EARLY_MAPS:
                raise RemoteProtocolError("too-many", f"over {EARLY_MAPS} piece maps of a torrent we asked about")
            self._early.append(message)
            return
        match message:
            case HaveMap(bits):
                self.true_pieces = PieceMap.from_bytes(bits, geometry.count)
            case HaveDelta(pieces) if self.true_pieces is not None:
                for index in pieces:
                    self.true_pieces.add(geometry.check_piece(index))
            case _:
                raise RemoteProtocolError("no-map", "HAVE_DELTA came before HAVE_MAP")
        self.torrent.changed(self)

    def geometry_known(self, geometry: Geometry) -> None:
        """The metadata came, from this peer or another one."""
        if self.wire.geometry is None:
            try:
                for event in self.wire.set_geometry(geometry):
                    self._on(event)
                early, self._early = self._early, []
                for message in early:
                    self._pieces_said(message)
            except RemoteProtocolError as error:
                self.fail(error)
            self.flush()

    def has(self, piece: int) -> bool:
        """Whether the peer says it has the piece: by its true map, else by its bitfield."""
        pieces = self.true_pieces or self.wire.pieces
        return pieces is not None and piece in pieces
