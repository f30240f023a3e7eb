"""Getting one torrent's pieces: free where they are free, bought where they are not, each once.

Who could cheat: a seeder that takes a payment and sends nothing, or something else. What can be lost to it is its
window; then its pieces are asked of others, it starts again at one piece, and it is remembered. And we ourselves could
overspend: every price and every miner fee passes the play's budget before anything is signed; what was bought is
written down as it is signed, so that a restart asks for it again instead of paying again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any

import structlog

from bct.channel.state import State
from bct.errors import BctError, FundsError, RemoteProtocolError, StoreError, TemporaryError
from bct.node.peer import Peer
from bct.node.purse import Purse, Spending
from bct.node.swarm import Swarm
from bct.pay.budget import Budget
from bct.pay.messages import CloseReason, Message, PiecePayment
from bct.pay.payer_session import Closed, Failed, Happening, LineNeeded, Offered, PayerSession, Ready, Refused
from bct.pay.schedule import Assignment, Source, assign
from bct.pay.window import Window
from bct.title.store import TitleStore
from bct.title.terms import Terms
from bct.torrent.metainfo import Metainfo
from bct.torrent.store import PieceStore
from bct.units import PieceIndex

log = structlog.get_logger()

STALL_SECONDS = 10.0
ANSWER_SECONDS = 20.0
"""How long a seeder may take to answer OPEN, RESUME, ADD_LINE or CLOSE."""
TRUST_SECONDS, TRUST_TRIES = 5.0, 12
"""Until a payment is said again that was refused for want of trust in a fresh funding, and how often."""
LAND_SECONDS = 2.0
"""How long the end of a play waits for pieces that are paid for and under way."""
MISSES = 3
"""Pieces a peer may announce and not send before it is asked no more."""
MISSTEPS = 3
"""How often a seeder may have kept our money before no payment channel is opened with it again."""
PLAIN_WINDOW = 8
"""Pieces asked ahead of a peer that costs nothing."""


class Seat:
    """One peer as the buyer sees it."""

    def __init__(self, peer: Peer, session: PayerSession | None) -> None:
        self.peer = peer
        self.session = session
        self.spending: Spending | None = None
        self.window: Window | None = None
        self.settling_since: float | None = None
        """Since when its payment channel is being opened, resumed, enlarged or closed, in steady seconds."""
        self.early = False
        """Its last payments were too early for it: nothing is paid until they are said again."""
        self.excused: set[PieceIndex] = set()
        """What was under way when a payment came too early: that it is rejected is no fault."""
        self.refusals = 0
        self.misses = 0
        self.useless = False
        """It failed us: nothing more is asked of it, or paid to it, on this connection."""
        self.blamed = False
        """It kept money, and that has been written down."""

    @property
    def settling(self) -> bool:
        return self.settling_since is not None

    def wait(self) -> None:
        self.settling_since = self.peer.hub.clock()


class TitleBuyer:
    """The `Buyer` of a swarm.

    creator: the key of the link, None for an ordinary torrent. budget: what the play may cost. on_metadata: called
    once it is known what the torrent holds.
    """

    def __init__(
        self,
        swarm: Swarm,
        purse: Purse,
        titles: TitleStore,
        creator: bytes | None,
        budget: Budget,
        lowest_sequence: int,
        on_metadata: Callable[[Metainfo], None],
    ) -> None:
        self.swarm = swarm
        self.budget = budget
        self.terms: Terms | None = None
        self.trouble: BctError | None = None
        """Why nothing more can be bought: the cap, or an empty wallet."""
        self.wanted: Callable[[], Iterable[PieceIndex]] = lambda: ()
        """Pieces to get now, most urgent first; set by the play."""
        self.playing_time: Callable[[], int] = lambda: 0
        """Seconds of film still to be shown; set by the play."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a piece has come, or trouble has."""
        self.parted: RemoteProtocolError | None = None
        """What the last peer did that was left for something it did."""
        self.pieces_bought = 0
        self.channels: list[Spending] = []
        """Every payment channel that was opened or resumed for this."""
        self.seats: dict[Peer, Seat] = {}
        self._purse = purse
        self._titles = titles
        self._creator = creator
        self._lowest = lowest_sequence
        self._on_metadata = on_metadata
        self._termed = asyncio.Event()
        self._coming: dict[PieceIndex, Peer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()  # nothing is under way
        self._quiet.set()
        self._closing = False

    # -- Buyer: what the swarm reports --------------------------------------------------------------------------------

    def met(self, peer: Peer) -> None:
        seat = self.seats.get(peer)
        if seat is None:
            seat = self.seats[peer] = Seat(peer, None)
        if seat.session is None and peer.context is not None and self._creator is not None:
            seat.session = PayerSession(
                peer.context, self._creator, self.swarm.infohash, self._lowest, self._purse.config.fee_rate_cap
            )
        self.pump()

    def changed(self, peer: Peer) -> None:
        shown = peer.wire.pieces
        if shown is not None and shown.full:  # a seller shows the free pieces only
            self._termed.set()
        self.pump()

    def metadata_known(self, metainfo: Metainfo) -> None:
        self._on_metadata(metainfo)

    def message(self, peer: Peer, message: Message) -> None:
        seat = self.seats.get(peer)
        if seat is None or seat.session is None:
            raise RemoteProtocolError("unexpected-message", "bct_pay was spoken about a torrent that costs nothing")
        happening = seat.session.receive(message, self._purse.now)
        if happening:
            self._happened(seat, happening)
        self.pump()

    def arriving(self, peer: Peer, since: float) -> None:
        seat = self.seats[peer]
        if seat.window:
            seat.window.first_block(peer.hub.clock() - since)

    def arrived(self, peer: Peer, piece: PieceIndex, data: bytearray, since: float) -> None:
        seat = self.seats[peer]
        self._landed(piece)
        if seat.window:
            seat.window.delivered(len(data), since, peer.hub.clock())
        if self.swarm.store and piece not in self.swarm.store.pieces:
            try:
                self.swarm.store.write(piece, data)
            except StoreError as error:
                self._give_up(error)
                return
            self.swarm.announce(piece)
        self.on_change()
        self.pump()

    def failed(self, peer: Peer, piece: PieceIndex, why: str) -> None:
        self._landed(piece)
        seat = self.seats.get(peer)
        if self._closing and why == "rejected":
            return  # the channel is closed by us: what was still asked for over it is refused, as it should be
        if seat and piece in seat.excused and why == "rejected":
            seat.excused.discard(piece)
            return  # its payment was too early for the seeder, and is said again
        if seat and seat.spending and seat.spending.has_bought(self.swarm.infohash, piece):
            log.warning("paid and not delivered", peer=str(peer), piece=piece, why=why)
            self._distrust(seat, why)
        elif seat:
            seat.misses += 1
            seat.useless = seat.useless or seat.misses >= MISSES

    def _landed(self, piece: PieceIndex) -> None:
        """It is not under way any more, here or not."""
        self._coming.pop(piece, None)
        if not self._coming:
            self._quiet.set()

    def gone(self, peer: Peer) -> None:
        self.parted = peer.fault or self.parted
        seat = self.seats.pop(peer, None)
        for piece in [piece for piece, source in self._coming.items() if source is peer]:
            self._landed(piece)
        if seat and seat.spending:
            self._purse.release(seat.spending)
        self.on_change()
        self.pump()

    # -- what a session says ------------------------------------------------------------------------------------------

    def _happened(self, seat: Seat, happening: Happening) -> None:
        match happening:
            case Offered(_, terms):
                self._learn(terms)
            case Ready(opened, missed):
                seat.settling_since = None
                self._agreed(seat, opened, missed)
                if self._closing:
                    self._say_close(seat, CloseReason.DONE)
            case LineNeeded(missed):
                self._agreed(seat, (), missed)
                self._spawn(self._add_line(seat))
            case Refused(_, missed) if missed:
                self._wait_for_trust(seat, missed)
            case Refused(reason):
                self._distrust(seat, reason)
            case Failed(code, text, again):
                self._failed(seat, code, text, again)
            case Closed(txid, commitment, again):
                self._closed(seat, txid, commitment, again)

    def _agreed(self, seat: Seat, opened: Iterable[PieceIndex], missed: Iterable[PiecePayment]) -> None:
        """The seeder takes the channel. opened: pieces that it counts as bought, whatever our log knows of them."""
        for payment in missed:
            seat.peer.say(payment)
        if seat.spending:
            seat.spending.pieces.update((self.swarm.infohash, piece) for piece in opened)
            self._spawn(self._purse.ready(seat.spending))

    def _wait_for_trust(self, seat: Seat, missed: Iterable[PiecePayment]) -> None:
        """The seeder trusts fundings that no block holds with so much and no more at a time: no fault of its own. Its
        payments are said again after a while, and what they were for is asked again."""
        seat.excused.update(seat.peer.fetching.pieces)
        if seat.early:
            return  # each payment of a flight is refused; the first refusal has all of them said again
        seat.early, seat.refusals = True, seat.refusals + 1
        if seat.refusals > TRUST_TRIES:
            self._distrust(seat, "exposure")
        else:
            self._spawn(self._say_later(seat, missed))

    async def _say_later(self, seat: Seat, missed: Iterable[PiecePayment]) -> None:
        await asyncio.sleep(TRUST_SECONDS)
        seat.early = False
        if seat.spending and not seat.peer.closed:
            for payment in missed:
                seat.peer.say(payment)
            self.pump()

    def _learn(self, terms: Terms) -> None:
        if self.terms is None or terms.sequence > self.terms.sequence:
            self.terms = terms
            self._termed.set()
            self._lowest = terms.sequence
            self.swarm.priced = terms.price > 0
            self._spawn(self._titles.saw_terms(terms))

    async def first_terms(self, seconds: float) -> Terms | None:
        """The title's terms as soon as a seeder has offered them; None once one gives all of it away.

        Raises TemporaryError.
        """
        try:
            await asyncio.wait_for(self._termed.wait(), seconds)
        except TimeoutError:
            raise TemporaryError(f"no seeder has offered the title within {seconds:.0f} s") from None
        return self.terms

    def _failed(self, seat: Seat, code: int, text: str, again: bool) -> None:
        log.info("seeder declined", peer=str(seat.peer), code=code, text=text[:200])
        spending = self._let_go(seat)
        if spending:
            self._spawn(self._purse.declined(spending))
        seat.useless = seat.useless or not again
        self.on_change()

    def _closed(self, seat: Seat, txid: bytes, commitment: bytes, again: bool) -> None:
        spending = self._let_go(seat)
        if spending:
            self._spawn(self._purse.closed(spending, txid, commitment))
        if not again:
            self._distrust(seat, "closed")
        elif seat.session and not self._closing:
            seat.peer.say(seat.session.ask_anew())

    def _let_go(self, seat: Seat) -> Spending | None:
        """The seat has no payment channel any more; the one it had."""
        spending, seat.spending, seat.settling_since = seat.spending, None, None
        if spending:
            self._purse.release(spending)
        return spending

    def _distrust(self, seat: Seat, why: str) -> None:
        seat.useless = True
        if seat.window:
            seat.window.broken()
        if seat.session and not seat.blamed:  # once a connection, however many pieces were under way
            seat.blamed = True
            self._spawn(self._titles.note_misstep(seat.session.context.seeder_key, why, self._purse.now))
        self.on_change()

    @property
    def waiting_for(self) -> str:
        """What keeps pieces from coming, for people to read; empty when nothing does."""
        seats = [seat for seat in self.seats.values() if seat.peer.wire.is_open]
        if self.trouble:
            return str(self.trouble)
        if not seats and not self.swarm.complete:
            return f"a peer: {self.why_alone}"
        if any(seat.settling for seat in seats):
            return "the payment channel: it is being opened"
        return ""

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._coming)

    @property
    def why_alone(self) -> str:
        return f"the last one was left, since {self.parted}" if self.parted else "none is connected"

    # -- the loop -----------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Asks for what is wanted, as far as windows, channels and the budget allow."""
        geometry, store = self.swarm.geometry, self.swarm.store
        if geometry is None or store is None or self.trouble or self._closing:
            return
        sources = [self._source(seat) for seat in self.seats.values() if seat.peer.wire.is_open]
        for assignment in assign(self._missing(store), sources, geometry.size):
            if not self._get(assignment):
                break
        for seat in list(self.seats.values()):
            self._end_worn(seat)
            seat.peer.flush()
        self._open_channels(store)

    def _missing(self, store: PieceStore) -> Iterator[PieceIndex]:
        """What is wanted, not here, and not on its way."""
        return (p for p in self.wanted() if p not in store.pieces and p not in self._coming)

    def _source(self, seat: Seat) -> Source[Peer]:
        peer, window = seat.peer, seat.window
        outstanding = peer.fetching.pieces
        if window and seat.spending:
            limit = window.pieces
        else:  # several at a time, in one write, cost less than one by one
            limit = PLAIN_WINDOW if len(outstanding) <= PLAIN_WINDOW // 2 else 0
        waiting = sum(len(arriving.data) for arriving in outstanding.values())
        rate = window.rate if window else 0.0
        return Source(peer, lambda piece: self._price(seat, piece), max(0, limit - len(outstanding)), waiting, rate)

    def _price(self, seat: Seat, piece: PieceIndex) -> int | None:
        """What this peer asks for the piece now; None where it cannot be had from it now."""
        peer, session = seat.peer, seat.session
        if seat.useless:
            return None
        if peer.wire.pieces is not None and piece in peer.wire.pieces:
            return 0 if peer.wire.may_request(piece) else None
        if (
            session is None
            or seat.settling
            or seat.early
            or not peer.has(piece)
            or not session.ready
            or session.offered is None
        ):
            return None
        if seat.spending and seat.spending.has_bought(self.swarm.infohash, piece):
            return 0  # paid for on an earlier connection, and never received
        price = session.offered.terms.price_of(piece)
        return price if session.affords(price, self._purse.now) else None

    def _get(self, assignment: Assignment[Peer]) -> bool:
        """Pays, if it costs, and asks. False when nothing more can be bought at the moment."""
        seat = self.seats[assignment.source]
        if assignment.price and not self._pay(seat, assignment.piece, assignment.price):
            return False
        geometry = self.swarm.geometry
        if geometry:
            seat.peer.fetching.request(assignment.piece, geometry)
            self._coming[assignment.piece] = seat.peer
            self._quiet.clear()
        return True

    def _pay(self, seat: Seat, piece: PieceIndex, price: int) -> bool:
        session, spending = seat.session, seat.spending
        if session is None or spending is None or not session.affords(price, self._purse.now):
            return False  # what the schedule gave it before this piece has used up its room
        if spending.payer.needs_reserve(session.line, price):
            self._reserve(seat, price)
            return False
        try:
            self.budget.spend(price)
            payment = session.pay(price, self._purse.now)
            self._purse.bought(spending, session.line, self.swarm.infohash, piece, price)
        except (FundsError, StoreError) as error:
            self._give_up(error)
            return False
        self.pieces_bought += 1
        seat.peer.say(payment)
        return True

    def _reserve(self, seat: Seat, price: int) -> None:
        """Raises the saved mark, then goes on. Nothing is paid over the channel until it is on disk."""
        if seat.spending is None or seat.session is None:
            return
        seat.wait()

        async def reserve(spending: Spending, line: int) -> None:
            await self._purse.reserve(spending, line, price)
            seat.settling_since = None
            self.pump()

        self._spawn(reserve(seat.spending, seat.session.line))

    def _give_up(self, error: BctError) -> None:
        self.trouble = error
        log.warning("nothing more is bought", text=str(error))
        self.on_change()

    # -- payment channels ---------------------------------------------------------------------------------------------

    def _end_worn(self, seat: Seat) -> None:
        """A channel without room, or time, for one more piece makes way for another, once what it paid for is here."""
        session = seat.session
        if session is None or session.offered is None or not session.ready or seat.spending is None:
            return
        busy = seat.settling or seat.useless or seat.peer.fetching.pieces
        if not busy and not session.lasts(session.offered.terms.price, self._purse.now):
            seat.wait()
            seat.peer.say(session.close(CloseReason.CAPACITY))

    def _open_channels(self, store: PieceStore) -> None:
        """One channel at a time: with the first seeder that has what is wanted and is not being paid yet."""
        seats = [seat for seat in self.seats.values() if not seat.useless]
        if any(seat.settling or (seat.spending and seat.session and seat.session.ready) for seat in seats):
            return
        for seat in seats:
            session = seat.session
            if session is None or session.offered is None or seat.spending:
                continue
            terms = session.offered.terms
            if any(terms.price_of(piece) and seat.peer.has(piece) for piece in self._missing(store)):
                seat.wait()
                self._spawn(self._engage(seat, session, session.offered))
                return

    async def _engage(self, seat: Seat, session: PayerSession, offered: Offered) -> None:
        """Resumes the channel we have with this seeder, or opens one."""
        peer, geometry = seat.peer, self.swarm.geometry
        if geometry is None or self.swarm.store is None:
            return
        seat.window = Window(offered.terms.price, geometry.piece_length)
        missing = [PieceIndex(i) for i in range(geometry.count) if i not in self.swarm.store.pieces]
        if await self._titles.missteps(session.context.seeder_key) >= MISSTEPS:
            self._pass_over(seat, TemporaryError("the only seeder that answers has kept money before"))
            return
        try:
            message, seat.spending = await self._purse.engage(
                session, offered, peer.connection.remote, missing, self.budget, self.playing_time()
            )
        except FundsError as error:
            self._pass_over(seat, error)
            return
        if peer.closed or self._closing:
            self.budget.release(await self._purse.unsaid(seat.spending, message))
            seat.spending = None
            return
        if seat.spending not in self.channels:
            self.channels.append(seat.spending)
        seat.wait()
        peer.say(message)
        peer.flush()

    def _pass_over(self, seat: Seat, why: BctError) -> None:
        """No channel with this seeder: its fees are too high, or our purse is too small. Another one may do."""
        seat.settling_since, seat.useless = None, True
        if any(other.session and other.session.offered and not other.useless for other in self.seats.values()):
            self.pump()
        else:
            self._give_up(why)

    async def _add_line(self, seat: Seat) -> None:
        if seat.session and seat.spending:
            await self._purse.lined(seat.spending, seat.session.line, self.budget)
            seat.wait()
            seat.peer.say(seat.session.add_line())
            seat.peer.flush()

    async def close(self, seconds: float, reason: CloseReason = CloseReason.DONE) -> None:
        """Closes every channel that is in use here, as soon as it is open and what was paid over it has come, and waits
        so long for each to be settled, those included that their seeders have closed already."""
        self._closing = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), min(LAND_SECONDS, seconds))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*self._tasks, return_exceptions=True)
                for seat in self.seats.values():
                    self._say_close(seat, reason)
                closing = [one for one in self.channels if one.in_use or one.payer.state is State.CLOSING]
                await asyncio.gather(*(spending.over.wait() for spending in closing))

    @staticmethod
    def _say_close(seat: Seat, reason: CloseReason) -> None:
        if seat.session and seat.spending and seat.session.ready and not seat.peer.closed:
            seat.peer.say(seat.session.close(reason))
            seat.peer.flush()

    # -- time ---------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Pieces that do not come are asked of somebody else; whoever kept money is remembered."""
        for seat in list(self.seats.values()):
            for piece, arriving in list(seat.peer.fetching.pieces.items()):
                if now - max(arriving.since, arriving.touched) > STALL_SECONDS:
                    seat.peer.fetching.give_up(piece)
                    self.failed(seat.peer, piece, "stalled")
            if seat.spending and seat.settling_since is not None and now - seat.settling_since > ANSWER_SECONDS:
                spending = self._let_go(seat)
                self._distrust(seat, "silent")
                if spending:
                    self._spawn(self._purse.declined(spending))
        self.pump()

    def stop(self) -> None:
        """Nothing more is asked for; its channels are free for another play."""
        self._closing = True
        for seat in self.seats.values():
            self._let_go(seat)
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """What fails in the background stops the buying, with its reason, rather than passing in silence."""
        try:
            await work
        except BctError as error:
            self._give_up(error)
