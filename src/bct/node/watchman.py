"""Keeps an eye on the chain for every payment channel, ours to earn on and ours to spend on.

Who could cheat: a payer that waits for its refund, a payee that settles and goes on taking payments, a network that
forgets a transaction or takes a block back. So the watchman does not trust that it heard of everything: each look
starts from what the chain says now about each channel's outpoint (`upkeep`), and the channel that expires first comes
first. Events only make it look sooner (`rounds`). Every look is bounded, one that fails is followed by the next, and
what only a person can mend becomes an alarm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import chain as joined

import structlog

from bct.bitcoin.chain import Chain
from bct.bitcoin.tx import Tx
from bct.channel import alarms
from bct.channel.alarms import Outlook
from bct.errors import ChainError, StoreError
from bct.node.bell import Bell
from bct.node.purse import Purse
from bct.node.rounds import Rounds
from bct.node.till import Till
from bct.node.upkeep import Upkeep
from bct.node.wallet import NodeWallet

log = structlog.get_logger()


class Watchman:
    """Runs beside the node; `look` is the whole of it. sources: chains, ours first. steady: seconds of a clock that
    only goes forward, and stands still while the machine sleeps."""

    def __init__(
        self,
        sources: Sequence[Chain],
        till: Till,
        purse: Purse,
        wallet: NodeWallet,
        bell: Bell,
        steady: Callable[[], float],
    ) -> None:
        self.upkeep = Upkeep(sources, till, purse, wallet, steady)
        self._chain = sources[0]
        self._till = till
        self._purse = purse
        self._wallet = wallet
        self._bell = bell
        self._steady = steady
        self._rounds = Rounds(self._chain, self.look, self._heard, till.clock, steady)
        self._looking = asyncio.Lock()
        self._looked_at = b""
        """The best block of the last look that came to its end."""
        self._answered = steady()
        """When the chain last answered to the end."""
        self.reachable = True

    def start(self) -> None:
        self._rounds.start()

    async def stop(self) -> None:
        await self._rounds.stop()

    def _heard(self, tx: Tx) -> bool:
        self._wallet.saw(tx)
        channels = (self._till.earnings, self._purse.spendings)
        return any(i.outpoint in known for i in tx.inputs for known in channels)

    # -- one look -----------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """One round over everything. Raises ChainError when the chain cannot be asked, and, at its end, StoreError."""
        async with self._looking:
            try:
                await self._look()
                if not self.reachable:
                    log.info("the chain answers again", silent=round(self._steady() - self._answered))
                self.reachable, self._answered = True, self._steady()
            except ChainError:
                self.reachable = False
                await self.upkeep.settle_elsewhere()
                raise
            finally:
                self._ring()

    async def _look(self) -> None:
        tip = await self._chain.tip()
        if not self.reachable:
            self.upkeep.handing.begin_anew()
        moved = tip.hash != self._looked_at
        self._till.newest = self._purse.newest = tip
        if moved:
            await self._learn_floor()
        await self._till.tick()
        look_at = self.upkeep.look_at_earning
        failures = [await _tried(look_at(earning, tip, moved=moved)) for earning in self._till.by_expiry()]
        failures += [await _tried(self.upkeep.look_at_spending(one, tip)) for one in self._purse.by_expiry()]
        if moved:
            await self._wallet.new_block()
        if failure := next(filter(None, failures), None):
            raise failure
        self._looked_at = tip.hash

    async def _learn_floor(self) -> None:
        """What miners ask. Not to know it anew keeps nothing from the chain."""
        with suppress(ChainError):
            self._till.floor = self._purse.floor = await self._chain.fee_rate()

    def _ring(self) -> None:
        till = self._till
        outlook = Outlook(
            self._chain.network,
            till.clock(),
            till.newest,
            silent=0 if self.reachable else int(self._steady() - self._answered),
            floor=till.floor,
            cap=till.policy.fee_rate_cap,
            disk_failed=till.disk_failed,
            locked=self._wallet.locked,
        )
        of_channels = (alarms.of_a_channel(standing, outlook) for standing in self.upkeep.standings())
        self._bell.ring("watchman", [*alarms.of_the_node(outlook), *joined.from_iterable(of_channels)])


async def _tried(work: Awaitable[None]) -> StoreError | None:
    """A disk that fails one channel does not keep the others from the chain."""
    try:
        await work
    except StoreError as error:
        return error
    return None
