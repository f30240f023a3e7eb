"""Keeps an eye on the chain for every payment channel, ours to earn on and ours to spend on.

Who could cheat: a payer that waits for its refund, a payee that settles and goes on taking payments, a network that
forgets a transaction. So the watchman does not trust that it heard of everything: each look starts from what the chain
says now about each channel's outpoint, and does what follows. Events only make it look sooner. Every look is bounded,
and one that fails is followed by the next.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from bct.bitcoin.chain import Chain, Seen, Tip
from bct.bitcoin.tx import FINAL, Tx
from bct.channel.state import FINAL_STATES, Event, Role, State, can
from bct.errors import BctError, ChainError
from bct.node.purse import Purse, Spending
from bct.node.till import Earning, Till
from bct.node.wallet import NodeWallet
from bct.units import Outpoint

log = structlog.get_logger()

LOOK_SECONDS = 5.0
DEEP = 100
_SEEN = {State.SETTLED, State.REFUNDED}


class Watchman:
    """Runs beside the node; `look` is the whole of it."""

    def __init__(self, chain: Chain, till: Till, purse: Purse, wallet: NodeWallet) -> None:
        self._chain = chain
        self._till = till
        self._purse = purse
        self._wallet = wallet
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.reachable = True

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._run())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        async for event in self._chain.events():
            match event:
                case Tip():
                    self._wake.set()
                case Seen(_, raw):
                    self._saw(Tx.parse(raw))

    def _saw(self, tx: Tx) -> None:
        self._wallet.saw(tx)
        channels = (self._till.earnings, self._purse.spendings)
        if any(i.outpoint in known for i in tx.inputs for known in channels):
            self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
                self.reachable = True
            except BctError as error:  # whatever it is: the next look is the only thing that can help
                if self.reachable:
                    log.warning("the watchman cannot look", text=str(error))
                self.reachable = False
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_SECONDS)
            self._wake.clear()

    async def look(self) -> None:
        """One round over everything. Raises ChainError, StoreError."""
        tip = await self._chain.tip()
        if self._till.newest is None or tip.hash != self._till.newest.hash:
            await self._wallet.new_block()
        self._till.newest = self._purse.newest = tip
        await self._till.tick()
        for earning in list(self._till.earnings.values()):
            await self._look_at_earning(earning, tip.height)
        for spending in list(self._purse.spendings.values()):
            await self._look_at_spending(spending, tip.height)
        await self._purse.refund_due(tip.median_time)

    async def _look_at_earning(self, earning: Earning, height: int) -> None:
        if earning.state in FINAL_STATES:
            return
        funding = earning.saved.funding[-1] if earning.account.cap is not None and earning.saved.funding else b""
        event, tx = await self._what_happened(earning.outpoint, earning.state, funding, height)
        if event and can(Role.PAYEE, earning.state, event):
            await self._till.happened(earning, event, tx)
        if earning.state is State.CLOSING:
            await self._till.settle(earning, "again")
        await self._till.look_again(earning)

    async def _look_at_spending(self, spending: Spending, height: int) -> None:
        if spending.payer.state in FINAL_STATES:
            return
        funding = spending.saved.funding
        event, tx = await self._what_happened(spending.outpoint, spending.payer.state, funding, height)
        if event and can(Role.PAYER, spending.payer.state, event):
            await self._purse.happened(spending, event, tx)

    async def _what_happened(
        self, outpoint: Outpoint, state: State, funding: bytes, height: int
    ) -> tuple[Event | None, Tx | None]:
        """What the chain's word about this outpoint means for a channel in this state. funding: the transaction that
        made the outpoint, while it may still fail to be mined."""
        spend = await self._chain.spender(outpoint)
        if spend is None and state in _SEEN:
            return Event.UNSEEN, None
        if spend is None:
            lost = funding and await self._is_lost(Tx.parse(funding), height)
            return (Event.FUNDING_LOST if lost else None), None
        raw = await self._chain.transaction(spend.txid)
        if raw is None:
            raise ChainError("the chain names a spender that it does not have: it is reorganising")
        tx = Tx.parse(raw)
        if state in _SEEN and spend.height is not None and height - spend.height >= DEEP:
            return Event.BURIED, tx
        return (Event.SETTLEMENT_SEEN if tx.inputs[0].sequence == FINAL else Event.REFUND_SEEN), tx

    async def _is_lost(self, funding: Tx, height: int) -> bool:
        """Whether another transaction spent one of the funding's coins, so deep that no reorg brings them back."""
        if await self._chain.place(funding.txid) is not None:
            return False
        spends = [await self._chain.spender(i.outpoint) for i in funding.inputs]
        return any(s is not None and s.height is not None and height - s.height >= DEEP for s in spends)
