"""A ledger read back: what counts of it, however it was written, and however short it was made."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.backends.ledger import Ledger
from bct.cli import wiring
from bct.errors import StoreError
from bct.pay import records
from bct.pay.records import PIECES_MOST, Bought, Lined, Opened, Paid, Pieces, Record, Reserved
from bct.pay.replay import LONG, Replay, Told
from bct.units import Infohash, Outpoint, PieceIndex, Txid
from tests.channel_parts import FILM, FUNDING, SERIES
from tests.test_records import RECORDS

OTHER = Outpoint(Txid(bytes(32)), 7)
TITLE = Infohash(bytes(range(20)))


def state(told: Told) -> tuple[object, ...]:
    marks = told.marks if any(told.marks) else ()
    return told.lines, list(told.paid.items()), marks, dict(told.pieces)


def paid(total: int, line: int = 0, outpoint: Outpoint = FUNDING) -> Paid:
    return Paid(outpoint, line, total, total.to_bytes(64))


def read(*found: Record) -> Replay:
    return Replay(map(records.encode, found))


@given(st.lists(RECORDS, max_size=20))
def test_read_from_bytes_or_from_objects_is_the_same(found: list[Record]) -> None:
    """The commonest records are read without being made objects."""
    channels = read(*found).channels()
    assert channels.keys() == {record.outpoint for record in found}
    for outpoint, told in channels.items():
        assert state(told) == state(Told.of(record for record in found if record.outpoint == outpoint))


@given(st.lists(RECORDS, max_size=20))
def test_the_fewest_records_tell_the_same(found: list[Record]) -> None:
    for outpoint, told in read(*found).channels().items():
        assert state(Told.of(told.records(outpoint))) == state(told)


def test_the_newest_of_everything_counts() -> None:
    told = Told.of([paid(3), paid(2, line=1), paid(5), Reserved(FUNDING, (9,)), Reserved(FUNDING, (7, 1))])
    assert list(told.paid) == [1, 0], "the newest signature stands last: it covers the totals of all lines"
    assert told.paid[0][0] == 5
    assert told.marks == (7, 1)
    assert Told.of([Lined(FUNDING, 1, SERIES), Lined(FUNDING, 2, FILM), Lined(FUNDING, 1, FILM)]).lines == {
        1: FILM,
        2: FILM,
    }


def test_what_was_bought_twice_was_paid_twice() -> None:
    twice = [Bought(FUNDING, 0, TITLE, PieceIndex(4), 7)] * 2
    assert Told.of(twice).pieces == {(0, TITLE, 7): [4, 4]}


def test_a_record_of_a_newer_version_is_no_record_that_is_passed_over() -> None:
    with pytest.raises(StoreError, match="made by a newer bct"):
        Replay([bytes((200,)) + bytes(105)])
    with pytest.raises(StoreError):
        Replay([b""])


# -- shortening -------------------------------------------------------------------------------------------------------


def payments(count: int, outpoint: Outpoint = FUNDING) -> list[Record]:
    """So many, each with its piece."""
    return [
        record
        for n in range(count)
        for record in (paid(n + 1, 0, outpoint), Opened(outpoint, 0, TITLE, PieceIndex(n), 1))
    ]


MANY = LONG // 60


def test_a_short_ledger_is_left_as_it_is() -> None:
    assert read(*payments(1000)).shortened({FUNDING}, purchases=False) is None


def test_a_long_one_keeps_the_newest_total_and_every_piece() -> None:
    found = payments(MANY)
    shorter = read(*found).shortened((), purchases=False)
    assert shorter is not None
    assert sum(map(len, shorter)) < LONG // 10
    assert state(Replay(shorter).channels()[FUNDING]) == state(Told.of(found))
    assert Replay(shorter).shortened((), purchases=False) is None, "there is nothing left to gain"


def test_of_channels_that_are_over_an_earner_keeps_nothing() -> None:
    shorter = read(*payments(MANY), *payments(3, OTHER)).shortened({FUNDING}, purchases=False)
    assert shorter is not None
    assert Replay(shorter).channels().keys() == {OTHER}


def test_of_channels_that_are_over_a_spender_keeps_what_it_bought() -> None:
    bought = [Bought(FUNDING, 0, TITLE, PieceIndex(n), 7) for n in range(MANY)]
    shorter = read(Reserved(FUNDING, (9,)), *bought).shortened({FUNDING}, purchases=True)
    assert shorter is not None
    (told,) = Replay(shorter).channels().values()
    assert told.pieces == {(0, TITLE, 7): list(range(MANY))}
    assert not any(told.marks)


def test_a_ledger_that_would_hardly_be_shorter_is_left_as_it_is() -> None:
    one_piece_each = [Opened(Outpoint(Txid(n.to_bytes(32)), 0), 0, TITLE, PieceIndex(0), 1) for n in range(LONG // 60)]
    assert read(*one_piece_each).shortened((), purchases=False) is None


def test_more_pieces_than_a_record_holds() -> None:
    told = Told()
    told.pieces[0, TITLE, 1] = list(map(PieceIndex, range(PIECES_MOST + 1)))
    first, second = told.records(FUNDING)
    assert isinstance(first, Pieces)
    assert isinstance(second, Pieces)
    assert (len(first.pieces), second.pieces) == (PIECES_MOST, (PIECES_MOST,))
    assert len(records.encode(first)) < 1 << 16


@pytest.mark.anyio
async def test_a_node_starts_with_a_ledger_as_short_as_can_be(tmp_path: Path) -> None:
    path, found = tmp_path / "payee.ledger", payments(MANY)
    ledger = Ledger.open(path, lambda _: None)
    for record in found:
        ledger.append(records.encode(record))
    await ledger.close()
    long = path.stat().st_size
    synced: list[int] = []
    for _ in range(2):
        replay = Replay()
        async with AsyncExitStack() as files:
            ledger = await wiring._ledger(files, path, replay, set(), on_synced=synced.append)
            assert state(replay.channels()[FUNDING]) == state(Told.of(found))
            for record in payments(1, OTHER):
                ledger.append(records.encode(record))
    assert path.stat().st_size < long // 10
    assert synced, "the ledger that was written anew tells the till what is durable"
