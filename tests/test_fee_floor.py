"""THREATS 33: miners ask more than was agreed when a channel was opened, on a real node.

Like a real one it takes what pays too little into its pool, mines it with a child that pays for both, and not without.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bct.bitcoin.chain import Place
from bct.bitcoin.tx import Tx
from bct.channel.state import Role, State
from bct.node.upkeep import PASSED_OVER
from tests.deal import Deal, World, a_deal, own_world

pytestmark = pytest.mark.anyio

FLOOR = 300


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with own_world(tmp_path) as opened:
        yield opened


async def settled_too_cheap(deal: Deal) -> Tx:
    """A settlement that waits in the pool of a node that will not mine it."""
    world = deal.world
    await world.miner.mine()
    await deal.look()
    await deal.hang_up()
    await world.ask_fees(FLOOR)
    await world.miner.mine()
    await deal.seeder.watchman.look()
    assert deal.earning.state is State.SETTLED
    await world.miner.mine()
    assert await world.chain.place(deal.settlement.txid) == Place(None, 0)
    return deal.settlement


async def test_a_channel_agreed_at_less_than_miners_ask_is_settled_at_once_and_its_payee_pays_for_a_child(
    tmp_path: Path, world: World
) -> None:
    async with a_deal(tmp_path, world, price=100) as deal:
        settlement = await settled_too_cheap(deal)
        for _ in range(PASSED_OVER[Role.PAYEE]):
            await deal.seeder.watchman.look()
            await world.miner.mine()
        assert await deal.mined(settlement)
        await deal.look()
        payout = 700 * 40 // 100
        left = deal.seeder.wallet.balance.confirmed
        assert payout - 130 < left < payout - 100, (
            "what 300 sat/kB for both of them cost beyond the settlement's own fee"
        )


async def test_a_child_that_costs_more_than_it_saves_is_not_made_and_the_payer_frees_its_change_later(
    tmp_path: Path, world: World
) -> None:
    async with a_deal(tmp_path, world, price=20) as deal:
        settlement = await settled_too_cheap(deal)
        for _ in range(PASSED_OVER[Role.PAYER]):
            await deal.look()
            assert await world.chain.place(settlement.txid) == Place(None, 0)
            await world.miner.mine()
        await deal.look()
        assert deal.seeder.wallet.balance.pending == 56
        await world.miner.mine()
        assert await deal.mined(settlement)
        await deal.look()
        assert deal.both(State.SETTLED)


async def test_offers_and_openings_follow_what_miners_ask(tmp_path: Path, world: World) -> None:
    async with a_deal(tmp_path, world, price=100) as deal:
        await world.miner.mine()
        await deal.hang_up()
        await world.ask_fees(FLOOR)
        await world.miner.mine()
        await deal.look()
        deal.play = await deal.viewer.play(deal.title.link, None)
        await deal.buy(12, 13)
        old, new = sorted(deal.viewer.purse.spendings.values(), key=lambda one: one.payer.params.fee_rate)
        assert (old.payer.params.fee_rate, new.payer.params.fee_rate) == (100, FLOOR)
        await deal.viewer.viewer.close(deal.play)
        await world.miner.mine()
        assert await deal.mined(Tx.parse(new.saved.closing))
