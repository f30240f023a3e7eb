"""What a purse makes of its ledger after a crash."""

from __future__ import annotations

from bct.channel.state import State
from bct.channel.store import SavedPayer
from bct.node.purse import restore
from bct.pay.records import Bought, Lined, Record, Reserved
from bct.pay.replay import Told
from bct.units import Infohash, Payees, PieceIndex
from tests.channel_parts import BOB, FILM, FUNDING, NOW, SERIES, params

SAVED = SavedPayer(params(), FUNDING, FILM, b"", "", 0, b"", NOW, State.OPEN)
TITLE = Infohash(bytes(20))
OTHER = Payees.of((BOB, 100))


def bought(line: int, piece: int) -> Record:
    return Bought(FUNDING, line, TITLE, PieceIndex(piece), 5)


def test_a_channel_comes_back_with_its_lines_totals_and_marks() -> None:
    records = [bought(0, 2), Lined(FUNDING, 1, SERIES), Reserved(FUNDING, (5, 20)), bought(1, 3), bought(1, 4)]
    payer, pieces = restore(SAVED, Told.of(records))
    assert (payer.lines, payer.totals, payer.reserved) == ((FILM, SERIES), (5, 10), (5, 20))
    assert pieces == {(TITLE, 2), (TITLE, 3), (TITLE, 4)}


def test_a_line_that_the_seeder_never_heard_of_makes_way_for_the_one_that_got_its_number() -> None:
    """Written down before ADD_LINE, which was never sent."""
    payer, _ = restore(SAVED, Told.of([Lined(FUNDING, 1, SERIES), Lined(FUNDING, 1, OTHER), bought(1, 2)]))
    assert (payer.lines, payer.totals) == ((FILM, OTHER), (0, 5))


def test_a_line_that_is_written_down_twice_is_one() -> None:
    payer, _ = restore(SAVED, Told.of([Lined(FUNDING, 1, SERIES), bought(1, 2), Lined(FUNDING, 1, SERIES)]))
    assert (payer.lines, payer.totals) == ((FILM, SERIES), (0, 5))


def test_marks_of_a_line_whose_record_was_lost() -> None:
    """The marks name a second line, and nothing says whom it pays: it was never asked for, so nothing was signed."""
    payer, _ = restore(SAVED, Told.of([Reserved(FUNDING, (5, 0))]))
    assert (payer.lines, payer.totals, payer.reserved) == ((FILM,), (0,), (5,))


def test_marks_older_than_a_line() -> None:
    payer, _ = restore(SAVED, Told.of([Reserved(FUNDING, (5,)), Lined(FUNDING, 1, SERIES)]))
    assert (payer.lines, payer.totals, payer.reserved) == ((FILM, SERIES), (0, 0), (5, 0))
