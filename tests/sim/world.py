"""A world out of one number: bitcoin nodes, machines, wires, and what they go through.

`tell` runs one story from its beginning to the end of time, watched by a `Witness` all along and audited in the end.
All dice follow from the seed, so a run that went wrong goes wrong again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from random import Random
from typing import Any

import structlog

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import PrivateKey, sha256
from bct.bitcoin.script import p2pkh
from bct.config import ChannelConfig
from bct.node.library import Publication
from bct.title.link import Peer as Address
from bct.title.link import TorrentLink
from bct.title.ranges import PieceRange
from bct.title.terms import decode
from bct.torrent.metainfo import Metainfo, build_info
from bct.units import Payees, PieceIndex, Satoshi
from bct.wallet.paths import RECEIVE
from tests.sim.audit import Audit
from tests.sim.chain import SimNode
from tests.sim.clock import Clock, run
from tests.sim.host import PORT, Host
from tests.sim.net import SimNet
from tests.sim.power import follow_tasks, who
from tests.sim.witness import Wares, Witness

PIECE = 16 * 1024
HOUR = 3600
BURIED = 101
_TAIL = 80


class Title:
    """A film and who sells it."""

    def __init__(self, name: str, pieces: int) -> None:
        self.film = Random(name).randbytes(pieces * PIECE - 1000)
        hashes = [hashlib.sha1(self.film[at : at + PIECE]).digest() for at in range(0, len(self.film), PIECE)]
        self.metainfo = Metainfo.from_info(build_info(f"{name}.mp4", len(self.film), PIECE, hashes))
        self.creator = PrivateKey(sha256(f"creator of {name}".encode()))
        self.sellers: list[str] = []

    @property
    def link(self) -> TorrentLink:
        addresses = tuple(Address(ip, PORT) for ip in self.sellers)
        return TorrentLink(self.metainfo.infohash, self.creator.public, self.metainfo.name, addresses)


class World:
    def __init__(self, seed: object) -> None:
        self.seed = seed
        self.dice = Random(f"{seed}")
        self.loop = asyncio.get_running_loop()
        self.clock = Clock(self.loop)
        self.net = SimNet(seed)
        self.witness = Witness()
        self.net.tap = self.witness.left
        self.bitcoin = [SimNode(name, Random(f"{seed} node {name}")) for name in ("ours", "another")]
        for node in self.bitcoin:
            node.neighbours = [other for other in self.bitcoin if other is not node]
        self.hosts: list[Host] = []
        self.story: list[str] = []
        """What happened, a line an event."""
        self.bug: BaseException | None = None
        """The first thing that nobody caught."""
        follow_tasks(self.loop)
        self.loop.set_exception_handler(self._uncaught)

    # -- what is in it ------------------------------------------------------------------------------------------------

    def host(self, name: str, **channel: int) -> Host:
        """An honest machine, switched off. channel: what its owner has set."""
        ip = f"10.0.{len(self.hosts) + 1}.1"
        dice = Random(f"{self.seed} {name}")
        host = Host(name, ip, self.clock, self.net, self.bitcoin, self.witness, dice, ChannelConfig(**channel))
        self.hosts.append(host)
        self.witness.hosts[ip] = host
        return host

    async def sell(self, host: Host, title: Title, price: int, free: int = 2) -> None:
        """It is on sale at a machine that is up."""
        host.disk.incoming["film"] = title.film
        wares = self.witness.wares.get(title.metainfo.infohash)
        if wares is None:
            payees = Payees.of((title.creator.hash, self.dice.choice((1, 2_500, 6_000, 9_999))))
            ranges = (PieceRange(PieceIndex(0), free),)
            publication = Publication("film", title.metainfo, b"", Satoshi(price), payees, ranges)
            saved = await host.run(host.node.library.publish(publication, title.creator, Network.REGTEST))
            self.witness.wares[title.metainfo.infohash] = Wares(title.metainfo, decode(saved.terms))
        else:
            await host.run(host.node.library.seed(title.metainfo, wares.terms, "film"))
        title.sellers.append(host.ip)

    async def fund(self, host: Host, satoshi: int, coins: int = 3) -> None:
        """Coins of so many satoshis each, in a block."""
        host.coins += satoshi * coins
        await self.bitcoin[0].pay(p2pkh(host.keys.key((*RECEIVE, 0)).hash), satoshi, coins)
        await self.mine()

    async def mine(self, blocks: int = 1, node: SimNode | None = None) -> None:
        node = node or self.bitcoin[0]
        node.now = max(node.now, int(self.clock.unix))
        await node.mine(blocks)
        self.note("mined", blocks=blocks, height=node.height)

    # -- what happened ------------------------------------------------------------------------------------------------

    def note(self, event: str, **what: object) -> None:
        words = " ".join(f"{name}={value}" for name, value in what.items())
        self.story.append(f"{self.loop.time():9.3f} {who():>8} {event} {words}")

    def logged(self, logger: Any, level: str, event: MutableMapping[str, Any]) -> Any:
        """A processor of structlog's: what nodes say becomes part of the story."""
        if self.clock.rate == 1 or event["event"] != "the clock has jumped":
            self.note(**event)
        raise structlog.DropEvent

    def _uncaught(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.note("UNCAUGHT", message=context.get("message"), error=repr(error))
        self.bug = self.bug or error or AssertionError(context.get("message"))

    async def sleep(self, seconds: float) -> None:
        """Time passes; what went wrong meanwhile is said at once."""
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            await asyncio.sleep(min(1.0, until - self.loop.time()))
            if self.bug:
                raise self.bug

    # -- the end of time ----------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """Everything works again; everything expires and is buried. Then every satoshi is looked for."""
        for node in self.bitcoin:
            node.reunite()
        for host in self.hosts:
            if not host.up:
                await host.boot()
            for source in host.sources:
                source.away, source.lie = False, None
        self.clock.hurry(60)
        await self.sleep(120)
        for _ in range(2):
            self.clock.hurry(2 * HOUR)
            await self.sleep(40)
            self.clock.hurry(60)
            await self.mine(12)
            await self.sleep(30)
            await self.mine(BURIED)
            await self.sleep(60)
        Audit(self.bitcoin[0], self.witness, self.hosts).check()


def tell(seed: object, story: Callable[[World], Awaitable[None]]) -> World:
    """One run, from its seed. Raises what went wrong, with the end of the story."""
    worlds: list[World] = []

    async def live() -> None:
        world = World(seed)
        worlds.append(world)
        structlog.configure(processors=[world.logged])
        await story(world)
        await world.end()

    before = structlog.get_config()
    try:
        run(live())
    except Exception as error:
        tail = "\n".join(deque(worlds[0].story, _TAIL)) if worlds else ""
        error.add_note(f"seed {seed!r}\n{tail}")
        raise
    finally:
        structlog.configure(**before)
    return worlds[0]
