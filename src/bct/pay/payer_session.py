"""The spending side of one connection: from the seeder's offer to the settlement.

Who could cheat: the seeder, with terms that are not the creator's, or old ones; with an offer signed by another key
than the handshake's; with a payment it denies (what was signed stays spent, and RESUMED must prove its totals by our
own signature); with money kept and nothing delivered (the window bounds it, and the shell remembers). Nothing here
trusts a total, an expiry or a key that the seeder says: they come from our own records and from the lock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bct.bitcoin.keys import PrivateKey, verify
from bct.channel.payer import Payer
from bct.channel.state import Event, State
from bct.errors import Action, FundsError, LocalProtocolError, RemoteProtocolError
from bct.pay import offers
from bct.pay.messages import (
    UNLIMITED,
    AddLine,
    ChannelClose,
    ChannelClosed,
    ChannelError,
    ChannelOpen,
    ChannelReady,
    CloseReason,
    Context,
    Fault,
    LineAdded,
    Message,
    Offer,
    PaymentAck,
    PaymentRefused,
    PiecePayment,
    Refusal,
    Resume,
    Resumed,
)
from bct.title import terms as title_terms
from bct.title.terms import Terms
from bct.units import Infohash, PieceIndex


@dataclass(frozen=True, slots=True)
class Offered:
    """A checked offer, under checked terms."""

    offer: Offer
    terms: Terms


@dataclass(frozen=True, slots=True)
class Ready:
    """The channel can be paid over. opened: pieces the seeder has counted as opened (after RESUME)."""

    opened: tuple[PieceIndex, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A payment was refused; what was signed stays spent."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The seeder cannot or will not go on with the channel. text: a stranger's words."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The seeder settled. commitment: its signature at our newest totals (see `Payer.settlement`)."""

    txid: bytes
    commitment: bytes


Happening = Offered | Ready | Refused | Failed | Closed


