"""Receipts between whole nodes: said on the way and before the close, kept on both sides, and in nobody's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.channel.state import State
from bct.errors import StoreError
from bct.node.daemon import Node
from bct.pay.messages import Receipt
from bct.pay.receipt_store import SavedReceipt
from bct.pay.receipts import EPOCH, unpack_leaves
from bct.title.terms import decode as terms_of
from bct.units import Outpoint
from tests.cheats import Behaviour, Stall
from tests.nodes import MemoryStore, running_node
from tests.relay import relaying
from tests.stage import FREE_PIECES, fund, publish, watch

pytestmark = pytest.mark.anyio

PIECES = 72
PAID = PIECES - len(FREE_PIECES)
SIZE = 64 * 1024


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            if so():
                return
            await asyncio.sleep(0.01)


def kept(store: MemoryStore) -> list[SavedReceipt]:
    return [saved for _, saved in sorted(store.receipt.items())]


def channel(viewer: Node) -> Outpoint:
    (spending,) = viewer.purse.spendings.values()
    return spending.outpoint


async def test_both_sides_keep_what_both_have_signed(tmp_path: Path, chain: ChainNode, miner: RegtestMiner) -> None:
    """A receipt when 64 pieces have come, and one for the rest before the channel is closed."""
    ours, theirs = MemoryStore(), MemoryStore()
    async with (
        running_node(tmp_path / "seeder", chain, store=theirs) as seeder,
        running_node(tmp_path / "viewer", chain, store=ours) as viewer,
    ):
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", PIECES)
        play = await viewer.play(title.link, None)
        assert await watch(play) == title.film
        await viewer.viewer.close(play)
        (earning,) = seeder.till.earnings.values()
        assert earning.state is State.SETTLED
        assert kept(ours) == kept(theirs)
        assert all(saved.countersignature for saved in kept(ours))
        first, last = (saved.receipt for saved in kept(ours))
        assert (first.pieces, last.pieces, last.totals) == (EPOCH, PAID, (PAID,))
        assert last.size == len(title.film) - len(FREE_PIECES) * SIZE
        listed = [leaf.piece for saved in kept(ours) for leaf in unpack_leaves(saved.receipt.leaves)]
        assert sorted(listed) == sorted(set(range(PIECES)) - FREE_PIECES)


async def test_epochs_go_on_over_a_cut_wire_and_a_restart(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """What had come before the restart, and was in no receipt by then, is in none."""
    ours, theirs = MemoryStore(), MemoryStore()
    words = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    async with running_node(tmp_path / "seeder", chain, store=theirs) as seeder:
        title = await publish(seeder, tmp_path / "seeder", PIECES)
        async with running_node(tmp_path / "viewer", chain, words, ours) as viewer:
            await fund(viewer, miner)
            async with relaying(seeder.hub.port) as relay:
                relay.most = 40 * SIZE
                play = await viewer.play(title.by(relay.port), None)
                assert await watch(play, 0, 68 * SIZE) == title.film[: 68 * SIZE]
                assert len(relay.calls) > 1
                await until(lambda: bool(ours.receipt and kept(ours)[0].countersignature))
            bought = play.budget.pieces
            play.buyer.stop()
            viewer.viewer.plays.clear()  # the node goes without closing the channel
            opened = channel(viewer)
        assert [saved.receipt.pieces for saved in kept(theirs)] == [EPOCH]
        async with running_node(tmp_path / "viewer", chain, words, ours) as viewer:
            play = await viewer.play(title.link, None)
            assert await watch(play) == title.film
            assert channel(viewer) == opened
            await viewer.viewer.close(play)
    assert kept(ours) == kept(theirs)
    assert [saved.receipt.epoch for saved in kept(ours)] == [1, 2]
    last = kept(ours)[1].receipt
    assert (last.pieces, last.totals) == (EPOCH + PAID - bought, (PAID,))


async def test_a_play_that_keeps_its_channel_leaves_no_piece_without_a_receipt(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """The next title may be long in coming, and the node down by then. What is not answered is said with that."""
    ours, theirs = MemoryStore(), MemoryStore()
    async with (
        running_node(tmp_path / "seeder", chain, store=theirs) as seeder,
        running_node(tmp_path / "viewer", chain, store=ours) as viewer,
    ):
        await fund(viewer, miner)
        titles = [await publish(seeder, tmp_path / "seeder", 24, seed=seed) for seed in (1, 2)]
        for title, epochs in zip(titles, (1, 2), strict=True):
            play = await viewer.play(title.link, None, more=1)
            assert await watch(play) == title.film
            await viewer.viewer.close(play, keep=title is titles[0])
            assert len(ours.receipt) == epochs
        assert kept(ours) == kept(theirs)
        assert all(saved.countersignature for saved in kept(ours))
        assert [saved.receipt.pieces for saved in kept(ours)] == [21, 42]


@dataclass
class SlowStore(MemoryStore):
    """Its disk takes until `free` to write a receipt."""

    free: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0

    async def put_receipt(self, saved: SavedReceipt) -> None:
        self.waiting += 1
        await self.free.wait()
        await super().put_receipt(saved)


async def test_a_seeder_saves_then_answers_then_says_that_it_has_settled(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    ours, theirs = MemoryStore(), SlowStore()
    async with (
        running_node(tmp_path / "seeder", chain, store=theirs) as seeder,
        running_node(tmp_path / "viewer", chain, store=ours) as viewer,
    ):
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", 24)
        play = await viewer.play(title.link, None)
        assert await watch(play) == title.film
        closing = asyncio.create_task(viewer.viewer.close(play))
        (earning,) = seeder.till.earnings.values()
        await until(lambda: earning.state is State.SETTLED)  # the chain does not wait
        assert theirs.waiting == 1
        assert [saved.countersignature for saved in kept(ours)] == [b""]
        theirs.free.set()
        await closing
        assert kept(ours) == kept(theirs)
        assert all(saved.countersignature for saved in kept(ours))


@dataclass
class FullStore(MemoryStore):
    """Its disk takes no receipts."""

    async def put_receipt(self, saved: SavedReceipt) -> None:
        raise StoreError("the disk is full")


@pytest.mark.parametrize(("ours", "theirs"), [(FullStore(), MemoryStore()), (MemoryStore(), FullStore())])
async def test_a_disk_without_room_for_receipts_stops_no_film(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, ours: MemoryStore, theirs: MemoryStore
) -> None:
    async with (
        running_node(tmp_path / "seeder", chain, store=theirs) as seeder,
        running_node(tmp_path / "viewer", chain, store=ours) as viewer,
    ):
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", PIECES)
        play = await viewer.play(title.link, None)
        assert await watch(play) == title.film
        await viewer.viewer.close(play)
        (spending,) = viewer.purse.spendings.values()
        assert spending.payer.state is State.SETTLED
        assert play.buyer.deals.trouble is None
        assert not any(saved.countersignature for saved in kept(ours)), "only what is durable there is signed"
        assert len(kept(theirs)) in (0, 2)


async def test_a_seeder_that_never_signs(tmp_path: Path, chain: ChainNode, miner: RegtestMiner) -> None:
    """THREATS 43: the film goes on, and what we show says that we alone have signed."""
    ours = MemoryStore()
    async with (
        running_node(tmp_path / "seeder", chain) as seeder,
        running_node(tmp_path / "viewer", chain, store=ours) as viewer,
    ):
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", PIECES)
        (saved,) = seeder.library.titles.values()
        terms = terms_of(saved.terms)
        async with Stall(title.metainfo, title.film, terms, Behaviour(blocks=lambda block: block)) as stall:
            play = await viewer.play(stall.link(terms.creator), None, title.metainfo)
            assert await watch(play) == title.film
            await viewer.viewer.close(play, 0.1)
            await until(lambda: len(stall.heard(Receipt)) == 2)
        first, last = kept(ours)
        assert (first.countersignature, last.countersignature) == (b"", b"")
        assert [first.receipt, last.receipt] == stall.heard(Receipt)
        assert last.receipt.pieces == PAID
