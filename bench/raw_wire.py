"""The other sides of `bench.seeding`: a raw peer that speaks just enough of BEP 3, and libtorrent.

An engine runs in a process of its own and is spoken to by lines; it tells the CPU seconds (user and system, all
threads) that it spent. Files are fetched over ones of the same size that are there already: finding room on the disk is
nobody's wire.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import libtorrent as lt

from bct.torrent.geometry import Block, PieceMap
from bct.torrent.metainfo import Metainfo, build_info
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
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with path.open("r+b") as out:
        for _ in range(0, size, PIECE_LENGTH):
            out.write(bytes(min(PIECE_LENGTH, size - out.tell())))


@contextmanager
def engine(name: str, torrent: Path, module: str) -> Iterator[Callable[[str], str]]:
    """An engine in a process of its own, and a way to say a line to it and hear its answer."""
    command = [sys.executable, "-m", module, name, str(torrent)]
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
