"""Keeps an eye on the chain for every payment channel, ours to earn on and ours to spend on.

Who could cheat: a payer that waits for its refund, a payee that settles and goes on taking payments, a network that
forgets a transaction or takes a block back. So the watchman does not trust that it heard of everything: each look
starts from what the chain says now about each channel's outpoint, and does what follows, the channel that expires
first before the others. Events only make it look sooner. What waits for a block is handed to every source again and
again until it is 100 deep. Every look is bounded, and one that fails is followed by the next.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from bct.bitcoin.chain import Chain, Header, Seen, Tip
from bct.bitcoin.tx import Tx
from bct.channel.patience import Patience
from bct.channel.state import FINAL_STATES, Event, Role, State, can
from bct.errors import BctError, ChainError, RemoteProtocolError, StoreError
from bct.node import sight
from bct.node.purse import Purse, Spending
from bct.node.sight import Sight
from bct.node.till import Earning, Till
from bct.node.wallet import NodeWallet
from bct.units import Outpoint, txid_hex

log = structlog.get_logger()

LOOK_SECONDS = 5.0
LONGEST_PAUSE = 60.0
"""Between two looks while the chain cannot be asked."""

Pace = tuple[float, float]
"""Seconds until something is tried again: at first, and in the end."""
ENDING: Pace = (LOOK_SECONDS, 60.0)
"""A settlement or refund that the chain has not taken."""
WAITING: Pace = (60.0, 3600.0)
"""What the chain has taken, and no block holds."""

PASSED_OVER = {Role.PAYEE: 2, Role.PAYER: 6}
"""Blocks without what ends a channel until somebody pays for it. The payee goes first, since time is on the payer's
side; both at once would pay twice."""
JUMP_SECONDS = 30.0
"""By how much clock and steady clock may part within one pause before it counts as a jump."""


class Watchman:
    """Runs beside the node; `look` is the whole of it. sources: chains, ours first. steady: seconds of a clock that
    only goes forward, and stands still while the machine sleeps."""

    def __init__(
        self, sources: Sequence[Chain], till: Till, purse: Purse, wallet: NodeWallet, steady: Callable[[], float]
    ) -> None:
        self._sources = sources
        self._chain = sources[0]
        self._till = till
        self._purse = purse
        self._wallet = wallet
        self._steady = steady
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._patience: defaultdict[Outpoint, dict[Pace, Patience]] = defaultdict(dict)
        """When a channel's transactions are handed over again, since its state last changed."""
        self._passed: dict[Outpoint, tuple[int, int]] = {}
        """Since which height what ends a channel waits for a block, and at which we last asked what it lacks."""
        self._looked_at = b""
        """The best block of the last look that came to its end."""
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
                    with suppress(RemoteProtocolError):  # nothing that we could have made
                        self._saw(Tx.parse(raw))

    def _saw(self, tx: Tx) -> None:
        self._wallet.saw(tx)
        channels = (self._till.earnings, self._purse.spendings)
        if any(i.outpoint in known for i in tx.inputs for known in channels):
            self._wake.set()

    # -- when it looks ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        patience, trouble = _patience_with_the_chain(), ""
        while True:
            try:
                await self.look()
                self.reachable, patience, trouble = True, _patience_with_the_chain(), ""
            except BctError as error:  # whatever it is: the next look is the only thing that can help
                if type(error).__name__ != trouble:  # once, and not at each look
                    log.warning("the watchman cannot look", text=str(error))
                self.reachable, trouble = not isinstance(error, ChainError), type(error).__name__
            patience.tried(self._steady())
            await self._rest(patience.pause)

    async def _rest(self, seconds: float) -> None:
        """Until something happens, the time is over, or the machine wakes up: then every expiry is nearer at once."""
        until = self._steady() + seconds
        while (left := until - self._steady()) > 0 and not self._wake.is_set():
            ahead = self._till.clock() - self._steady()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(left, LOOK_SECONDS))
            jump = self._till.clock() - self._steady() - ahead
            if abs(jump) > JUMP_SECONDS:
                log.info("the clock has jumped", seconds=round(jump))
                break
        self._wake.clear()

    # -- one look -----------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """One round over everything. Raises ChainError when the chain cannot be asked, and, at its end, StoreError."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        tip = await self._chain.tip()
        moved = tip.hash != self._looked_at
        self._till.newest = self._purse.newest = tip
        if moved:
            await self._learn_floor()
        await self._till.tick()
        failures = [await _tried(self._look_at_earning(one, tip, moved)) for one in self._till.by_expiry()]
        failures += [await _tried(self._look_at_spending(one, tip)) for one in self._purse.by_expiry()]
        if moved:
            await self._wallet.new_block()
        if failure := next(filter(None, failures), None):
            raise failure
        self._looked_at = tip.hash

    async def _look_at_earning(self, earning: Earning, tip: Header, moved: bool) -> None:
        before = earning.state
        if before in FINAL_STATES or (found := await sight.look_at(self._chain, earning.outpoint)) is None:
            return
        await self._till.look_again(earning, moved=moved)
        unmined = earning.saved.funding if earning.account.cap is not None else ()
        event = found.meaning(before, tip.height) or await self._lost(unmined, tip)
        if event and can(Role.PAYEE, before, event):
            await self._till.happened(earning, event, found.tx)
        if earning.state is not before:
            self._patience.pop(earning.outpoint, None)
        if earning.state is State.CLOSING and self._is_due(earning.outpoint, ENDING):
            await self._till.settle(earning, "again")
        elif found.waits and self._is_due(earning.outpoint, WAITING):
            await self._hand_over(earning.outpoint, [*unmined, earning.settlement])
        await self._lift(Role.PAYEE, earning.outpoint, found, tip)

    async def _look_at_spending(self, spending: Spending, tip: Header) -> None:
        payer = spending.payer
        before = payer.state
        if before in FINAL_STATES or (found := await sight.look_at(self._chain, spending.outpoint)) is None:
            return
        event = found.meaning(before, tip.height) or await self._lost((spending.saved.funding,), tip)
        if event and can(Role.PAYER, before, event):
            await self._purse.happened(spending, event, found.tx)
        if payer.state is not before:
            self._patience.pop(spending.outpoint, None)
        if self._purse.is_refundable(spending, tip.median_time):
            if self._is_due(spending.outpoint, ENDING):
                await self._purse.refund(spending, tip.median_time)
            return
        waits = spending.is_out and found.height is None
        if waits and self._is_due(spending.outpoint, WAITING):
            saved = spending.saved
            await self._hand_over(spending.outpoint, [raw for raw in (saved.funding, saved.closing) if raw])
        await self._lift(Role.PAYER, spending.outpoint, found, tip)

    async def _learn_floor(self) -> None:
        """What miners ask. Not to know it anew keeps nothing from the chain."""
        with suppress(ChainError):
            self._till.floor = self._purse.floor = await self._chain.fee_rate()

    async def _lift(self, role: Role, outpoint: Outpoint, found: Sight, tip: Header) -> None:
        """What ends a channel and is passed over by block after block gets a child that pays, if it lacks fees."""
        if found.tx is None or not found.waits:
            self._passed.pop(outpoint, None)
            return
        since, last = self._passed.setdefault(outpoint, (tip.height, tip.height))
        if tip.height == last or tip.height - since < PASSED_OVER[role]:
            return
        self._passed[outpoint] = since, tip.height
        if child := await self._wallet.lift(found.tx.txid, self._till.floor):
            log.info("a child pays", channel=str(outpoint), txid=txid_hex(child.txid), rate=self._till.floor)

    async def _lost(self, funding: Sequence[bytes], tip: Header) -> Event | None:
        lost = funding and await sight.is_lost(self._chain, funding, tip.height)
        return Event.FUNDING_LOST if lost else None

    def _is_due(self, outpoint: Outpoint, pace: Pace) -> bool:
        """Whether it is time to try again; if so, that is noted as the try."""
        patience = self._patience[outpoint].setdefault(pace, Patience(*pace))
        now = self._steady()
        due = patience.due(now)
        if due:
            patience.tried(now)
        return due

    async def _hand_over(self, outpoint: Outpoint, raws: Sequence[bytes]) -> None:
        """To every source: the first may have it, and nobody else."""
        answers = await asyncio.gather(*(source.broadcast(raws) for source in self._sources))
        outcomes = [each[-1].outcome.value for each in answers]
        log.info("handed over again", channel=str(outpoint), outcomes=outcomes)


def _patience_with_the_chain() -> Patience:
    return Patience(LOOK_SECONDS, LONGEST_PAUSE)


async def _tried(work: Awaitable[None]) -> StoreError | None:
    """A disk that fails one channel does not keep the others from the chain."""
    try:
        await work
    except StoreError as error:
        return error
    return None
