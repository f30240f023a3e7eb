"""What a GiB costs on the plain wire: this engine and libtorrent, seeding the same file to the same raw peer and
fetching it from the same raw peer, over loopback TCP in 16 KiB blocks.

Each engine runs in a process of its own, which tells the CPU seconds (user and system, all threads) it spent between
the raw peer's first request and the last byte. The raw peer is this process: it speaks just enough of BEP 3. Rounds
alternate between the engines, rows carry medians. Fetching includes checking each piece's SHA-1 and writing the file
(over one of the same size that is there already: finding room on the disk is nobody's wire).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import mmap
import os
import resource
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import libtorrent as lt
import uvloop

from bct.backends.tcp import Tcp
from bct.errors import BctError
from bct.torrent.assembly import PieceBuffer
from bct.torrent.connection import PeerConnection, Requests
from bct.torrent.geometry import BLOCK_SIZE, Block, PieceMap
from bct.torrent.metainfo import Metainfo, build_info
from bct.torrent.transport import Connection
from bct.torrent.wire import (
    HANDSHAKE_SIZE,
    Bitfield,
    Handshake,
    Interested,
    Piece,
    Request,
    Unchoke,
    piece_header,
)

PIECE_LENGTH = 256 * 1024
GIB = 1024**3
SEED_BUDGET = 0.45
"""CPU seconds a GiB."""
QUEUE = 256
"""Requests the raw peer keeps unanswered."""
STEP = 64
"""Requests it sends at a time."""
SETTINGS = "TCP only, no discovery, no message encryption"
PEER_ID = b"-RAW000-aaaaaaaaaaaa"


def make_torrent(directory: Path, size: int) -> Path:
    """A file of random bytes and its .torrent beside it; returns the latter's path."""
    content = directory / "film.bin"
    hashes = []
    with content.open("wb") as out:
        for start in range(0, size, PIECE_LENGTH):
            piece = os.urandom(min(PIECE_LENGTH, size - start))
            hashes.append(hashlib.sha1(piece).digest())
            out.write(piece)
    torrent = directory / "film.torrent"
    info = build_info(content.name, size, PIECE_LENGTH, hashes)
    torrent.write_bytes(Metainfo.from_info(info).to_file())
    return torrent


def target(torrent: Path) -> Path:
    """Where fetched files go: one of the same name in a directory of its own."""
    return torrent.parent / "fetched" / "film.bin"


def read(torrent: Path) -> Metainfo:
    return Metainfo.from_file(torrent.read_bytes())


def overwrite(path: Path) -> BinaryIO:
    return path.open("r+b")


def blank(path: Path, size: int) -> None:
    """Fills a file with zeros, in place if it is there."""
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with path.open("r+b") as out:
        for _ in range(0, size, PIECE_LENGTH):
            out.write(bytes(min(PIECE_LENGTH, size - out.tell())))


def measure(name: str, torrent: Path) -> float:
    """CPU seconds of one engine in one role for the whole file."""
    drive = drain if name.startswith("seed") else feed
    blank(target(torrent), torrent.with_suffix(".bin").stat().st_size)
    with engine(name, torrent) as say:
        return float(drive(torrent, say))


