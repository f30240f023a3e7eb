"""Pieces, blocks and the sets of pieces peers speak of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.errors import ConfigError, RemoteProtocolError
from bct.torrent.geometry import Block, Geometry, PieceMap

geometries = st.builds(Geometry, st.integers(1, 200_000), st.integers(1, 50_000))


@given(geometries)
def test_pieces_fill_the_torrent_exactly(geometry: Geometry) -> None:
    sizes = [geometry.size(index) for index in range(geometry.count)]
    assert sum(sizes) == geometry.length
    assert set(sizes[:-1]) <= {geometry.piece_length}
    assert 0 < geometry.last_size <= geometry.piece_length


@given(geometries, st.data())
def test_every_byte_is_in_the_piece_it_is_located_in(geometry: Geometry, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, geometry.length - 1))
    index, begin = geometry.locate(offset)
    assert geometry.offset(index) + begin == offset
    assert geometry.holds(Block(index, begin, 1))


@given(geometries, st.integers(1, 20_000), st.data())
def test_blocks_fill_a_piece_in_order(geometry: Geometry, block_size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, geometry.count - 1))
    at = 0
    for block in geometry.blocks(index, block_size):
        assert block.begin == at
        assert geometry.holds(block)
        at += block.length
    assert at == geometry.size(index)


def test_ranges_outside_are_not_held() -> None:
    geometry = Geometry(100, 40)  # pieces of 40, 40, 20
    assert geometry.holds(Block(2, 0, 20))
    assert not geometry.holds(Block(2, 0, 21))
    assert not geometry.holds(Block(1, 40, 1))
    assert not geometry.holds(Block(3, 0, 1))
    assert not geometry.holds(Block(0, 0, 0))


def test_a_strangers_index_is_checked() -> None:
    geometry = Geometry(100, 40)
    assert geometry.check_piece(2) == 2
    with pytest.raises(RemoteProtocolError, match="piece 3 of a torrent with 3 pieces"):
        geometry.check_piece(3)


@pytest.mark.parametrize(("length", "piece_length"), [(0, 1), (1, 0), (-1, 1)])
def test_nothing_is_no_torrent(length: int, piece_length: int) -> None:
    with pytest.raises(ConfigError):
        Geometry(length, piece_length)


@given(st.integers(1, 70).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_a_map_is_the_set_it_was_told(case: tuple[int, set[int]]) -> None:
    count, indices = case
    pieces = PieceMap(count)
    assert all(pieces.add(index) for index in indices)
    assert not any(pieces.add(index) for index in indices)
    assert set(pieces) == indices
    assert len(pieces) == len(indices)
    assert pieces.full is (len(indices) == count)
    assert set(PieceMap.from_bytes(pieces.to_bytes(), count)) == indices


@given(st.integers(1, 70).flatmap(lambda n: st.tuples(*(st.sets(st.integers(0, n - 1)) for _ in "ab"), st.just(n))))
def test_what_one_map_lacks_of_another(case: tuple[set[int], set[int], int]) -> None:
    mine, theirs, count = case
    maps = PieceMap(count), PieceMap(count)
    for pieces, indices in zip(maps, (mine, theirs), strict=True):
        for index in indices:
            pieces.add(index)
    assert maps[0].lacking(maps[1]) == sorted(theirs - mine)


@given(st.integers(1, 70))
def test_full_is_said_with_the_spare_bits_clear(count: int) -> None:
    full = PieceMap(count, full=True)
    assert full.full
    assert list(PieceMap.from_bytes(full.to_bytes(), count)) == list(range(count))
    assert not full.add(0)


def test_the_first_piece_is_the_high_bit() -> None:
    pieces = PieceMap(10)
    pieces.add(0)
    pieces.add(9)
    assert pieces.to_bytes().hex() == "8040"


@pytest.mark.parametrize(("bits", "count"), [("80", 9), ("8000", 8), ("8020", 10), ("01", 7), ("", 1)])
def test_a_bitfield_that_does_not_fit_is_refused(bits: str, count: int) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        PieceMap.from_bytes(bytes.fromhex(bits), count)
    assert refused.value.reason == "bad-bitfield"
