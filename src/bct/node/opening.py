"""With which seeder a play has a payment channel next: an open one is resumed, or a new one opened.

Who could cheat: a seeder that has kept money before. It is remembered by its key, and after `MISSTEPS` no channel is
opened with it, whatever it offers. What a channel costs in miner fees passes the budget before its funding is signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from bct.errors import BctError, FundsError, TemporaryError
from bct.node.deals import Deals
from bct.node.peer import Peer
from bct.node.purse import Purse
from bct.node.seat import Seat
from bct.node.swarm import Swarm
from bct.pay.capacity import Quote
from bct.pay.payer_session import Offered, PayerSession
from bct.pay.window import Window
from bct.title.store import TitleStore
from bct.units import PieceIndex

MISSTEPS = 3
"""How often a seeder may have kept our money before no payment channel is opened with it again."""


class Loop(Protocol):
    """Who asks for the pieces. playing_time: seconds of film still to be shown."""

    seats: dict[Peer, Seat]
    playing_time: Callable[[], int]

    def pump(self) -> None: ...


class Opening:
    """One play's."""

    def __init__(self, loop: Loop, swarm: Swarm, purse: Purse, titles: TitleStore, deals: Deals) -> None:
        self._loop = loop
        self._swarm = swarm
        self._purse = purse
        self._titles = titles
        self._deals = deals

    def next(self, missing: Callable[[], Iterator[PieceIndex]]) -> None:
        """One channel at a time: with the first seeder that has what is wanted and is not being paid yet. missing: what
        is wanted, not here, and not on its way."""
        seats = [seat for seat in self._loop.seats.values() if not seat.useless]
        if any(seat.settling or (seat.spending and seat.session and seat.session.ready) for seat in seats):
            return
        for seat, session, offered in self._offers():
            terms = offered.terms
            if any(terms.price_of(piece) and seat.peer.has(piece) for piece in missing()):
                seat.wait()
                self._deals.spawn(self._engage(seat, session, offered))
                return

    def _offers(self) -> list[tuple[Seat, PayerSession, Offered]]:
        """Of seeders that have no channel here, in the order in which they are to get one: those first with whom one is
        open from before."""
        found = [
            (seat, seat.session, seat.session.offered)
            for seat in self._loop.seats.values()
            if seat.session and seat.session.offered and not seat.spending and not seat.useless
        ]
        return sorted(found, key=lambda offer: not self._purse.usable(offer[1].context.seeder_key, offer[2].terms, ()))

    def quote(self) -> Quote | None:
        """What is missing, from the seeder that would be paid first; None while nobody has offered it."""
        for _, session, offered in self._offers():
            return self._purse.quote(session.context.seeder_key, offered, self._lacking(), self._deals.budget)
        return None

    def _lacking(self) -> list[PieceIndex]:
        """Every piece that is not here."""
        geometry, store = self._swarm.geometry, self._swarm.store
        if geometry is None or store is None:
            return []
        return [PieceIndex(i) for i in range(geometry.count) if i not in store.pieces]

    async def _engage(self, seat: Seat, session: PayerSession, offered: Offered) -> None:
        """Resumes the channel we have with this seeder, or opens one."""
        peer, geometry = seat.peer, self._swarm.geometry
        if geometry is None:
            return
        seat.window = Window(offered.terms.price, geometry.piece_length)
        if await self._titles.missteps(session.context.seeder_key) >= MISSTEPS:
            self._pass_over(seat, TemporaryError("the only seeder that answers has kept money before"))
            return
        try:
            message, seat.spending = await self._purse.engage(
                session, offered, peer.connection.remote, self._lacking(), self._deals.budget, self._loop.playing_time()
            )
        except FundsError as error:
            self._pass_over(seat, error)
            return
        if peer.closed or self._deals.closing:
            self._deals.budget.release(await self._purse.unsaid(seat.spending, message))
            seat.spending = None
            return
        if seat.spending not in self._deals.channels:
            self._deals.channels.append(seat.spending)
        seat.wait()
        peer.say(message)
        peer.flush()

    def _pass_over(self, seat: Seat, why: BctError) -> None:
        """No channel with this seeder: its fees are too high, or our purse is too small. Another one may do."""
        seat.settling_since, seat.useless = None, True
        others = self._loop.seats.values()
        if any(other.session and other.session.offered and not other.useless for other in others):
            self._loop.pump()
        else:
            self._deals.give_up(why)
