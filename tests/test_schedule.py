"""Which piece from whom, drawn: a line a source.

`A ##.# r4 £2 k400 w1` is source A with pieces 0, 1 and 3, room for 4, price 2, 400 KB/s, one piece waited for. What
comes out is drawn as one letter a piece: who is asked for it, or `-` for nobody.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.pay.schedule import Assignment, Source, assign
from bct.units import PieceIndex

SIZE = 100_000


def source(drawing: str) -> Source[str]:
    name, pieces, *facts = drawing.split()
    said = {fact[0]: int(fact[1:]) for fact in facts}
    price = said.get("£", 1)

    def asks(piece: PieceIndex) -> int | None:
        return price if pieces[piece] == "#" else None

    return Source(name, asks, said.get("r", 20), said.get("w", 0) * SIZE, said.get("k", 0) * 1000.0)


def schedule(*drawings: str, wanted: str = "") -> str:
    """wanted: the order of pieces, as digits; all of them in order when empty."""
    count = len(drawings[0].split()[1])
    order = [PieceIndex(int(digit)) for digit in wanted] or [PieceIndex(i) for i in range(count)]
    made = {one.piece: one.source for one in assign(order, [source(one) for one in drawings], lambda _: SIZE)}
    return "".join(made.get(PieceIndex(i), "-") for i in range(count))


@pytest.mark.parametrize(
    ("drawings", "drawn"),
    [
        (["A ####"], "AAAA"),
        (["A ##.."], "AA--"),
        (["A #### r2"], "AA--"),
        (["A #### r0"], "----"),
        (["A ##.. k100", "B ..## k900"], "AABB"),
        # alike: the work is shared
        (["A #### k100", "B #### k100"], "ABAB"),
        # alike in time: the cheaper one
        (["A #### £2 k100 r2", "B #### £1 k100 r2"], "BABA"),
        # sooner beats cheaper
        (["A #### £9 k900", "B #### £1 k100"], "AAAA"),
        # three times as fast: three pieces of four
        (["A ######## k300", "B ######## k100"], "AAABAAAB"),
        # what is waited for already counts
        (["A #### k100 w3", "B #### k100"], "BBBA"),
        # the window of the fast one is full
        (["A #### k900 r1", "B #### k100"], "ABBB"),
        # nobody knows B yet: it is taken for 256 KiB/s
        (["A #### k100", "B ####"], "BBAB"),
        ([], ""),
    ],
)
def test_drawn(drawings: list[str], drawn: str) -> None:
    assert schedule(*drawings) == drawn if drawings else assign([PieceIndex(0)], [], lambda _: SIZE) == []


def test_the_most_urgent_piece_comes_first() -> None:
    assert schedule("A #### r2", wanted="3102") == "-A-A"


def test_a_piece_wanted_twice_is_got_once_and_holds_nothing_up() -> None:
    assert schedule("A ###", wanted="0012") == "AAA"


def test_short_pieces_weigh_less() -> None:
    """The last piece may be shorter: what is waited for is counted in bytes."""
    sizes = {0: 300_000, 1: 100_000, 2: 100_000}
    made = assign([PieceIndex(i) for i in sizes], [source("A ### k100"), source("B ### k100")], lambda p: sizes[p])
    assert [(one.piece, one.source, one.price) for one in made] == [(0, "A", 1), (1, "B", 1), (2, "B", 1)]


def test_a_piece_that_nobody_has_does_not_hold_up_the_rest() -> None:
    assert schedule("A .### r2", wanted="0123") == "-AA-"


@given(
    st.lists(st.tuples(st.text("#.", min_size=6, max_size=6), st.integers(0, 4), st.integers(0, 900)), max_size=4),
    st.permutations("012345"),
)
def test_whatever_is_drawn(drawn: list[tuple[str, int, int]], order: list[str]) -> None:
    """THREATS 18: no source is asked for more than its window, for what it lacks, or for a piece that is on its way."""
    sources = [source(f"{n} {pieces} r{room} k{rate}") for n, (pieces, room, rate) in enumerate(drawn)]
    rooms = {one.key: one.room for one in sources}
    made: list[Assignment[str]] = assign([PieceIndex(int(i)) for i in order], sources, lambda _: SIZE)
    assert len({one.piece for one in made}) == len(made)
    for one in made:
        assert drawn[int(one.source)][0][one.piece] == "#"
        rooms[one.source] -= 1
    assert all(room >= 0 for room in rooms.values())
