"""A node with payment channels to look after, on chains in memory: what a watchman comes to, at any hour."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bct.backends.ledger import Ledger
from bct.bitcoin.chain import Chain
from bct.channel.lock import Lock
from bct.channel.store import SavedPayee
from bct.channel.transactions import Params
from bct.node.daemon import Node
from bct.node.till import Earning
from bct.pay import records
from bct.pay.records import Paid
from bct.units import Outpoint
from bct.wallet import paths
from bct.wallet.keyring import Keyring
from tests.channel_parts import FILM, HOUR, NOW, PAYER, new_payer, params
from tests.coins import Coin, some_coins, spend
from tests.model_chain import ModelChain
from tests.nodes import MemoryStore, running_node

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
CAPACITY = 10_000


@dataclass
class Post:
    """now: what the node takes for the time, while it is up too."""

    root: Path
    chain: ModelChain = field(default_factory=lambda: ModelChain(NOW))
    store: MemoryStore = field(default_factory=MemoryStore)
    now: int = NOW
    coins: dict[Outpoint, Coin] = field(default_factory=dict)
    """What each channel's funding spends."""

    async def earn(self, paid: int = 140, *, expiry: int = NOW + 12 * HOUR, rate: int = 100) -> Outpoint:
        """A channel over which so much was paid; its funding is in a block. To be called before the node is up."""
        nonce = len(self.store.payee).to_bytes(16)
        payee = Keyring.of_words(WORDS).key(paths.payee(nonce))
        lock = Lock(PAYER.public, payee.public, expiry)
        (coin,) = await some_coins(self.chain, value=CAPACITY + 200)
        funding = spend(coin, script=lock.script(), fee=200)
        await self.chain.broadcast([funding.serialize()])
        await self.chain.mine()
        fixed = params(CAPACITY, rate, outpoint=Outpoint(funding.txid, 0), lock=lock)
        saved = SavedPayee(fixed, nonce, FILM, (funding.serialize(),), NOW - HOUR, idle=24 * HOUR)
        self.coins[fixed.outpoint] = coin
        await self.store.add_payee(saved)
        if paid:
            await self._write(fixed, paid)
        return fixed.outpoint

    async def _write(self, fixed: Params, paid: int) -> None:
        payment = new_payer(fixed).pay(0, paid, PAYER, now=NOW)
        ledger = Ledger.open(self.root / "payee.ledger", lambda _: None)
        ledger.append(records.encode(Paid(fixed.outpoint, 0, payment.total, payment.signature)))
        await ledger.close()

    @asynccontextmanager
    async def on_duty(self, *others: Chain) -> AsyncIterator[Node]:
        """The node, which looks at the chain when the test says so. others: further sources."""
        async with running_node(
            self.root, self.chain, WORDS, self.store, others, unix=lambda: self.now, fee_rate=100
        ) as node:
            await node.watchman.stop()
            yield node


def only(node: Node) -> Earning:
    (earning,) = node.till.earnings.values()
    return earning


def words(node: Node) -> list[str]:
    """Of all its alarms."""
    return [alarm.word for alarm in node.bell.alarms]
