"""What a GiB costs to seed and to fetch, in CPU-seconds: the real shell of bct beside libtorrent with its defaults.

Each engine runs in a process of its own, which tells the CPU seconds it spent. Four pairs, interleaved in every round:
seeding to the same raw peer that throws everything away, seeding to a libtorrent leecher, seeding with every piece paid
for to our own leecher, and fetching from the same raw peer.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import libtorrent as lt
import uvloop

from bct.backends.disk import DiskStore
from bct.backends.ledger import Ledger
from bct.backends.tcp import Tcp
from bct.config import WireConfig
from bct.node.buyer import TitleBuyer
from bct.node.hub import Hub
from bct.node.play import Play
from bct.node.swarm import Swarm
from bct.pay.budget import Budget
from bct.torrent.metainfo import Metainfo
from bench import market, raw_wire
from bench.raw_wire import cpu, hear, tell
from bench.row import Row
from tests.nodes import MemoryStore

MIB, ROUNDS = 256, 3
OTHER = f"libtorrent {lt.__version__}"


def rows() -> list[Row]:
    spent: dict[str, list[float]] = {name: [] for name in PAIRS}
    with tempfile.TemporaryDirectory() as directory:
        torrent = raw_wire.make_torrent(Path(directory), MIB << 20)
        for _, (name, measure) in itertools.product(range(ROUNDS), PAIRS.items()):
            spent[name].append(measure(torrent) * 1024 / MIB)
    cost = {name: median(figures) for name, figures in spent.items()}
    what, unit, settings = f"{MIB} MiB", "CPU-s/GiB", raw_wire.SETTINGS
    return [
        Row(f"seed {what} to a raw peer", cost["sink"], unit, OTHER, cost["lt sink"], settings, 0.5),
        Row(f"seed {what} to libtorrent", cost["leecher"], unit, OTHER, cost["lt leecher"], settings, 0.5),
        Row(f"seed {what}, each piece paid, to bct", cost["paid"], unit, OTHER, cost["lt sink"], settings, 0.8),
        Row(f"fetch {what}", cost["fetch"], unit, OTHER, cost["lt fetch"], settings, 1.0),
    ]


# -- how each figure is taken -----------------------------------------------------------------------------------------


_engine = partial(raw_wire.engine, module="bench.seeding")


def _sink(engine: str) -> Callable[[Path], float]:
    """Seeding to the raw peer."""

    def measure(torrent: Path) -> float:
        with _engine(engine, torrent) as say:
            return float(raw_wire.drain(torrent, say))

    return measure


def _leecher(engine: str, leecher: str) -> Callable[[Path], float]:
    """Seeding to a leecher in a third process; the seeder's cost."""

    def measure(torrent: Path) -> float:
        raw_wire.blank(raw_wire.target(torrent), MIB << 20)
        with (
            _engine(engine, torrent) as seeder,
            raw_wire.engine(leecher, torrent, "bench.seeding") as other,
        ):
            port = seeder("port")
            seeder("begin")
            other(f"connect {port}")
            other("end")
            return float(seeder("end"))

    return measure


def _fetch(engine: str) -> Callable[[Path], float]:
    def measure(torrent: Path) -> float:
        raw_wire.blank(raw_wire.target(torrent), MIB << 20)
        with _engine(engine, torrent) as say:
            return float(raw_wire.feed(torrent, say))

    return measure


PAIRS: dict[str, Callable[[Path], float]] = {
    "sink": _sink("seed"),
    "lt sink": _sink("seed-libtorrent"),
    "leecher": _leecher("seed", "fetch-libtorrent"),
    "lt leecher": _leecher("seed-libtorrent", "fetch-libtorrent"),
    "paid": _leecher("sell", "buy"),
    "fetch": _fetch("fetch"),
    "lt fetch": _fetch("fetch-libtorrent"),
}


# -- the engines of bct -----------------------------------------------------------------------------------------------


def _hub() -> Hub:
    return Hub(Tcp(), WireConfig(listen_port=0), market.NETWORK, time.monotonic, os.urandom)


def _store(torrent: Path, directory: str, *, whole: bool) -> tuple[Metainfo, DiskStore]:
    metainfo = Metainfo.from_file(torrent.read_bytes())
    if whole:
        return metainfo, DiskStore.adopt(Path(directory), metainfo, torrent.with_suffix(".bin"))
    return metainfo, DiskStore.open(Path(directory), metainfo)


async def _serve(hub: Hub) -> None:
    """Until told to end; says the port, then what was spent between begin and end."""
    await hub.start()
    await hear()
    tell(hub.port)
    await hear()
    started = tell(cpu())
    await hear()
    tell(cpu() - started)


async def seed(torrent: Path) -> None:
    with tempfile.TemporaryDirectory(dir=torrent.parent) as directory:
        metainfo, store = _store(torrent, directory, whole=True)
        hub = _hub()
        hub.swarms[metainfo.infohash] = Swarm(metainfo.infohash, metainfo, store)
        await _serve(hub)


async def sell(torrent: Path) -> None:
    with tempfile.TemporaryDirectory(dir=torrent.parent) as directory:
        metainfo, store = _store(torrent, directory, whole=True)
        hub, *_ = await market.selling(Path(directory), metainfo, store, 1)
        await _serve(hub)


async def fetch(torrent: Path) -> None:
    """Everything, from a peer that asks nothing for it."""
    await _download(torrent, raw_wire.read(torrent), creator=None)


async def buy(torrent: Path) -> None:
    """Everything, each piece paid for over a channel that stands."""
    await _download(torrent, raw_wire.read(torrent), creator=market.CREATOR.public)


async def _read(play: Play, metainfo: Metainfo) -> None:
    """As a player does, from the beginning to the end."""
    async for _ in play.read(0, metainfo.length):
        pass


async def _download(torrent: Path, metainfo: Metainfo, creator: bytes | None) -> None:
    with tempfile.TemporaryDirectory(dir=torrent.parent) as directory:
        # Over a file that is there already, like libtorrent's: finding room on the disk is nobody's wire.
        raw_wire.blank(Path(directory) / metainfo.infohash.hex() / "data", metainfo.length)
        store = DiskStore.open(Path(directory), metainfo)
        ledger = Ledger.open(Path(directory) / "payer.ledger", lambda _: None)
        purse = market.purse(ledger)
        await purse.load({})
        swarm = Swarm(metainfo.infohash, metainfo, store)
        titles = MemoryStore()
        buyer = TitleBuyer(swarm, purse, titles, creator, Budget(None), 0, lambda _: None)
        play = Play("", swarm, buyer, buyer.deals.budget, time.monotonic)
        reading = asyncio.create_task(_read(play, metainfo))
        swarm.buyer = buyer
        hub = _hub()
        port = int((await hear()).split()[1])
        started = tell(cpu())
        await hub.connect("127.0.0.1", port, swarm)
        await reading
        spent = cpu() - started
        await hear()
        tell(spent)


ENGINES: dict[str, Callable[[Path], Coroutine[Any, Any, None]]] = {
    "seed": seed,
    "sell": sell,
    "fetch": fetch,
    "buy": buy,
    "seed-libtorrent": raw_wire.seed_libtorrent,
    "fetch-libtorrent": raw_wire.fetch_libtorrent,
}


if __name__ == "__main__":
    uvloop.run(ENGINES[sys.argv[1]](Path(sys.argv[2])))
