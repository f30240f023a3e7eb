"""What one look at the chain makes of one payment channel, on either side of it.

Who could cheat: a payer that refunds, somebody who sends an older settlement, miners that pass a transaction over, a
source that took one and forgot it. So what the chain says now decides, and what ends a channel is brought to every
source again until a block holds it and a hundred more lie on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import structlog

from bct.bitcoin.chain import Chain, Header
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import FINAL
from bct.channel.alarms import Standing
from bct.channel.state import FINAL_STATES, Event, Role, State, can
from bct.node import sight
from bct.node.handing import ENDING, WAITING, Handing
from bct.node.purse import Purse, Spending
from bct.node.sight import UNSPENT, Sight
from bct.node.till import Earning, Till
from bct.node.wallet import NodeWallet
from bct.units import Outpoint, txid_hex

log = structlog.get_logger()

PASSED_OVER = {Role.PAYEE: 2, Role.PAYER: 6}
"""Blocks without what ends a channel until somebody pays for it. The payee goes first, since time is on the payer's
side; both at once would pay twice."""


class Upkeep:
    """sources: chains, ours first. steady: seconds of a clock that only goes forward."""

    def __init__(
        self, sources: Sequence[Chain], till: Till, purse: Purse, wallet: NodeWallet, steady: Callable[[], float]
    ) -> None:
        self._sources = sources
        self._chain = sources[0]
        self._till = till
        self._purse = purse
        self._wallet = wallet
        self.handing = Handing(sources, steady)
        self._seen: dict[Outpoint, Sight] = {}
        self._passed: dict[Outpoint, tuple[int, int]] = {}
        """Since which height what ends a channel waits for a block, and at which we last asked what it lacks."""

    # -- one channel --------------------------------------------------------------------------------------------------

    async def look_at_earning(self, earning: Earning, tip: Header, *, moved: bool) -> None:
        """moved: the chain has another best block than at the last look. Raises ChainError, StoreError."""
        before = earning.state
        found = await self._look(earning.outpoint, before)
        if found is None:
            return
        await self._till.look_again(earning, moved=moved)
        event = found.meaning(before, tip.height) or await self._lost(earning.unmined, tip)
        if event and can(Role.PAYEE, before, event):
            await self._till.happened(earning, event, found.tx)
        if earning.state is State.CLOSING:
            await self._settle(earning)
        elif found.waits and self.handing.is_due(earning.outpoint, WAITING):
            await self.handing.hand_over(earning.outpoint, [*earning.unmined, earning.settlement])
        await self._lift(Role.PAYEE, earning.outpoint, found, tip)

    async def settle_elsewhere(self) -> None:
        """Our own source is silent: what is due goes to whoever still takes it, to the others or to a part of it."""
        await self._till.tick()
        for earning in self._till.by_expiry():
            if earning.state is State.CLOSING:
                await self._settle(earning)

    async def _settle(self, earning: Earning) -> None:
        """Tries once more to bring what settles a closing channel to the chain, and to every other source."""
        if self.handing.is_due(earning.outpoint, ENDING):
            await self._till.settle(earning, "again")
            if earning.settlement and len(self._sources) > 1:
                await self.handing.hand_over(earning.outpoint, [*earning.unmined, earning.settlement])

    async def look_at_spending(self, spending: Spending, tip: Header) -> None:
        """Raises ChainError, StoreError."""
        payer = spending.payer
        before = payer.state
        found = await self._look(spending.outpoint, before)
        if found is None:
            return
        event = found.meaning(before, tip.height) or await self._lost((spending.saved.funding,), tip)
        if event and can(Role.PAYER, before, event):
            await self._purse.happened(spending, event, found.tx)
        if self._purse.is_refundable(spending, tip.median_time):
            if self.handing.is_due(spending.outpoint, ENDING):
                await self._purse.refund(spending, tip.median_time)
        elif spending.is_out and found.height is None and self.handing.is_due(spending.outpoint, WAITING):
            saved = spending.saved
            await self.handing.hand_over(spending.outpoint, [raw for raw in (saved.funding, saved.closing) if raw])
        await self._lift(Role.PAYER, spending.outpoint, found, tip)

    async def _look(self, outpoint: Outpoint, state: State) -> Sight | None:
        """None where there is nothing to do: it is over, or the chain is of two minds."""
        if state in FINAL_STATES:
            self.handing.is_over(outpoint)
            return None
        found = await sight.look_at(self._chain, outpoint)
        if found:
            self._seen[outpoint] = found
        return found

    async def _lost(self, funding: Sequence[bytes], tip: Header) -> Event | None:
        lost = funding and await sight.is_lost(self._chain, funding, tip.height)
        return Event.FUNDING_LOST if lost else None

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

    # -- for alarms ---------------------------------------------------------------------------------------------------

    def standings(self) -> Iterator[Standing]:
        """How every channel stands that is not over."""
        for earning in self._till.by_expiry():
            if earning.state not in FINAL_STATES:
                yield self._earning(earning)
        for spending in self._purse.by_expiry():
            if spending.payer.state not in FINAL_STATES:
                yield self._spending(spending)

    def _spending(self, spending: Spending) -> Standing:
        payer, waits = spending.payer, self._seen.get(spending.outpoint, UNSPENT).waits
        return Standing(Role.PAYER, spending.outpoint, payer.state, payer.params.lock.expiry, payer.paid, waits)

    def _earning(self, earning: Earning) -> Standing:
        payee = earning.account.payee
        found = self._seen.get(earning.outpoint, UNSPENT)
        settled = found.tx if found.tx and found.tx.inputs[0].sequence == FINAL else None
        change = p2pkh(payee.params.change)
        return Standing(
            Role.PAYEE,
            earning.outpoint,
            payee.state,
            payee.params.lock.expiry,
            payee.paid,
            waits=found.waits,
            contested=earning.account.is_contested and found.tx is None,
            short=payee.paid - sum(o.value for o in settled.outputs if o.script != change) if settled else 0,
            answers=() if found.height else self.handing.answers.get(earning.outpoint, ()),
        )
