"""THREATS 49, over TCP: other people's clients drain no paid piece, and are served well in all that is free.

Each of libtorrent, aria2 and transmission is a leecher of a paid title, a leecher and a seeder of ordinary torrents.
Between a leecher and our node stands a relay that counts what really passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from bct.backends.chain_node import ChainNode
from bct.node.daemon import Node
from bct.title.link import Peer as Address
from bct.title.link import TorrentLink
from bct.torrent.metainfo import Metainfo
from bct.torrent.wire import Piece, Reject, Request
from tests.interop.clients import CLIENTS, PATIENCE, Client, running, sound_pieces, until_has, until_listening
from tests.nodes import running_node
from tests.relay import Relay, Said, relaying
from tests.stage import FREE_PIECES, Title, prepare, publish, share, watch

pytestmark = pytest.mark.anyio

BLOCKS = 4
"""Requests that one piece of these films takes."""


@dataclass
class Guest:
    """A plain client that leeches from our node, and the wire between them."""

    client: Client
    relay: Relay
    file: Path
    metainfo: Metainfo

    @property
    def got(self) -> set[int]:
        return sound_pieces(self.file, self.metainfo)

    async def until_has(self, wanted: set[int]) -> None:
        await until_has(self.client, self.file, self.metainfo, wanted)

    @property
    def theirs(self) -> list[Said]:
        return [call.answered if self.client.takes_calls_only else call.dialled for call in self.relay.calls]

    @property
    def ours(self) -> list[Said]:
        return [call.dialled if self.client.takes_calls_only else call.answered for call in self.relay.calls]

    @property
    def messages(self) -> int:
        """Said by both, on all connections."""
        return sum(said.messages.total() for said in (*self.theirs, *self.ours))


def count(sides: list[Said], kind: int) -> int:
    return sum(said.messages[kind] for said in sides)


def pieces(sides: list[Said], kind: int) -> set[int]:
    """Which pieces messages of one kind were about."""
    return set().union(*(said.about.get(kind, set()) for said in sides))


@asynccontextmanager
async def leeching(kind: type[Client], seeder: Node, title: Title, folder: Path) -> AsyncIterator[Guest]:
    """The client at work: it calls our seeder, or is called where it will not call."""
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(relaying(seeder.hub.port))
        peer = None if kind.takes_calls_only else relay.port
        client = await stack.enter_async_context(running(kind, title.metainfo, folder, peer))
        if kind.takes_calls_only:
            relay.target = ("127.0.0.1", client.port)
            await call(seeder, title, relay)
        yield Guest(client, relay, folder / title.metainfo.name, title.metainfo)


async def call(seeder: Node, title: Title, relay: Relay) -> None:
    """Our seeder calls a client that is still starting up, until that lets it in."""
    swarm = seeder.hub.swarms[title.metainfo.infohash]
    async with asyncio.timeout(PATIENCE):
        while not any(each.answered.messages and not each.over.is_set() for each in relay.calls):
            if all(each.over.is_set() for each in relay.calls):
                await seeder.hub.connect("127.0.0.1", relay.port, swarm)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("seconds", [8, pytest.param(60, marks=pytest.mark.long)])
async def test_plain_clients_get_the_free_pieces_of_a_paid_title_and_then_rest(
    tmp_path: Path, chain: ChainNode, seconds: float
) -> None:
    """THREATS 49. They are shown the free pieces only, and unchoked: a client that sees a piece and is refused asks
    again for ever."""
    async with running_node(tmp_path / "seeder", chain) as seeder, AsyncExitStack() as stack:
        title = await publish(seeder, tmp_path / "seeder")
        guests = [
            await stack.enter_async_context(leeching(kind, seeder, title, tmp_path / kind.name)) for kind in CLIENTS
        ]
        await asyncio.gather(*(guest.until_has(FREE_PIECES) for guest in guests))
        before = [(guest.messages, len(guest.relay.calls)) for guest in guests]
        await asyncio.sleep(seconds)  # not to wait for anything: it is the quiet that is looked at
        for guest, (messages, calls) in zip(guests, before, strict=True):
            name = guest.client.name
            assert guest.got == FREE_PIECES, name
            assert pieces(guest.ours, Piece.ID) == FREE_PIECES, name
            assert pieces(guest.theirs, Request.ID) == FREE_PIECES, name
            assert count(guest.theirs, Request.ID) <= 2 * BLOCKS * len(FREE_PIECES), name
            assert count(guest.ours, Reject.ID) == 0, name
            assert guest.messages - messages <= seconds, name
            assert len(guest.relay.calls) - calls <= 1 + seconds / 10, name
        assert seeder.till.earnings == {}


async def test_an_ordinary_torrent_is_given_whole_to_whoever_asks(tmp_path: Path, chain: ChainNode) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, AsyncExitStack() as stack:
        title = await share(seeder, tmp_path / "seeder")
        guests = [
            await stack.enter_async_context(leeching(kind, seeder, title, tmp_path / kind.name)) for kind in CLIENTS
        ]
        await asyncio.gather(*(guest.until_has(set(range(24))) for guest in guests))
        for guest in guests:
            assert guest.file.read_bytes() == title.film
            assert count(guest.ours, Reject.ID) == 0, guest.client.name


async def test_other_clients_seed_and_we_play(tmp_path: Path, chain: ChainNode) -> None:
    """Each seeds one film that we know by its magnet link and one that we have the .torrent file of."""
    async with running_node(tmp_path / "viewer", chain) as viewer, AsyncExitStack() as stack:
        shows: list[tuple[Metainfo, bytes, int, bool]] = []
        for number, (kind, by_file) in enumerate(product(CLIENTS, (False, True))):
            metainfo, _, film = prepare(tmp_path, 12, seed=number)
            seeding = running(kind, metainfo, tmp_path / f"{kind.name} {number}", film=film)
            client = await stack.enter_async_context(seeding)
            shows.append((metainfo, film, client.port, by_file))

        async def play(metainfo: Metainfo, film: bytes, port: int, by_file: bool) -> None:
            await until_listening(port)
            link = TorrentLink(metainfo.infohash, peers=(Address("127.0.0.1", port),))
            play = await viewer.play(link, 0, Metainfo.from_file(metainfo.to_file()) if by_file else None)
            assert await watch(play) == film
            assert play.budget.total == 0

        async with asyncio.TaskGroup() as together:
            for show in shows:
                together.create_task(play(*show))


async def test_a_title_whose_price_is_nothing_plays_without_a_payment_channel(tmp_path: Path, chain: ChainNode) -> None:
    """Its creator has signed that it costs nothing; the viewer's wallet is empty."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        title = await publish(seeder, tmp_path / "seeder", price=0, free=())
        play = await viewer.play(title.link, None)
        assert await watch(play) == title.film
        assert play.budget.total == 0
        assert viewer.purse.spendings == {} == seeder.till.earnings
