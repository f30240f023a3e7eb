"""What every `Chain` must do: one story a function, each given a chain and a world that mines on it.

A back-end's test runs `STORIES` over the real thing. Stories leave nothing behind but mined blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from bct.bitcoin.chain import Chain, ChainEvent, HistoryItem, Outcome, Place, Seen, Spend, Tip
from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.tx import Tx, TxInput
from bct.units import Outpoint, Txid
from tests.coins import Coin, World, coins_of, new_key, some_coins, spend

PATIENCE = 30.0
NOWHERE = Txid(b"\x17" * 32)


async def outcomes(chain: Chain, *txs: Tx) -> list[Outcome]:
    answers = await chain.broadcast([tx.serialize() for tx in txs])
    assert [one.txid for one in answers] == [tx.txid for tx in txs]
    return [one.outcome for one in answers]


async def until(events: AsyncIterator[ChainEvent], wanted: Callable[[ChainEvent], bool]) -> ChainEvent:
    """The next event that is wanted; others pass."""
    async with asyncio.timeout(PATIENCE):
        async for event in events:
            if wanted(event):
                return event
    raise AssertionError("events() is endless")


async def a_transaction_is_accepted_and_from_then_on_known(chain: Chain, world: World) -> None:
    (coin,) = await some_coins(world)
    tx = spend(coin)
    assert await outcomes(chain, tx) == [Outcome.ACCEPTED]
    assert await outcomes(chain, tx) == [Outcome.KNOWN]
    await world.mine()
    assert await outcomes(chain, tx) == [Outcome.KNOWN]


async def a_mined_transaction_is_known_though_all_its_outputs_are_spent(chain: Chain, world: World) -> None:
    (coin,) = await some_coins(world)
    tx = spend(coin)
    child = spend(*coins_of(tx, coin.key))
    assert await outcomes(chain, tx, child) == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    await world.mine()
    assert await outcomes(chain, tx) == [Outcome.KNOWN]


async def a_family_goes_in_one_batch_and_twice_is_once(chain: Chain, world: World) -> None:
    (coin,) = await some_coins(world)
    parent = spend(coin)
    child = spend(*coins_of(parent, coin.key))
    assert await outcomes(chain, parent, child, parent) == [Outcome.ACCEPTED] * 3


async def the_second_to_spend_a_coin_is_in_conflict(chain: Chain, world: World) -> None:
    (coin,) = await some_coins(world)
    first, second = spend(coin), spend(coin, fee=300)
    assert await outcomes(chain, first) == [Outcome.ACCEPTED]
    assert await outcomes(chain, second) == [Outcome.CONFLICT]
    await world.mine()
    assert await outcomes(chain, second) == [Outcome.CONFLICT], "the coin is spent in a block now"
    assert await chain.place(second.txid) is None


async def what_can_never_be_mined_is_invalid(chain: Chain, world: World) -> None:
    coin, other, third = await some_coins(world, 3)
    good = spend(coin)
    forged = replace(good, inputs=(TxInput(other.outpoint, good.inputs[0].script),))
    invented = spend(Coin(Outpoint(NOWHERE, 0), 10_000, coin.key))
    no_such_output = spend(Coin(Outpoint(coin.outpoint.txid, 77), 10_000, coin.key))
    greedy = spend(third, fee=-1)
    assert await outcomes(chain, forged, invented, no_such_output, greedy) == [Outcome.INVALID] * 4
    assert await outcomes(chain, good) == [Outcome.ACCEPTED]


async def bytes_that_are_no_transaction_are_invalid_and_spoil_no_batch(chain: Chain, world: World) -> None:
    (coin,) = await some_coins(world)
    good = spend(coin).serialize()
    answers = await chain.broadcast([b"", good, good + b"\0"])
    assert [one.outcome for one in answers] == [Outcome.INVALID, Outcome.ACCEPTED, Outcome.INVALID]
    assert await chain.broadcast([]) == []


async def a_fee_below_the_floor_is_refused_at_once(chain: Chain, world: World) -> None:
    poor, rich = await some_coins(world, 2)
    rate = await chain.fee_rate()
    size = len(spend(poor).serialize())
    assert await outcomes(chain, spend(poor, fee=(size - 10) * rate // 1000 - 1)) == [Outcome.INVALID]
    assert await outcomes(chain, spend(rich, fee=(size + 10) * rate // 1000 + 1)) == [Outcome.ACCEPTED]


async def a_transaction_has_a_place(chain: Chain, world: World) -> None:
    assert await chain.place(NOWHERE) is None
    assert await chain.transaction(NOWHERE) is None
    tx = await world.pay(b"\x51", 1_000)
    assert await chain.place(tx.txid) == Place(None, 0)
    assert await chain.transaction(tx.txid) == tx.serialize()
    await world.mine(3)
    height = (await chain.tip()).height
    assert await chain.place(tx.txid) == Place(height - 2, 3)
    assert await chain.transaction(tx.txid) == tx.serialize()


async def headers_hang_together(chain: Chain, world: World) -> None:
    mined = await world.mine(2)
    tip = await chain.tip()
    before = await chain.header(tip.height - 1)
    assert before is not None
    assert [before.hash, tip.hash] == mined
    assert tip.previous == before.hash
    assert await chain.header(tip.height) == tip
    assert await chain.header(tip.height + 1) is None
    assert before.median_time <= tip.median_time <= tip.time
    genesis = await chain.header(0)
    assert genesis is not None
    assert genesis.previous == bytes(32)


async def a_script_has_a_history(chain: Chain, world: World) -> None:
    key = new_key()
    (coin,) = await some_coins(world)
    assert await chain.history(coin.script) == [HistoryItem(coin.outpoint.txid, None)]
    assert await chain.spender(coin.outpoint) is None
    await world.mine()
    height = (await chain.tip()).height
    away = spend(coin, script=Coin(coin.outpoint, 0, key).script)
    await outcomes(chain, away)
    received = HistoryItem(coin.outpoint.txid, height)
    assert await chain.history(coin.script) == [received, HistoryItem(away.txid, None)]
    assert await chain.spender(coin.outpoint) == Spend(away.txid, 0, None)
    await world.mine()
    assert await chain.history(coin.script) == [received, HistoryItem(away.txid, height + 1)]
    assert await chain.spender(coin.outpoint) == Spend(away.txid, 0, height + 1)
    assert await chain.history(coins_of(away, key)[0].script) == [HistoryItem(away.txid, height + 1)]
    assert await chain.history(b"\x6a") == []


async def each_mined_transaction_is_proven_to_its_header(chain: Chain, world: World) -> None:
    for size in range(1, 6):
        coins = [one for _ in range(size) for one in await some_coins(world)]
        assert await chain.merkle_path(coins[0].outpoint.txid) is None
        await world.mine()
        header = await chain.tip()
        for coin in coins:
            raw = await chain.merkle_path(coin.outpoint.txid)
            assert raw is not None
            path = MerklePath.parse(raw)
            assert (path.height, path.root(coin.outpoint.txid)) == (header.height, header.merkle_root)
    assert await chain.merkle_path(NOWHERE) is None


async def a_block_of_one_transaction_has_a_proof_too(chain: Chain, world: World) -> None:
    await world.mine(2)
    header = await chain.tip()
    coinbase = Txid(header.merkle_root)
    raw = await chain.merkle_path(coinbase)
    assert raw is not None
    assert MerklePath.parse(raw).root(coinbase) == header.merkle_root


async def events_begin_with_the_tip_and_miss_nothing(chain: Chain, world: World) -> None:
    (coin,) = await some_coins(world)
    events = chain.events()
    assert await anext(events) == Tip(await chain.tip())
    tx = spend(coin)
    await outcomes(chain, tx)
    assert await until(events, lambda e: isinstance(e, Seen)) == Seen(tx.txid, tx.serialize())
    await world.mine()
    assert await until(events, lambda e: isinstance(e, Tip)) == Tip(await chain.tip())


async def two_listeners_hear_the_same(chain: Chain, world: World) -> None:
    (coin,) = await some_coins(world)
    first, second = chain.events(), chain.events()
    assert await anext(first) == await anext(second)
    tx = spend(coin)
    await outcomes(chain, tx)
    for events in (first, second):
        assert await until(events, lambda e: isinstance(e, Seen)) == Seen(tx.txid, tx.serialize())


async def what_others_hand_in_is_heard_of(chain: Chain, world: World) -> None:
    events = chain.events()
    await anext(events)
    tx = await world.pay(b"\x51", 1_000)
    assert await until(events, lambda e: isinstance(e, Seen)) == Seen(tx.txid, tx.serialize())


Story = Callable[[Chain, World], Awaitable[None]]

STORIES: tuple[Story, ...] = (
    a_transaction_is_accepted_and_from_then_on_known,
    a_mined_transaction_is_known_though_all_its_outputs_are_spent,
    a_family_goes_in_one_batch_and_twice_is_once,
    the_second_to_spend_a_coin_is_in_conflict,
    what_can_never_be_mined_is_invalid,
    bytes_that_are_no_transaction_are_invalid_and_spoil_no_batch,
    a_fee_below_the_floor_is_refused_at_once,
    a_transaction_has_a_place,
    headers_hang_together,
    a_script_has_a_history,
    each_mined_transaction_is_proven_to_its_header,
    a_block_of_one_transaction_has_a_proof_too,
    events_begin_with_the_tip_and_miss_nothing,
    two_listeners_hear_the_same,
)

HEARS_ALL: tuple[Story, ...] = (what_others_hand_in_is_heard_of,)
"""For a source that hears of every transaction; one that is only asked does not."""


async def a_dead_source_says_so(chain: Chain) -> None:
    """Not in STORIES: the caller brings a chain whose source is gone."""
    tx = spend(Coin(Outpoint(NOWHERE, 0), 10_000, new_key()))
    (answer,) = await chain.broadcast([tx.serialize()])
    assert (answer.txid, answer.outcome) == (tx.txid, Outcome.UNREACHABLE)
    assert answer.detail
