"""Links, files and peers that are wrong, without anybody's cheating at money: what the owner is told, and what goes on.

A sentence that is asserted here is one that somebody has to act upon: it says what is wrong and what would help.
"""

from __future__ import annotations

import base64
import dataclasses
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from bct.api.titles import read_torrent
from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.tcp import Tcp
from bct.errors import BctError, ConfigError, StoreError, TemporaryError
from bct.node import buyer as buying
from bct.node import play as playing
from bct.node import viewer as viewing
from bct.title import terms as title_terms
from bct.torrent.connection import Event, Requests
from bct.torrent.metainfo import Metainfo
from bct.torrent.transport import Connection
from tests.interop.clients import free_port
from tests.nodes import MemoryStore, running_node
from tests.stage import FREE_PIECES, fund, prepare, publish, share, watch
from tests.wire_parts import Owner

pytestmark = pytest.mark.anyio

PIECES = 24
PAID = PIECES - len(FREE_PIECES)
OTHER_HOST = "127.0.0.2"
"""Where the peers stand that are banned: bans are by address."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds, where a person would wait a minute."""
    monkeypatch.setattr(viewing, "METADATA_SECONDS", 3.0)
    monkeypatch.setattr(playing, "PATIENCE", 3.0)


class Mute(Owner):
    """Shows every piece, takes every request, and sends nothing."""

    asked = 0

    def on(self, events: list[Event]) -> None:  # type: ignore[override]
        Mute.asked += sum(len(event.blocks) for event in events if isinstance(event, Requests))
        super().on([event for event in events if not isinstance(event, Requests)])


@asynccontextmanager
async def owner(kind: type[Owner], metainfo: Metainfo, content: bytes, host: str = OTHER_HOST) -> AsyncIterator[int]:
    """The port of a plain peer that owns, or says that it owns, `content`."""
    owners: list[Owner] = []

    def met(connection: Connection) -> None:
        owners.append(kind.called(connection, metainfo, content))
        connection.start(owners[-1])

    listener = await Tcp().listen(host, 0, met)
    yield listener.port
    listener.close()
    for one in owners:
        one.connection.close()


# -- links and files --------------------------------------------------------------------------------------------------


async def test_a_link_whose_peers_do_not_answer(tmp_path: Path, chain: ChainNode) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        title = await publish(seeder, tmp_path / "seeder")
        with pytest.raises(TemporaryError, match=r"none of the 2 peers in the link answers: .* cannot be reached"):
            await viewer.play(title.by(free_port(), free_port()), None)
        assert title.link.infohash not in viewer.hub.swarms


async def test_a_link_without_peers(tmp_path: Path, chain: ChainNode) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        title = await publish(seeder, tmp_path / "seeder")
        with pytest.raises(ConfigError, match=r"names no peer \(x.pe\): give one with --peer host:port"):
            await viewer.play(title.by(), None)


@pytest.mark.usefixtures("impatient")
async def test_a_link_to_a_film_that_its_peer_does_not_have(tmp_path: Path, chain: ChainNode) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        link = (await publish(seeder, tmp_path / "seeder")).link
        wrong = dataclasses.replace(link, infohash=type(link.infohash)(bytes(20)))
        with pytest.raises(TemporaryError, match=r"no peer has told what 0{40} is within 3 s .*is the link right\?"):
            await viewer.play(wrong, None)


@pytest.mark.usefixtures("impatient")
async def test_a_peer_that_answers_for_another_torrent(tmp_path: Path, chain: ChainNode) -> None:
    """It is left at its handshake; with a second address in the link nobody notices."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        title = await share(seeder, tmp_path / "seeder")
        other, _, content = prepare(tmp_path, 2, seed=2)
        async with owner(Answering, other, content) as port:
            wrong = title.by(port, host=OTHER_HOST)
            with pytest.raises(TemporaryError, match="the peer answers for"):
                await viewer.play(wrong, None)
            both = dataclasses.replace(wrong, peers=(*wrong.peers, *title.link.peers))
            assert await watch(await viewer.play(both, None)) == title.film


class Answering(Owner):
    """Answers with its own torrent whatever was asked for."""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "bencod"),
        (b"<!doctype html><title>404</title>", "bencod"),
        (b"d8:announce3:urle", "info dictionary"),
        (b"d4:infod6:lengthi5e4:name8:../../fo12:piece lengthi1e6:pieces0:ee", "name"),
    ],
)
def test_a_torrent_file_that_is_none(content: bytes, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_torrent(base64.b64encode(content).decode())


# -- peers ------------------------------------------------------------------------------------------------------------


async def test_a_peer_that_shows_pieces_and_never_sends_them(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What costs nothing is asked for first; after three pieces that do not come it is asked no more."""
    monkeypatch.setattr(buying, "STALL_SECONDS", 2.0)
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder")
        async with owner(Mute, title.metainfo, title.film) as port:
            mute = title.by(port, host=OTHER_HOST)
            link = dataclasses.replace(mute, peers=(*mute.peers, *title.link.peers))
            play = await viewer.play(link, None)
            assert await watch(play) == title.film
            assert Mute.asked > 0
            assert play.budget.pieces <= PAID
            assert any(seat.useless for seat in play.buyer.seats.values())
            await viewer.viewer.close(play)


