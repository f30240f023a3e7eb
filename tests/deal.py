"""A payment channel between two whole nodes, half of its film bought, on a BSV node that belongs to the test alone: its
clock, its blocks and its fees can be moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.regtest_node import RegtestNode
from bct.bitcoin.tx import Tx
from bct.channel.state import State
from bct.node.daemon import Node
from bct.node.play import Play
from bct.node.purse import Spending
from bct.node.till import Earning
from tests.conftest import open_chain
from tests.nodes import running_node
from tests.stage import FREE_PIECES, Title, fund, publish, watch

PIECE = 64 * 1024
PATIENCE = 60.0


@dataclass
class World:
    """A BSV node of the test's own, and who mines on it."""

    node: RegtestNode
    chain: ChainNode
    miner: RegtestMiner

    async def pass_time(self, until: int) -> None:
        """Blocks until the median of their times is past `until`."""
        await self.chain.rpc.call("setmocktime", until + 1)
        while (await self.chain.tip()).median_time <= until:
            await self.miner.mine()

    async def ask_fees(self, rate: int) -> None:
        """The node comes back and mines only what pays so many satoshis per 1,000 bytes."""
        self.node.fee_floor = rate
        await self.node.stop()
        await self.node.restart()

    async def forget(self) -> None:
        """The node comes back with its blocks and an empty pool."""
        await self.node.stop()
        (self.node.data_dir / "regtest" / "mempool.dat").unlink()
        await self.node.restart()


@asynccontextmanager
async def own_world(root: Path) -> AsyncIterator[World]:
    node = await RegtestNode.start(root / "bitcoind")
    chain = open_chain(node)
    miner = RegtestMiner(chain)
    await miner.start()
    try:
        yield World(node, chain, miner)
    finally:
        await chain.close()
        await node.stop()


@dataclass
class Deal:
    world: World
    seeder: Node
    viewer: Node
    title: Title
    play: Play

    @property
    def earning(self) -> Earning:
        (earning,) = self.seeder.till.earnings.values()
        return earning

    @property
    def spending(self) -> Spending:
        (spending,) = self.viewer.purse.spendings.values()
        return spending

    @property
    def paid(self) -> int:
        return self.earning.account.payee.paid

    @property
    def settlement(self) -> Tx:
        return Tx.parse(self.earning.settlement)

    def both(self, state: State) -> bool:
        """Whether the channel stands so on either side."""
        return self.earning.state is state and self.spending.payer.state is state

    async def buy(self, *pieces: int) -> None:
        """As a player that reads them one by one."""
        for piece in pieces:
            end = min((piece + 1) * PIECE, self.play.length)
            assert await watch(self.play, piece * PIECE, end) == self.title.film[piece * PIECE : end]

    async def hang_up(self) -> None:
        """The viewer leaves without a word; its channel stays as it is."""
        del self.viewer.viewer.plays[self.play.token]
        self.viewer.viewer.leave(self.play.swarm, self.play.buyer)
        await until(lambda: self.earning.idle_since is not None)

    async def look(self) -> None:
        """Both sides look at the chain."""
        await self.seeder.watchman.look()
        await self.viewer.watchman.look()

    async def mined(self, tx: Tx) -> bool:
        place = await self.world.chain.place(tx.txid)
        return place is not None and place.height is not None


@asynccontextmanager
async def a_deal(root: Path, world: World, price: int = 20) -> AsyncIterator[Deal]:
    """Seven pieces bought for so many satoshis each; the funding waits for a block. From here on both sides look at the
    chain when the test says so."""
    chain = open_chain(world.node)
    try:
        async with (
            running_node(root / "seeder", chain) as seeder,
            running_node(root / "viewer", chain) as viewer,
        ):
            await fund(viewer, world.miner)
            title = await publish(seeder, root / "seeder", price=price)
            play = await viewer.play(title.link, None)
            deal = Deal(world, seeder, viewer, title, play)
            await deal.buy(*(piece for piece in range(10) if piece not in FREE_PIECES))
            for side in (seeder, viewer):
                await side.watchman.stop()
            yield deal
    finally:
        await chain.close()


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
