"""What a purse makes of its ledger after a crash."""

from __future__ import annotations

from bct.channel.state import State
from bct.channel.store import SavedPayer
from bct.node.purse import restore
from bct.pay.records import Lined, Reserved
from tests.channel_parts import FILM, FUNDING, NOW, SERIES, params

SAVED = SavedPayer(params(), FUNDING, FILM, b"", "", 0, b"", NOW, State.OPEN)


def test_marks_of_a_line_whose_record_was_lost() -> None:
    """The marks name a second line, and nothing says whom it pays: it was never asked for, so nothing was signed."""
    payer, _ = restore(SAVED, [Reserved(FUNDING, (5, 0))])
    assert (payer.lines, payer.totals, payer.reserved) == ((FILM,), (0,), (5,))


def test_marks_older_than_a_line() -> None:
    payer, _ = restore(SAVED, [Reserved(FUNDING, (5,)), Lined(FUNDING, 1, SERIES)])
    assert (payer.lines, payer.totals, payer.reserved) == ((FILM, SERIES), (0, 0), (5, 0))
