"""Rarest first, drawn: a row a peer, a column a piece, x where the peer has it."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from bct.torrent.geometry import BLOCK_SIZE, Block, Geometry, PieceMap
from bct.torrent.picker import Picker


def row(picture: str) -> PieceMap:
    pieces = PieceMap(len(picture))
    for index, mark in enumerate(picture):
        if mark == "x":
            pieces.add(index)
    return pieces


def swarm(
    *pictures: str, have: str = "", order: Iterable[int] | None = None, blocks: int = 1
) -> tuple[Picker, list[PieceMap]]:
    """A picker that has heard of these peers, and the peers."""
    count = len(pictures[0])
    picker = Picker(
        Geometry(count * blocks * BLOCK_SIZE, blocks * BLOCK_SIZE),
        row(have or "." * count),
        list(order or range(count)),
    )
    peers = [row(picture) for picture in pictures]
    for peer in peers:
        picker.peer_has(peer)
    return picker, peers


def pieces(blocks: list[Block]) -> list[int]:
    return [block.piece for block in blocks]


def test_the_rarest_piece_comes_first() -> None:
    picker, (first, *_) = swarm(
        "xxxx",
        "xx.x",
        "x..x",
    )
    assert pieces(picker.pick(first, 9)) == [2, 1, 0, 3]


def test_only_what_the_peer_has_and_we_lack_is_asked_for() -> None:
    picker, (_, second) = swarm(
        "xxxxx",
        "xx.x.",
        have="x....",
    )
    assert sorted(pieces(picker.pick(second, 9))) == [1, 3]
    assert picker.pick(second, 9, [Block(1, 0, BLOCK_SIZE), Block(3, 0, BLOCK_SIZE)]) == []


def test_two_peers_are_asked_for_different_pieces() -> None:
    picker, (first, second) = swarm("xx", "xx")
    assert sorted(pieces(picker.pick(first, 1)) + pieces(picker.pick(second, 1))) == [0, 1]


def test_a_started_piece_is_finished_before_another_is_begun() -> None:
    picker, (first, second) = swarm("xxx", "xxx", blocks=4)
    begun = picker.pick(first, 3)
    assert len({block.piece for block in begun}) == 1
    assert picker.pick(second, 1) == [Block(begun[0].piece, 3 * BLOCK_SIZE, BLOCK_SIZE)]


def test_rarity_follows_what_peers_say() -> None:
    picker, (first, second) = swarm(
        "xxxx",
        "x.xx",
    )
    picker.peer_has([1, 1])
    assert pieces(picker.pick(first, 1)) == [0]
    picker.peer_gone(second)
    picker.peer_has([2])
    assert pieces(picker.pick(first, 3)) == [3, 2, 1]


def test_equally_rare_pieces_come_in_the_order_given() -> None:
    for order in ([2, 0, 1], [1, 2, 0]):
        picker, (first,) = swarm("xxx", order=order)
        assert pieces(picker.pick(first, 3)) == order


def test_what_is_given_back_is_asked_of_another() -> None:
    picker, (first, second) = swarm("x", "x", blocks=2)
    asked = picker.pick(first, 2)
    picker.give_back([asked[1]])
    assert picker.pick(second, 2) == [asked[1]]


def test_at_the_end_blocks_are_asked_for_twice() -> None:
    picker, (first, second) = swarm("xx", "xx")
    asked = picker.pick(first, 9)
    assert sorted(picker.pick(second, 9)) == sorted(asked)
    assert picker.pick(second, 9, asked) == []
    picker.received(asked[0])
    picker.give_back(asked)  # by one of the two: the other is still asked
    assert picker.pick(row("xx"), 9) == [asked[1]]


def test_nothing_is_asked_twice_while_something_was_never_asked() -> None:
    picker, (first, second) = swarm("xx", "x.")
    assert pieces(picker.pick(second, 1)) == [0]
    assert pieces(picker.pick(first, 9)) == [1]


def test_a_failed_piece_is_fetched_again() -> None:
    picker, (first,) = swarm("x")
    (block,) = picker.pick(first, 1)
    picker.received(block)
    picker.failed(0)
    assert not picker.finished
    assert picker.pick(first, 1) == [block]
    picker.received(block)
    picker.done(0)
    assert picker.finished


def test_interest_is_in_what_we_lack() -> None:
    picker, _ = swarm("xx", have="x.")
    assert picker.is_interesting(row(".x"))
    assert not picker.is_interesting(row("x."))
    picker.pick(row(".x"), 1)
    assert picker.is_interesting(row(".x"))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 7), st.booleans()), max_size=60))
def test_whatever_peers_do_the_torrent_is_completed(steps: list[tuple[int, int, bool]]) -> None:
    picker, peers = swarm("xxxxxx", "x.x.x.", "..xxxx", blocks=3)
    missing = dict.fromkeys(range(6), 3)
    got: set[Block] = set()
    for who, room, delivers in [*steps, *[(0, 100, True)] * 2]:
        asked = picker.pick(peers[who], room)
        assert len(asked) <= room
        assert all(block.piece in peers[who] for block in asked)
        assert not got.intersection(asked)
        if not delivers:
            picker.give_back(asked)
            continue
        for block in asked:
            got.add(block)
            picker.received(block)
            missing[block.piece] -= 1
            if not missing[block.piece]:
                picker.done(block.piece)
    assert picker.finished
