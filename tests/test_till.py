"""The payee's shell at its end: when a channel is settled, with what, and what is durable before.

Tills without connections, over a real chain, a real ledger and a clock that is moved by hand.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.ledger import Ledger
from bct.backends.regtest_miner import RegtestMiner
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx, TxOutput
from bct.channel.lock import Lock, refund
from bct.channel.state import Event, State
from bct.channel.store import ChannelStore, SavedPayee
from bct.channel.transactions import Params
from bct.config import ChannelConfig
from bct.node.till import Earning, Till
from bct.pay.payee_session import PayeeKeys
from bct.pay.records import Paid, Record
from bct.pay.replay import Told
from bct.units import Outpoint, Satoshi, Txid
from tests.channel_parts import FILM, HOUR, LOCK, NOW, PAYEE, PAYER, new_payee, new_payer, params
from tests.nodes import MemoryStore, running_node
from tests.pay_parts import IDENTITY, POLICY
from tests.stage import fund, publish, watch
from tests.test_database import migrate, opened

pytestmark = pytest.mark.anyio


def payments(fixed: Params, count: int) -> list[Paid]:
    """The records of so many payments, a satoshi each."""
    payer = new_payer(fixed)
    said = [payer.pay(0, 1, PAYER, now=NOW) for _ in range(count)]
    return [Paid(fixed.outpoint, 0, one.total, one.signature) for one in said]


def settlement_of(fixed: Params, paid: int) -> Tx:
    """The settlement at this total."""
    payee = new_payee(fixed)
    for record in payments(fixed, paid):
        payee.accept(0, record.total, record.signature, now=NOW, exposure=None)
    return payee.settlement(PAYEE)[0]


@dataclass
class Shop:
    """What outlives a till: the store, the chain, and the hour. `till` begins anew over all of it."""

    chain: ChainNode
    ledger: Ledger
    store: ChannelStore
    now: int = NOW

    async def till(self, *found: Record) -> tuple[Till, Earning]:
        """As a start finds it: with these records in its ledger."""
        keys = PayeeKeys(IDENTITY, b"a secret", lambda _: PAYEE)
        till = Till(
            [self.chain], self.store, MemoryStore(), self.ledger, keys, POLICY, ChannelConfig(), lambda: self.now,
            lambda _: None,
        )  # fmt: skip
        (saved,) = await self.store.payees()
        await till.load({saved.params.outpoint: Told.of(found)}, lambda *_: 1)
        (earning,) = till.earnings.values()
        return till, earning

    async def saved(self) -> SavedPayee:
        (saved,) = await self.store.payees()
        return saved

    async def spender(self, earning: Earning) -> Txid | None:
        spend = await self.chain.spender(earning.outpoint)
        return spend.txid if spend else None


@pytest.fixture
async def shop(tmp_path: Path, chain: ChainNode) -> AsyncIterator[Shop]:
    ledger = Ledger.open(tmp_path / "ledger", lambda _: None)
    yield Shop(chain, ledger, MemoryStore())
    await ledger.close()


async def on_the_chain(shop: Shop, miner: RegtestMiner, lock: Lock = LOCK, idle: int = 900) -> SavedPayee:
    """A channel with a funding in a block."""
    funding = await miner.pay(lock.script(), 10_000)
    await miner.mine()
    fixed = params(outpoint=Outpoint(funding.txid, 0), lock=lock)
    saved = SavedPayee(fixed, bytes(16), FILM, (), NOW, idle)
    await shop.store.add_payee(saved)
    return saved


# -- what is durable before the settlement is out ---------------------------------------------------------------------


@contextmanager
def held_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every sync of a file takes until the end of this."""
    free = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", lambda _: free.wait(60))
        try:
            yield
        finally:
            free.set()


