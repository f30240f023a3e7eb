"""`ChainNode` on a real BSV node: what every chain must do, and what only this node does."""

from __future__ import annotations

import asyncio
import struct
import time
from itertools import count
from pathlib import Path

import pytest

from bct.backends.chain_node import TWIN, ChainNode, rejections
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.regtest_node import RegtestNode
from bct.bitcoin.chain import GOOD, HistoryItem, Network, Outcome, Place, Seen, Spend, Tip
from bct.bitcoin.keys import sha256d
from bct.bitcoin.script import p2pkh, push, script_number
from bct.bitcoin.tx import FINAL, Tx, TxInput, TxOutput
from bct.errors import ChainError
from bct.units import Outpoint, Satoshi, Txid, txid_from_hex
from tests.coins import coins_of, new_key, some_coins, spend
from tests.conformance.chain import HEARS_ALL, STORIES, Story, a_dead_source_says_so, outcomes, until
from tests.conftest import open_chain

pytestmark = pytest.mark.anyio

IN_A_WEEK = int(time.time()) + 7 * 24 * 3600


@pytest.mark.parametrize("story", [*STORIES, *HEARS_ALL], ids=lambda story: story.__name__)
async def test_it_is_a_chain(story: Story, chain: ChainNode, miner: RegtestMiner) -> None:
    await story(chain, miner)


async def test_a_node_that_is_gone_is_unreachable(tmp_path: Path) -> None:
    cookie = tmp_path / "cookie"
    cookie.write_text("user:password")
    chain = ChainNode(Network.REGTEST, "http://127.0.0.1:1", cookie, "tcp://127.0.0.1:1")
    await a_dead_source_says_so(chain)
    with pytest.raises(ChainError, match=r"127\.0\.0\.1:1 does not answer"):
        await chain.tip()
    cookie.unlink()
    with pytest.raises(ChainError, match=r"does not answer|cookie"):
        await chain.history(b"")


async def test_a_wrong_secret_is_told_apart_from_a_node_that_is_gone(node: RegtestNode, tmp_path: Path) -> None:
    cookie = tmp_path / "cookie"
    cookie.write_text("__cookie__:not this one")
    chain = ChainNode(Network.REGTEST, node.url, cookie, node.zmq)
    with pytest.raises(ChainError, match=f"HTTP 401 without JSON; is its cookie file {cookie}"):
        await chain.tip()
    await chain.close()


async def test_the_same_transaction_by_several_doors_at_once_is_no_conflict(
    node: RegtestNode, miner: RegtestMiner
) -> None:
    """As when payer and payee both broadcast a funding transaction to one node."""
    doors = [open_chain(node) for _ in range(3)]
    for coin in await some_coins(miner, 10):
        raw = spend(coin).serialize()
        answers = await asyncio.gather(*(door.broadcast([raw]) for door in doors))
        assert all(answer.outcome in GOOD for (answer,) in answers)
    for door in doors:
        await door.close()


def test_a_double_spend_of_itself_is_a_twin() -> None:
    """What the node answered to a batch that held one transaction twice, and to a true double spend."""
    one, other = "0a" * 32, "0b" * 32
    reason = "txn-double-spend-detected"
    twin = {"txid": one, "reject_code": 18, "reject_reason": reason, "collidedWith": [{"txid": one, "size": 192}]}
    true = {"txid": other, "reject_code": 18, "reject_reason": reason, "collidedWith": [{"txid": one, "size": 192}]}
    assert rejections({"invalid": [twin, true]}) == {txid_from_hex(one): TWIN, txid_from_hex(other): reason}
    assert rejections({}) == {}


async def test_what_was_before_the_birthday_is_not_looked_at(node: RegtestNode, miner: RegtestMiner) -> None:
    (old,) = await some_coins(miner)
    await miner.mine()
    (new,) = await some_coins(miner)
    await miner.mine()
    birthday = await miner.height()
    chain = ChainNode(Network.REGTEST, node.url, node.cookie_file, node.zmq, birthday)
    assert await chain.history(old.script) == []
    assert await chain.history(new.script) == [HistoryItem(new.outpoint.txid, birthday)]
    young = ChainNode(Network.REGTEST, node.url, node.cookie_file, node.zmq, birthday=birthday + 1_000)
    assert await young.history(new.script) == [HistoryItem(new.outpoint.txid, birthday)], "it begins at the tip"
    await chain.close()
    await young.close()


