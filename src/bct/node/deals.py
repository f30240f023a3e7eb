"""The money of one play: what is paid over its payment channels, and how each of them ends.

Who could cheat: a seeder that keeps money and sends nothing, falls silent, declines, or closes again and again, each
time at the price of two miner fees. It is waited for so long and no longer, it gets another channel only for a reason
that we can check ourselves, and what it did is remembered. And we ourselves could overspend: every price and every
miner fee passes the play's budget before anything is signed, and what was bought is written down as it is signed, so
that a restart asks for it again instead of paying again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Protocol

import structlog

from bct.channel.state import State
from bct.errors import BctError, FundsError, RemoteProtocolError, StoreError
from bct.node.asking import Asking
from bct.node.peer import Peer
from bct.node.purse import Purse, Spending
from bct.node.receipts import Receipts
from bct.node.seat import Seat
from bct.node.swarm import Swarm
from bct.pay.budget import Budget
from bct.pay.messages import CloseReason, PiecePayment
from bct.pay.payer_session import (
    Closed,
    Countersigned,
    Failed,
    Happening,
    LineNeeded,
    Offered,
    Ready,
    Refused,
    Stage,
    Unsigned,
)
from bct.title.store import TitleStore
from bct.units import PieceIndex

log = structlog.get_logger()

ANSWER_SECONDS = 20.0
"""How long a seeder may take to answer OPEN, RESUME, ADD_LINE or CLOSE."""
TRUST_SECONDS, TRUST_TRIES = 5.0, 12
"""Until a payment is said again that was refused for want of trust in a fresh funding, and how often."""
_ALIVE = frozenset((State.OPENING, State.OPEN, State.CLOSING))
"""Not ended, as far as the chain has shown: it may do so before the seeder tells, or instead."""


class Loop(Protocol):
    """Who asks for the pieces that are paid for here. on_change: to be called when something that readers may wait for
    has come to an end."""

    seats: dict[Peer, Seat]
    on_change: Callable[[], None]

    def pump(self) -> None: ...


class Deals:
    """budget: what the play may cost."""

    def __init__(
        self, loop: Loop, swarm: Swarm, purse: Purse, titles: TitleStore, asking: Asking, budget: Budget
    ) -> None:
        self.budget = budget
        self.trouble: BctError | None = None
        """Why nothing more can be bought: the cap, or an empty wallet."""
        self.pieces = 0
        """How many were bought."""
        self.channels: list[Spending] = []
        """Every payment channel that was opened or resumed for this play."""
        self.closing = False
        self.keeps = False
        """Its channels stay open when it closes: for another play."""
        self._loop = loop
        self._swarm = swarm
        self._purse = purse
        self._titles = titles
        self._asking = asking
        self.receipts = Receipts(swarm, purse, self.spawn)
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what a session says ------------------------------------------------------------------------------------------

    def happened(self, seat: Seat, happening: Happening) -> None:
        match happening:
            case Offered(_, terms):
                if self._asking.offered(terms):
                    self.spawn(self._titles.saw_terms(terms))
            case Ready(opened, missed):
                seat.settling_since = None
                self._agreed(seat, opened, missed)
                self.receipts.say_again(seat)
                if self.closing:
                    self._say_end(seat)
            case LineNeeded(missed):
                self._agreed(seat, (), missed)
                self.spawn(self._add_line(seat))
            case Refused(_, missed) if missed:
                self._wait_for_trust(seat, missed)
            case Refused(reason):
                self.distrust(seat, reason)
            case Failed(code, text, again):
                self._failed(seat, code, text, again)
            case Closed(txid, commitment, again):
                self._closed(seat, txid, commitment, again)
            case Countersigned(answer):
                self.receipts.answered(seat, answer)
            case Unsigned(text):
                log.warning("receipt refused", peer=str(seat.peer), text=text[:200])

    async def _add_line(self, seat: Seat) -> None:
        if seat.session and seat.spending:
            await self._purse.lined(seat.spending, seat.session.line, self.budget)
            seat.wait()
            seat.peer.say(seat.session.add_line())
            seat.peer.flush()

    def _agreed(self, seat: Seat, opened: Iterable[PieceIndex], missed: Iterable[PiecePayment]) -> None:
        """The seeder takes the channel. opened: pieces that it counts as bought, whatever our log knows of them."""
        for payment in missed:
            seat.peer.say(payment)
        if seat.spending:
            seat.spending.pieces.update((self._swarm.infohash, piece) for piece in opened)
            self.spawn(self._purse.ready(seat.spending))

    def _wait_for_trust(self, seat: Seat, missed: Iterable[PiecePayment]) -> None:
        """The seeder trusts fundings that no block holds with so much and no more at a time: no fault of its own. Its
        payments are said again after a while, and what they were for is asked again."""
        if not seat.excuse():
            return
        if seat.refusals > TRUST_TRIES:
            self.distrust(seat, "exposure")
        else:
            self.spawn(self._say_later(seat, missed))

    async def _say_later(self, seat: Seat, missed: Iterable[PiecePayment]) -> None:
        await asyncio.sleep(TRUST_SECONDS)
        seat.early = False
        if seat.spending and not seat.peer.closed:
            for payment in missed:
                seat.peer.say(payment)
            self._loop.pump()

    def _failed(self, seat: Seat, code: int, text: str, again: bool) -> None:
        log.info("seeder declined", peer=str(seat.peer), code=code, text=text[:200])
        self._decline(seat)
        seat.useless = seat.useless or not again
        self._loop.on_change()

    def _closed(self, seat: Seat, txid: bytes, commitment: bytes, again: bool) -> None:
        spending = self.let_go(seat)
        if spending:
            self.spawn(self._purse.closed(spending, txid, commitment))
        self._over(seat, again)

    def _over(self, seat: Seat, again: bool) -> None:
        """Its channel has ended. again: for a reason that we can check."""
        if not again:
            self.distrust(seat, "closed")
        elif seat.session and not self.closing:
            seat.peer.say(seat.session.ask_anew())

    def let_go(self, seat: Seat) -> Spending | None:
        """The seat has no payment channel any more; the one it had."""
        spending, seat.spending, seat.settling_since = seat.spending, None, None
        if spending:
            self._purse.release(spending)
        return spending

    def _decline(self, seat: Seat) -> None:
        if spending := self.let_go(seat):
            self.spawn(self._purse.declined(spending))

    def distrust(self, seat: Seat, why: str) -> None:
        """The seeder kept money: it is remembered."""
        if seat.distrust() and seat.session:
            self.spawn(self._titles.note_misstep(seat.session.context.seeder_key, why, self._purse.now))
        self._loop.on_change()

    def gone(self, seat: Seat, fault: RemoteProtocolError | None) -> None:
        """The connection is over. fault: of the seeder, if that ended it. A channel that it could not show to be as we
        know it is not offered to it again: the same would come of it. Another one may be opened, which costs two fees;
        so this is remembered, though it may be our own log that is too old."""
        if fault and seat.session and seat.session.stage is Stage.RESUMING:
            self.distrust(seat, "resume")
            self._decline(seat)
        self.let_go(seat)

    def check_silence(self, seat: Seat, now: float) -> None:
        """Gives up on a seeder that does not answer. now: steady seconds."""
        if seat.spending and seat.settling_since is not None and now - seat.settling_since > ANSWER_SECONDS:
            self.distrust(seat, "silent")
            self._decline(seat)

    # -- paying -------------------------------------------------------------------------------------------------------

    def pay(self, seat: Seat, piece: PieceIndex, price: int) -> bool:
        """Signs and says the piece's payment. False when nothing more can be bought at the moment."""
        session, spending = seat.session, seat.spending
        if session is None or session.offered is None or spending is None:
            return False
        if not session.affords(price, self._purse.now):
            return False  # what the schedule gave it before this piece has used up its room
        if spending.payer.needs_reserve(session.line, price):
            self._reserve(seat, spending, session.line, price)
            return False
        try:
            self.budget.spend(price)
            payment = session.pay(price, self._purse.now)
            self._purse.bought(spending, session.line, self._swarm.infohash, piece, price)
            self.receipts.bought(spending, piece, payment, session.offered.terms)
        except (FundsError, StoreError) as error:
            self.give_up(error)
            return False
        self.pieces += 1
        seat.peer.say(payment)
        return True

    def _reserve(self, seat: Seat, spending: Spending, line: int, price: int) -> None:
        """Raises the saved mark, then goes on. Nothing is paid over the channel until it is on disk."""
        seat.wait()

        async def reserve() -> None:
            await self._purse.reserve(spending, line, price)
            seat.settling_since = None
            self._loop.pump()

        self.spawn(reserve())

    def give_up(self, error: BctError) -> None:
        self.trouble = error
        log.warning("nothing more is bought", text=str(error))
        self._loop.on_change()

    # -- closing ------------------------------------------------------------------------------------------------------

    def end_worn(self, seat: Seat) -> None:
        """A channel that has ended on the chain makes way for another; so does one without room, or time, for one more
        piece, once what it paid for is here."""
        session = seat.session
        if session is None or session.offered is None or seat.spending is None:
            return
        if seat.spending.payer.state not in _ALIVE:
            self.let_go(seat)
            self._over(seat, session.seen_over(self._purse.now))
            return
        if not session.ready:
            return
        busy = seat.settling or seat.useless or seat.peer.fetching.pieces
        if not busy and not session.lasts(session.offered.terms.price, self._purse.now):
            seat.wait()
            self.receipts.say(seat)
            seat.peer.say(session.close(CloseReason.CAPACITY))

    async def close(self, seconds: float) -> None:
        """Closes every channel that is in use here, unless they are kept, as soon as it is open, and waits so long for
        each to be settled, those included that their seeders have closed already."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*self._tasks, return_exceptions=True)
                for seat in self._loop.seats.values():
                    self._say_end(seat)
                closing = [one for one in self.channels if self._ends(one)]
                await asyncio.gather(*(spending.over.wait() for spending in closing))
                await asyncio.gather(*self._tasks, return_exceptions=True)  # receipts are written down

    def _ends(self, spending: Spending) -> bool:
        return spending.payer.state is State.CLOSING or (spending.in_use and not self.keeps)

    def _say_end(self, seat: Seat) -> None:
        if seat.session and seat.spending and seat.session.ready and not seat.peer.closed:
            self.receipts.say(seat)
            if not self.keeps:
                seat.peer.say(seat.session.close(CloseReason.DONE))
            seat.peer.flush()

    def stop(self) -> None:
        """Its channels are free for another play."""
        self.closing = True
        for seat in self._loop.seats.values():
            self.let_go(seat)
        for task in self._tasks:
            task.cancel()

    # -- in the background --------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """What fails in the background stops the buying, with its reason, rather than passing in silence."""
        try:
            await work
        except BctError as error:
            self.give_up(error)