@contextmanager
def engine(name: str, torrent: Path) -> Iterator[Callable[[str], str]]:
    """An engine in a process of its own, and a way to say a line to it and hear its answer."""
    command = [sys.executable, "-m", "bench.raw_wire", name, str(torrent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def say(line: str) -> str:
            assert process.stdin
            assert process.stdout
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return process.stdout.readline()

        try:
            yield say
        finally:
            process.kill()


# The raw peer: this process


def drain(torrent: Path, say: Callable[[str], str]) -> str:
    """Downloads the whole file from a seeder and throws it away. Returns the CPU seconds the seeder tells."""
    meta = read(torrent)
    requests = [Request(b).encode() for index in range(meta.geometry.count) for b in meta.geometry.blocks(index)]
    with socket.create_connection(("127.0.0.1", int(say("port")))) as sock:
        sock.sendall(Handshake(meta.infohash, PEER_ID, bytes(8)).encode() + Interested().encode())
        stream = io.BufferedReader(sock.makefile("rb", buffering=0), 1024 * 1024)
        stream.read(HANDSHAKE_SIZE)
        while read_frame(stream)[0] != Unchoke.ID:
            pass
        say("begin")
        sock.sendall(b"".join(requests[:QUEUE]))
        asked, come = QUEUE, 0
        while come < len(requests):
            come += read_frame(stream)[0] == Piece.ID
            if come % STEP == 0 and asked < len(requests):
                sock.sendall(b"".join(requests[asked : asked + STEP]))
                asked += STEP
        return say("end")


def read_frame(stream: BinaryIO) -> bytes:
    """Id and body of the next message that is no keep-alive."""
    while not (length := int.from_bytes(stream.read(4))):
        pass
    return stream.read(length)


def feed(torrent: Path, say: Callable[[str], str]) -> str:
    """Serves the whole file to a fetcher. Returns the CPU seconds the fetcher tells."""
    meta = read(torrent)
    content = mapped(torrent)
    with socket.create_server(("127.0.0.1", 0)) as door:
        say(f"connect {door.getsockname()[1]}")
        sock, _ = door.accept()
    with sock:
        stream = io.BufferedReader(sock.makefile("rb", buffering=0), 64 * 1024)
        stream.read(HANDSHAKE_SIZE)
        everything = Bitfield(PieceMap(meta.geometry.count, full=True).to_bytes())
        sock.sendall(Handshake(meta.infohash, PEER_ID, bytes(8)).encode() + everything.encode() + Unchoke().encode())
        served = 0
        while served < meta.length:
            frame = read_frame(stream)
            if frame[0] == Request.ID:
                block = Request.decode(memoryview(frame)[1:]).block
                send_block(sock, block, content[meta.geometry.offset(block.piece) + block.begin :][: block.length])
                served += block.length
        return say("end")


def send_block(sock: socket.socket, block: Block, data: memoryview) -> None:
    sent = sock.sendmsg((piece_header(block.piece, block.begin, block.length), data))
    if (rest := sent - 13) < len(data):
        sock.sendall(data[rest:])


def mapped(torrent: Path) -> memoryview:
    with torrent.with_suffix(".bin").open("rb") as content:
        return memoryview(mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ))


# This engine: the smallest owners of a connection that seed or fetch one torrent


class Seeder:
    def __init__(self, connection: Connection, meta: Metainfo, content: memoryview) -> None:
        self.connection, self.meta, self.content = connection, meta, content
        self.peer = PeerConnection(PEER_ID, extensions={})
        self.queue: deque[Block] = deque()

    def received(self, data: memoryview) -> None:
        for event in self.peer.receive_data(data):
            match event:
                case Handshake():
                    rest = self.peer.accept(self.meta.infohash, self.meta.geometry)
                    assert rest == [Interested()]
                    self.peer.send_pieces(PieceMap(self.meta.geometry.count, full=True))
                    self.peer.unchoke()
                case Requests(blocks):
                    self.queue.extend(blocks)
        self.serve()

    def serve(self) -> None:
        geometry, content = self.meta.geometry, self.content
        while self.queue and self.connection.buffered <= self.connection.LOW_WATER:
            for _ in range(min(STEP, len(self.queue))):
                index, begin, length = self.queue.popleft()
                start = geometry.offset(index) + begin
                self.peer.send_block(index, begin, content[start : start + length])
            self.connection.send(self.peer.data_to_send())
        self.connection.send(self.peer.data_to_send())

    def drained(self) -> None:
        self.serve()

    def lost(self, error: BctError | None) -> None: ...


class Fetcher:
    """Asks for whole pieces in order, some ahead, as a player does."""

    def __init__(self, connection: Connection, meta: Metainfo, out: BinaryIO, done: Callable[[], None]) -> None:
        self.connection, self.meta, self.out, self.done = connection, meta, out, done
        self.peer = PeerConnection(PEER_ID, meta.infohash, meta.geometry, extensions={})
        self.next = self.finished = 0
        self.open: dict[int, PieceBuffer[None]] = {}
        self.spare = [bytearray(PIECE_LENGTH) for _ in range(QUEUE * BLOCK_SIZE // PIECE_LENGTH)]

    def received(self, data: memoryview) -> None:
        for event in self.peer.receive_data(data):
            match event:
                case Piece(index, begin, block):
                    if self.open[index].add(begin, block, None):
                        self.finish(self.open.pop(index))
                case Bitfield():
                    self.peer.set_interested(True)
                case Unchoke():
                    self.ask()
        self.connection.send(self.peer.data_to_send())

    def ask(self) -> None:
        while self.spare and self.next < self.meta.geometry.count:
            self.open[self.next] = PieceBuffer(self.next, self.spare.pop())
            self.peer.request(self.meta.geometry.blocks(self.next))
            self.next += 1

    def finish(self, piece: PieceBuffer[None]) -> None:
        assert piece.matches(self.meta.piece_hash(piece.index))
        os.pwrite(self.out.fileno(), piece.buffer, self.meta.geometry.offset(piece.index))
        self.spare.append(piece.buffer)
        self.finished += 1
        self.ask()
        if self.finished == self.meta.geometry.count:
            self.done()

    def drained(self) -> None: ...

    def lost(self, error: BctError | None) -> None: ...


async def seed_bct(torrent: Path) -> None:
    meta, content = read(torrent), mapped(torrent)

    def on_connection(connection: Connection) -> None:
        connection.start(Seeder(connection, meta, content))

    listener = await Tcp().listen("127.0.0.1", 0, on_connection)
    await hear()
    tell(listener.port)
    await hear()
    started = tell(cpu())
    await hear()
    tell(cpu() - started)


async def fetch_bct(torrent: Path) -> None:
    meta, out = read(torrent), overwrite(target(torrent))
    finished = asyncio.Event()
    with out:
        port = int((await hear()).split()[1])
        started = tell(cpu())
        connection = await Tcp().connect("127.0.0.1", port)
        fetcher = Fetcher(connection, meta, out, finished.set)
        connection.start(fetcher)
        connection.send(fetcher.peer.data_to_send())
        await finished.wait()
        spent = cpu() - started
    await hear()
    tell(spent)


# libtorrent


def lt_session() -> lt.session:
    return lt.session(
        {
            "listen_interfaces": "127.0.0.1:0",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "out_enc_policy": int(lt.enc_policy.disabled),
            "alert_mask": int(lt.alert.category_t.status_notification),
        }
    )


def lt_add(session: lt.session, torrent: Path, directory: Path) -> lt.torrent_handle:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(str(torrent))
    params.save_path = str(directory)
    return session.add_torrent(params)


def lt_wait(session: lt.session, kind: type[lt.alert]) -> None:
    while not any(isinstance(alert, kind) for alert in session.pop_alerts()):
        session.wait_for_alert(1000)


async def seed_libtorrent(torrent: Path) -> None:
    session = lt_session()
    lt_add(session, torrent, torrent.parent)
    lt_wait(session, lt.torrent_finished_alert)
    await hear()
    tell(session.listen_port())
    await hear()
    started = tell(cpu())
    await hear()
    tell(cpu() - started)


async def fetch_libtorrent(torrent: Path) -> None:
    session = lt_session()
    handle = lt_add(session, torrent, target(torrent).parent)
    lt_wait(session, lt.torrent_checked_alert)
    port = int((await hear()).split()[1])
    started = tell(cpu())
    handle.connect_peer(("127.0.0.1", port))
    lt_wait(session, lt.torrent_finished_alert)
    spent = cpu() - started
    await hear()
    tell(spent)


ENGINES = {
    "seed-bct": seed_bct,
    "seed-libtorrent": seed_libtorrent,
    "fetch-bct": fetch_bct,
    "fetch-libtorrent": fetch_libtorrent,
}


def cpu() -> float:
    """Seconds this process has spent, user and system, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def hear() -> str:
    """The next line from the raw peer."""
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def tell(figure: float) -> float:
    print(figure, flush=True)
    return figure


if __name__ == "__main__":
    uvloop.run(ENGINES[sys.argv[1]](Path(sys.argv[2])))
