"""Getting one torrent's pieces: free where they are free, bought where they are not, each once.

Here it is decided whom each piece is asked of, and heard what became of it. How far a peer is trusted stands in `seat`,
with whom a payment channel is opened in `opening`, what is paid over it in `deals`. A piece is paid for before it is
asked for, so what a peer can keep is what is under way from it: the peer's window bounds that (`Seat.source`), and a
piece that does not come is asked of somebody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import structlog

from bct.errors import RemoteProtocolError, StoreError
from bct.node.asking import Asking
from bct.node.deals import Deals
from bct.node.opening import Opening
from bct.node.peer import Peer
from bct.node.purse import Purse
from bct.node.seat import Seat
from bct.node.swarm import Swarm
from bct.pay.budget import Budget
from bct.pay.messages import Message
from bct.pay.schedule import Assignment, assign
from bct.title.store import TitleStore
from bct.torrent.metainfo import Metainfo
from bct.units import PieceIndex

log = structlog.get_logger()

STALL_SECONDS = 10.0
LAND_SECONDS = 2.0
"""How long the end of a play waits for pieces that are paid for and under way."""


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
        self.seats: dict[Peer, Seat] = {}
        self.asking = Asking(swarm, creator, lowest_sequence, purse.config.fee_rate_cap)
        self.deals = Deals(self, swarm, purse, titles, self.asking, budget)
        self.opening = Opening(self, swarm, purse, titles, self.deals)
        self.wanted: Callable[[], Iterable[PieceIndex]] = lambda: ()
        """Pieces to get now, most urgent first; set by the play."""
        self.playing_time: Callable[[], int] = lambda: 0
        """Seconds of film still to be shown; set by the play."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a piece has come, or trouble has."""
        self.parted: RemoteProtocolError | None = None
        """What the last peer did that was left for something it did."""
        self._purse = purse
        self._on_metadata = on_metadata
        self._coming: dict[PieceIndex, Peer] = {}
        self._quiet = asyncio.Event()  # nothing is under way
        self._quiet.set()

    # -- Buyer: what the swarm reports --------------------------------------------------------------------------------

    def met(self, peer: Peer) -> None:
        seat = self.seats.get(peer)
        if seat is None:
            seat = self.seats[peer] = Seat(peer, self.swarm.infohash)
        if seat.session is None and peer.context is not None:
            seat.session = self.asking.session(peer.context)
        self.pump()

    def changed(self, peer: Peer) -> None:
        shown = peer.wire.pieces
        if shown is not None and shown.full:
            self.asking.shown_whole()
        self.pump()

    def metadata_known(self, metainfo: Metainfo) -> None:
        self._on_metadata(metainfo)

    def message(self, peer: Peer, message: Message) -> None:
        seat = self.seats.get(peer)
        if seat is None or seat.session is None:
            raise RemoteProtocolError("unexpected-message", "bct_pay was spoken about a torrent that costs nothing")
        happening = seat.session.receive(message, self._purse.now)
        if happening:
            self.deals.happened(seat, happening)
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
                self.deals.give_up(error)
                return
            self.swarm.announce(piece)
        self.deals.receipts.came(seat, piece)
        self.on_change()
        self.pump()

    def failed(self, peer: Peer, piece: PieceIndex, why: str) -> None:
        self._landed(piece)
        if self.deals.closing and why == "rejected":
            return  # the channel is closed by us: what was still asked for over it is refused, as it should be
        seat = self.seats.get(peer)
        if seat and seat.failed(piece, why):
            log.warning("paid and not delivered", peer=str(peer), piece=piece, why=why)
            self.deals.distrust(seat, why)

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
        if seat:
            self.deals.gone(seat, peer.fault)
        self.on_change()
        self.pump()

    # -- how it stands ------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._coming)

    @property
    def waiting_for(self) -> str:
        """What keeps pieces from coming, for people to read; empty when nothing does."""
        seats = [seat for seat in self.seats.values() if seat.peer.wire.is_open]
        if self.deals.trouble:
            return str(self.deals.trouble)
        if not seats and not self.swarm.complete:
            return f"a peer: {self.why_alone}"
        if any(seat.settling for seat in seats):
            return "the payment channel: it is being opened"
        return ""

    @property
    def why_alone(self) -> str:
        return f"the last one was left, since {self.parted}" if self.parted else "none is connected"

    # -- the loop -----------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Asks for what is wanted, as far as windows, channels and the budget allow."""
        geometry = self.swarm.geometry
        if geometry is None or self.swarm.store is None or self.deals.trouble or self.deals.closing:
            return
        now = self._purse.now
        sources = [seat.source(now) for seat in self.seats.values() if seat.peer.wire.is_open]
        for assignment in assign(self._missing(), sources, geometry.size):
            if not self._get(assignment):
                break
        for seat in list(self.seats.values()):
            self.deals.end_worn(seat)
            seat.peer.flush()
        self.opening.next(self._missing)

    def _missing(self) -> Iterator[PieceIndex]:
        """What is wanted, not here, and not on its way."""
        store = self.swarm.store
        return (p for p in self.wanted() if store and p not in store.pieces and p not in self._coming)

    def _get(self, assignment: Assignment[Peer]) -> bool:
        """Pays, if it costs, and asks. False when nothing more can be bought at the moment."""
        seat, geometry = self.seats[assignment.source], self.swarm.geometry
        if assignment.price and not self.deals.pay(seat, assignment.piece, assignment.price):
            return False
        if geometry:
            seat.peer.fetching.request(assignment.piece, geometry)
            self._coming[assignment.piece] = seat.peer
            self._quiet.clear()
        return True

    # -- time ---------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Pieces that do not come are asked of somebody else. now: steady seconds."""
        for seat in list(self.seats.values()):
            for piece, arriving in list(seat.peer.fetching.pieces.items()):
                if now - max(arriving.since, arriving.touched) > STALL_SECONDS:
                    seat.peer.fetching.give_up(piece)
                    self.failed(seat.peer, piece, "stalled")
            self.deals.check_silence(seat, now)
        self.pump()

    async def close(self, seconds: float, *, keep: bool) -> None:
        """Asks for nothing more, and settles once what was paid for has come (`Deals.close`). keep: does not settle."""
        self.deals.closing, self.deals.keeps = True, keep
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), min(LAND_SECONDS, seconds))
        await self.deals.close(seconds)

    def stop(self) -> None:
        """Nothing more is asked for; its channels are free for another play."""
        self.deals.stop()
