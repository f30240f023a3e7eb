"""Merkle paths (BUMP, BRC-74): what leads from a transaction's id to the root in its block's header.

Who could cheat here: whoever sends a path. It is only arithmetic: a path proves that its hashes lead to some root, and
it is `proof` that compares the root with a header of ours and looks at the transaction itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bct.bitcoin.keys import sha256d
from bct.bitcoin.tx import Reader, compact_size
from bct.errors import RemoteProtocolError
from bct.units import Txid, txid_hex

_MAX_TREE = 64
_MAX_HEIGHT = 0x7FFFFFFF


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-proof", text)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One node of a Merkle tree. `hash` None: the last node of an odd row, hashed with itself."""

    offset: int
    hash: bytes | None
    is_txid: bool = False

    def serialize(self) -> bytes:
        flags = 1 if self.hash is None else 2 * self.is_txid
        return compact_size(self.offset) + bytes((flags,)) + (self.hash or b"")


@dataclass(frozen=True, slots=True)
class MerklePath:
    """What leads from one or more transactions up to the root of the block at `height` (BRC-74).

    ``levels[0]`` is the row of transaction ids, ``levels[-1]`` the row under the root.
    """

    height: int
    levels: tuple[tuple[Leaf, ...], ...]

    @classmethod
    def of_branch(cls, height: int, txid: Txid, index: int, branch: Sequence[bytes | None]) -> MerklePath:
        """From a transaction's place in its block and its siblings from the bottom up (None: paired with itself)."""
        levels = [[Leaf((index >> i) ^ 1, sibling)] for i, sibling in enumerate(branch)] or [[]]
        levels[0] = sorted([*levels[0], Leaf(index, txid, is_txid=True)], key=lambda leaf: leaf.offset)
        return cls(height, tuple(tuple(level) for level in levels))

    def serialize(self) -> bytes:
        rows = (compact_size(len(level)) + b"".join(leaf.serialize() for leaf in level) for level in self.levels)
        return compact_size(self.height) + bytes((len(self.levels),)) + b"".join(rows)

    @classmethod
    def parse(cls, raw: bytes) -> MerklePath:
        """Exactly one BUMP. Raises RemoteProtocolError('bad-proof' or 'bad-tx')."""
        reader = Reader(raw)
        path = cls.read(reader)
        if reader.at != len(raw):
            raise _bad(f"{len(raw) - reader.at} bytes follow the Merkle path")
        return path

    @classmethod
    def read(cls, reader: Reader) -> MerklePath:
        """The BUMP at the reader's place. Raises RemoteProtocolError('bad-proof' or 'bad-tx')."""
        height, tree = reader.size(), reader.u8()
        if height > _MAX_HEIGHT:
            raise _bad(f"there is no block {height}")
        if not 1 <= tree <= _MAX_TREE:
            raise _bad(f"a Merkle tree has 1 to {_MAX_TREE} rows under its root, got {tree}")
        return cls(height, tuple(_read_level(reader, tree - row) for row in range(tree)))

    def root(self, txid: Txid) -> bytes:
        """The root these hashes lead to from `txid`. Raises RemoteProtocolError('bad-proof') if they lead nowhere."""
        return self.tree().root(txid)

    def tree(self) -> Tree:
        """What follows from the path, for whoever looks up more than one transaction in it. Raises
        RemoteProtocolError('bad-proof') if it contradicts itself."""
        offsets = {leaf.hash: leaf.offset for leaf in reversed(self.levels[0]) if leaf.hash is not None}
        return Tree(self.height, offsets, tuple(self._rows()))

    def _rows(self) -> Iterator[dict[int, bytes | None]]:
        """Row by row what is known: what was sent, and what follows from the row below."""
        if len(self.levels) == 1 and len(self.levels[0]) == 1 and self.levels[0][0].offset == 0:
            return  # a block of one transaction: its id is the root
        below: dict[int, bytes | None] = {}
        for level in self.levels:
            known = _parents(below)
            for leaf in level:
                if known.setdefault(leaf.offset, leaf.hash) != leaf.hash:
                    raise _bad(f"the Merkle path at height {self.height} contradicts itself at offset {leaf.offset}")
            yield known
            below = known


@dataclass(frozen=True, slots=True)
class Tree:
    """A Merkle path worked out once. A path may hold a whole block, and a proof as many of the block's transactions:
    anew for each, that would be minutes of work for a message of a megabyte."""

    height: int
    offsets: Mapping[bytes, int]
    """Of the transaction ids."""
    rows: tuple[Mapping[int, bytes | None], ...]

    def root(self, txid: Txid) -> bytes:
        """As `MerklePath.root`."""
        offset = self.offsets.get(txid)
        if offset is None:
            raise _bad(f"the Merkle path at height {self.height} does not hold {txid_hex(txid)}")
        working: bytes = txid
        for row, known in enumerate(self.rows):
            working = _parent(known, offset >> row, working)
        return working


def _parents(row: Mapping[int, bytes | None]) -> dict[int, bytes | None]:
    pairs = ((offset, node) for offset, node in row.items() if node is not None and offset ^ 1 in row)
    return {offset >> 1: _parent(row, offset, node) for offset, node in pairs}


def _parent(row: Mapping[int, bytes | None], offset: int, node: bytes) -> bytes:
    if offset ^ 1 not in row:
        raise _bad(f"the Merkle path lacks the sibling of offset {offset}")
    sibling = row[offset ^ 1]
    if sibling is None:
        return sha256d(node + node)
    return sha256d(sibling + node if offset & 1 else node + sibling)


def _read_level(reader: Reader, rows_above: int) -> tuple[Leaf, ...]:
    leaves = tuple(_read_leaf(reader, rows_above) for _ in range(reader.count(2)))
    if len({leaf.offset for leaf in leaves}) != len(leaves):
        raise _bad("a Merkle path names one offset twice")
    return leaves


def _read_leaf(reader: Reader, rows_above: int) -> Leaf:
    offset, flags = reader.size(), reader.u8()
    if offset >> rows_above:
        raise _bad(f"offset {offset} lies outside a row of at most 2^{rows_above} nodes")
    if flags > 2:
        raise _bad(f"leaf flags are 0, 1 or 2, got {flags}")
    if flags == 1 and not offset & 1:
        raise _bad(f"only a right-hand node repeats its sibling, offset {offset} is left-hand")
    return Leaf(offset, None if flags == 1 else reader.take(32), flags == 2)
