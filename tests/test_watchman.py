"""What the watchman makes of what the chain says, on the real chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.channel.lock import Lock
from bct.channel.state import State
from bct.channel.store import SavedPayer
from bct.channel.transactions import Params
from bct.node.daemon import Node
from bct.node.purse import LOCK_SIZE, Spending
from bct.node.sight import DEEP
from bct.units import Outpoint, Payees, Satoshi
from bct.wallet import paths
from tests.channel_parts import EXPIRY, PAYEE
from tests.nodes import MemoryStore, running_node
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
