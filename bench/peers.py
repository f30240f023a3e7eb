"""A thousand viewers at once, each paying one seeder process for each piece: what a peer weighs, and what gets through.

The seeder runs in a process of its own with a thousand payment channels; this process is all the viewers. Beside the
paid run stands the same run with nothing to pay for, and beside the payments the bare verification of as many
signatures on one core.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import uvloop

from bct.backends.disk import DiskStore
from bct.backends.tcp import Tcp
from bct.bitcoin.keys import PrivateKey
from bct.channel.payer import Payment
from bct.errors import BctError
from bct.pay.messages import VERSION, Context, PiecePayment, Resume
from bct.torrent.bencode import Value
from bct.torrent.connection import ExtensionMessage, PeerConnection
from bct.torrent.extension import BCT_PAY, ExtendedHandshake
from bct.torrent.geometry import Block
from bct.torrent.metainfo import Metainfo
from bct.torrent.transport import Connection
from bct.torrent.wire import LARGE_BLOCK_SIZE, Handshake, Piece, Unchoke
from bench import market, raw_wire
from bench.payments import verify_alone
from bench.raw_wire import hear, tell
from bench.row import Row

VIEWERS, PIECES, ROUNDS = 1000, 4, 3
MIB = 2
BUDGET_KIB = 64.0


def rows() -> list[Row]:
    weights, paid, free, bare = [], [], [], []
    with tempfile.TemporaryDirectory() as directory:
        torrent = raw_wire.make_torrent(Path(directory), MIB << 20)
        for _ in range(ROUNDS):
            weight, seconds = _run(torrent, price=1)
            weights.append(weight)
            paid.append(seconds)
            free.append(_run(torrent, price=0)[1])
            bare.append(_verify(VIEWERS))
    megabytes = VIEWERS * PIECES * LARGE_BLOCK_SIZE / 1e6
    payments = VIEWERS * PIECES
    name = f"{VIEWERS} paying peers"
    same = "the same with nothing to pay"
    core = "libsecp256k1 verifying on one core"
    each = payments / median(paid)
    return [
        Row(f"memory of each of {name}", median(weights), "KiB", "budget", BUDGET_KIB, "", 1.0),
        Row(f"sent to {name}", megabytes / median(paid), "MB/s", same, megabytes / median(free), "", 0.5, True),
        Row(f"payments of {name}", each, "1/s", core, VIEWERS / median(bare), "", 0.1, True),
    ]


def _sign(number: int) -> list[Payment]:
    """All payments of one viewer, signed beforehand: what is measured is the seeder."""
    payer, key, now = market.payer(number), market.viewer_key(number), int(time.time())
    return [payer.pay(0, 1, key, now=now) for _ in range(PIECES)]


def _verify(count: int) -> float:
    payer, key, now = market.payer(0), market.viewer_key(0), int(time.time())
    return verify_alone([payer.pay(0, 1, key, now=now) for _ in range(count)], 0)


def _run(torrent: Path, price: int) -> tuple[float, float]:
    """(KiB a peer, seconds for everything)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with raw_wire.engine(f"sell-{price}", torrent, "bench.peers") as say:
        before = int(say("before"))
        port = int(say("port"))
        seconds = uvloop.run(_watch(torrent, port, price))
        return (int(say("after")) - before) / 1024 / VIEWERS, seconds


# -- the viewers ------------------------------------------------------------------------------------------------------


class Viewer:
    """One viewer: resumes its channel, then buys a few pieces one after the other."""

    def __init__(
        self, number: int, connection: Connection, metainfo: Metainfo, price: int, done: asyncio.Event
    ) -> None:
        self.connection = connection
        self.ready = asyncio.Event()
        self._wire = PeerConnection(os.urandom(20), metainfo.infohash, metainfo.geometry, extensions={7: BCT_PAY})
        self._number = number
        self._price = price
        self._payments = _sign(number) if price else []
        self._key = market.viewer_key(number)
        self._random = os.urandom(16)
        self._identity = PrivateKey(os.urandom(32))
        self.left = PIECES
        self._done = done
        connection.start(self)
        self._flush()

    def received(self, data: memoryview) -> None:
        for event in self._wire.receive_data(data):
            match event:
                case Handshake():
                    net = market.NETWORK.value
                    ours: dict[bytes, Value] = {
                        b"v": VERSION,
                        b"net": net,
                        b"random": self._random,
                        b"id": self._identity.public,
                    }
                    self._wire.send_extended_handshake(ExtendedHandshake(bct=ours))
                case ExtendedHandshake(bct=theirs) if theirs:
                    self._resume(theirs)
                case ExtensionMessage(payload=payload) if payload[0] == 0x0F:  # RESUMED
                    self.ready.set()
                case Unchoke() if not self._price:
                    self.ready.set()
                case Piece():
                    self.buy()
        self._flush()

    def _resume(self, theirs: Mapping[bytes, Value]) -> None:
        random, key = theirs[b"random"], theirs[b"id"]
        if not isinstance(random, bytes) or not isinstance(key, bytes):
            raise TypeError("an extended handshake without random number and key")
        context = Context(market.NETWORK, self._random, random, self._identity.public, key)
        message = Resume(1, market.params(self._number).outpoint.pack())
        signed = replace(message, signature=self._key.sign(context.digest(message)))
        self._wire.send_extension(BCT_PAY, signed.encode())

    def buy(self) -> None:
        """The next piece, or the end."""
        if not self.left:
            self._done.set()
            return
        if self._price:
            payment = self._payments[PIECES - self.left]
            self._wire.send_extension(BCT_PAY, PiecePayment(1, 0, payment.total, payment.signature).encode())
        self._wire.request([Block(self.left, 0, LARGE_BLOCK_SIZE)])
        self.left -= 1
        self._flush()

    def _flush(self) -> None:
        self.connection.send(self._wire.data_to_send())

    def drained(self) -> None: ...

    def lost(self, error: BctError | None) -> None:
        self._done.set()


async def _watch(torrent: Path, port: int, price: int) -> float:
    """Everybody is ready, then everybody buys."""
    metainfo, tcp = raw_wire.read(torrent), Tcp()
    ends = [asyncio.Event() for _ in range(VIEWERS)]
    viewers = []
    for number, end in enumerate(ends):
        viewers.append(Viewer(number, await tcp.connect("127.0.0.1", port), metainfo, price, end))
    for viewer in viewers:
        await viewer.ready.wait()
    started = time.perf_counter()
    for viewer in viewers:
        viewer.buy()
    for end in ends:
        await end.wait()
    if any(viewer.left for viewer in viewers):
        raise RuntimeError("a viewer was cut off: this measures something else")
    return time.perf_counter() - started


# -- the seeder -------------------------------------------------------------------------------------------------------


async def sell(torrent: Path, price: int) -> None:
    with tempfile.TemporaryDirectory(dir=torrent.parent) as directory:
        metainfo = raw_wire.read(torrent)
        store = DiskStore.adopt(Path(directory), metainfo, torrent.with_suffix(".bin"))
        await hear()
        tell(_rss())
        hub, swarm, *_ = await market.selling(Path(directory), metainfo, store, VIEWERS)
        if not price:
            swarm.seller = None
        await hub.start()
        await hear()
        tell(hub.port)
        await hear()
        gc.collect()
        tell(_rss())


def _rss() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


ENGINES: dict[str, Callable[[Path], object]] = {
    "sell-0": lambda torrent: uvloop.run(sell(torrent, 0)),
    "sell-1": lambda torrent: uvloop.run(sell(torrent, 1)),
}


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ENGINES[sys.argv[1]](Path(sys.argv[2]))
