"""Blocks become a piece, and the piece is judged."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from bct.torrent.assembly import PieceBuffer
from bct.torrent.geometry import BLOCK_SIZE, Block, Geometry

GEOMETRY = Geometry(BLOCK_SIZE * 2 + 100, BLOCK_SIZE * 4)
CONTENT = bytes(range(256)) * 128 + bytes(100)
BLOCKS = list(GEOMETRY.blocks(0))


def part(block: Block) -> bytes:
    return CONTENT[block.begin : block.begin + block.length]


@given(st.permutations(BLOCKS))
def test_blocks_may_come_in_any_order(order: list[Block]) -> None:
    piece = PieceBuffer[str](0, bytearray(len(CONTENT)))
    assert [piece.add(b.begin, part(b), "ann") for b in order] == [False, False, True]
    assert piece.matches(hashlib.sha1(CONTENT).digest())
    assert piece.givers == {"ann"}


def test_one_wrong_byte_and_everybody_who_gave_is_named() -> None:
    piece = PieceBuffer[str](0, bytearray(len(CONTENT)))
    piece.add(0, part(BLOCKS[0]), "ann")
    piece.add(BLOCKS[1].begin, b"\xff" + part(BLOCKS[1])[1:], "bob")
    assert piece.add(BLOCKS[2].begin, part(BLOCKS[2]), "ann")
    assert not piece.matches(hashlib.sha1(CONTENT).digest())
    assert piece.givers == {"ann", "bob"}


def test_the_first_to_give_a_block_answers_for_it() -> None:
    piece = PieceBuffer[str](0, bytearray(len(CONTENT)))
    piece.add(0, part(BLOCKS[0]), "ann")
    assert not piece.add(0, bytes(BLOCK_SIZE), "bob")
    assert piece.givers == {"ann"}
    assert piece.has(BLOCKS[0])
    assert not piece.has(BLOCKS[1])
    assert bytes(piece.buffer[:BLOCK_SIZE]) == part(BLOCKS[0])


def test_a_buffer_serves_again() -> None:
    buffer = bytearray(len(CONTENT))
    for content in (bytes(len(CONTENT)), CONTENT):
        piece = PieceBuffer[str](0, buffer)
        for block in BLOCKS:
            piece.add(block.begin, memoryview(content)[block.begin : block.begin + block.length], "ann")
        assert piece.matches(hashlib.sha1(content).digest())
