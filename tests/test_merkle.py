"""Merkle paths: any place in any block leads to the root, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.keys import sha256d
from bct.bitcoin.merkle import MerklePath
from bct.errors import RemoteProtocolError
from bct.units import Txid, txid_from_hex

EXAMPLE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "brc62_brc74.json").read_text())["bump"]
HEIGHT = 700_000


def leaf(number: int) -> Txid:
    return Txid(sha256d(number.to_bytes(4)))


def tree(leaves: list[Txid]) -> tuple[bytes, list[list[bytes | None]]]:
    """(root, for each leaf its siblings from the bottom up), built the long way round."""
    branches: list[list[bytes | None]] = [[] for _ in leaves]
    row: list[bytes] = list(leaves)
    for height in range(len(leaves)):
        if len(row) == 1:
            break
        for index, branch in enumerate(branches):
            sibling = (index >> height) ^ 1
            branch.append(row[sibling] if sibling < len(row) else None)
        row += row[-1:] if len(row) % 2 else []
        row = [sha256d(row[i] + row[i + 1]) for i in range(0, len(row), 2)]
    return row[0], branches


PATH = MerklePath.of_branch(HEIGHT, leaf(9), 1, [leaf(0), leaf(1)])


def refused(act: Callable[[], object], told: str) -> None:
    with pytest.raises(RemoteProtocolError, match=told) as error:
        act()
    assert error.value.reason == "bad-proof"


def test_the_example_of_brc_74_proves_its_three_transactions() -> None:
    path = MerklePath.parse(bytes.fromhex(EXAMPLE["hex"]))
    assert path.height == EXAMPLE["height"]
    assert path.serialize().hex() == EXAMPLE["hex"]
    assert {path.root(txid_from_hex(txid))[::-1].hex() for txid in EXAMPLE["txids"]} == {EXAMPLE["root"]}


@given(st.integers(1, 33), st.data())
def test_any_place_in_any_block_leads_to_the_root(size: int, data: st.DataObject) -> None:
    leaves = [leaf(i) for i in range(size)]
    root, branches = tree(leaves)
    index = data.draw(st.integers(0, size - 1))
    raw = MerklePath.of_branch(HEIGHT, leaves[index], index, branches[index]).serialize()
    assert MerklePath.parse(raw).root(leaves[index]) == root


def test_a_path_of_several_may_leave_out_what_follows_from_the_row_below() -> None:
    root, _ = tree([leaf(i) for i in range(4)])
    bottom = bytes((4,)) + b"".join(bytes((i, 2)) + leaf(i) for i in range(4))
    path = MerklePath.parse(b"\x07\x02" + bottom + b"\x00")
    assert [path.root(leaf(i)) for i in range(4)] == [root] * 4


def test_a_path_that_contradicts_itself_proves_nothing() -> None:
    bottom = b"\x02" + b"\x00\x02" + leaf(0) + b"\x01\x00" + leaf(1)
    path = MerklePath.parse(b"\x07\x02" + bottom + b"\x02" + b"\x00\x00" + leaf(7) + b"\x01\x00" + leaf(8))
    refused(lambda: path.root(leaf(0)), "contradicts itself at offset 0")


def test_a_transaction_that_is_not_in_it_is_not_proven() -> None:
    refused(lambda: PATH.root(leaf(0x77)), "does not hold")


def test_an_inner_node_is_not_a_transaction() -> None:
    """The sibling in the upper row is a hash that leads to the root, and no transaction's."""
    refused(lambda: PATH.root(leaf(1)), "does not hold")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"\x07\x00", "1 to 64 rows"),
        (b"\x07\x41", "1 to 64 rows"),
        (b"\xff" + bytes(7) + b"\x01\x01", "no block 72057594037927936"),
        (b"\xfe\0\0\0\x80\x01", "no block 2147483648"),
        (b"\x07\x01\x01\x02\x00" + bytes(32), "offset 2 lies outside"),
        (b"\x07\x02\x00\x01\x02\x00" + bytes(32), "offset 2 lies outside"),
        (b"\x07\x01\x01\x00\x03" + bytes(32), "flags are 0, 1 or 2, got 3"),
        (b"\x07\x01\x01\x00\x01", "offset 0 is left-hand"),
        (b"\x07\x01\x02\x01\x01\x01\x01", "names one offset twice"),
        (PATH.serialize() + b"\0", "1 bytes follow"),
    ],
)
def test_bytes_that_cannot_be_a_path(raw: bytes, told: str) -> None:
    refused(lambda: MerklePath.parse(raw), told)


def test_the_last_block_there_can_be() -> None:
    assert MerklePath.parse(b"\xfe\xff\xff\xff\x7f\x01\x00").height == 0x7FFF_FFFF


def test_a_tree_may_be_64_rows_high() -> None:
    branch = [leaf(n) for n in range(64)]
    path = MerklePath.of_branch(0x7FFFFFFF, leaf(9), 1 << 63, branch)
    assert MerklePath.parse(path.serialize()).root(leaf(9)) == path.root(leaf(9))


def test_cut_anywhere_it_is_refused() -> None:
    raw = PATH.serialize()
    for size in range(len(raw)):
        with pytest.raises(RemoteProtocolError):
            MerklePath.parse(raw[:size])