class WatchedStore(MemoryStore):
    """Notes what the ledger was sure of whenever a channel moved."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.behind: list[int] = []
        """Records that were not durable yet, at each move."""

    async def move_payee(self, outpoint: Outpoint, state: State, settlement: bytes = b"") -> None:
        self.behind.append(self.ledger.appended - self.ledger.synced)
        await super().move_payee(outpoint, state, settlement)


async def test_a_settlement_waits_for_the_payments_it_rests_on(
    shop: Shop, miner: RegtestMiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a crash could leave a ledger that knows of less than the chain does."""
    shop.store = store = WatchedStore(shop.ledger)
    saved = await on_the_chain(shop, miner)
    till, earning = await shop.till(*payments(saved.params, 5))
    (*_, newest) = payments(saved.params, 6)
    with held_disk(monkeypatch):
        earning.account.payee.accept(0, 6, newest.signature, now=NOW, exposure=None)
        till._append(newest)
        settling = asyncio.create_task(till.settle(earning, "closed"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert store.behind == []
    await settling
    assert store.behind == [0, 0], "closing, then settled"
    assert await shop.spender(earning) == settlement_of(saved.params, 6).txid


# -- what is settled after a restart ----------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 61])
async def test_a_settlement_that_was_made_is_the_one_that_is_sent_again(
    shop: Shop, miner: RegtestMiner, left: int
) -> None:
    """It was saved and never got out; then the ledger came back with less than it rests on."""
    saved = await on_the_chain(shop, miner)
    made = settlement_of(saved.params, 62)
    await shop.store.move_payee(saved.params.outpoint, State.CLOSING, made.serialize())
    till, earning = await shop.till(*payments(saved.params, left))
    await till.settle(earning, "again")
    assert await shop.spender(earning) == made.txid
    assert earning.state is State.SETTLED
    assert (await shop.saved()).settlement == made.serialize()


async def test_a_refund_that_a_reorganisation_took_away_is_not_sent_for_the_payer(
    shop: Shop, miner: RegtestMiner
) -> None:
    """What was seen to end the channel is kept; it is not a settlement for that."""
    saved = await on_the_chain(shop, miner)
    back = TxOutput(Satoshi(9_900), p2pkh(PAYER.hash))
    taken = refund(LOCK, saved.params.outpoint, saved.params.capacity, back, PAYER)
    await shop.store.move_payee(saved.params.outpoint, State.REFUNDED, taken.serialize())
    till, earning = await shop.till(*payments(saved.params, 7))
    await till.happened(earning, Event.UNSEEN, None)
    await till.settle(earning, "again")
    assert await shop.spender(earning) == settlement_of(saved.params, 7).txid


async def test_what_ended_a_channel_is_what_is_shown(shop: Shop, miner: RegtestMiner) -> None:
    """Also when it was not the settlement that this run made."""
    saved = await on_the_chain(shop, miner)
    till, earning = await shop.till(*payments(saved.params, 7))
    newer = settlement_of(saved.params, 9)
    await till.happened(earning, Event.SETTLEMENT_SEEN, newer)
    assert earning.settlement == (await shop.saved()).settlement == newer.serialize()


# -- how long nobody may be there -------------------------------------------------------------------------------------


@pytest.mark.parametrize("idle", [60, 900, 86_400])
async def test_a_channel_is_settled_when_nobody_was_there_for_the_agreed_time_and_not_before(
    shop: Shop, miner: RegtestMiner, idle: int
) -> None:
    """Whatever this node's own setting is by now: the channel keeps what was agreed when it was opened."""
    lock = replace(LOCK, expiry=NOW + 72 * HOUR)
    saved = await on_the_chain(shop, miner, lock, idle)
    till, earning = await shop.till(*payments(saved.params, 5))
    shop.now = NOW + idle - 1
    await till.tick()
    assert earning.state is State.OPEN
    shop.now = NOW + idle
    await till.tick()
    assert await shop.spender(earning) == settlement_of(saved.params, 5).txid


async def test_the_expiry_does_not_wait_for_the_idle_time(shop: Shop, miner: RegtestMiner) -> None:
    saved = await on_the_chain(shop, miner, idle=86_400)
    till, earning = await shop.till(*payments(saved.params, 5))
    shop.now = saved.params.lock.expiry - 2 * HOUR
    await till.tick()
    assert earning.state is State.SETTLED


async def test_a_channel_of_an_older_bct_goes_on_after_the_upgrade(
    shop: Shop, miner: RegtestMiner, tmp_path: Path
) -> None:
    path = tmp_path / "bct.db"
    async with opened(path) as database:
        shop.store = database.channels
        saved = await on_the_chain(shop, miner, idle=3600)
    migrate(path, "0001")
    async with opened(path) as database:
        shop.store = database.channels
        till, earning = await shop.till(*payments(saved.params, 5))
        earning.account.payee.accept(0, 6, payments(saved.params, 6)[-1].signature, now=NOW, exposure=None)
        shop.now = NOW + 899
        await till.tick()
        assert earning.state is State.OPEN
        shop.now = NOW + 900
        await till.tick()
        assert await shop.spender(earning) == settlement_of(saved.params, 6).txid


@pytest.mark.parametrize(("offered", "asked", "agreed"), [(900, 60, 60), (900, 86_400, 900), (86_400, 86_400, 86_400)])
async def test_the_idle_time_of_an_opening_is_kept(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, offered: int, asked: int, agreed: int
) -> None:
    """Two whole nodes: what the viewer asks for in OPEN is what its seeder saves, unless its offer said less."""
    async with (
        running_node(tmp_path / "seeder", chain, idle=offered) as seeder,
        running_node(tmp_path / "viewer", chain, idle=asked) as viewer,
    ):
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", 6)
        play = await viewer.play(title.link, None)
        assert await watch(play) == title.film
        (earning,) = seeder.till.earnings.values()
        assert earning.saved.idle == agreed
        assert earning.idle_since is None, "its viewer is there"
