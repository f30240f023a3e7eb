"""The main job in one process: two whole nodes, a real chain, a film bought piece by piece and settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.node.daemon import Node
from bct.node.library import Publication
from bct.node.play import Play
from bct.node.seller import TitleSeller
from bct.pay.ledger import Ledger
from bct.title import terms as title_terms
from bct.title.link import TorrentLink
from bct.title.ranges import PieceRange
from bct.units import Payees, PieceIndex, Satoshi
from tests.nodes import MemoryStore, make_film, running_node

pytestmark = pytest.mark.anyio


async def fund(node: Node, miner: RegtestMiner, satoshi: int = 100_000) -> None:
    await miner.pay(p2pkh(node.wallet.new_address()), satoshi)
    await miner.mine()
    await node.watchman.look()
    await node.wallet.sync()


async def publish(seeder: Node, root: Path, pieces: int, price: int = 1, free: int = 2) -> tuple[TorrentLink, bytes]:
    metainfo, incoming, data = make_film(root, pieces)
    payees = Payees.of((seeder.creator_key().hash, 6000))
    saved = await seeder.publish(
        Publication(incoming, metainfo, b"", Satoshi(price), payees, (PieceRange(PieceIndex(0), free),))
    )
    return seeder.link(saved), data


async def watch(play: Play) -> bytes:
    return b"".join([bytes(part) async for part in play.read(0, play.length)])


async def test_a_film_is_bought_piece_by_piece_and_settled_60_to_40(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, node: object
) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        link, film = await publish(seeder, tmp_path / "seeder", 64)
        play = await viewer.play(link, None)
        async with asyncio.timeout(20):
            assert await watch(play) == film
        await viewer.viewer.close(play)
        assert play.budget.pieces == 62
        (earning,) = seeder.till.earnings.values()
        settlement = Tx.parse(earning.settlement)
        assert [o.value for o in settlement.outputs[:2]] == [37, 25]
        assert settlement.outputs[0].script == p2pkh(seeder.creator_key().hash)
        await miner.mine()
        place = await chain.place(settlement.txid)
        assert place is not None
        assert place.confirmations == 1


class Gated:
    """A ledger whose disk takes its time: nothing is durable before `gate` opens."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.synced = 0
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    def append(self, payload: bytes) -> int:
        return self.ledger.append(payload)

    async def wait(self, sequence: int) -> None:
        self.asked.set()
        await self.gate.wait()
        await self.ledger.wait(sequence)
        self.synced = self.ledger.synced


async def test_nothing_is_signed_while_the_mark_above_it_is_being_saved(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """THREATS 26: the mark stands in memory already; whatever happens meanwhile, it does not count before the disk
    has it."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        link, film = await publish(seeder, tmp_path / "seeder", 16)
        viewer.purse._ledger = ledger = Gated(viewer.purse._ledger)
        play = await viewer.play(link, None)
        watching = asyncio.create_task(watch(play))
        async with asyncio.timeout(20):
            await ledger.asked.wait()
        (spending,) = viewer.purse.spendings.values()
        for _ in range(10):
            play.buyer.pump()
            await asyncio.sleep(0)
        standing = spending.payer.reserved[0] > 0, spending.payer.paid, play.budget.pieces
        ledger.gate.set()
        assert standing == (True, 0, 0)
        async with asyncio.timeout(20):
            assert await watching == film
        await viewer.viewer.close(play)


async def test_a_seeder_that_trusts_a_fresh_funding_with_little_is_paid_later_not_distrusted(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trust is shared by all unconfirmed channels, so it may end earlier than READY said."""
    monkeypatch.setattr("bct.node.deals.TRUST_SECONDS", 0.1)
    monkeypatch.setattr("bct.node.deals.TRUST_TRIES", 1000)
    room = 10
    store = MemoryStore()
    async with (
        running_node(tmp_path / "seeder", chain) as seeder,
        running_node(tmp_path / "viewer", chain, store=store) as viewer,
    ):
        object.__setattr__(seeder.till.book, "exposure", lambda account: room)
        await fund(viewer, miner)
        link, film = await publish(seeder, tmp_path / "seeder", 64)
        play = await viewer.play(link, None)
        reading = asyncio.create_task(watch(play))
        (spending,) = await _soon(lambda: list(viewer.purse.spendings.values()))
        await _soon(lambda: spending.payer.paid > 10)
        room = 10_000
        async with asyncio.timeout(20):
            assert await reading == film
        assert play.budget.pieces == 62
        assert store.noted == [], "nobody was at fault"


async def _soon[T](look: Callable[[], T]) -> T:
    """What `look` finds, once it finds anything."""
    for _ in range(1000):
        if found := look():
            return found
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_terms_are_signed_anew_before_they_run_out(
    tmp_path: Path, chain: ChainNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A title would be on sale for thirty days and then, without a word, for nobody."""
    store = MemoryStore()
    async with running_node(tmp_path, chain, store=store) as seeder:
        link, _ = await publish(seeder, tmp_path, 4)
        before = title_terms.decode(store.title[link.infohash].terms)
        monkeypatch.setattr(seeder.library, "_clock", lambda: before.valid_until - 3 * 86400)
        await seeder.library.renew(seeder.creator_key())
        after = title_terms.decode(store.title[link.infohash].terms)
        assert after.sequence == before.sequence + 1
        assert after.valid_until > before.valid_until + 20 * 86400
        assert (after.price, after.payees, after.free) == (before.price, before.payees, before.free)
        seller = seeder.hub.swarms[link.infohash].seller
        assert isinstance(seller, TitleSeller)
        assert seller.terms == after
        await seeder.library.renew(seeder.creator_key())
        assert title_terms.decode(store.title[link.infohash].terms) == after, "once is enough"