class PayerSession:
    """One connection, one torrent, at most one payment channel."""

    def __init__(
        self, context: Context, creator: bytes, infohash: Infohash, lowest_sequence: int, fee_rate_cap: int
    ) -> None:
        """creator: the 33-byte key that came with the link. lowest_sequence: the newest terms seen of this torrent."""
        self.context = context
        self.offered: Offered | None = None
        self.payer: Payer | None = None
        self.key: PrivateKey | None = None
        self.line = 0
        self.ready = False
        self._creator = creator
        self._infohash = infohash
        self._lowest = lowest_sequence
        self._fee_rate_cap = fee_rate_cap
        self._cap = 0
        self._handle = 0
        self._resuming = False

    # -- what the seeder says -----------------------------------------------------------------------------------------

    def receive(self, message: Message, now: int) -> Happening | None:
        """One message of the seeder's; what happened. Raises RemoteProtocolError."""
        match message:
            case Offer():
                return self._offer(message, now)
            case ChannelReady(handle, cap):
                return self._ready(handle, cap)
            case Resumed():
                return self._resumed(message)
            case LineAdded(handle, line):
                return self._line_added(handle, line)
            case PaymentRefused(handle, reason, _, _):
                known = reason in Refusal.__members__.values()
                return (
                    Refused(Refusal(reason).name.lower() if known else f"reason {reason}") if self._is(handle) else None
                )
            case PaymentAck():
                return None
            case ChannelClose(handle):
                return self._close_asked(message) if self._is(handle) else None
            case ChannelClosed(handle, txid, commitment):
                return Closed(txid, commitment) if self._is(handle) else None
            case ChannelError(handle, code, _, text):
                if not self._is(handle):
                    return None
                self.ready = False
                return Failed(code, text.decode(errors="replace"))
        raise RemoteProtocolError("unexpected-message", f"a viewer is never sent {type(message).__name__}")

    def _is(self, handle: int) -> bool:
        return self.payer is not None and handle == self._handle

    def _offer(self, offer: Offer, now: int) -> Happening:
        offers.check_offer(offer, self.context, self._fee_rate_cap)
        terms = title_terms.decode(offer.terms)
        title_terms.check(
            terms,
            creator=self._creator,
            network=self.context.network,
            infohash=self._infohash,
            now=now,
            lowest_sequence=self._lowest,
        )
        if self.offered and self.payer and terms != self.offered.terms:
            return self.offered  # a running channel keeps the terms it was opened under
        self._lowest = terms.sequence
        self.offered = Offered(offer, terms)
        return self.offered

    def _ready(self, handle: int, cap: int) -> Happening | None:
        if not self._is(handle) or self._resuming or self.payer is None:
            raise RemoteProtocolError("unexpected-ready", "CHANNEL_READY for a channel that was not being opened")
        self._cap = cap
        if self.ready:
            return None
        self.payer.on(Event.AGREED)
        self.ready = True
        return Ready()

    def _resumed(self, message: Resumed) -> Happening:
        payer = self.payer
        if payer is None or not self._is(message.handle) or not self._resuming:
            raise RemoteProtocolError("unexpected-resumed", "RESUMED for a channel that was not being resumed")
        if not verify(payer.params.lock.payee, self.context.digest(message), message.signature):
            raise RemoteProtocolError("bad-resume", "RESUMED is not signed by the channel's payee", Action.BAN)
        payer.resumed(message.totals, message.last)
        payer.on(Event.AGREED)
        self._resuming, self._cap = False, message.cap
        self.ready = self.line < len(message.totals)
        return (
            Ready(tuple(PieceIndex(i) for i in message.opened)) if self.ready else Failed(Fault.BAD_LINE, "line needed")
        )

    def _line_added(self, handle: int, line: int) -> Happening:
        if not self._is(handle) or line != self.line or self.ready:
            raise RemoteProtocolError("unexpected-line", f"line {line} was not being added")
        self.ready = True
        return Ready()

    def _close_asked(self, message: ChannelClose) -> Happening:
        self.ready = False
        known = message.reason in CloseReason.__members__.values()
        return Failed(0, f"the seeder closes: {CloseReason(message.reason).name.lower() if known else 'no reason'}")

    # -- what we say --------------------------------------------------------------------------------------------------

    def open(self, payer: Payer, key: PrivateKey, handle: int, vout: int, funding: bytes, idle: int) -> Message:
        """CHANNEL_OPEN under the offer at hand. funding: Atomic BEEF. The channel is saved already."""
        if self.offered is None:
            raise LocalProtocolError("there is no offer to open a channel under")
        self._take(payer, key, handle, resuming=False)
        params = payer.params
        opening = ChannelOpen(
            handle=handle,
            nonce=self.offered.offer.nonce,
            payer=params.lock.payer,
            vout=vout,
            expiry=params.lock.expiry,
            change=params.change,
            fee_rate=params.fee_rate,
            max_outputs=params.max_outputs,
            idle=idle,
            funding=funding,
        )
        return replace(opening, signature=key.sign(self.context.digest(opening)))

    def resume(self, payer: Payer, key: PrivateKey, handle: int) -> Message:
        """RESUME: this connection takes the channel over."""
        self._take(payer, key, handle, resuming=True)
        message = Resume(handle, payer.params.outpoint.pack())
        return replace(message, signature=key.sign(self.context.digest(message)))

    def _take(self, payer: Payer, key: PrivateKey, handle: int, *, resuming: bool) -> None:
        if self.offered is None:
            raise LocalProtocolError("there is no offer: its terms say which line to pay")
        self.payer, self.key, self._handle, self._resuming, self.ready = payer, key, handle, resuming, False
        self.line = payer.add_line(self.offered.terms.payees)

    def add_line(self) -> Message:
        """ADD_LINE for this title's creators, when the resumed channel does not have them yet."""
        if self.offered is None:
            raise LocalProtocolError("there is no offer whose terms could be a line")
        return AddLine(self._handle, self.line, title_terms.encode(self.offered.terms))

    def affords(self, price: int) -> bool:
        """Whether the channel, and the seeder's trust in its funding, has room for one more payment."""
        payer = self.payer
        if payer is None or not self.ready or payer.state is not State.OPEN:
            return False
        return (self._cap == UNLIMITED or payer.paid + price <= self._cap) and payer.room(self.line, price)

    def pay(self, price: int, now: int) -> PiecePayment:
        """A payment for one more piece. The payer's mark has been saved. Raises FundsError."""
        if self.payer is None or self.key is None or not self.ready:
            raise FundsError("there is no open payment channel to pay over")
        payment = self.payer.pay(self.line, price, self.key, now=now)
        return PiecePayment(self._handle, payment.line, payment.total, payment.signature)

    def close(self, reason: CloseReason) -> Message:
        """CHANNEL_CLOSE at our newest totals."""
        if self.payer is None or self.key is None:
            raise LocalProtocolError("there is no payment channel to close")
        self.payer.on(Event.CLOSE)
        self.ready = False
        totals, commitment = self.payer.totals, self.payer.sign_close(self.key)
        message = ChannelClose(self._handle, reason, totals, commitment)
        return replace(message, signature=self.key.sign(self.context.digest(message)))
