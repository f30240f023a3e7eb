"""The gate: a payee's book about one payment channel, and the only place that lets a paid byte go.

Who could cheat: the viewer, by asking for more than it paid: before any payment, after RESUME, across lines, the same
piece again and again. Credit is zero: a piece is opened by its first request, and only when the line that pays this
title's creators holds its price unused. What was opened may be asked for three times its length in all, so that a
broken connection costs the viewer nothing and a copying machine is not paid for once.

And the disk could lose what was accepted: what is served ahead of the ledger's sync stays below `unsynced_risk`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

from bct.channel.payee import Payee
from bct.channel.state import State
from bct.channel.transactions import Params
from bct.pay.receipts import Served
from bct.pay.records import Opened
from bct.pay.replay import Told
from bct.units import Infohash, Outpoint, Payees, PieceIndex

TIMES_SERVED = 3


class Verdict(Enum):
    SERVE = "serve"
    HOLD = "hold"  # paid, but wait: the ledger has to catch up
    REFUSE = "refuse"


def unsynced_risk(price: int) -> int:
    """Satoshis whose pieces may be out before their payment is durable: min(4 pieces, max(1 piece, 20 sat))."""
    return min(4 * price, max(price, 20))


class Account:
    """One channel's payee, what was opened under it, and what of that the ledger has not made durable yet."""

    def __init__(self, payee: Payee, nonce: bytes, cap: int | None) -> None:
        """nonce: of the offer it was opened under; the payee key derives from it. cap: most satoshis while the funding
        is unconfirmed; None once it is mined."""
        self.payee = payee
        self.nonce = nonce
        self.cap = cap
        self.held = False
        """A request was held back for the ledger's sake since this was last cleared."""
        self.receipts = Served(payee.params.outpoint)
        self._left: dict[tuple[Infohash, PieceIndex], int] = {}
        self._sold: dict[tuple[Infohash, PieceIndex], tuple[int, int]] = {}
        self._used: list[int] = [0] * len(payee.lines)
        self._unsynced: deque[tuple[int, int]] = deque()
        self._at_risk = 0

    @property
    def outpoint(self) -> Outpoint:
        return self.payee.params.outpoint

    @property
    def is_contested(self) -> bool:
        """Whether somebody has spoken of another spend of the funding's coins: what was paid may be worth nothing."""
        return self.cap == 0

    @property
    def pieces(self) -> int:
        """How many were opened."""
        return len(self._left)

    def credit(self, line: int) -> int:
        """Satoshis paid on the line and not yet used up by an opened piece."""
        used = self._used[line] if line < len(self._used) else 0
        return self.payee.totals[line] - used

    def opened(self, infohash: Infohash) -> tuple[PieceIndex, ...]:
        return tuple(piece for title, piece in self._left if title == infohash)

    def sold(self, infohash: Infohash, piece: PieceIndex) -> tuple[int, int] | None:
        """(line, price) that an opened piece was paid with; None of one that is not."""
        return self._sold.get((infohash, piece))

    def ask(
        self, line: int, infohash: Infohash, piece: PieceIndex, size: int, length: int, price: int
    ) -> tuple[Verdict, Opened | None]:
        """Whether `length` bytes of a paid piece of `size` bytes may leave now; with the record of opening it."""
        key = (infohash, piece)
        left = self._left.get(key)
        if left is not None:
            if length > left:
                return Verdict.REFUSE, None
            self._left[key] = left - length
            return Verdict.SERVE, None
        if self.credit(line) < price:
            return Verdict.REFUSE, None
        if self._at_risk and self._at_risk + price > unsynced_risk(price):
            self.held = True
            return Verdict.HOLD, None
        self._open(key, line, size, price)
        self._left[key] -= length
        return Verdict.SERVE, Opened(self.outpoint, line, infohash, piece, price)

    @property
    def is_behind(self) -> bool:
        """Whether anything served is not durable yet."""
        return bool(self._unsynced)

    def recorded(self, sequence: int, price: int) -> None:
        """The record of an opened piece is the ledger's number `sequence`, not durable yet."""
        self._unsynced.append((sequence, price))
        self._at_risk += price

    def synced(self, sequence: int) -> None:
        """The ledger is durable up to `sequence`."""
        while self._unsynced and self._unsynced[0][0] <= sequence:
            self._at_risk -= self._unsynced.popleft()[1]

    def replay(self, line: int, infohash: Infohash, piece: PieceIndex, price: int, size: int) -> None:
        """A piece that was opened before a restart."""
        if (infohash, piece) not in self._left:
            self._open((infohash, piece), line, size, price)

    def _open(self, key: tuple[Infohash, PieceIndex], line: int, size: int, price: int) -> None:
        self._used.extend([0] * (line + 1 - len(self._used)))
        self._used[line] += price
        self._left[key] = TIMES_SERVED * size
        self._sold[key] = line, price


def restore(
    params: Params,
    nonce: bytes,
    first_line: Payees,
    state: State,
    told: Told,
    cap: int | None,
    piece_size: Callable[[Infohash, PieceIndex], int],
) -> Account:
    """The account as the ledger leaves it.

    The newest payment's signature covers the totals of all lines as they stood with it.
    """
    lines = (first_line, *told.lines.values())
    totals = tuple(told.paid[line][0] if line in told.paid else 0 for line in range(len(lines)))
    *_, (_, signature) = ((0, b""), *told.paid.values())
    account = Account(Payee(params, lines, totals, signature, state), nonce, cap)
    for (line, infohash, price), pieces in told.pieces.items():
        for piece in pieces:
            account.replay(line, infohash, piece, price, piece_size(infohash, piece))
    return account
