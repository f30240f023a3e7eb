"""The earning side of one connection: from the offer to the settlement.

Who could cheat: the viewer. With an OPEN, RESUME or CLOSE replayed from another connection (each is signed over both
sides' random numbers); with a payment replayed (its total no longer rises); with a funding that is not there (nothing
is served before the shell has checked it and saved the channel); with a channel of another viewer (RESUME is signed
by the payer key); with payments on a line that pays somebody else (credit counts only on the line of this title's
creators); by asking for what was not paid (`account.Account.ask`); and with a receipt for what it did not get
(`payee_receipts`). What a viewer sends in one flight before READY is kept, within bounds, and judged afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bct.bitcoin.keys import PrivateKey, is_public_key, verify
from bct.channel.lock import Lock
from bct.channel.payee import Payee, check_lines
from bct.channel.state import Event, Role, State, can
from bct.channel.timing import check_expiry
from bct.channel.transactions import Params
from bct.errors import Action, LocalProtocolError, RemoteProtocolError
from bct.pay import offers
from bct.pay.account import Account, Verdict
from bct.pay.effects import CheckFunding, Effect, Keep, SaveChannel, SaveReceipt, Send, Settle
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
    OfferRequest,
    PaymentRefused,
    PiecePayment,
    Receipt,
    Refusal,
    Resume,
    Resumed,
)
from bct.pay.payee_receipts import OfTitle, countersign
from bct.pay.records import Lined, Opened, Paid
from bct.title import terms as title_terms
from bct.title.terms import Terms
from bct.units import Outpoint, PieceIndex, PubKeyHash, Satoshi

EARLY_PAYMENTS = 32


@dataclass(frozen=True, slots=True)
class PayeeKeys:
    """identity: the key of the handshake. secret: what nonces are made with. derive: nonce → payee key."""

    identity: PrivateKey
    secret: bytes
    derive: Callable[[bytes], PrivateKey]


@dataclass(frozen=True, slots=True)
class Book:
    """What all sessions of a node share: every channel, which session serves it now, how many satoshis a channel whose
    funding is not mined may hold at this moment, and what is known of the titles on sale."""

    exposure: Callable[[Account], int]
    of_title: OfTitle
    accounts: dict[Outpoint, Account] = field(default_factory=dict)
    holders: dict[Outpoint, PayeeSession] = field(default_factory=dict)


class PayeeSession:
    """One connection, one torrent. Every method returns what the shell has to do, in order."""

    def __init__(
        self,
        context: Context,
        terms: Terms,
        keys: PayeeKeys,
        policy: offers.Policy,
        book: Book,
    ) -> None:
        self.context = context
        self.terms = terms
        self.account: Account | None = None
        self._keys = keys
        self._policy = policy
        self._book = book
        self._handle: int | None = None
        self._opening: ChannelOpen | None = None
        self._line: int | None = None
        """The account's line that pays this title's creators; None while it has none."""
        self._early: list[PiecePayment] = []
        self._moved: list[Effect] = []

    # -- the offer ----------------------------------------------------------------------------------------------------

    def offer(self, now: int, random: Callable[[int], bytes]) -> list[Effect]:
        """A fresh offer. random: so many bytes. A free title has none."""
        if self.terms.price == 0:
            return []
        nonce = offers.new_nonce(self._keys.secret, self.terms.infohash, now, random(4))
        payee = self._keys.derive(nonce).public
        return [Send(offers.make_offer(self._policy, self.terms, self.context, self._keys.identity, payee, nonce))]

    # -- messages -----------------------------------------------------------------------------------------------------

    def receive(self, message: Message, now: int, random: Callable[[int], bytes]) -> list[Effect]:
        """One message of the viewer's. Raises RemoteProtocolError when the connection cannot go on."""
        match message:
            case PiecePayment():
                return self._payment(message, now)
            case OfferRequest(infohash):
                if infohash != self.terms.infohash:
                    raise RemoteProtocolError("wrong-title", "an offer was asked for a torrent this connection is not")
                return self.offer(now, random)
            case ChannelOpen():
                return self._guard(message.handle, Fault.BAD_OPEN, lambda: self._open(message, now))
            case Resume():
                return self._guard(message.handle, Fault.BAD_RESUME, lambda: self._resume(message))
            case AddLine():
                return self._guard(message.handle, Fault.BAD_LINE, lambda: self._add_line(message))
            case Receipt():
                return self._guard(message.handle, Fault.BAD_RECEIPT, lambda: self._receipt(message))
            case ChannelClose():
                return self._guard(message.handle, Fault.BAD_CLOSE, lambda: self._close(message))
            case ChannelError():
                return []
        raise RemoteProtocolError("unexpected-message", f"a seeder is never sent {type(message).__name__}")

    def _guard(self, handle: int, code: Fault, step: Callable[[], list[Effect]]) -> list[Effect]:
        """Runs one step; a refusal that lets the connection live becomes CHANNEL_ERROR."""
        try:
            return step()
        except RemoteProtocolError as error:
            if error.action in (Action.DISCONNECT, Action.BAN):
                raise
            return [self._error(handle, code, str(error))]

    @staticmethod
    def _error(handle: int, code: Fault, text: str) -> Effect:
        return Send(ChannelError(handle, code, 0, text.encode()[:1024]))

    # -- opening ------------------------------------------------------------------------------------------------------

    def _open(self, opening: ChannelOpen, now: int) -> list[Effect]:
        if self._handle is not None:
            raise _refuse("one-channel", "this connection has a payment channel already: close it first")
        offers.check_nonce(self._keys.secret, self.terms.infohash, opening.nonce, now)
        if not is_public_key(opening.payer):
            raise _refuse("bad-key", "the payer key is no public key")
        if not verify(opening.payer, self.context.digest(opening), opening.signature):
            raise RemoteProtocolError("bad-signature", "CHANNEL_OPEN is not signed by its payer key", Action.DISCONNECT)
        if not self._policy.fee_rate <= opening.fee_rate <= self._policy.fee_rate_cap:
            raise _refuse(
                "bad-rate",
                f"{opening.fee_rate} sat/kB, {self._policy.fee_rate} to {self._policy.fee_rate_cap} are taken",
            )
        if not offers.IDLE_MIN <= opening.idle <= offers.IDLE_MAX:
            raise _refuse("bad-idle", f"{opening.idle} s, {offers.IDLE_MIN} to {offers.IDLE_MAX} are taken")
        if opening.max_outputs > offers.MAX_OUTPUTS:
            raise _refuse("bad-outputs", f"{opening.max_outputs} outputs, at most {offers.MAX_OUTPUTS} are taken")
        check_expiry(opening.expiry, now)
        payee = self._keys.derive(opening.nonce).public
        self._handle, self._opening = opening.handle, opening
        return [CheckFunding(opening, Lock(opening.payer, payee, opening.expiry))]

    def funded(self, outpoint: Outpoint, capacity: Satoshi, cap: int | None) -> list[Effect]:
        """The funding pays `capacity` to the lock at `outpoint`, and the chain takes it. cap: see Account."""
        opening = self._opening
        if opening is None:
            return []  # the connection ended, or the channel was closed, while the chain was asked
        if outpoint in self._book.accounts:
            return self.unfunded(Fault.BAD_OPEN, "this funding is known: RESUME it")
        least = offers.least_capacity(opening.fee_rate, self.terms.price, len(self.terms.payees.hashes))
        if not least <= capacity < offers.CAPACITY_END:
            return self.unfunded(
                Fault.BAD_OPEN, f"{capacity} sat locked, {least} to {offers.CAPACITY_END - 1} are taken"
            )
        lock = Lock(opening.payer, self._keys.derive(opening.nonce).public, opening.expiry)
        params = Params(
            outpoint, capacity, lock, PubKeyHash(opening.change), self._policy.payout, opening.fee_rate,
            opening.max_outputs,
        )  # fmt: skip
        try:
            check_lines(params, (self.terms.payees,))
        except RemoteProtocolError as error:
            return self.unfunded(Fault.BAD_OPEN, str(error))
        account = Account(Payee(params, (self.terms.payees,)), opening.nonce, cap)
        return [SaveChannel(account, offers.agreed_idle(self._policy.idle, opening.idle))]

    def unfunded(self, code: Fault, text: str) -> list[Effect]:
        """The funding cannot be used; the viewer may try another."""
        if self._opening is None:
            return []
        handle, self._handle, self._opening = self._opening.handle, None, None
        self._early.clear()
        return [self._error(handle, code, text)]

    def saved(self, account: Account, now: int) -> list[Effect]:
        """The channel is durable: from here on it can be paid over. What came early is judged now."""
        account.payee.on(Event.AGREED)
        self._book.accounts[account.outpoint] = account
        if self._opening is None:
            return []  # the viewer has left: it can RESUME
        self._opening = None
        self._hold(account)
        early, self._early = self._early, []
        ready: list[Effect] = [self._ready(account)]
        return ready + [effect for payment in early for effect in self._payment(payment, now)]

    def _ready(self, account: Account) -> Effect:
        return Send(ChannelReady(self._require_handle(), UNLIMITED if account.cap is None else account.cap))

    def cap_changed(self) -> list[Effect]:
        """The chain has said more about the funding: the shell has set `account.cap`."""
        return [self._ready(self.account)] if self.account and self._handle is not None else []

    def _hold(self, account: Account) -> None:
        """This session serves the account from now on; the one that did loses its handle."""
        older = self._book.holders.get(account.outpoint)
        if older is not None and older is not self:
            older._lose()
        self._book.holders[account.outpoint] = self
        self.account = account
        self._find_line(account)

    def _find_line(self, account: Account) -> None:
        lines = account.payee.lines
        self._line = lines.index(self.terms.payees) if self.terms.payees in lines else None

    def _lose(self) -> None:
        handle = self._require_handle()
        self.account, self._handle = None, None
        self._moved.append(self._error(handle, Fault.MOVED, "the channel was resumed on another connection"))

    def moved(self) -> list[Effect]:
        """What to tell the viewer because another connection took the channel; drained by the shell."""
        effects, self._moved = self._moved, []
        return effects

    # -- resuming -----------------------------------------------------------------------------------------------------

    def _resume(self, message: Resume) -> list[Effect]:
        if self._handle is not None:
            raise _refuse("one-channel", "this connection has a payment channel already")
        account = self._book.accounts.get(Outpoint.unpack(message.outpoint))
        if account is None:
            return [self._error(message.handle, Fault.UNKNOWN_CHANNEL, "this channel is not known here")]
        payer = account.payee.params.lock.payer
        if not verify(payer, self.context.digest(message), message.signature):
            raise RemoteProtocolError("bad-signature", "RESUME is not signed by the channel's payer", Action.DISCONNECT)
        if account.payee.state is not State.OPEN:
            return [self._error(message.handle, Fault.UNKNOWN_CHANNEL, f"the channel is {account.payee.state.value}")]
        self._handle = message.handle
        self._hold(account)
        answer = Resumed(
            handle=message.handle,
            cap=UNLIMITED if account.cap is None else account.cap,
            totals=account.payee.totals,
            last=account.payee.signature or bytes(64),
            opened=account.opened(self.terms.infohash),
        )
        key = self._keys.derive(account.nonce)
        return [Send(replace(answer, signature=key.sign(self.context.digest(answer))))]

    def _add_line(self, message: AddLine) -> list[Effect]:
        account = self._require(message.handle)
        if message.terms != title_terms.encode(self.terms):
            raise _refuse("other-terms", "a line is added for the terms of this connection's offer, no others")
        account.payee.add_line(message.line, self.terms.payees)
        self._find_line(account)
        return [
            Keep(Lined(account.outpoint, message.line, self.terms.payees)),
            Send(LineAdded(message.handle, message.line)),
        ]

    # -- paying and asking --------------------------------------------------------------------------------------------

    def _payment(self, payment: PiecePayment, now: int) -> list[Effect]:
        if self._opening is not None and payment.handle == self._handle:
            if len(self._early) >= EARLY_PAYMENTS:
                raise RemoteProtocolError("too-early", f"more than {EARLY_PAYMENTS} payments before CHANNEL_READY")
            self._early.append(payment)
            return []
        account = self.account
        if account is None or payment.handle != self._handle:
            return [Send(PaymentRefused(payment.handle, Refusal.UNKNOWN_HANDLE, (), bytes(64)))]
        try:
            exposure = self._book.exposure(account) if account.cap is not None else None
            account.payee.accept(payment.line, payment.total, payment.signature, now=now, exposure=exposure)
        except RemoteProtocolError as error:
            payee = account.payee
            last = payee.signature or bytes(64)
            return [Send(PaymentRefused(payment.handle, Refusal.of(error.reason), payee.totals, last))]
        return [Keep(Paid(account.outpoint, payment.line, payment.total, payment.signature))]

    def ask(self, piece: PieceIndex, size: int, length: int) -> tuple[Verdict, Opened | None]:
        """The gate. Whether `length` bytes of this piece (of `size` bytes) may leave, and what to record first."""
        if self.terms.is_free(piece):
            return Verdict.SERVE, None
        if self._opening is not None:
            return Verdict.HOLD, None
        account, line = self.account, self._line
        if account is None or line is None or account.payee.state is not State.OPEN or account.is_contested:
            return Verdict.REFUSE, None
        return account.ask(line, self.terms.infohash, piece, size, length, self.terms.price)

    def _receipt(self, receipt: Receipt) -> list[Effect]:
        account = self._require(receipt.handle)
        key = self._keys.derive(account.nonce)
        saved, answer = countersign(account, receipt, self.context, self._book.of_title, key)
        return [SaveReceipt(saved, answer)]

    # -- closing ------------------------------------------------------------------------------------------------------

    def _close(self, message: ChannelClose) -> list[Effect]:
        account = self._require(message.handle)
        payer = account.payee.params.lock.payer
        if not verify(payer, self.context.digest(message), message.signature):
            raise RemoteProtocolError("bad-signature", "CLOSE is not signed by the channel's payer", Action.DISCONNECT)
        if not can(Role.PAYEE, account.payee.state, Event.CLOSE):
            raise _refuse("channel-over", f"the channel is {account.payee.state.value} already")
        account.payee.accept_close(message.totals, message.commitment)
        account.payee.on(Event.CLOSE)
        return [Settle(account, CloseReason(message.reason).name.lower() if message.reason < 6 else "closed")]

    def close(self, reason: CloseReason) -> list[Effect]:
        """CHANNEL_CLOSE from our side: the channel is CLOSING, nothing more is taken or served."""
        account = self.account
        if account is None or self._handle is None:
            return []
        message = ChannelClose(self._handle, reason, account.payee.totals, bytes(64))
        key = self._keys.derive(account.nonce)
        return [Send(replace(message, signature=key.sign(self.context.digest(message))))]

    def settled(self, txid: bytes, commitment: bytes) -> list[Effect]:
        """The settlement is with the chain. commitment: the payee's 64-byte signature in it."""
        if self._handle is None:
            return []
        handle = self._handle
        self.lost()
        return [Send(ChannelClosed(handle, txid, commitment))]

    def lost(self) -> None:
        """This connection serves the channel no more; while it is open it can be resumed on another."""
        if self.account and self._book.holders.get(self.account.outpoint) is self:
            del self._book.holders[self.account.outpoint]
        self.account, self._handle, self._opening = None, None, None

    # -- small things -------------------------------------------------------------------------------------------------

    def _require(self, handle: int) -> Account:
        if self.account is None or handle != self._handle:
            raise _refuse("unknown-handle", f"handle {handle} names no open channel on this connection")
        return self.account

    def _require_handle(self) -> int:
        if self._handle is None:
            raise LocalProtocolError("no payment channel is held by this connection")
        return self._handle


def _refuse(reason: str, text: str) -> RemoteProtocolError:
    return RemoteProtocolError(reason, text, Action.REFUSE)
