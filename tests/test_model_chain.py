"""The chain in memory keeps the promises that the real ones keep, and can do what those cannot be asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.bitcoin.chain import Outcome, Place, Spend
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.channel.lock import Lock
from bct.channel.transactions import Params
from bct.units import Outpoint
from tests.channel_attacks import Refund, crooked_refunds, crooked_settlements, early_refunds, settled
from tests.channel_parts import FILM, HOUR, PAYEE, PAYER, SERIES, params
from tests.coins import coins_of, some_coins, spend
from tests.conformance.chain import HEARS_ALL, STORIES, Story, a_dead_source_says_so, outcomes
from tests.model_chain import FEE_RATE, ModelChain

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("story", [*STORIES, *HEARS_ALL], ids=lambda story: story.__name__)
async def test_it_keeps_the_promises_of_every_chain(story: Story) -> None:
    chain = ModelChain()
    await story(chain, chain)


async def test_when_it_is_away_it_says_so() -> None:
    chain = ModelChain()
    chain.answers = False
    await a_dead_source_says_so(chain)


async def test_what_is_parked_comes_when_its_time_does() -> None:
    chain = ModelChain()
    (coin,) = await some_coins(chain)
    early = spend(coin, sequence=1, locktime=chain.now + 3600)
    assert await outcomes(chain, early, spend(coin, fee=300, sequence=1)) == [Outcome.PARKED, Outcome.CONFLICT]
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


async def test_two_that_share_their_blocks_have_pools_of_their_own() -> None:
    first, second = ModelChain(), ModelChain()
    (coin,) = await some_coins(first)
    await first.mine()
    second.follow(first)
    ours, theirs = spend(coin), spend(coin, fee=300)
    child = spend(*coins_of(theirs, coin.key))
    assert await outcomes(first, ours) == [Outcome.ACCEPTED]
    assert await outcomes(second, theirs, child) == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    await first.mine()
    second.follow(first)
    assert (await second.tip()).hash == (await first.tip()).hash
    assert await second.spender(coin.outpoint) == Spend(ours.txid, 0, (await first.tip()).height)
    assert await second.place(theirs.txid) is await second.place(child.txid) is None
    second.fork(1, [ours.txid])
    assert await outcomes(second, theirs) == [Outcome.ACCEPTED]
    await second.mine(2)
    first.follow(second)
    assert await first.spender(coin.outpoint) == Spend(theirs.txid, 0, (await first.tip()).height - 1)
    assert await outcomes(first, ours) == [Outcome.CONFLICT]


async def test_what_pays_less_than_the_floor_waits_until_it_falls() -> None:
    chain = ModelChain()
    (coin,) = await some_coins(chain)
    cheap = spend(coin, fee=30)
    child = spend(*coins_of(cheap, coin.key), fee=1000)
    assert await outcomes(chain, cheap, child) == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    chain.floor = 1000
    await chain.mine()
    assert [await chain.place(tx.txid) for tx in (cheap, child)] == [Place(None, 0)] * 2
    assert await outcomes(chain, spend(*coins_of(child, coin.key), fee=30)) == [Outcome.INVALID]
    chain.floor = FEE_RATE
    await chain.mine()
    assert [await chain.place(tx.txid) for tx in (cheap, child)] == [Place(2, 1)] * 2


class Twins:
    """A real node and the model, told the same: what the one says the other has to say."""

    def __init__(self, chain: ChainNode, miner: RegtestMiner, model: ModelChain) -> None:
        self.chain, self.miner, self.model = chain, miner, model
        self.said: list[Outcome] = []

    async def fund(self, script: bytes, satoshi: int, count: int = 1) -> Tx:
        tx = await self.miner.pay(script, satoshi, count)
        self.model.take(tx)
        return tx

    async def mine(self) -> None:
        await self.miner.mine()
        self.model.now = (await self.chain.tip()).time
        await self.model.mine()

    async def send(self, what: str, tx: Tx) -> Outcome:
        (real,), (model,) = [await outcomes(one, tx) for one in (self.chain, self.model)]
        assert model is real, f"{what}: the node says {real.value}, the model {model.value}"
        assert (await self.chain.place(tx.txid) is None) is (await self.model.place(tx.txid) is None), what
        self.said.append(real)
        return real


async def test_it_says_what_a_node_says(chain: ChainNode, miner: RegtestMiner) -> None:
    """Everything that a simulated payer or payee may try on a channel's output, expired or not, and on plain coins."""
    model = ModelChain((await chain.tip()).time)
    twins = Twins(chain, miner, model)
    for _ in range(11):
        await twins.mine()
    for expiry in (model.now + HOUR, model.now - 7 * 24 * HOUR):
        lock = Lock(PAYER.public, PAYEE.public, expiry)
        funding = await twins.fund(lock.script(), 10_000, 8)
        channels = [params(outpoint=Outpoint(funding.txid, n), lock=lock, rate=1000) for n in range(8)]
        a, b, c, d, e, f, g, _ = channels
        if expiry > model.now:
            for what, tx in (early_refunds(a) | crooked_refunds(a) | crooked_settlements(a)).items():
                await twins.send(what, tx)
        await twins.send("a settlement", settled(a, (FILM,), (600,)))
        await twins.send("the same again", settled(a, (FILM,), (600,)))
        await twins.send("a newer one", settled(a, (FILM,), (601,)))
        await twins.send("a refund behind it", Refund().of(a))
        await twins.send("a refund", Refund().of(b))
        await twins.send("the same refund again", Refund().of(b))
        await twins.send("another refund", Refund(locktime=expiry + 5).of(b))
        await twins.send("a settlement behind a refund", settled(b, (FILM,), (600,)))
        await twins.send("a refund behind that", Refund(locktime=expiry + 9).of(b))
        await twins.send("two channels in one refund", Refund(twin=d).of(c))
        await twins.send("a refund for a far later time", Refund(locktime=model.now + 30 * 24 * HOUR).of(e))
        await twins.send("a settlement behind it", settled(e, (FILM, SERIES), (600, 10)))
        await twins.send("of an output that is not there", settled(replace_index(f, 77), (FILM,), (600,)))
        await twins.send("at the totals 0", settled(g, (FILM,), (0,)))
        await twins.mine()
        await twins.send("a refund behind a block", Refund().of(a))
        await twins.send("a settlement that a block holds", settled(a, (FILM,), (600,)))
        await twins.send("a refund of what a block has settled", Refund().of(g))
    coin, other, third = coins_of(await twins.fund(p2pkh(PAYER.hash), 10_000, 3), PAYER)
    await twins.send("too small a fee", spend(coin, fee=18))
    await twins.send("out of two coins", spend(coin, other))
    await twins.send("a double spend", spend(other, third))
    await twins.send("the third alone", spend(third, sequence=7, locktime=model.now + HOUR))
    await twins.send("a child of what is parked", spend(*coins_of(spend(third, sequence=7, locktime=model.now), PAYER)))
    await twins.send("a later version, no higher", spend(third, fee=300, sequence=7, locktime=model.now + HOUR))
    await twins.send("a later version, higher", spend(third, fee=300, sequence=8, locktime=model.now + HOUR))
    await twins.send("the last one", spend(third, fee=300))
    assert set(twins.said) == {*Outcome} - {Outcome.UNREACHABLE}
    assert len(twins.said) > 80


def replace_index(channel: Params, index: int) -> Params:
    return replace(channel, outpoint=Outpoint(channel.outpoint.txid, index))
