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
from bct.channel.lock import refund
from bct.channel.state import Event, State
from bct.channel.store import SavedPayee
from bct.channel.transactions import Params
from bct.config import ChannelConfig
from bct.node.till import Earning, Till
from bct.pay.payee_session import PayeeKeys
from bct.pay.records import Paid, Record
from bct.units import Outpoint, Satoshi, Txid
from tests.channel_parts import FILM, LOCK, NOW, PAYEE, PAYER, new_payee, new_payer, params
from tests.nodes import MemoryStore
from tests.pay_parts import IDENTITY, POLICY

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
    store: MemoryStore
    now: int = NOW

    async def till(self, *found: Record) -> tuple[Till, Earning]:
        """As a start finds it: with these records in its ledger."""
        keys = PayeeKeys(IDENTITY, b"a secret", lambda _: PAYEE)
        till = Till([self.chain], self.store, self.ledger, keys, POLICY, ChannelConfig(), lambda: self.now)
        (saved,) = self.store.payee.values()
        await till.load({saved.params.outpoint: list(found)}, lambda _: 1)
        (earning,) = till.earnings.values()
        return till, earning

    async def spender(self, earning: Earning) -> Txid | None:
        spend = await self.chain.spender(earning.outpoint)
        return spend.txid if spend else None


@pytest.fixture
async def shop(tmp_path: Path, chain: ChainNode) -> AsyncIterator[Shop]:
    ledger = Ledger.open(tmp_path / "ledger", lambda _: None)
    yield Shop(chain, ledger, MemoryStore())
    await ledger.close()


async def on_the_chain(shop: Shop, miner: RegtestMiner, **change: object) -> SavedPayee:
    """A channel with a funding in a block."""
    funding = await miner.pay(LOCK.script(), 10_000)
    await miner.mine()
    fixed = params(outpoint=Outpoint(funding.txid, 0))
    saved = replace(SavedPayee(fixed, bytes(16), FILM, (), NOW), **change)  # type: ignore[arg-type]
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
    assert shop.store.payee[earning.outpoint].settlement == made.serialize()


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
    assert earning.settlement == shop.store.payee[earning.outpoint].settlement == newer.serialize()
