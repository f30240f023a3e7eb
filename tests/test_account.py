"""One channel's account: credit, pieces opened, and how far serving may run ahead of the disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.channel.state import State
from bct.pay.account import TIMES_SERVED, Account, Verdict, restore, unsynced_risk
from bct.pay.records import Lined, Opened, Paid, Record
from bct.pay.replay import Told
from bct.units import Infohash, PieceIndex
from tests.channel_parts import FILM, FUNDING, SERIES, new_payee, params

TITLE, OTHER = Infohash(bytes(20)), Infohash(bytes(19) + b"1")
SIZE = 1000


def account(*totals: int) -> Account:
    payee = new_payee(lines=(FILM, SERIES)[: len(totals)])
    payee.totals = totals
    return Account(payee, bytes(16), None)


def ask(book: Account, piece: int, length: int = SIZE, price: int = 1, line: int = 0, of: Infohash = TITLE) -> Verdict:
    verdict, record = book.ask(line, of, PieceIndex(piece), SIZE, length, price)
    assert record is None or verdict is Verdict.SERVE
    return verdict


def opened(piece: int, line: int = 0, price: int = 1) -> Opened:
    return Opened(FUNDING, line, TITLE, PieceIndex(piece), price)


def test_credit_is_what_was_paid_and_not_used() -> None:
    book = account(3)
    assert [ask(book, piece) for piece in range(5)] == [Verdict.SERVE] * 3 + [Verdict.REFUSE] * 2
    assert (book.credit(0), book.opened(TITLE)) == (0, (0, 1, 2))


def test_the_same_piece_of_another_title_costs_again() -> None:
    book = account(1)
    assert [ask(book, 0), ask(book, 0, of=OTHER)] == [Verdict.SERVE, Verdict.REFUSE]


def test_each_line_has_its_own_credit() -> None:
    """THREATS 20."""
    book = account(0, 5)
    assert [ask(book, 0, line=0), ask(book, 0, line=1)] == [Verdict.REFUSE, Verdict.SERVE]
    assert (book.credit(0), book.credit(1)) == (0, 4)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, SIZE)), max_size=60), st.integers(0, 3))
def test_however_it_is_asked(asks: list[tuple[int, int]], paid: int) -> None:
    """THREATS 20: bytes served never pass three lengths of each piece, pieces opened never pass what was paid."""
    book, served = account(paid), dict.fromkeys(range(4), 0)
    for piece, length in asks:
        if ask(book, piece, length) is Verdict.SERVE:
            served[piece] += length
    assert all(amount <= TIMES_SERVED * SIZE for amount in served.values())
    assert sum(amount > 0 for amount in served.values()) <= paid


@given(st.integers(1, 60))
def test_what_runs_ahead_of_the_disk(price: int) -> None:
    """THREATS 27: never more than unsynced_risk, but always at least one piece, or a slow disk would stop the film."""
    book, sequence = account(10_000), 0
    for piece in range(10):
        if ask(book, piece, price=price) is Verdict.SERVE:
            sequence += 1
            book.recorded(sequence, price)
    assert 1 <= sequence <= 4
    assert sequence * price <= unsynced_risk(price)
    assert book.is_behind
    assert ask(book, 0) is Verdict.SERVE, "what is open already is no new risk"
    book.synced(sequence)
    assert not book.is_behind
    assert ask(book, 9, price=price) is Verdict.SERVE


@pytest.mark.parametrize(("price", "risk"), [(1, 4), (5, 20), (6, 20), (20, 20), (21, 21), (1000, 1000)])
def test_unsynced_risk(price: int, risk: int) -> None:
    assert unsynced_risk(price) == risk


def test_restored_from_records() -> None:
    found: list[Record] = [
        Paid(FUNDING, 0, 2, bytes(64)),
        opened(4),
        Lined(FUNDING, 1, SERIES),
        Paid(FUNDING, 1, 7, b"n" * 64),
        opened(4, line=1, price=5),  # the same piece again, counted once
        opened(5, line=1, price=5),
    ]
    book = restore(params(), bytes(16), FILM, State.OPEN, Told.of(found), 1000, lambda *_: SIZE)
    assert (book.payee.totals, book.payee.lines) == ((2, 7), (FILM, SERIES))
    assert book.payee.signature == b"n" * 64
    assert (book.credit(0), book.credit(1)) == (1, 2)
    assert book.opened(TITLE) == (4, 5)
    assert not book.is_behind


def test_restored_without_records() -> None:
    book = restore(params(), bytes(16), FILM, State.CLOSING, Told(), None, lambda *_: SIZE)
    assert (book.payee.totals, book.payee.signature, book.payee.state) == ((0,), b"", State.CLOSING)
