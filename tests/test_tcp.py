"""TCP carries what `Connection` promises, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from bct.backends.tcp import Tcp
from bct.errors import BctError, ConfigError, TemporaryError
from bct.torrent.connection import PeerConnection
from bct.torrent.extension import ExtendedHandshake
from bct.torrent.geometry import PieceMap
from bct.torrent.metainfo import Metainfo, build_info
from bct.torrent.transport import Connection
from bct.torrent.wire import Bitfield, Handshake
from tests.conformance.connection import STORIES, Ear, OpenPair
from tests.wire_parts import LEECHER_ID, Owner, film

EXTENSIONS = {1: "bct_pay", 2: "ut_metadata"}

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=[{}, {"use_uvloop": True}], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", request.param


class Door:
    """A listening port, and who came in by it."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.tcp = Tcp()
        self.arrived: asyncio.Queue[Connection] = asyncio.Queue()
        self.opened: list[Connection] = []

    async def open(self) -> Door:
        self.listener = await self.tcp.listen(self.host, 0, self.arrived.put_nowait)
        return self

    async def pair(self) -> tuple[Connection, Connection]:
        here = await self.tcp.connect(self.host, self.listener.port)
        there = await self.arrived.get()
        self.opened += (here, there)
        return here, there

    def raw(self) -> socket.socket:
        """A caller that is no bct node."""
        sock = socket.create_connection((self.host, self.listener.port))
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        self.listener.close()
        for connection in self.opened:
            connection.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    opened = await Door(request.param).open()
    yield opened
    opened.close()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_a_connection(story: Callable[[OpenPair], Awaitable[None]], door: Door) -> None:
    await story(door.pair)


async def test_both_ends_know_the_other(door: Door) -> None:
    here, there = await door.pair()
    assert here.remote == (door.host, door.listener.port)
    assert there.remote[0] == door.host


async def test_a_reset_is_lost_with_its_reason(door: Door) -> None:
    sock = door.raw()
    there = await door.arrived.get()
    ear = Ear()
    there.start(ear)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    await ear.until(lambda: bool(ear.endings))
    assert isinstance(ear.endings[0], TemporaryError)


async def test_a_bug_in_a_receiver_ends_its_connection_and_is_heard_of(door: Door) -> None:
    here, there = await door.pair()
    ear, far = Ear(), Ear()
    bug = RuntimeError("a bug")

    def fail() -> None:
        raise bug

    far.on_received = fail
    here.start(ear)
    there.start(far)
    loop, heard = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: heard.append(context.get("exception")))
    here.send([b"x"])
    await far.until(lambda: bool(far.endings))
    loop.set_exception_handler(None)
    assert heard == [bug]


async def test_nobody_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(TemporaryError, match="cannot be reached"):
            await Tcp().connect("127.0.0.1", closed.getsockname()[1])
    with pytest.raises(TemporaryError, match="no address"):
        await Tcp().connect("name.invalid", 1)


async def test_a_taken_port_says_so(door: Door) -> None:
    with pytest.raises(ConfigError, match="choose another port"):
        await door.tcp.listen(door.host, door.listener.port, lambda _: None)


async def test_a_closed_door_lets_nobody_in_and_turns_nobody_out(door: Door) -> None:
    here, there = await door.pair()
    ear = Ear()
    there.start(ear)
    door.listener.close()
    door.listener.close()
    with pytest.raises(TemporaryError):
        await door.tcp.connect(door.host, door.listener.port)
    here.start(Ear())
    here.send([b"still here"])
    assert await ear.until_heard(10) == b"still here"


async def test_without_descriptors_callers_wait_and_are_let_in_later() -> None:
    door = await Door("127.0.0.1").open()
    caller = door.raw()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        for _ in range(5):  # turns of the loop, each of which tries
            await asyncio.sleep(0)
        assert door.arrived.empty()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    async with asyncio.timeout(5):
        (await door.arrived.get()).close()
    caller.close()
    door.close()


async def test_a_torrent_crosses_tcp(door: Door) -> None:
    content, meta = film(3_000_000, piece_length=256 * 1024)
    here, there = await door.pair()
    leecher, seeder = Owner.calling(here, meta), Owner.called(there, meta, content)
    finished = asyncio.Event()
    leecher.on_finish = finished.set
    there.start(seeder)
    here.start(leecher)
    async with asyncio.timeout(20):
        await finished.wait()
    assert leecher.content == content


class Idle:
    """A peer that has said which pieces it has, and nothing since."""

    def __init__(self, connection: Connection, meta: Metainfo, infohash: bytes | None) -> None:
        self.connection, self.meta = connection, meta
        self.peer = PeerConnection(LEECHER_ID, infohash, meta.geometry if infohash else None, extensions=EXTENSIONS)
        self.settled = asyncio.Event()
        connection.start(self)
        connection.send(self.peer.data_to_send())

    def received(self, data: memoryview) -> None:
        for event in self.peer.receive_data(data):
            if isinstance(event, Handshake):
                if not self.peer.is_open:
                    self.peer.accept(self.meta.infohash, self.meta.geometry)
                self.peer.send_extended_handshake(ExtendedHandshake())
                self.peer.send_pieces(
                    PieceMap.from_bytes(b"\x55" * (self.meta.geometry.count // 8), self.meta.geometry.count)
                )
            elif isinstance(event, Bitfield):
                self.settled.set()
        self.connection.send(self.peer.data_to_send())

    def drained(self) -> None: ...

    def lost(self, error: BctError | None) -> None: ...


async def test_an_idle_peer_costs_little() -> None:
    """Measured is what Python allocates, for both ends of each connection; the system's sockets are not in it."""
    door = await Door("127.0.0.1").open()
    meta = Metainfo.from_info(build_info("film.mp4", 16 * 1024 * 4096, 16 * 1024, [bytes(20)] * 4096))
    tracemalloc.start()
    peers = []
    async with asyncio.timeout(20):
        for _ in range(100):
            here, there = await door.pair()
            peers += [Idle(here, meta, meta.infohash), Idle(there, meta, None)]
            await peers[-1].settled.wait()
            await peers[-2].settled.wait()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    door.close()
    assert taken / len(peers) < 8 * 1024