class TestParked:
    """Transactions with a lock time in the future: held apart, invisible, and in the way of others."""

    async def test_it_is_parked_each_time_it_is_asked(self, chain: ChainNode, miner: RegtestMiner) -> None:
        (coin,) = await some_coins(miner)
        later = spend(coin, sequence=FINAL - 1, locktime=IN_A_WEEK)
        assert await outcomes(chain, later) == [Outcome.PARKED]
        assert await outcomes(chain, later) == [Outcome.PARKED], "the node calls it known"
        assert await chain.place(later.txid) is None
        assert await chain.spender(coin.outpoint) is None

    async def test_what_would_spend_its_coin_otherwise_is_in_conflict(
        self, chain: ChainNode, miner: RegtestMiner
    ) -> None:
        coin, other = await some_coins(miner, 2)
        assert await outcomes(chain, spend(coin, sequence=FINAL - 1, locktime=IN_A_WEEK)) == [Outcome.PARKED]
        same_sequence = spend(coin, fee=300, sequence=FINAL - 1, locktime=IN_A_WEEK)
        other_inputs = spend(coin, other)
        assert await outcomes(chain, same_sequence, other_inputs) == [Outcome.CONFLICT] * 2

    async def test_its_final_version_takes_its_place(self, chain: ChainNode, miner: RegtestMiner) -> None:
        (coin,) = await some_coins(miner)
        assert await outcomes(chain, spend(coin, sequence=FINAL - 1, locktime=IN_A_WEEK)) == [Outcome.PARKED]
        assert await outcomes(chain, spend(coin, fee=300)) == [Outcome.ACCEPTED]

    async def test_nothing_can_be_built_on_it(self, chain: ChainNode, miner: RegtestMiner) -> None:
        (coin,) = await some_coins(miner)
        later = spend(coin, sequence=FINAL - 1, locktime=IN_A_WEEK)
        child = spend(*coins_of(later, coin.key))
        assert await outcomes(chain, later, child) == [Outcome.PARKED, Outcome.INVALID]

    @pytest.mark.long
    async def test_so_many_replacements_that_the_node_stops_looking_are_a_conflict(
        self, chain: ChainNode, miner: RegtestMiner
    ) -> None:
        """7,200 an hour by default."""
        (coin,) = await some_coins(miner, value=1_000_000)
        for first in range(0, 7_500, 500):
            versions = [spend(coin, sequence=first + n, locktime=IN_A_WEEK).serialize().hex() for n in range(500)]
            await chain.rpc.batch([("sendrawtransaction", version) for version in versions])
        (answer,) = await chain.broadcast([spend(coin, sequence=FINAL - 1, locktime=IN_A_WEEK).serialize()])
        assert (answer.outcome, answer.detail) == (Outcome.CONFLICT, "non-final-txn-replacement-rate")


class TestReorganisation:
    async def test_what_left_the_chain_is_forgotten_and_what_came_back_is_found(
        self, chain: ChainNode, miner: RegtestMiner
    ) -> None:
        (coin,) = await some_coins(miner)
        await miner.mine()
        spent = spend(coin)
        await outcomes(chain, spent)
        (old,) = await miner.mine()
        old_coinbase = await coinbase_of_tip(chain)
        height = (await chain.tip()).height
        assert await chain.spender(coin.outpoint) == Spend(spent.txid, 0, height)

        await chain.rpc.call("invalidateblock", old[::-1].hex())
        assert (await chain.tip()).height == height - 1
        assert await chain.spender(coin.outpoint) == Spend(spent.txid, 0, None), "back in the pool"
        assert await chain.history(coin.script) == [
            HistoryItem(coin.outpoint.txid, height - 1),
            HistoryItem(spent.txid, None),
        ]
        assert await chain.place(spent.txid) == Place(None, 0)
        assert await chain.place(old_coinbase) is None, "only a stale block holds it"
        assert await chain.transaction(old_coinbase) is None
        assert await chain.merkle_path(old_coinbase) is None

        await mine_elsewhere(chain, 2)
        assert await chain.spender(coin.outpoint) == Spend(spent.txid, 0, height)
        assert await chain.place(spent.txid) == Place(height, 2)

    async def test_a_payment_that_lost_to_another_is_gone(self, chain: ChainNode, miner: RegtestMiner) -> None:
        (coin,) = await some_coins(miner)
        await miner.mine()
        loser, winner = spend(coin), spend(coin, fee=300)
        await outcomes(chain, loser)
        assert await chain.spender(coin.outpoint) == Spend(loser.txid, 0, None)
        await mine_instead(chain, winner)
        height = (await chain.tip()).height
        assert await chain.spender(coin.outpoint) == Spend(winner.txid, 0, height)
        assert HistoryItem(loser.txid, None) not in await chain.history(coin.script)
        assert await outcomes(chain, loser) == [Outcome.CONFLICT]

    async def test_events_tell_of_the_other_branch(self, chain: ChainNode, miner: RegtestMiner) -> None:
        (old,) = await miner.mine()
        events = chain.events()
        assert await anext(events) == Tip(await chain.tip())
        await chain.rpc.call("invalidateblock", old[::-1].hex())
        new, newest = await mine_elsewhere(chain, 2)
        event = await until(events, lambda e: isinstance(e, Tip) and e.header.hash == newest)
        assert isinstance(event, Tip)
        assert event.header.previous == new


