"""What goes wrong between two honest nodes: wires are cut, processes killed. Nothing is bought twice.

A relay stands between viewer and seeder; what left the seeder is counted there.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.regtest_node import RegtestNode
from bct.bitcoin.hd import words_of_entropy
from bct.bitcoin.keys import PrivateKey, sha256
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.title.link import TorrentLink, parse
from bct.torrent.wire import Piece
from bct.units import PubKeyHash
from tests.interop.clients import free_port, sound_pieces
from tests.node_process import node_process
from tests.nodes import MemoryStore, running_node
from tests.relay import Wrong, relaying
from tests.stage import FREE_PIECES, fund, prepare, publish, watch

pytestmark = pytest.mark.anyio

PIECES = 24
PAID = PIECES - len(FREE_PIECES)
SIZE = 64 * 1024


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            if so():
                return
            await asyncio.sleep(0.01)


async def test_a_wire_that_is_cut_mid_film_is_taken_up_again(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder")
        async with relaying(seeder.hub.port) as relay:
            relay.most = 14 * SIZE  # of 24 pieces: one cut
            play = await viewer.play(title.by(relay.port), None)
            assert await watch(play) == title.film
            assert len(relay.calls) == 2
            assert play.budget.pieces == PAID
            assert len(play.buyer.deals.channels) == 1
            (earning,) = seeder.till.earnings.values()
            assert earning.account.payee.paid == PAID
            await viewer.viewer.close(play)


async def test_payments_that_got_lost_with_the_wire_are_not_paid_again(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """RESUMED says less than was signed: what the seeder never got is handed in first; then only the rest is paid."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder")
        async with relaying(seeder.hub.port) as relay:
            relay.most, relay.then = 6 * SIZE, Wrong.LOSE
            play = await viewer.play(title.by(relay.port), None)
            watching = asyncio.create_task(watch(play))
            await until(lambda: bool(relay.calls) and relay.calls[0].full.is_set())
            (earning,) = seeder.till.earnings.values()
            (spending,) = viewer.purse.spendings.values()
            await until(lambda: spending.payer.paid > earning.account.payee.paid)
            relay.most = None
            relay.cut()
            assert await watching == title.film
            assert play.budget.pieces == earning.account.payee.paid == spending.payer.paid == PAID
            await viewer.viewer.close(play)


async def test_another_creators_title_is_paid_over_the_channel_that_is_open(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """A payment channel joins two keys, not a title: RESUME and ADD_LINE, and nothing on the chain."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        first = await publish(seeder, tmp_path / "seeder")
        stranger = PrivateKey(sha256(b"another creator"))
        second = await publish(seeder, tmp_path / "seeder", 6, seed=2, creator=stranger)
        async with relaying(seeder.hub.port) as relay:
            relay.most = 6 * SIZE
            play = await viewer.play(first.by(relay.port), None)
            watching = asyncio.create_task(watch(play))
            await until(lambda: bool(relay.calls) and relay.calls[0].over.is_set())
            relay.open = False
            half = play.budget.pieces
            await until(lambda: not play.swarm.peers)
            other = await viewer.play(second.link, None)
            assert await watch(other) == second.film
            assert other.budget.pieces == 4
            assert other.budget.fees <= 4  # a settlement with one more output; no transaction of its own
            watching.cancel()
            await viewer.viewer.close(other)
        (spending,) = viewer.purse.spendings.values()
        assert spending.payer.totals == (half, 4)
        (earning,) = seeder.till.earnings.values()
        settlement = Tx.parse(earning.settlement)
        scripts = [output.script for output in settlement.outputs]
        assert scripts[:2] == [p2pkh(seeder.creator_key().hash), p2pkh(stranger.hash)]


async def test_a_play_closed_mid_film_has_all_that_it_paid_for(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """What is under way is waited for, and the seeder that then closes the channel is not blamed for anything."""
    store = MemoryStore()
    async with (
        running_node(tmp_path / "seeder", chain) as seeder,
        running_node(tmp_path / "viewer", chain, store=store) as viewer,
    ):
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", 200)
        play = await viewer.play(title.link, None)
        reading = play.read(0, play.length)
        for _ in range(20):
            await anext(reading)
        assert play.buyer.busy
        await viewer.viewer.close(play)
        assert play.swarm.store
        assert play.budget.pieces == len(set(play.swarm.store.pieces) - FREE_PIECES) < 197
        assert store.noted == []


async def test_an_address_that_does_not_answer_holds_up_nobody(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder")
        play = await viewer.play(title.by(free_port(), seeder.hub.port), None)
        assert await watch(play) == title.film


async def test_a_seeder_killed_mid_film_comes_back_and_goes_on_with_the_same_channel(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, node: RegtestNode
) -> None:
    root, words = tmp_path / "seeder", words_of_entropy(secrets.token_bytes(16))
    async with running_node(tmp_path / "viewer", chain) as viewer, relaying(0) as relay:
        await fund(viewer, miner)
        async with node_process(root, words, node) as seeder:
            said = await seeder.says()
            relay.target = ("127.0.0.1", said["port"])
            relay.most, relay.then = 12 * SIZE, Wrong.HANG
            play = await viewer.play(at(said["link"], relay.port), None)
            watching = asyncio.create_task(watch(play))
            await until(lambda: bool(relay.calls) and relay.calls[0].full.is_set())
            relay.open = False
            await seeder.kill()
            relay.cut()
        async with node_process(root, words, node) as seeder:
            said = await seeder.says()
            relay.target, relay.most, relay.open = ("127.0.0.1", said["port"]), None, True
            assert await watching == prepare(tmp_path, PIECES)[2]
            assert len(play.buyer.deals.channels) == 1
            assert play.budget.pieces == PAID  # what its ledger had lost, it was told again
            await viewer.viewer.close(play)
            (spending,) = viewer.purse.spendings.values()
            assert spending.over.is_set()


async def test_a_viewer_killed_mid_film_keeps_what_it_bought_and_its_channel(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, node: RegtestNode
) -> None:
    root, words = tmp_path / "viewer", words_of_entropy(secrets.token_bytes(16))
    async with running_node(tmp_path / "seeder", chain) as seeder, relaying(seeder.hub.port) as relay:
        title = await publish(seeder, tmp_path / "seeder")
        link = str(title.by(relay.port))
        relay.most, relay.then = 12 * SIZE, Wrong.HANG
        async with node_process(root, words, node, link) as viewer:
            await miner.pay(p2pkh(PubKeyHash(bytes.fromhex((await viewer.says())["address"]))), 100_000)
            await miner.mine()
            viewer.go_on()
            await until(lambda: bool(relay.calls) and relay.calls[0].full.is_set())
            await viewer.kill()
        kept = sound_pieces(root / "titles" / title.link.infohash.hex() / "data", title.metainfo)
        assert len(kept) > len(FREE_PIECES)
        relay.most = None
        async with node_process(root, words, node, link) as viewer:
            await viewer.says()
            viewer.go_on()
            said = await viewer.says()
        assert said["film"] == hashlib.sha1(title.film).hexdigest()
        assert said["fees"] == 0
        assert not kept & relay.calls[1].answered.about[Piece.ID]
        (earning,) = seeder.till.earnings.values()
        assert earning.account.payee.paid == PAID


def at(link: str, port: int) -> TorrentLink:
    """The link, leading to the relay."""
    found = parse(link.replace(link.split("x.pe=")[1].split("&")[0], f"127.0.0.1:{port}"))
    assert isinstance(found, TorrentLink)
    return found
