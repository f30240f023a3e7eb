"""The spending side of one connection: from the seeder's offer to the settlement.

Who could cheat: the seeder, with terms that are not the creator's, or old ones; with an offer signed by another key
than the handshake's; with a payment it denies (what was signed stays spent, and RESUMED must prove its totals by our
own signature); with money kept and nothing delivered (the window bounds it, and the shell remembers). Nothing here
trusts a total, an expiry or a key that the seeder says: they come from our own records and from the lock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from bct.bitcoin.keys import PrivateKey, verify
from bct.channel.payer import Payer
from bct.channel.state import Event, Role, State, can
from bct.channel.timing import accepts_payments
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
    OfferRequest,
    PaymentAck,
    PaymentRefused,
    PiecePayment,
    Receipt,
    ReceiptSigned,
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
    """The channel can be paid over. After RESUME, opened: pieces of this title that the seeder has been paid for;
    missed: payments it never got, to be sent before anything else."""

    opened: tuple[PieceIndex, ...] = ()
    missed: tuple[PiecePayment, ...] = ()


@dataclass(frozen=True, slots=True)
class LineNeeded:
    """The channel is resumed, but has no line for this title's creators yet: `PayerSession.add_line`."""

    missed: tuple[PiecePayment, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A payment was refused; what was signed stays spent. missed: when it was only too early, what to say again."""

    reason: str
    missed: tuple[PiecePayment, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The seeder cannot or will not go on with the channel. text: a stranger's words. again: for a reason that we can
    check, so that another channel may be opened with it."""

    code: int
    text: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Closed:
    """The seeder says that it settled. commitment: its signature at our newest totals (see `Payer.settlement`). again:
    as in `Failed`."""

    txid: bytes
    commitment: bytes
    again: bool


@dataclass(frozen=True, slots=True)
class Countersigned:
    """The payee has answered a receipt: see `PayerReceipts.signed`."""

    answer: ReceiptSigned


@dataclass(frozen=True, slots=True)
class Unsigned:
    """The payee will not sign a receipt; the channel goes on. text: a stranger's words."""

    text: str


Happening = Offered | Ready | LineNeeded | Refused | Failed | Closed | Countersigned | Unsigned


class Stage(Enum):
    """Where this session's payment channel stands in the conversation."""

    NONE = "none"
    OPENING = "opening"  # OPEN is said: READY is awaited
    RESUMING = "resuming"  # RESUME is said: RESUMED is awaited
    ADDING = "adding"  # ADD_LINE is said, or due: LINE_ADDED is awaited
    READY = "ready"
    CLOSING = "closing"  # CLOSE is said, by either side: CLOSED is awaited


_Answer = (
    ChannelReady | Resumed | LineAdded | PaymentRefused | ReceiptSigned | ChannelClose | ChannelClosed | ChannelError
)


class PayerSession:
    """One connection, one torrent, at most one payment channel at a time."""

    def __init__(
        self, context: Context, creator: bytes | None, infohash: Infohash, lowest_sequence: int, fee_rate_cap: int
    ) -> None:
        """creator: the 33-byte key that came with the link; None where nothing is bought, and offers are not heeded.
        lowest_sequence: the newest terms seen of this torrent."""
        self.context = context
        self.offered: Offered | None = None
        self.payer: Payer | None = None
        self.key: PrivateKey | None = None
        self.line = 0
        self.stage = Stage.NONE
        self._creator = creator
        self._infohash = infohash
        self._lowest = lowest_sequence
        self._fee_rate_cap = fee_rate_cap
        self._cap = 0
        self._handle = 0
        self._again = False

    @property
    def ready(self) -> bool:
        """The channel can be paid over, as far as this conversation and the chain tell."""
        return self.stage is Stage.READY and self.payer is not None and self.payer.state is State.OPEN

    # -- what the seeder says -----------------------------------------------------------------------------------------

    def receive(self, message: Message, now: int) -> Happening | None:
        """One message of the seeder's; what happened. Raises RemoteProtocolError."""
        match message:
            case Offer():
                return self._offer(message, self._creator, now) if self._creator else None
            case PaymentAck():
                return None
            case _ if isinstance(message, _Answer):
                payer = self.payer
                return self._answer(payer, message, now) if payer and message.handle == self._handle else None
        raise RemoteProtocolError("unexpected-message", f"a viewer is never sent {type(message).__name__}")

    def _answer(self, payer: Payer, message: _Answer, now: int) -> Happening | None:
        """What the seeder says about our channel."""
        match message:
            case ChannelReady(_, cap):
                return self._ready(payer, cap)
            case Resumed():
                return self._resumed(payer, message)
            case LineAdded(_, line):
                return self._line_added(line)
            case PaymentRefused():
                return self._refused(payer, message)
            case ChannelClose():
                self._close_said(payer, message, now)
                return None
            case ChannelClosed(_, txid, commitment):
                again = self._again
                self._end()
                return Closed(txid, commitment, again)
            case ReceiptSigned():
                return Countersigned(message)
            case ChannelError(_, Fault.BAD_RECEIPT, _, text):
                return Unsigned(text.decode(errors="replace"))
            case ChannelError(_, code, _, text):
                unknown = self.stage is Stage.RESUMING and code == Fault.UNKNOWN_CHANNEL
                self._end()
                return Failed(code, text.decode(errors="replace"), unknown)

    def _offer(self, offer: Offer, creator: bytes, now: int) -> Happening:
        terms = title_terms.decode(offer.terms)
        offers.check_offer(offer, terms, self.context, self._fee_rate_cap)
        title_terms.check(
            terms,
            creator=creator,
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

    def _ready(self, payer: Payer, cap: int) -> Happening | None:
        if self.stage is Stage.OPENING:
            self._agree(payer)
            self._cap, self.stage = cap, Stage.READY
            return Ready()
        if self.stage is Stage.RESUMING:
            raise RemoteProtocolError("unexpected-ready", "CHANNEL_READY where RESUMED was due")
        self._cap = cap
        return None

    def _resumed(self, payer: Payer, message: Resumed) -> Happening:
        if self.stage is not Stage.RESUMING:
            raise RemoteProtocolError("unexpected-resumed", "RESUMED for a channel that was not being resumed")
        if not verify(payer.params.lock.payee, self.context.digest(message), message.signature):
            raise RemoteProtocolError("bad-resume", "RESUMED is not signed by the channel's payee", Action.BAN)
        payer.resumed(message.totals, message.last)
        self._agree(payer)
        self._cap = message.cap
        missed = self._missed(payer, message)
        self._find_line(payer, len(message.totals))
        if self.line == len(message.totals):
            self.stage = Stage.ADDING
            return LineNeeded(missed)
        self.stage = Stage.READY
        return Ready(tuple(PieceIndex(i) for i in message.opened), missed)

    def _find_line(self, payer: Payer, theirs: int) -> None:
        """The line of this title's creators: one of the seeder's `theirs`, or the next one. None without an offer."""
        if self.offered is None:
            return
        payees = self.offered.terms.payees
        line = payer.lines.index(payees) if payees in payer.lines else len(payer.lines)
        if line > theirs or not payer.takes(payees):
            text = f"the seeder counts {theirs} lines, and line {line} is what this title's creators would need"
            raise RemoteProtocolError("bad-resume", text, Action.CLOSE)
        self.line = payer.add_line(payees)

    def _refused(self, payer: Payer, message: PaymentRefused) -> Refused | None:
        reason = message.reason
        if reason == Refusal.NOT_RISING and message.totals == payer.totals:
            return None  # it has all we signed: a payment said again had come after all
        if reason == Refusal.EXPOSURE and len(message.totals) == len(payer.totals):
            return Refused("exposure", self._missed(payer, message))
        return Refused(Refusal(reason).name.lower() if reason in Refusal else f"reason {reason}")

    def _missed(self, payer: Payer, message: Resumed | PaymentRefused) -> tuple[PiecePayment, ...]:
        if self.key is None:
            raise LocalProtocolError("a channel is resumed with its key")
        payments = payer.missed(message.totals, self.key)
        return tuple(PiecePayment(self._handle, p.line, p.total, p.signature) for p in payments)

    @staticmethod
    def _agree(payer: Payer) -> None:
        if not can(Role.PAYER, payer.state, Event.AGREED):
            raise RemoteProtocolError("channel-over", f"the seeder goes on with a channel that is {payer.state.value}")
        payer.on(Event.AGREED)

    def _line_added(self, line: int) -> Happening:
        if self.stage is not Stage.ADDING or line != self.line:
            raise RemoteProtocolError("unexpected-line", f"line {line} was not being added")
        self.stage = Stage.READY
        return Ready()

    def _close_said(self, payer: Payer, message: ChannelClose, now: int) -> None:
        """The seeder wants the end; what it was good for it tells in CHANNEL_CLOSED."""
        if not verify(payer.params.lock.payee, self.context.digest(message), message.signature):
            raise RemoteProtocolError("bad-close", "CHANNEL_CLOSE is not signed by the channel's payee")
        if self.stage is not Stage.CLOSING:
            self.stage = Stage.CLOSING
            self._again = not accepts_payments(payer.params.lock.expiry, now)

    def seen_over(self, now: int) -> bool:
        """The chain has seen the channel's end, whatever the seeder says or does not say. Whether another one may be
        opened, as in `Closed`."""
        again = self._again or (self.payer is not None and not accepts_payments(self.payer.params.lock.expiry, now))
        self._end()
        return again

    def _end(self) -> None:
        """The session has no channel any more; whatever comes late for its handle is nothing to us."""
        self.payer, self.key, self.stage = None, None, Stage.NONE

    # -- what we say --------------------------------------------------------------------------------------------------

    def ask_anew(self) -> Message:
        """OFFER_REQUEST: an offer opens one channel, once."""
        self.offered = None
        return OfferRequest(self._infohash)

    def open(self, payer: Payer, key: PrivateKey, handle: int, vout: int, funding: bytes, idle: int) -> Message:
        """CHANNEL_OPEN under the offer at hand. funding: Atomic BEEF. The channel is saved already."""
        if self.offered is None:
            raise LocalProtocolError("there is no offer to open a channel under")
        self._take(payer, key, handle, Stage.OPENING)
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
        self._take(payer, key, handle, Stage.RESUMING)
        message = Resume(handle, payer.params.outpoint.pack())
        return replace(message, signature=key.sign(self.context.digest(message)))

    def _take(self, payer: Payer, key: PrivateKey, handle: int, stage: Stage) -> None:
        self.payer, self.key, self._handle, self.stage, self._again = payer, key, handle, stage, False
        self.line = 0

    def add_line(self) -> Message:
        """ADD_LINE for this title's creators, when the resumed channel does not have them yet."""
        if self.offered is None:
            raise LocalProtocolError("there is no offer whose terms could be a line")
        return AddLine(self._handle, self.line, title_terms.encode(self.offered.terms))

    def lasts(self, price: int, now: int) -> bool:
        """Whether the channel has capacity and time for one more payment."""
        payer = self.payer
        return payer is not None and payer.room(self.line, price) and accepts_payments(payer.params.lock.expiry, now)

    def affords(self, price: int, now: int) -> bool:
        """Whether one more payment can be made now: the seeder's trust in the funding has to have room as well."""
        payer = self.payer
        if payer is None or not self.ready:
            return False
        return (self._cap == UNLIMITED or payer.paid + price <= self._cap) and self.lasts(price, now)

    def pay(self, price: int, now: int) -> PiecePayment:
        """A payment for one more piece. The payer's mark has been saved. Raises FundsError."""
        if self.payer is None or self.key is None or not self.ready:
            raise FundsError("there is no open payment channel to pay over")
        payment = self.payer.pay(self.line, price, self.key, now=now)
        return PiecePayment(self._handle, payment.line, payment.total, payment.signature)

    def receipt(self, receipt: Receipt) -> Receipt:
        """RECEIPT, signed for this connection. receipt: a draft, or one that was said on another connection."""
        if self.key is None:
            raise LocalProtocolError("there is no payment channel to give a receipt for")
        message = replace(receipt, handle=self._handle)
        return replace(message, signature=self.key.sign(self.context.digest(message)))

    def close(self, reason: CloseReason) -> Message:
        """CHANNEL_CLOSE at our newest totals."""
        if self.payer is None or self.key is None:
            raise LocalProtocolError("there is no payment channel to close")
        self.payer.on(Event.CLOSE)
        self.stage, self._again = Stage.CLOSING, True
        totals, commitment = self.payer.totals, self.payer.sign_close(self.key)
        message = ChannelClose(self._handle, reason, totals, commitment)
        return replace(message, signature=self.key.sign(self.context.digest(message)))
