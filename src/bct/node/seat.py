"""One peer as the buyer of a title sees it: what it can be asked for, at what price, and how far it is trusted.

Who could cheat: a seeder that takes a payment and sends nothing, or something else; one that refuses for ever what it
was paid; one that shows pieces and never sends them. What can be lost to it is its window. After that nothing more is
asked of it, or paid to it, on this connection, and `distrust` says that it is to be remembered. No fault is what is
rejected because a payment came before the seeder could trust its funding: that is said again.
"""

from __future__ import annotations

from bct.node.peer import Peer
from bct.node.purse import Spending
from bct.pay.payer_session import PayerSession
from bct.pay.schedule import Source
from bct.pay.window import Window
from bct.units import Infohash, PieceIndex

MISSES = 3
"""Pieces a peer may announce and not send before it is asked no more."""
PLAIN_WINDOW = 8
"""Pieces asked ahead of a peer that costs nothing."""


class Seat:
    """infohash: of the title that is bought here."""

    def __init__(self, peer: Peer, infohash: Infohash) -> None:
        self.peer = peer
        self.infohash = infohash
        self.session: PayerSession | None = None
        """None for a peer that cannot be paid."""
        self.spending: Spending | None = None
        self.window: Window | None = None
        self.settling_since: float | None = None
        """Since when its payment channel is being opened, resumed, enlarged or closed, in steady seconds."""
        self.early = False
        """Its last payments were too early for it: nothing is paid until they are said again."""
        self.useless = False
        """It failed us: nothing more is asked of it, or paid to it, on this connection."""
        self.refusals = 0
        """How often payments were too early for it."""
        self._excused: set[PieceIndex] = set()
        self._misses = 0
        self._blamed = False

    # -- its payment channel ------------------------------------------------------------------------------------------

    @property
    def settling(self) -> bool:
        return self.settling_since is not None

    def wait(self) -> None:
        self.settling_since = self.peer.hub.clock()

    def owes(self, piece: PieceIndex) -> bool:
        """Whether the piece is paid for over the channel that is in use."""
        return self.spending is not None and self.spending.has_bought(self.infohash, piece)

    # -- what can be asked of it --------------------------------------------------------------------------------------

    def source(self, now: int) -> Source[Peer]:
        """It, as the schedule sees it. now: as for `price`."""
        outstanding = self.peer.fetching.pieces
        if self.window and self.spending:
            limit = self.window.pieces
        else:  # several at a time, in one write, cost less than one by one
            limit = PLAIN_WINDOW if len(outstanding) <= PLAIN_WINDOW // 2 else 0
        waiting = sum(len(arriving.data) for arriving in outstanding.values())
        rate = self.window.rate if self.window else 0.0
        room = max(0, limit - len(outstanding))
        return Source(self.peer, lambda piece: self.price(piece, now), room, waiting, rate)

    def price(self, piece: PieceIndex, now: int) -> int | None:
        """What it asks for the piece at this Unix time; None where it cannot be had from it now."""
        peer, session = self.peer, self.session
        if self.useless:
            return None
        if peer.wire.pieces is not None and piece in peer.wire.pieces:
            return 0 if peer.wire.may_request(piece) else None
        if session is None or session.offered is None or not session.ready:
            return None
        if self.settling or self.early or not peer.has(piece):
            return None
        if self.owes(piece):
            return 0  # paid for on an earlier connection, and never received
        price = session.offered.terms.price_of(piece)
        return price if session.affords(price, now) else None

    # -- how far it is trusted ----------------------------------------------------------------------------------------

    def failed(self, piece: PieceIndex, why: str) -> bool:
        """The piece was asked for and has not come. Whether it kept money for it."""
        if piece in self._excused and why == "rejected":
            self._excused.discard(piece)
            return False
        if self.owes(piece):
            return True
        self._misses += 1
        self.useless = self.useless or self._misses >= MISSES
        return False

    def excuse(self) -> bool:
        """A payment came too early for it: that what is under way is rejected is no fault. Whether this is the first
        refusal of a flight, whose payments are refused one by one."""
        self._excused.update(self.peer.fetching.pieces)
        first, self.early = not self.early, True
        self.refusals += first
        return first

    def distrust(self) -> bool:
        """It kept money. Whether that has to be written down: once a connection, however many pieces were under way."""
        self.useless = True
        if self.window:
            self.window.broken()
        news = self.session is not None and not self._blamed
        self._blamed = self._blamed or news
        return news
