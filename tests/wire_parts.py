"""Parts for the stories about the wire: a small torrent, a peer that owns one connection, a link made of memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Self

from bct.errors import BctError
from bct.torrent.assembly import PieceBuffer
from bct.torrent.connection import Choked, Event, PeerConnection, Requests
from bct.torrent.extension import ExtendedHandshake
from bct.torrent.geometry import Block, PieceMap
from bct.torrent.metainfo import Metainfo, build_info
from bct.torrent.picker import Picker
from bct.torrent.transport import Connection, Receiver
from bct.torrent.wire import Bitfield, Buffer, Handshake, Have, HaveAll, Piece, Reject

SEEDER_ID = b"-BC0001-seederseeder"
LEECHER_ID = b"-BC0001-leecherleech"


def film(length: int, piece_length: int = 32 * 1024, seed: int = 1) -> tuple[bytes, Metainfo]:
    """Random content and the torrent that describes it."""
    content = Random(seed).randbytes(length)
    hashes = [hashlib.sha1(content[at : at + piece_length]).digest() for at in range(0, length, piece_length)]
    return content, Metainfo.from_info(build_info("film.mp4", length, piece_length, hashes))


class Owner:
    """Owns one connection for one torrent: serves what it has, fetches what it lacks."""

    def __init__(self, connection: Connection, meta: Metainfo, peer: PeerConnection, content: bytes = b"") -> None:
        self.connection, self.meta, self.peer = connection, meta, peer
        self.content = bytearray(content or meta.length)
        self.have = PieceMap(meta.geometry.count, full=bool(content))
        self.picker = Picker(meta.geometry, self.have, range(meta.geometry.count))
        self.events: list[Event] = []
        self.ended = False
        self.on_finish: Callable[[], None] = lambda: None
        self._queue: deque[Block] = deque()
        self._open: dict[int, PieceBuffer[str]] = {}
        self.flush()

    @classmethod
    def calling(cls, connection: Connection, meta: Metainfo, content: bytes = b"") -> Self:
        peer = PeerConnection(LEECHER_ID, meta.infohash, meta.geometry, extensions={1: "ut_metadata"})
        return cls(connection, meta, peer, content)

    @classmethod
    def called(cls, connection: Connection, meta: Metainfo, content: bytes = b"") -> Self:
        return cls(connection, meta, PeerConnection(SEEDER_ID, extensions={1: "ut_metadata"}), content)

    def received(self, data: memoryview) -> None:
        self.on(self.peer.receive_data(data))
        self.serve()

    def drained(self) -> None:
        self.serve()

    def lost(self, error: BctError | None) -> None:
        self.ended = True

    def on(self, events: Sequence[Event]) -> None:
        for event in events:
            self.events.append(event)
            match event:
                case Handshake():
                    waiting = self.peer.accept(self.meta.infohash, self.meta.geometry) if not self.peer.is_open else []
                    self.peer.send_extended_handshake(ExtendedHandshake(v="owner"))
                    self.peer.send_pieces(self.have)
                    self.peer.unchoke()
                    self.on(waiting)
                case Requests(blocks):
                    self._queue.extend(blocks)
                case Piece(index, begin, data):
                    self.take(index, begin, data)
                case Bitfield() | HaveAll():
                    self.picker.peer_has(self.peer.pieces or ())
                case Have(index):
                    self.picker.peer_has([index])
                case Choked(blocks):
                    self.picker.give_back(blocks)
                case Reject(block):
                    self.picker.give_back([block])
        self.ask()

    def ask(self) -> None:
        pieces = self.peer.pieces
        if pieces is not None:
            self.peer.set_interested(self.picker.is_interesting(pieces))
            if self.peer.interested and not self.peer.peer_choking:
                self.peer.request(self.picker.pick(pieces, self.peer.room, self.peer.requested))

    def take(self, index: int, begin: int, data: Buffer) -> None:
        if index not in self._open:
            self._open[index] = PieceBuffer(index, bytearray(self.meta.geometry.size(index)))
        self.picker.received(Block(index, begin, len(data)))
        if not self._open[index].add(begin, data, "peer"):
            return
        piece = self._open.pop(index)
        assert piece.matches(self.meta.piece_hash(index))
        start = self.meta.geometry.offset(index)
        self.content[start : start + len(piece.buffer)] = piece.buffer
        self.have.add(index)
        self.picker.done(index)
        self.peer.have(index)
        if self.picker.finished:
            self.on_finish()

    def serve(self) -> None:
        self.flush()
        while self._queue and self.connection.buffered <= self.connection.LOW_WATER:
            index, begin, length = self._queue.popleft()
            start = self.meta.geometry.offset(index) + begin
            self.peer.send_block(index, begin, memoryview(self.content)[start : start + length])
            self.flush()

    def flush(self) -> None:
        self.connection.send(self.peer.data_to_send())


class End:
    """One end of a link made of memory: implements `Connection`, moves nothing by itself."""

    LOW_WATER = 64 * 1024

    def __init__(self, port: int) -> None:
        self.remote = ("memory", port)
        self.out: deque[bytes] = deque()
        self.buffered = 0
        self.receiver: Receiver | None = None

    def start(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def send(self, buffers: Sequence[Buffer]) -> None:
        said = b"".join(buffers)
        if said:
            self.out.append(said)
            self.buffered += len(said)

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...

    def carry(self, other: End, sizes: Iterator[int]) -> bool:
        """Brings what was said to the other end in pieces of these sizes. False when nothing was."""
        data = memoryview(b"".join(self.out))
        self.out.clear()
        while data:
            assert other.receiver
            size = next(sizes)
            part = bytearray(data[:size])
            other.receiver.received(memoryview(part))
            part[:] = bytes(len(part))  # the memory is the next peer's now
            data = data[size:]
        was, self.buffered = self.buffered, 0
        if was and self.receiver:
            self.receiver.drained()
        return was > 0


def run(a: End, b: End, sizes: Iterator[int]) -> None:
    """Until neither side has anything to say."""
    while a.carry(b, sizes) | b.carry(a, sizes):
        pass
