"""A viewer, a seeder and their crashes in any order: what must hold after every step.

One channel, one title. The viewer keeps its log as the purse does (marks durable before they are signed under, what was
bought appended as it is signed), the seeder as the till does. Connections break with payments under way, either side
loses its newest records, old messages are said again, and a cheating viewer asks for whatever it likes.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bct.channel.payer import Payer
from bct.channel.store import SavedPayer
from bct.errors import FundsError, RemoteProtocolError
from bct.node import purse
from bct.pay.account import TIMES_SERVED, Account, Verdict
from bct.pay.budget import Budget
from bct.pay.payer_session import Ready
from bct.pay.records import Bought, Opened, Record, Reserved
from bct.pay.replay import Told
from bct.units import PieceIndex
from tests.channel_parts import FILM, FUNDING, NOW
from tests.pay_parts import FILM_TERMS, PIECE, Seeder, Viewer, Wire

PIECES = st.integers(2, 11).map(PieceIndex)
STEP = 4
"""How far a mark runs ahead, in satoshis."""
LIMIT = 30
"""The play's cap, in satoshis."""


class Viewing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.seeder = Seeder()
        self.wire = Wire(self.seeder)
        self.viewer = self.wire.open()
        params = self.viewer.payer.params
        self.viewer.payer = Payer(params, (FILM,), state=self.viewer.payer.state)
        self.wire.payer.payer = self.viewer.payer
        self.saved = SavedPayer(params, FUNDING, FILM, b"", "", 0, b"", NOW, self.viewer.payer.state)
        self.log: list[Record] = []
        self.budget = Budget(LIMIT)
        self.bought: Counter[PieceIndex] = Counter()
        self.known: set[PieceIndex] = set()
        """What the viewer's log says it has paid for."""
        self.served: Counter[PieceIndex] = Counter()
        self.forgotten = 0
        """Records of opened pieces that the seeder's crashes have lost."""
        self.lives = 1
        self.lost_purchases = 0
        self.highest = 0
        self.is_honest = True
        """Nothing was opened for money that had been paid for another piece."""

    @property
    def account(self) -> Account:
        return self.seeder.book.accounts[self.viewer.outpoint]

    def ask(self, piece: PieceIndex, length: int = PIECE) -> Verdict:
        verdict = self.seeder.ask(self.wire, piece, length)
        if verdict is Verdict.SERVE:
            self.served[piece] += length
        return verdict

    def sign(self, piece: PieceIndex) -> None:
        """Pays for a piece as the buyer does; the payment waits in `self.payment`."""
        payer = self.viewer.payer
        if payer.needs_reserve(0, 1):
            self.log.append(Reserved(self.viewer.outpoint, payer.reserve(0, 1, STEP)))
        self.budget.spend(1)
        self.payment = self.wire.payer.pay(1, NOW)
        self.log.append(Bought(self.viewer.outpoint, 0, FILM_TERMS.infohash, piece, 1))
        self.bought[piece] += 1
        self.known.add(piece)

    # -- honest moves -------------------------------------------------------------------------------------------------

    @rule(piece=PIECES)
    def buy(self, piece: PieceIndex) -> None:
        if piece not in self.known:
            with suppress(FundsError):
                self.sign(piece)
                assert self.wire.say(self.payment) == []
                assert self.ask(piece) is Verdict.SERVE

    @rule(piece=PIECES)
    def pay_into_a_broken_connection(self, piece: PieceIndex) -> None:
        if piece not in self.known:
            with suppress(FundsError):
                self.sign(piece)
            self.reconnect()

    @rule()
    def reconnect(self) -> None:
        self.wire.payee.lost()
        self.wire = Wire(self.seeder)
        (ready,) = self.wire.resume(self.viewer)
        assert isinstance(ready, Ready)
        self.known |= set(ready.opened)
        assert self.wire.say(*ready.missed) == []

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def ask_for_what_was_bought(self, data: st.DataObject) -> None:
        """Once it is paid for it comes, however the connection broke."""
        piece = data.draw(st.sampled_from(sorted(self.known)))
        if self.is_honest and self.served[piece] + PIECE <= TIMES_SERVED * PIECE:
            assert self.ask(piece) is Verdict.SERVE

    # -- cheating -----------------------------------------------------------------------------------------------------

    @rule(piece=PIECES, length=st.integers(1, PIECE))
    def ask_for_anything(self, piece: PieceIndex, length: int) -> None:
        """THREATS 20."""
        credit = self.account.credit(0)
        is_open = piece in self.account.opened(FILM_TERMS.infohash)
        verdict = self.ask(piece, length)
        assert is_open or (verdict is Verdict.SERVE) is (credit > 0)
        self.is_honest = self.is_honest and (is_open or verdict is Verdict.REFUSE)

    @rule(data=st.data())
    def say_it_again(self, data: st.DataObject) -> None:
        """THREATS 24: whatever was said on this connection."""
        if self.wire.said:
            totals, kept = self.account.payee.totals, len(self.seeder.ledger)
            with suppress(RemoteProtocolError):
                self.wire.say(data.draw(st.sampled_from(self.wire.said)))
            self.wire.to_viewer.clear()
            assert (self.account.payee.totals, len(self.seeder.ledger)) == (totals, kept)

    # -- crashes ------------------------------------------------------------------------------------------------------

    @rule(lost=st.integers(0, 3))
    def the_seeder_crashes(self, lost: int) -> None:
        """THREATS 27."""
        gone = self.seeder.ledger[len(self.seeder.ledger) - lost :] if lost else []
        self.forgotten += sum(isinstance(one, Opened) for one in gone)
        self.seeder = self.seeder.restart(lost)
        self.lives += 1
        self.highest = 0
        self.reconnect()

    @rule(lost=st.integers(0, 3))
    def the_viewer_crashes(self, lost: int) -> None:
        """THREATS 26: what was appended behind the newest mark may be lost, the mark itself never."""
        for _ in range(lost):
            if self.log and isinstance(self.log[-1], Bought):
                del self.log[-1]
                self.lost_purchases += 1
        payer, pieces = purse.restore(self.saved, Told.of(self.log))
        self.viewer = Viewer(payer, self.viewer.key)
        self.known = {piece for _, piece in pieces}
        self.reconnect()

    # -- what holds ---------------------------------------------------------------------------------------------------

    @invariant()
    def totals_never_fall(self) -> None:
        assert self.account.payee.paid >= self.highest
        self.highest = self.account.payee.paid

    @invariant()
    def the_viewer_counts_what_the_seeder_holds(self) -> None:
        """THREATS 55: whatever was lost, the cap counts every satoshi that may be out there."""
        assert self.account.payee.paid <= self.viewer.payer.spent

    @invariant()
    def opened_pieces_are_paid(self) -> None:
        assert self.account.credit(0) >= 0

    @invariant()
    def unpaid_bytes_are_0(self) -> None:
        """Pieces that left, against what the seeder holds; a crash costs it what it forgot, and nothing else does."""
        assert len(self.served) <= self.account.payee.paid + self.forgotten
        assert all(size <= self.lives * TIMES_SERVED * PIECE for size in self.served.values())

    @invariant()
    def nothing_is_bought_twice(self) -> None:
        """Only what a crash of the viewer has taken out of its log may be paid for again."""
        assert sum(self.bought.values()) - len(self.bought) <= self.lost_purchases

    @invariant()
    def the_cap_holds(self) -> None:
        assert sum(self.bought.values()) == self.budget.pieces <= LIMIT


TestViewing = Viewing.TestCase
TestViewing.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
