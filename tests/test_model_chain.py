"""The chain in memory keeps the promises that the real ones keep, and can do what those cannot be asked for."""

from __future__ import annotations

import pytest

from bct.bitcoin.chain import Outcome, Place
from tests.coins import some_coins, spend
from tests.conformance.chain import STORIES, Story, a_dead_source_says_so, outcomes
from tests.model_chain import ModelChain

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_it_keeps_the_promises_of_every_chain(story: Story) -> None:
    chain = ModelChain()
    await story(chain, chain)


async def test_when_it_is_away_it_says_so() -> None:
    chain = ModelChain()
    chain.answers = False
    await a_dead_source_says_so(chain)


async def test_a_lock_time_that_has_not_come_is_parked_and_holds_its_coin() -> None:
    chain = ModelChain()
    (coin,) = await some_coins(chain)
    early = spend(coin, sequence=1, locktime=chain.now + 3600)
    assert await outcomes(chain, early, spend(coin, fee=300)) == [Outcome.PARKED, Outcome.CONFLICT]
    assert await chain.place(early.txid) is None
    chain.now += 7200
    await chain.mine(12)
    assert await chain.place(early.txid) is not None


async def test_a_fork_takes_blocks_back_and_may_forget_what_was_in_them() -> None:
    chain = ModelChain()
    (coin,) = await some_coins(chain)
    first, second = spend(coin), spend(coin, fee=300)
    await outcomes(chain, first)
    await chain.mine(2)
    chain.fork(2)
    assert await chain.place(first.txid) == Place(None, 0)
    await chain.mine()
    chain.fork(1, [first.txid])
    assert await chain.spender(coin.outpoint) is None
    assert await outcomes(chain, second) == [Outcome.ACCEPTED]
