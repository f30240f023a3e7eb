"""Bitcoin nodes that hear of each other late, and what a bct machine sees of one through a bad line.

What such a node takes and refuses is `tests.model_chain`, which is held to a real node's word. Here are the distances:
blocks and transactions take a while from node to node, two parts of the network may not hear each other at all, and a
machine's own node may be away, or answer what is not so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from enum import Enum
from random import Random

from bct.bitcoin.chain import Broadcast, ChainEvent, Header, HistoryItem, Network, Outcome, Place, Spend, Tip
from bct.bitcoin.keys import sha256d
from bct.bitcoin.tx import Tx
from bct.errors import ChainError
from bct.units import Outpoint, Txid
from tests.model_chain import Block, ModelChain
from tests.sim.clock import EPOCH
from tests.sim.power import Power


class SimNode(ModelChain):
    """One node of the Bitcoin network."""

    def __init__(self, name: str, dice: Random) -> None:
        self.neighbours: list[SimNode] = []
        self.deaf = False
        """Neither hears nor is heard."""
        self._dice = dice
        self._name = name
        super().__init__(EPOCH)

    @property
    def height(self) -> int:
        return len(self._blocks) - 1

    def mined(self) -> Iterator[tuple[Txid, Tx]]:
        """Everything in blocks, oldest first."""
        for block in self._blocks:
            yield from block.txs.items()

    def newest(self, blocks: int) -> list[Txid]:
        """What is in the newest blocks and spends something: coins out of nowhere are nobody's to send again."""
        txs = [tx for block in self._blocks[-blocks:] for tx in block.txs.values()]
        return [tx.txid for tx in txs if all(i.outpoint.txid in self._places for i in tx.inputs)]

    def take(self, tx: Tx) -> None:
        super().take(tx)
        self._tell_neighbours(lambda node: node.hear(tx.serialize()))

    def _connect(self, block: Block) -> None:
        super()._connect(block)
        self._tell_neighbours(lambda node: node.consider(self))

    def _tell_neighbours(self, tell: Callable[[SimNode], object]) -> None:
        for node in self.neighbours:
            asyncio.get_running_loop().call_later(self._dice.uniform(0.1, 3.0), self._reach_out, node, tell)

    def _reach_out(self, node: SimNode, tell: Callable[[SimNode], object]) -> None:
        if not self.deaf and not node.deaf:
            tell(node)

    def consider(self, other: SimNode) -> None:
        """The longer chain wins."""
        if other.height > self.height:
            self.follow(other)

    def reunite(self) -> None:
        """It hears its neighbours again, and they it."""
        self.deaf = False
        for node in self.neighbours:
            self.consider(node)
            node.consider(self)
            for raw in [tx.serialize() for tx in self._pool.values()]:
                node.hear(raw)
            for raw in [tx.serialize() for tx in node._pool.values()]:
                self.hear(raw)


class Lie(Enum):
    """What a source answers to every broadcast, whatever came of it."""

    YES = Outcome.ACCEPTED
    NO = Outcome.CONFLICT
    AWAY = Outcome.UNREACHABLE


class SimSource:
    """A `Chain`: one machine's line to one node. Each answer takes a moment."""

    network = Network.REGTEST

    def __init__(self, node: SimNode, power: Power, dice: Random) -> None:
        self.node = node
        self.away = False
        """The line is down."""
        self.lie: Lie | None = None
        self._power = power
        self._dice = dice

    async def _moment(self) -> None:
        self._power.check()
        await asyncio.sleep(self._dice.uniform(0.001, 0.03))
        self._power.check()

    async def _line(self) -> None:
        await self._moment()
        if self.away:
            raise ChainError("the node does not answer")

    async def broadcast(self, raws: Sequence[bytes]) -> list[Broadcast]:
        await self._moment()
        if self.away:
            return [Broadcast(Txid(sha256d(raw)), Outcome.UNREACHABLE, "the node does not answer") for raw in raws]
        if self.lie:
            return [Broadcast(Txid(sha256d(raw)), self.lie.value, "believe me") for raw in raws]
        answers = await self.node.broadcast(raws)
        await self._moment()  # what was handed over may be the last thing this machine did
        return answers

    async def place(self, txid: Txid) -> Place | None:
        await self._line()
        return await self.node.place(txid)

    async def transaction(self, txid: Txid) -> bytes | None:
        await self._line()
        return await self.node.transaction(txid)

    async def tip(self) -> Header:
        await self._line()
        return await self.node.tip()

    async def header(self, height: int) -> Header | None:
        await self._line()
        return await self.node.header(height)

    async def history(self, script: bytes) -> list[HistoryItem]:
        await self._line()
        return await self.node.history(script)

    async def spender(self, outpoint: Outpoint) -> Spend | None:
        await self._line()
        return await self.node.spender(outpoint)

    async def merkle_path(self, txid: Txid) -> bytes | None:
        await self._line()
        return await self.node.merkle_path(txid)

    async def fee_rate(self) -> int:
        await self._line()
        return await self.node.fee_rate()

    async def events(self) -> AsyncIterator[ChainEvent]:
        """What comes while the line is down is never heard of; then the tip comes first."""
        gap = False
        async for event in self.node.events():
            self._power.check()
            if self.away:
                gap = True
                continue
            if gap:
                gap = False
                yield Tip(await self.node.tip())
            yield event

    async def close(self) -> None: ...
