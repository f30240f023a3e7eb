"""The earning side of one payment channel.

Who could cheat here: the payer. It may send a lower or equal total, a total beyond the capacity, a signature over
outputs that short a creator, one with another sighash flag or a high s, one for another line, or pay too late to be
settled. Each check below answers one of these, in this order, and nothing changes until all have passed:

    state → line exists → total rises → fits capacity less fee → exposure → time → signature over the outputs we rebuild

The signature comes last because it costs a thousand times more than the rest. What stops us from losing what was
accepted is the caller's ledger: `Accepted` is to be appended before data leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

from bct.bitcoin.keys import PrivateKey, Verifier
from bct.bitcoin.tx import Tx
from bct.channel.state import Event, Role, State, move
from bct.channel.timing import accepts_payments
from bct.channel.transactions import (
    MAX_LINES,
    Commitments,
    Lines,
    Params,
    Totals,
    commitment,
    distinct_payees,
    settlement,
    takes,
)
from bct.errors import Action, LocalProtocolError, RemoteProtocolError
from bct.units import Payees


@dataclass(frozen=True, slots=True)
class Accepted:
    """A payment that passed every check: what the ledger keeps."""

    totals: Totals
    signature: bytes
    increment: int


class Payee:
    """State changes only in `accept`, `accept_close`, `add_line` and `on`; each does all it says, or raises and does
    nothing."""

    def __init__(
        self,
        params: Params,
        lines: Lines,
        totals: Totals | None = None,
        signature: bytes = b"",
        state: State = State.OPENING,
    ) -> None:
        """totals, signature: the newest accepted ones, when the channel comes back from the ledger."""
        self.params = params
        self.totals: Totals = totals or (0,) * len(lines)
        self.signature = signature
        self.state = state
        self._commitments = Commitments(params, lines)
        self._payer = Verifier(params.lock.payer)

    @property
    def lines(self) -> Lines:
        return self._commitments.lines

    @property
    def paid(self) -> int:
        """Satoshis over all lines."""
        return sum(self.totals)

    def on(self, event: Event) -> None:
        self.state = move(Role.PAYEE, self.state, event)

    def add_line(self, number: int, payees: Payees) -> None:
        """A further vector of creators. Raises RemoteProtocolError('bad-line')."""
        if number != len(self.lines):
            raise RemoteProtocolError("bad-line", f"the next line is {len(self.lines)}, got {number}", Action.REFUSE)
        if self.state is not State.OPEN:
            raise _refusal("not-open", f"a channel that is {self.state.value} takes no line")
        lines = (*self.lines, payees)
        check_lines(self.params, lines)
        # The newest signature stays good: a line at total 0 adds nothing to the commitment.
        self._commitments = Commitments(self.params, lines)
        self.totals = (*self.totals, 0)

    def accept(self, line: int, total: int, signature: bytes, *, now: int, exposure: int | None) -> Accepted:
        """One payment: `line`'s total becomes `total`, signed by the payer.

        exposure: the most satoshis this channel may hold unconfirmed; None once the funding is mined. Raises
        RemoteProtocolError with action REFUSE; the totals that still hold are in `totals`.
        """
        if self.state is not State.OPEN:
            raise _refusal("not-open", f"the channel is {self.state.value}")
        if line >= len(self.lines):
            raise _refusal("bad-line", f"line {line} was never added, there are {len(self.lines)}")
        if total <= self.totals[line]:
            raise _refusal("not-rising", f"the total is {self.totals[line]} already, got {total}")
        totals = (*self.totals[:line], total, *self.totals[line + 1 :])
        digest = self._commitments.digest_if_fits(totals)
        if digest is None:
            raise _refusal("over-capacity", f"{sum(totals)} sat and the fee exceed the {self.params.capacity} locked")
        if exposure is not None and sum(totals) > exposure:
            raise _refusal("exposure", f"until the funding is confirmed this channel is good for {exposure} sat")
        if not accepts_payments(self.params.lock.expiry, now):
            raise _refusal("expiring", "less than two hours are left before the payer's refund")
        if not self._payer.verify(digest, signature):
            raise _refusal("bad-signature", f"not the payer's signature over the outputs at {list(totals)}")
        increment = total - self.totals[line]
        self.totals, self.signature = totals, signature
        return Accepted(totals, signature, increment)

    def accept_close(self, totals: Totals, signature: bytes) -> None:
        """The payer's signature at the totals it closes with: the newest, also when they are all 0.

        Without it a channel over which nothing was paid could only be refunded at expiry. It is kept only then: a
        second signature over the same totals would give the settlement, maybe sent already, a second id.
        """
        if totals != self.totals:
            raise _refusal("bad-totals", f"the channel stands at {list(self.totals)}, not {list(totals)}")
        if not self._payer.verify(self._commitments.digest(totals), signature):
            raise _refusal("bad-signature", f"not the payer's signature over the outputs at {list(totals)}")
        self.signature = self.signature or signature

    @property
    def can_settle(self) -> bool:
        """Whether a signature of the payer is at hand for the newest totals."""
        return bool(self.signature)

    def settlement(self, key: PrivateKey) -> tuple[Tx, bytes]:
        """The newest commitment with both signatures, and ours of them (64 bytes, for CHANNEL_CLOSED)."""
        if not self.signature:
            raise LocalProtocolError("there is no payment to settle")
        if key.public != self.params.lock.payee:
            raise LocalProtocolError("this is not the payee key of the channel")
        ours = key.sign(self._commitments.digest(self.totals))
        return settlement(commitment(self.params, self.lines, self.totals), ours, self.signature), ours


def check_lines(params: Params, lines: Lines) -> None:
    """Whether a channel may have these lines. Raises RemoteProtocolError('too-many-outputs')."""
    if not takes(params, lines):
        needed = distinct_payees(lines) + 2
        text = f"{len(lines)} lines with {needed} outputs; {MAX_LINES} and {params.max_outputs} are taken"
        raise _refusal("too-many-outputs", text)


def _refusal(reason: str, text: str) -> RemoteProtocolError:
    return RemoteProtocolError(reason, text, Action.REFUSE)
