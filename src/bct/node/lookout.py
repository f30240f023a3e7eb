"""A watchman apart: it settles channels of others, whose payee is gone, with what it was handed in time.

It has no keys. Who could cheat: whoever hands it something; `channel.watched` believes nothing but signatures, only
what was signed later takes the place of what is there, and each token has so much room and no more. The payee itself
settles earlier and with newer totals, so what is here is sent a quarter of an hour after the payee should have; then
again and again until a block holds it, and it is kept until a hundred more lie on top. Whoever runs this could send it
early: a payee names only whom it trusts with that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from bct.bitcoin.chain import Chain, Header
from bct.bitcoin.tx import FINAL, Tx
from bct.channel import alarms
from bct.channel.alarms import Outlook, Standing
from bct.channel.allowance import Allowance
from bct.channel.state import Event, Role, State
from bct.channel.timing import now_of
from bct.channel.watched import FORGOTTEN, Checked, Watched, check, check_time, is_newer, paid_to_others
from bct.errors import ChainError, RemoteProtocolError, StoreError, TemporaryError
from bct.node import sight
from bct.node.bell import Bell
from bct.node.handing import ENDING, WAITING, Handing
from bct.node.rounds import Rounds
from bct.node.sight import UNSPENT, Sight
from bct.units import Outpoint

log = structlog.get_logger()

MOST_CHANNELS = 1_000
MOST_BYTES = 8 << 20
"""What one token may leave here."""
RATE, BURST = 50.0, 500.0
"""How often one token may hand something over."""


class WatchedStore(Protocol):
    """What remembers it. Every method returns when the change is durable. Raises StoreError."""

    async def load(self) -> list[tuple[str, Watched]]:
        """(owner, what it handed over), all of it."""
        ...

    async def put(self, owner: str, outpoint: Outpoint, watched: Watched) -> None:
        """In the place of what is there for this owner and outpoint."""
        ...

    async def drop(self, owner: str, outpoint: Outpoint) -> None: ...


@dataclass(eq=False)
class Guarded:
    """One channel of one owner. seen: what spent its outpoint when we last looked."""

    owner: str
    checked: Checked
    seen: Sight = UNSPENT

    @property
    def outpoint(self) -> Outpoint:
        return self.checked.outpoint

    @property
    def size(self) -> int:
        return len(self.checked.watched.settlement) + sum(map(len, self.checked.watched.funding))

    @property
    def state(self) -> State:
        if self.seen.tx is None:
            return State.OPEN
        return State.SETTLED if self.seen.tx.inputs[0].sequence == FINAL else State.REFUNDED


class Lookout:
    """sources: chains, ours first. clock: Unix seconds. steady: seconds of a clock that only goes forward."""

    def __init__(
        self,
        sources: Sequence[Chain],
        store: WatchedStore,
        bell: Bell,
        clock: Callable[[], int],
        steady: Callable[[], float],
    ) -> None:
        self.guarded: dict[tuple[str, Outpoint], Guarded] = {}
        self.newest: Header | None = None
        self.reachable = True
        self._outpoints: set[Outpoint] = set()
        self._chain = sources[0]
        self._store = store
        self._bell = bell
        self._clock = clock
        self._steady = steady
        self._handing = Handing(sources, steady)
        self._rounds = Rounds(self._chain, self.look, self._heard, clock, steady)
        self._allowances: dict[str, Allowance] = {}
        self._taking = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._looked_at = b""
        self._answered = steady()

    async def start(self) -> None:
        """Raises StoreError."""
        for owner, watched in await self._store.load():
            try:
                self._add(Guarded(owner, check(watched)))
            except RemoteProtocolError as error:
                log.error("not watched any more", owner=owner, text=str(error))
        self._rounds.start()

    async def stop(self) -> None:
        await self._rounds.stop()

    @property
    def now(self) -> int:
        return now_of(self._clock(), self.newest) if self.newest else self._clock()

    def _add(self, guarded: Guarded) -> None:
        self.guarded[guarded.owner, guarded.outpoint] = guarded
        self._outpoints.add(guarded.outpoint)

    def _heard(self, tx: Tx) -> bool:
        return any(i.outpoint in self._outpoints for i in tx.inputs)

    # -- what is handed over ------------------------------------------------------------------------------------------

    async def take(self, owner: str, watched: Watched) -> bool:
        """Keeps it, unless what is there for this channel is as new. Raises RemoteProtocolError for what cannot be
        what it says, TemporaryError for an owner who has no room left or comes too often, StoreError."""
        if not self._allowances.setdefault(owner, Allowance(RATE, BURST)).take(self._steady()):
            raise TemporaryError(f"more than {RATE:.0f} a second: say only the newest of each channel")
        new = Guarded(owner, check(watched))
        check_time(new.checked, self.now)
        async with self._taking:
            old = self.guarded.get((owner, new.outpoint))
            if old:
                if not is_newer(new.checked, old.checked):
                    return False
                new = Guarded(owner, check(replace(watched, change=old.checked.watched.change)), old.seen)
            self._check_room(new, old)
            await self._store.put(owner, new.outpoint, new.checked.watched)
            self._add(new)
        return True

    def _check_room(self, new: Guarded, old: Guarded | None) -> None:
        theirs = [one for one in self.of(new.owner) if one is not old]
        if len(theirs) >= MOST_CHANNELS or sum(one.size for one in theirs) + new.size > MOST_BYTES:
            raise TemporaryError(f"{len(theirs)} channels are watched for this token, and there is no room for more")

    def of(self, owner: str) -> Iterable[Guarded]:
        return [one for one in self.guarded.values() if one.owner == owner]

    # -- one look -----------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """One round: at each block over everything, else over what is due. Raises ChainError, StoreError."""
        async with self._looking:
            try:
                await self._look()
                self.reachable, self._answered = True, self._steady()
            except ChainError:
                self.reachable = False
                for guarded in self._by_urgency():  # other sources may take what ours cannot
                    await self._send(guarded)
                raise
            finally:
                self._ring()

    async def _look(self) -> None:
        tip = await self._chain.tip()
        if not self.reachable:
            self._handing.begin_anew()
        moved, self.newest = tip.hash != self._looked_at, tip
        for guarded in self._by_urgency():
            if moved or guarded.checked.due <= self.now:
                await self._look_at(guarded, tip)
        self._looked_at = tip.hash

    def _by_urgency(self) -> list[Guarded]:
        return sorted(self.guarded.values(), key=lambda one: one.checked.due)

    async def _look_at(self, guarded: Guarded, tip: Header) -> None:
        before = guarded.state
        found = await sight.look_at(self._chain, guarded.outpoint)
        if found is None:
            return
        guarded.seen = found
        if found.meaning(before, tip.height) is Event.BURIED or await self._is_hopeless(guarded, tip):
            await self._let_go(guarded)
        else:
            await self._send(guarded)

    async def _send(self, guarded: Guarded) -> None:
        """What settles it, once that is due; and what has settled it, until a block holds that."""
        watched, seen = guarded.checked.watched, guarded.seen
        if seen.tx is None and guarded.checked.due <= self.now and self._handing.is_due(guarded.outpoint, ENDING):
            await self._handing.hand_over(guarded.outpoint, [*watched.funding, watched.settlement])
        settles = seen.tx is not None and seen.waits and guarded.state is State.SETTLED
        if seen.tx and settles and self._handing.is_due(guarded.outpoint, WAITING):
            await self._handing.hand_over(guarded.outpoint, [*watched.funding, seen.tx.serialize()])

    async def _is_hopeless(self, guarded: Guarded, tip: Header) -> bool:
        """Nothing will come of it: its funding can never be mined, or nobody has wanted its money for a week."""
        if guarded.seen.tx is not None:
            return False
        checked = guarded.checked
        lost = await sight.is_lost(self._chain, checked.watched.funding, tip.height)
        return lost or self.now > checked.lock.expiry + FORGOTTEN

    async def _let_go(self, guarded: Guarded) -> None:
        with suppress(StoreError):  # it is found again at the next start, and let go again
            await self._store.drop(guarded.owner, guarded.outpoint)
        self.guarded.pop((guarded.owner, guarded.outpoint), None)
        self._outpoints = {outpoint for _, outpoint in self.guarded}
        self._handing.is_over(guarded.outpoint)
        log.info("watched to the end", channel=str(guarded.outpoint), state=guarded.state.value)

    def _ring(self) -> None:
        silent = 0 if self.reachable else int(self._steady() - self._answered)
        outlook = Outlook(self._chain.network, self._clock(), self.newest, silent=silent)
        found = [*alarms.of_the_node(outlook)]
        for guarded in self.guarded.values():
            found += alarms.of_a_channel(self._standing(guarded), outlook)
        self._bell.ring("lookout", found)

    def _standing(self, guarded: Guarded) -> Standing:
        checked, seen = guarded.checked, guarded.seen
        short = checked.paid - paid_to_others(seen.tx, checked.watched.change) if seen.tx else 0
        return Standing(
            Role.PAYEE,
            guarded.outpoint,
            guarded.state,
            checked.lock.expiry,
            checked.paid,
            waits=seen.waits,
            short=short if guarded.state is State.SETTLED else 0,
            answers=() if seen.height else self._handing.answers.get(guarded.outpoint, ()),
        )
