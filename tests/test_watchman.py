"""When the watchman looks, in which order, and what it makes of chains, clocks and disks that fail.

Chains in memory, where hours cost nothing; what only a real node can show is on a real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.bitcoin.tx import Tx, TxInput
from bct.channel.lock import Lock
from bct.channel.state import State
from bct.channel.store import SavedPayer
from bct.channel.transactions import Params
from bct.errors import BctError, ChainError, StoreError
from bct.node.daemon import Node
from bct.node.purse import LOCK_SIZE, Spending
from bct.node.sight import DEEP
from bct.units import Outpoint, Payees, Satoshi
from bct.wallet import paths
from tests.channel_parts import EXPIRY, HOUR, NOW, PAYEE, PAYER, new_payee, new_payer
from tests.coins import spend
from tests.deal import World, a_deal, own_world, until
from tests.model_chain import ModelChain
from tests.nodes import MemoryStore, running_node
from tests.post import Post, only, words
from tests.test_paid_viewing import fund

pytestmark = pytest.mark.anyio


async def test_a_funding_whose_coin_was_spent_elsewhere_is_given_up_once_that_is_buried(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """A seeder declined the channel; its coin paid for something else; nothing waits for it for ever."""
    store = MemoryStore()
    async with running_node(tmp_path, chain, store=store) as node:
        await fund(node, miner)
        spending = await _declined_channel(node, store)
        there = await chain.place(spending.outpoint.txid)
        assert there is None
        await node.wallet.send(node.wallet.new_address(), Satoshi(50_000), 100)
        await miner.mine()
        await node.watchman.look()
        assert store.payer[spending.outpoint].state is State.OPENING, "one block can still be taken back"
        await miner.mine(DEEP)
        await node.watchman.look()
        assert spending.payer.state is State.VOID
        assert store.payer[spending.outpoint].state is State.VOID
        balance = node.wallet.balance
        assert balance.reserved == 0
        assert 99_000 < balance.confirmed < 100_000, "the coin is not counted twice"


async def _declined_channel(node: Node, store: MemoryStore) -> Spending:
    """A channel whose funding was signed and shown to a seeder that refused it."""

    def lock(anchor: Outpoint, vout: int) -> Lock:
        return Lock(node.wallet.key(paths.channel_payer(anchor, vout)).public, PAYEE.public, EXPIRY)

    made = await node.wallet.fund(Satoshi(10_000), LOCK_SIZE, 100, lambda anchor, vout: lock(anchor, vout).script())
    outpoint = Outpoint(made.tx.txid, made.vout)
    change = node.wallet.key(paths.channel_change(made.anchor, made.vout)).hash
    params = Params(outpoint, Satoshi(10_000), lock(made.anchor, made.vout), change, PAYEE.hash, 100, 8)
    payees = Payees.of((PAYEE.hash, 6000))
    saved = SavedPayer(params, made.anchor, payees, PAYEE.public, "127.0.0.1", 1, made.tx.serialize(), 0)
    await store.add_payer(saved)
    await node.purse.load({})
    spending = node.purse.spendings[outpoint]
    await node.purse.declined(spending)
    return spending


# -- in which order ---------------------------------------------------------------------------------------------------


async def test_what_is_overdue_is_settled_first_and_the_most_urgent_before_the_rest(tmp_path: Path) -> None:
    """A node that was off for half a day."""
    post = Post(tmp_path)
    late = [await post.earn(expiry=NOW + hours * HOUR) for hours in (13, 12, 14)]
    calm = await post.earn(expiry=NOW + 30 * HOUR)
    post.now = NOW + 12 * HOUR
    moved: list[Outpoint] = []
    post.store = NotingStore(post.store.payee, moved=moved)
    async with post.on_duty() as node:
        await node.watchman.look()
        assert list(dict.fromkeys(moved)) == [late[1], late[0], late[2]]
        assert node.till.earnings[calm].state is State.OPEN


async def test_a_disk_that_refuses_keeps_nothing_from_the_chain(tmp_path: Path) -> None:
    post = Post(tmp_path)
    broken, sound = [await post.earn(expiry=NOW + hours * HOUR) for hours in (7, 8)]
    post.now = NOW + 7 * HOUR
    post.store = store = NotingStore(post.store.payee, refused=broken)
    async with post.on_duty() as node:
        await node.watchman.look()
        assert None not in [await post.chain.spender(one) for one in (broken, sound)], "the money first"
        await post.chain.mine(DEEP + 1)
        with pytest.raises(StoreError):
            await node.watchman.look()
        assert store.payee[sound].state is State.DONE
        assert store.payee[broken].state is State.OPEN
    store.refused = None
    async with post.on_duty() as node:
        for _ in range(2):
            await node.watchman.look()
        assert store.payee[broken].state is State.DONE, "the chain tells after a restart what became of it"


@dataclass
class NotingStore(MemoryStore):
    """Notes which channels move, and cannot write one of them down."""

    moved: list[Outpoint] = field(default_factory=list)
    refused: Outpoint | None = None

    async def move_payee(self, outpoint: Outpoint, state: State, settlement: bytes = b"") -> None:
        self.moved.append(outpoint)
        if outpoint == self.refused:
            raise StoreError("the disk refuses")
        await super().move_payee(outpoint, state, settlement)


async def test_a_restart_three_hours_before_the_expiry_does_not_take_a_mined_funding_for_an_unmined_one(
    tmp_path: Path,
) -> None:
    post = Post(tmp_path)
    await post.earn(expiry=NOW + 3 * HOUR)
    async with post.on_duty() as node:
        for _ in range(2):
            await node.watchman.look()
        assert only(node).state is State.OPEN
        post.chain.fork(1)
        await node.watchman.look()
        await node.watchman.look()
        assert only(node).state is State.SETTLED, "now it is in no block"


# -- clocks -----------------------------------------------------------------------------------------------------------


async def test_a_clock_that_is_hours_slow_settles_by_the_chains_time(tmp_path: Path) -> None:
    """THREATS 48."""
    post = Post(tmp_path)
    await post.earn()
    async with post.on_duty() as node:
        post.now = NOW - 5 * HOUR
        post.chain.now = NOW + 10 * HOUR - 1
        await post.chain.mine()
        await node.watchman.look()
        assert only(node).state is State.OPEN
        assert words(node) == ["clock"]
        post.chain.now = NOW + 10 * HOUR
        await post.chain.mine()
        await node.watchman.look()
        assert only(node).state is State.SETTLED


async def test_a_clock_that_is_hours_fast_settles_early_and_loses_nothing(tmp_path: Path) -> None:
    """THREATS 48: the channel is gone sooner than it had to be, and paid."""
    post = Post(tmp_path)
    outpoint = await post.earn()
    async with post.on_duty() as node:
        post.now = NOW + 11 * HOUR
        await node.watchman.look()
        spend = await post.chain.spender(outpoint)
        assert spend
        assert only(node).state is State.SETTLED


async def test_headers_that_stand_still_do_not_hold_the_settlement_up(tmp_path: Path) -> None:
    """THREATS 48: the node is cut off from its peers, and takes transactions all the same."""
    post = Post(tmp_path)
    await post.earn()
    async with post.on_duty() as node:
        post.now = NOW + 10 * HOUR
        await node.watchman.look()
        assert only(node).state is State.SETTLED
        assert words(node) == []
        post.now = NOW + 11 * HOUR
        await node.watchman.look()
        assert words(node) == ["unmined"]
        await post.chain.mine()
        await node.watchman.look()
        assert words(node) == []


# -- sources ----------------------------------------------------------------------------------------------------------


async def test_while_our_own_node_is_away_what_is_due_goes_to_the_others(tmp_path: Path) -> None:
    """THREATS 35."""
    post = Post(tmp_path)
    outpoint = await post.earn()
    other = ModelChain(NOW)
    other.follow(post.chain)
    async with post.on_duty(other) as node:
        await node.watchman.look()
        post.chain.answers = False
        post.now = NOW + 10 * HOUR
        with pytest.raises(ChainError):
            await node.watchman.look()
        spend = await other.spender(outpoint)
        assert spend
        assert only(node).state is State.CLOSING, "what the other says is not taken for ours"
        post.chain.answers = True
        await node.watchman.look()
        assert only(node).state is State.SETTLED


async def test_sources_that_disagree_are_an_alarm(tmp_path: Path) -> None:
    """THREATS 35: one of them knows of another spend, or lies."""
    post = Post(tmp_path)
    outpoint = await post.earn()
    other = ModelChain(NOW)
    other.follow(post.chain)
    other.take(Tx((TxInput(outpoint, b"not ours"),), ()))
    async with post.on_duty(other) as node:
        await node.close_channel(outpoint)
        await node.watchman.look()
        (alarm,) = node.bell.alarms
        assert alarm.word == "disagree"
        assert "known, conflict" in alarm.text
        await post.chain.mine()
        await node.watchman.look()
        assert node.bell.alarms == [], "a block has decided"


async def test_an_older_settlement_that_somebody_else_sent_is_noticed(tmp_path: Path) -> None:
    post = Post(tmp_path)
    outpoint = await post.earn(140)
    async with post.on_duty() as node:
        payee = only(node).account.payee
        older = new_payee(payee.params)
        payment = new_payer(payee.params).pay(0, 100, PAYER, now=NOW)
        older.accept(0, 100, payment.signature, now=NOW, exposure=None)
        tx, _ = older.settlement(node.till.keys.derive(only(node).account.nonce))
        await post.chain.broadcast([tx.serialize()])
        await node.watchman.look()
        assert only(node).state is State.SETTLED
        (alarm,) = node.bell.alarms
        assert (alarm.word, alarm.about) == ("short", str(outpoint))
        assert "40 sat less" in alarm.text
        post.chain.forget(tx.txid)
        await node.watchman.look()
        spend = await post.chain.spender(outpoint)
        assert spend
        assert spend.txid == payee.settlement(node.till.keys.derive(only(node).account.nonce))[0].txid
        assert node.bell.alarms == [], "a reorganisation took it away: the newest takes its place"


async def test_a_funding_that_is_contested_serves_nothing_more_and_is_given_up_only_when_that_is_deep(
    tmp_path: Path,
) -> None:
    post = Post(tmp_path)
    outpoint = await post.earn()
    async with post.on_duty() as node:
        await node.watchman.look()
        post.chain.fork(1, forgotten=[outpoint.txid])
        await post.chain.broadcast([spend(post.coins[outpoint], fee=300).serialize()])
        await post.chain.mine()
        await node.watchman.look()
        assert only(node).account.cap == 0
        assert words(node) == ["contested"]
        await post.chain.mine(DEEP - 2)
        await node.watchman.look()
        assert only(node).state is State.OPEN
        await post.chain.mine(2)
        await node.watchman.look()
        assert only(node).state is State.VOID
        assert words(node) == []


# -- alarms -----------------------------------------------------------------------------------------------------------


async def test_an_alarm_is_logged_once_when_it_begins_and_once_when_it_is_over(tmp_path: Path) -> None:
    post = Post(tmp_path)
    await post.earn()
    post.chain.floor = 500  # so the settlement is refused
    async with post.on_duty() as node:
        post.now = NOW + 11 * HOUR
        with capture_logs() as logs:
            for _ in range(3):
                await node.watchman.look()
            post.chain.floor = 100
            await node.watchman.look()
        assert words(node) == ["unsettled"], "it is tried again when its time has come"
        said = [(line["event"], line["word"]) for line in logs if line["event"].startswith("alarm")]
        assert said == [("alarm", "unsettled")]


# -- on a real node ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with own_world(tmp_path / "world") as opened:
        yield opened


async def test_a_seeder_that_settles_and_goes_on_taking_payments_gets_no_more(tmp_path: Path, world: World) -> None:
    """THREATS 31: its own books say that the channel is open; the payer has seen the outpoint spent."""
    async with a_deal(tmp_path, world) as deal:
        paid = deal.paid
        payee = deal.earning.account.payee
        tx, _ = payee.settlement(deal.seeder.till.keys.derive(deal.earning.account.nonce))
        await world.chain.broadcast([tx.serialize()])
        await deal.viewer.watchman.look()
        assert deal.spending.payer.state is State.SETTLED
        assert deal.earning.state is State.OPEN
        with suppress(BctError, TimeoutError):  # it waits for another seeder
            async with asyncio.timeout(3):
                await deal.buy(12)
        assert deal.spending.payer.paid == paid
        assert deal.paid == paid


async def test_a_node_that_was_down_for_hours_is_caught_up_with(tmp_path: Path, world: World) -> None:
    """A channel becomes due while the chain is away. Nothing is lost, nothing is said twice, and when the node is back
    the settlement goes out by itself."""
    async with a_deal(tmp_path, world) as deal:
        await world.miner.mine()
        await deal.look()
        await deal.hang_up()
        deal.seeder.watchman.start()
        expiry = deal.spending.payer.params.lock.expiry
        await world.node.stop()
        with capture_logs() as logs:
            for _ in range(20):
                with pytest.raises(ChainError):
                    await deal.seeder.watchman.look()
        assert len(logs) <= 1
        assert not deal.seeder.watchman.reachable
        await world.node.restart()
        await world.chain.rpc.call("setmocktime", expiry - HOUR)
        await world.miner.mine()
        await until(lambda: deal.earning.state is State.SETTLED and deal.seeder.watchman.reachable)
        await world.miner.mine()
        assert await deal.mined(deal.settlement)
        await world.chain.rpc.call("setmocktime", 0)
