"""The chain takes back what it said: fundings, settlements and refunds lose their blocks, on a real node.

THREATS 34 throughout. Each story has a node of its own, for what was taken back stays invalid on it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bct.bitcoin.chain import Place
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx, TxOutput
from bct.channel.lock import refund
from bct.channel.state import Event, State
from bct.node.sight import DEEP
from bct.node.wallet import NodeWallet
from bct.units import Satoshi
from tests.blocks import mine_only, take_back
from tests.deal import Deal, World, a_deal, own_world

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def world(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with own_world(tmp_path_factory.mktemp("reorgs")) as opened:
        yield opened


@pytest.fixture
async def deal(tmp_path: Path, world: World) -> AsyncIterator[Deal]:
    async with a_deal(tmp_path, world) as opened:
        yield opened


async def test_a_funding_that_loses_its_block_is_trusted_as_a_fresh_one_again(deal: Deal, world: World) -> None:
    account = deal.earning.account
    await world.miner.mine()
    await deal.look()
    assert account.cap is None
    await take_back(world.chain)
    await deal.look()
    assert account.cap == 1_000
    await mine_only(world.chain)
    await world.miner.mine()
    await deal.look()
    assert account.cap is None


async def test_a_settlement_that_loses_its_block_is_brought_back_and_kept_until_it_is_deep(
    deal: Deal, world: World
) -> None:
    await world.miner.mine()
    await deal.viewer.viewer.close(deal.play)
    settlement = deal.settlement
    await world.miner.mine()
    await deal.look()
    assert deal.both(State.SETTLED)
    await take_back(world.chain)
    await mine_only(world.chain)
    await mine_only(world.chain)
    await deal.look()
    assert deal.earning.state is State.SETTLED, "it waits in the pool"
    await world.miner.mine()
    assert await deal.mined(settlement)
    await world.miner.mine(DEEP - 2)
    await deal.look()
    assert deal.earning.state is State.SETTLED
    await world.miner.mine(2)
    await deal.look()
    assert deal.both(State.DONE)


async def test_a_settlement_whose_block_is_lost_and_that_nobody_remembers_is_sent_again(
    deal: Deal, world: World
) -> None:
    """The node has it neither in a block nor in its pool: as after a reorganisation while it was down."""
    await world.miner.mine()
    await deal.viewer.viewer.close(deal.play)
    await world.miner.mine()
    await deal.look()
    await take_back(world.chain)
    await world.forget()
    assert await world.chain.spender(deal.earning.outpoint) is None
    await deal.look()
    assert await world.chain.place(deal.settlement.txid) == Place(None, 0)
    assert deal.earning.state is State.SETTLED
    await mine_only(world.chain)
    await world.miner.mine()
    assert await deal.mined(deal.settlement)


async def test_the_payer_brings_the_settlement_back_as_well(deal: Deal, world: World) -> None:
    """Its change is in it."""
    await world.miner.mine()
    await deal.viewer.viewer.close(deal.play)
    await world.miner.mine()
    await deal.look()
    await take_back(world.chain)
    await world.forget()
    await deal.viewer.watchman.look()
    assert await world.chain.place(deal.settlement.txid) == Place(None, 0)
    await deal.look()
    assert deal.both(State.SETTLED)


async def test_a_funding_and_its_settlement_that_are_both_forgotten_come_back_together(
    deal: Deal, world: World
) -> None:
    await world.miner.mine()
    await deal.look()
    await deal.viewer.viewer.close(deal.play)
    await world.miner.mine()
    await deal.look()
    await take_back(world.chain, 2)
    await world.forget()
    assert await world.chain.place(deal.earning.outpoint.txid) is None
    await deal.seeder.watchman.look()
    await mine_only(world.chain)
    await world.miner.mine()
    assert await deal.mined(deal.settlement)


async def test_a_payer_that_has_seen_the_settlement_takes_nothing_back(deal: Deal, world: World) -> None:
    """The chain has forgotten it after the expiry. The refund would be good now, and it is not sent: what was owed is
    handed over again."""
    expiry = deal.spending.payer.params.lock.expiry
    assert deal.viewer.purse.is_refundable(deal.spending, expiry + 60)
    await world.miner.mine()
    await deal.viewer.viewer.close(deal.play)
    await deal.look()
    await deal.viewer.purse.happened(deal.spending, Event.UNSEEN, None)
    assert deal.spending.payer.state is State.CLOSING
    assert not deal.viewer.purse.is_refundable(deal.spending, expiry + 60)


async def test_a_refund_that_wins_after_a_reorganisation_is_what_counts_and_so_is_a_settlement_that_wins_it_back(
    deal: Deal, world: World
) -> None:
    """The worst end: the settlement's block is lost after the expiry, and a miner takes the payer's refund instead. And
    when that block is lost in its turn, another one may have the settlement."""
    expiry = deal.spending.payer.params.lock.expiry
    await world.miner.mine()
    await deal.hang_up()
    await world.pass_time(expiry + 60)
    await deal.seeder.close_channel(deal.earning.outpoint)
    settlement = deal.settlement
    await world.miner.mine()
    await deal.look()
    assert deal.both(State.SETTLED)
    await take_back(world.chain)
    await mine_only(world.chain, await refund_of(deal))
    await deal.look()
    assert deal.both(State.REFUNDED)
    await take_back(world.chain)
    await mine_only(world.chain, settlement)
    await deal.look()
    assert deal.both(State.SETTLED)
    await world.miner.mine(DEEP)
    await deal.look()
    assert deal.both(State.DONE)
    await the_wallet_counts_one_end(deal, world)
    await world.chain.rpc.call("setmocktime", 0)


async def the_wallet_counts_one_end(deal: Deal, world: World) -> None:
    """What it says it has is what the words alone find on the chain."""
    fresh = NodeWallet(world.chain, deal.viewer.wallet._keyring)
    await fresh.sync(deal.viewer.purse.addresses())
    assert deal.viewer.wallet.balance == fresh.balance


async def refund_of(deal: Deal) -> Tx:
    """As the payer's own code makes it."""
    spending, purse = deal.spending, deal.viewer.purse
    params = spending.payer.params
    output = TxOutput(Satoshi(params.capacity - 40), p2pkh(params.change))
    return refund(params.lock, params.outpoint, params.capacity, output, purse.key(spending))