async def coinbase_of_tip(chain: ChainNode) -> Txid:
    block = await chain.rpc.call("getblock", (await chain.tip()).hash[::-1].hex(), 1)
    return Txid(bytes.fromhex(block["tx"][0])[::-1])


async def mine_elsewhere(chain: ChainNode, blocks: int) -> list[bytes]:
    """To another's address: our miner would find the very block again that was declared invalid."""
    address = (await chain.rpc.call("decodescript", p2pkh(new_key().hash).hex()))["addresses"][0]
    return [bytes.fromhex(one)[::-1] for one in await chain.rpc.call("generatetoaddress", blocks, address)]


async def mine_instead(chain: ChainNode, tx: Tx) -> None:
    """Another miner's block: nothing of our node's pool, only this transaction."""
    tip = await chain.tip()
    height = script_number(tip.height + 1)
    coinbase = Tx(
        (TxInput(Outpoint(Txid(bytes(32)), 0xFFFFFFFF), push(height) + b"\x51"),), (TxOutput(Satoshi(1), b"\x51"),)
    )
    root = sha256d(coinbase.txid + tx.txid)
    start = struct.pack("<I", 0x20000000) + tip.hash + root + struct.pack("<II", tip.median_time + 1, 0x207FFFFF)
    header = next(h for h in (start + struct.pack("<I", n) for n in count()) if sha256d(h)[31] < 0x7F)
    block = header + b"\2" + coinbase.serialize() + tx.serialize()
    assert await chain.rpc.call("submitblock", block.hex()) is None


class TestRestart:
    async def test_a_node_that_comes_back_with_another_secret_is_asked_again(self, tmp_path: Path) -> None:
        node = await RegtestNode.start(tmp_path)
        chain = open_chain(node)
        miner = RegtestMiner(chain)
        await miner.start()
        (coin,) = await some_coins(miner)
        await miner.mine()
        events = chain.events()
        before = await anext(events)
        secret = node.cookie_file.read_text()
        await node.stop()
        await a_dead_source_says_so(chain)

        await node.restart()
        assert node.cookie_file.read_text() != secret
        assert await until(events, lambda e: isinstance(e, Tip)) == before == Tip(await chain.tip())
        tx = spend(coin)
        assert await outcomes(chain, tx) == [Outcome.ACCEPTED]
        assert await until(events, lambda e: isinstance(e, Seen)) == Seen(tx.txid, tx.serialize())
        assert await chain.spender(coin.outpoint) == Spend(tx.txid, 0, None)
        await chain.close()
        await node.stop()

    async def test_a_node_that_was_killed_has_lost_its_pool_and_is_believed(self, tmp_path: Path) -> None:
        node = await RegtestNode.start(tmp_path)
        chain = open_chain(node)
        miner = RegtestMiner(chain)
        await miner.start()
        (mined,) = await some_coins(miner)
        await miner.mine()
        (pooled,) = await some_coins(miner)
        assert await chain.history(pooled.script) == [HistoryItem(pooled.outpoint.txid, None)]
        await node.kill()
        await node.restart()
        assert await chain.history(pooled.script) == []
        assert await chain.history(mined.script) == [HistoryItem(mined.outpoint.txid, 102)]
        await chain.close()
        await node.stop()
