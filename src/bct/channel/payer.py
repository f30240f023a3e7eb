"""The spending side of one payment channel.

Who could cheat here: the payee, by denying what it was given. So what was signed counts as spent, whether or not it was
acknowledged, and before a total may be signed a high-water mark above it is saved (`reserve`): after a crash, or when a
payee answers RESUME with less than it holds, the spending cap still counts every satoshi that may be out there. And
ourselves, with an old backup: a total at or below one the payee can prove under our own key is never signed again.
"""

from __future__ import annotations

from dataclasses import dataclass

from bct.bitcoin.keys import PrivateKey, verify
from bct.bitcoin.tx import Tx
from bct.channel.state import Event, Role, State, move
from bct.channel.timing import accepts_payments
from bct.channel.transactions import (
    Commitments,
    Lines,
    Params,
    Totals,
    commitment,
    distinct_payees,
    fee_at,
    fits,
    settlement,
    takes,
)
from bct.errors import Action, FundsError, LocalProtocolError, RemoteProtocolError
from bct.units import Payees


@dataclass(frozen=True, slots=True)
class Payment:
    """What PIECE_PAYMENT carries: a line's new total and the payer's signature over the whole commitment."""

    line: int
    total: int
    signature: bytes


class Payer:
    """State changes only in `reserve`, `pay`, `add_line`, `resumed` and `on`."""

    def __init__(
        self,
        params: Params,
        lines: Lines,
        totals: Totals | None = None,
        reserved: Totals | None = None,
        state: State = State.OPENING,
    ) -> None:
        """totals, reserved: as they were saved, when the channel comes back after a restart. What lies between them
        may have been signed before the crash, so it counts as spent for good, whatever the payee says."""
        self.params = params
        self.totals: Totals = totals or (0,) * len(lines)
        self.reserved: Totals = reserved or self.totals
        self._doubt = self.reserved
        self.state = state
        self._commitments = Commitments(params, lines)

    @property
    def lines(self) -> Lines:
        return self._commitments.lines

    @property
    def spent(self) -> int:
        """Satoshis to count as gone: the totals, and above them whatever an earlier run may have signed."""
        signed = sum(max(t, d) for t, d in zip(self.totals, self._doubt, strict=True))
        return min(signed, self.params.capacity)

    @property
    def paid(self) -> int:
        return sum(self.totals)

    def on(self, event: Event) -> None:
        self.state = move(Role.PAYER, self.state, event)

    def add_line(self, payees: Payees) -> int:
        """The number of the line that pays these creators: an old one when there is one. Raises FundsError."""
        if payees in self.lines:
            return self.lines.index(payees)
        if not self.takes(payees):
            raise FundsError("the payment channel has no room for another title's creators: a new one is needed")
        self._commitments = Commitments(self.params, (*self.lines, payees))
        self.totals = (*self.totals, 0)
        self.reserved = (*self.reserved, 0)
        self._doubt = (*self._doubt, 0)
        return len(self.lines) - 1

    def takes(self, payees: Payees) -> bool:
        """Whether the channel has a line for these creators, or can have one more."""
        return payees in self.lines or takes(self.params, (*self.lines, payees))

    def left(self, payees: Payees) -> int:
        """Satoshis that can at least still be paid to these creators, over a line that may have to be added."""
        if not self.takes(payees):
            return 0
        fee = fee_at(self.params.fee_rate, distinct_payees((*self.lines, payees)) + 2)
        return max(0, self.params.capacity - self.paid - fee)

    def room(self, line: int, price: int) -> bool:
        """Whether one more payment of `price` fits the capacity."""
        return fits(self.params, self.lines, self._risen(line, price))

    def needs_reserve(self, line: int, price: int) -> bool:
        return self.totals[line] + price > self.reserved[line]

    def reserve(self, line: int, price: int, step: int) -> Totals:
        """Raises `line`'s high-water mark to cover `price` and up to `step` more; to be saved before `pay`."""
        mark = self.totals[line] + max(price, step)
        self.reserved = (*self.reserved[:line], max(mark, self.reserved[line]), *self.reserved[line + 1 :])
        return self.reserved

    def pay(self, line: int, price: int, key: PrivateKey, *, now: int) -> Payment:
        """Raises the line's total by `price` and signs. The mark must have been saved before."""
        if self.state not in (State.OPENING, State.OPEN):
            raise LocalProtocolError(f"the channel is {self.state.value}: nothing can be paid")
        if price <= 0:
            raise LocalProtocolError(f"a payment raises the total, got {price}")
        totals = self._risen(line, price)
        if not fits(self.params, self.lines, totals):
            raise FundsError(f"{sum(totals)} sat and the fee exceed the {self.params.capacity} sat of the channel")
        if totals[line] > self.reserved[line]:
            raise LocalProtocolError(f"{totals[line]} is above the saved mark {self.reserved[line]}")
        if not accepts_payments(self.params.lock.expiry, now):
            raise FundsError("the payment channel is about to expire: a new one is needed")
        signature = key.sign(self._commitments.digest(totals))
        self.totals = totals
        return Payment(line, totals[line], signature)

    def sign_close(self, key: PrivateKey) -> bytes:
        """Our signature at the totals as they are, so that the payee can settle even when nothing was paid."""
        return key.sign(self._commitments.digest(self.totals))

    def resumed(self, totals: Totals, signature: bytes) -> None:
        """The payee's newest totals, proven by our own signature over them.

        Higher than ours: our log was behind, we go on from there. Lower: the payee lost some; ours stand. A line that
        it never heard of is none, unless something was signed over it, or may have been. Raises
        RemoteProtocolError('bad-resume') when the proof does not hold, a line is unknown, or theirs and ours together
        are beyond the capacity: then the payee had hidden some of what it was given.
        """
        if len(totals) > len(self.lines):
            raise RemoteProtocolError("bad-resume", f"{len(totals)} lines, {len(self.lines)} are known", Action.CLOSE)
        full = (*totals, *(0,) * (len(self.lines) - len(totals)))
        newest = tuple(max(a, b) for a, b in zip(self.totals, full, strict=True))
        if not all(fits(self.params, self.lines, each) for each in (full, newest)):
            raise RemoteProtocolError("bad-resume", f"{list(totals)} is more than the channel holds", Action.CLOSE)
        if any(full) and not verify(self.params.lock.payer, self._commitments.digest(full), signature):
            raise RemoteProtocolError("bad-resume", "these totals are not signed by our key", Action.CLOSE)
        self.totals = newest
        self.reserved = tuple(max(a, b) for a, b in zip(newest, self.reserved, strict=True))
        while len(self.lines) > len(totals) and not self.totals[-1] and not self._doubt[-1]:
            self._commitments = Commitments(self.params, self.lines[:-1])
            self.totals, self.reserved, self._doubt = self.totals[:-1], self.reserved[:-1], self._doubt[:-1]

    def missed(self, theirs: Totals, key: PrivateKey) -> list[Payment]:
        """What we signed and the payee, who says it stands at `theirs`, never got: signed once more, a line at a time.

        What it says may be a lie, and a signature covers all lines: so above our totals nothing is signed on any of
        them. Without these payments the payee would refuse every later one. Raises RemoteProtocolError('bad-totals').
        """
        at, payments = tuple(map(min, theirs, self.totals)), []
        for line, (mine, their) in enumerate(zip(self.totals, at, strict=False)):
            if mine > their:
                at = (*at[:line], mine, *at[line + 1 :])
                digest = self._commitments.digest_if_fits((*at, *(0,) * (len(self.lines) - len(at))))
                if digest is None:
                    raise RemoteProtocolError("bad-totals", f"no commitment exists at {list(at)}", Action.CLOSE)
                payments.append(Payment(line, mine, key.sign(digest)))
        return payments

    def settlement(self, payee_signature: bytes, key: PrivateKey) -> Tx:
        """The settlement as CHANNEL_CLOSED lets us rebuild it. Raises RemoteProtocolError('bad-close')."""
        digest = self._commitments.digest(self.totals)
        if not verify(self.params.lock.payee, digest, payee_signature):
            raise RemoteProtocolError("bad-close", "not the payee's signature over our newest totals", Action.CLOSE)
        unsigned = commitment(self.params, self.lines, self.totals)
        return settlement(unsigned, payee_signature, key.sign(digest))

    def _risen(self, line: int, price: int) -> Totals:
        return (*self.totals[:line], self.totals[line] + price, *self.totals[line + 1 :])