async def test_a_peer_that_sends_other_bytes_is_banned_and_the_honest_one_is_paid_once(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """A piece comes from one peer at a time: who sent a wrong one is known."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder")
        false = bytes(len(title.film))
        async with owner(Owner, title.metainfo, false) as port:
            liar = title.by(port, host=OTHER_HOST)
            link = dataclasses.replace(liar, peers=(*liar.peers, *title.link.peers))
            play = await viewer.play(link, None)
            assert await watch(play) == title.film
            assert play.budget.pieces == PAID
            with pytest.raises(TemporaryError, match="has sent false data before"):
                await viewer.hub.connect(OTHER_HOST, port, play.swarm)
            await viewer.viewer.close(play)
        (earning,) = seeder.till.earnings.values()
        assert earning.account.payee.paid == PAID


@pytest.mark.usefixtures("impatient")
async def test_terms_that_have_expired(tmp_path: Path, chain: ChainNode) -> None:
    """The reader is told who has to do what."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        title = await publish(seeder, tmp_path / "seeder")
        seller = seeder.hub.swarms[title.link.infohash].seller
        assert seller
        current = seller.terms  # type: ignore[attr-defined]
        old = dataclasses.replace(current, valid_from=1_000, valid_until=2_000).sign(seeder.creator_key())
        seller.terms = title_terms.decode(title_terms.encode(old))  # type: ignore[attr-defined]
        with pytest.raises(TemporaryError, match=r"terms expired \d+ s ago: the creator signs them anew"):
            await watch(await viewer.play(title.link, None))
        assert viewer.purse.spendings == {}


# -- disks ------------------------------------------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As if the disk were full: no file of this process grows beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_is_full_while_publishing(tmp_path: Path, chain: ChainNode) -> None:
    """Nothing is on sale then, and with room the same file can be published."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        metainfo, incoming, _ = prepare(tmp_path / "seeder", PIECES)
        with files_of_at_most(1), pytest.raises(StoreError, match=r"the disk of .* is full"):
            await seeder.library.seed(metainfo, None, incoming)
        assert seeder.library.titles == {}
        title = await share(seeder, tmp_path / "seeder")
        assert await watch(await viewer.play(title.link, None)) == title.film


async def test_a_disk_that_is_full_while_watching(tmp_path: Path, chain: ChainNode, miner: RegtestMiner) -> None:
    """The reader hears it, and no seeder is blamed. With room made, the next play buys what is not here."""
    store = MemoryStore()
    async with (
        running_node(tmp_path / "seeder", chain) as seeder,
        running_node(tmp_path / "viewer", chain, store=store) as viewer,
    ):
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder")
        first = await viewer.play(title.link, None)
        with files_of_at_most(12 * title.metainfo.piece_length), pytest.raises(StoreError, match=r"disk of .* is full"):
            await watch(first)
        await viewer.viewer.close(first)
        kept = set(first.swarm.store.pieces) if first.swarm.store else set()
        assert store.noted == []
        second = await viewer.play(title.link, None)
        assert await watch(second) == title.film
        lost = first.budget.pieces - len(kept - FREE_PIECES)
        assert first.budget.pieces + second.budget.pieces == PAID + lost
        assert lost < 20, "what was under way when the disk refused, and could not be kept: one window at most"
        await viewer.viewer.close(second)


# -- no peers at all --------------------------------------------------------------------------------------------------


async def test_a_film_that_is_here_plays_without_anybody(tmp_path: Path, chain: ChainNode, miner: RegtestMiner) -> None:
    store = MemoryStore()
    async with running_node(tmp_path / "seeder", chain) as seeder:
        title = await publish(seeder, tmp_path / "seeder")
        async with running_node(tmp_path / "viewer", chain, store=store) as viewer:
            await fund(viewer, miner)
            assert await watch(await viewer.play(title.link, None)) == title.film
    async with running_node(tmp_path / "viewer", chain, store=store) as viewer:
        play = await viewer.play(title.link, 0)
        assert await watch(play) == title.film
        assert play.budget.total == 0
        with pytest.raises(BctError, match="is being played already"):
            await viewer.play(title.link, 0)
