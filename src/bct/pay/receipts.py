"""Receipts: what both sides of a payment channel sign about the pieces that were paid for and came.

An epoch is up to 64 pieces. Each is a leaf of a Merkle tree whose root stands in the receipt, so that one piece can be
shown later without the others:

    leaf = sha256(00 | infohash 20 | piece u32 | piece hash 20 | line u8 | total u32)
    node = sha256(01 | left | right)

`total` is the line's total after the piece was paid for. A node without a partner is taken up a row as it is.

Who could cheat: the viewer, who writes the receipt. With a piece that was never sold, or is outside of its torrent;
with one piece in two epochs; with one payment for two pieces; with totals nobody paid; with an epoch left out or said
twice. `Served.check` stands against all of it. The seeder runs it before it signs, and so does whoever is shown the
receipts later; what each of them knows of a piece by himself, `look` tells.

What no check can tell: whether two people, or one with two keys, have signed.
"""

from __future__ import annotations

import struct
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest

from bct.bitcoin.keys import sha256
from bct.channel.transactions import Totals
from bct.errors import Action, RemoteProtocolError
from bct.pay.messages import LEAF_SIZE, LEAVES_MAX, Receipt, ReceiptSigned
from bct.units import Infohash, Outpoint, PieceIndex

EPOCH = LEAVES_MAX
"""Pieces in one receipt at most."""
_LEAF = struct.Struct(">20sIBI")
assert _LEAF.size == LEAF_SIZE


# -- the tree ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leaf:
    """One piece that was paid for and came. total: its line's, after it was paid for."""

    infohash: Infohash
    piece: PieceIndex
    line: int
    total: int

    def pack(self) -> bytes:
        return _LEAF.pack(self.infohash, self.piece, self.line, self.total)

    def digest(self, piece_hash: bytes) -> bytes:
        """Its node in the tree. piece_hash: SHA-1, 20 bytes."""
        tail = struct.pack(">BI", self.line, self.total)
        return sha256(b"\0" + self.infohash + self.piece.to_bytes(4) + piece_hash + tail)


def unpack_leaves(raw: bytes) -> tuple[Leaf, ...]:
    """As a RECEIPT carries them. Raises RemoteProtocolError('bad-receipt')."""
    if not raw or len(raw) % LEAF_SIZE:
        raise _bad(f"{len(raw)} bytes of leaves; one or more of {LEAF_SIZE} bytes are read")
    return tuple(Leaf(Infohash(h), PieceIndex(piece), line, total) for h, piece, line, total in _LEAF.iter_unpack(raw))


@dataclass(frozen=True, slots=True)
class Step:
    """One row up: the node beside ours, and on which side it stands."""

    sibling: bytes
    left: bool


def merkle_root(row: Sequence[bytes]) -> bytes:
    """Of one or more leaves' digests."""
    *_, (root,) = _rows(row)
    return root


def merkle_proof(row: Sequence[bytes], index: int) -> tuple[Step, ...]:
    """What leads from the leaf at `index` to the root, from the bottom up."""
    steps = []
    for nodes in _rows(row):
        beside = index ^ 1
        if beside < len(nodes):
            steps.append(Step(nodes[beside], left=beside < index))
        index >>= 1
    return tuple(steps)


def climb(node: bytes, steps: Sequence[Step]) -> bytes:
    """The root that a proof leads to from a leaf's digest."""
    for step in steps:
        node = _parent(step.sibling, node) if step.left else _parent(node, step.sibling)
    return node


def _rows(row: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Every row from the leaves up to the root."""
    while len(row) > 1:
        yield row
        row = [_parent(*row[at : at + 2]) if at + 1 < len(row) else row[at] for at in range(0, len(row), 2)]
    yield row


def _parent(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right)


# -- the rules --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sold:
    """What is known of a piece without the receipt: its SHA-1, its bytes, and what it cost on which line."""

    hash: bytes
    size: int
    line: int
    price: int


Look = Callable[[Leaf], Sold]
"""Raises RemoteProtocolError for a piece that was not sold over this channel, or is outside of its torrent."""


class Served:
    """What the receipts of one payment channel say so far."""

    def __init__(self, outpoint: Outpoint) -> None:
        self._outpoint = outpoint.pack()
        self._epochs: list[ReceiptSigned] = []
        self._listed: set[tuple[Infohash, PieceIndex]] = set()
        self._claims: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        """By line: what each piece claims of it, (total, price), rising."""

    @property
    def last(self) -> ReceiptSigned:
        """What the newest epoch says; of a channel without one: nothing at all."""
        return self._epochs[-1] if self._epochs else ReceiptSigned(0, self._outpoint, 0, 0, 0, b"", ())

    def has(self, receipt: Receipt) -> bool:
        """Whether this very epoch was taken before: it may be said again on another connection."""
        known = 1 <= receipt.epoch <= len(self._epochs)
        return known and self._epochs[receipt.epoch - 1] == content(receipt)

    def check(self, receipt: Receipt, totals: Totals, look: Look) -> tuple[int, ...]:
        """Everything but the signature of the next epoch; what each of its pieces cost. totals: what the payee has a
        commitment for. Changes nothing.

        In this order: channel → epoch → totals → each piece sold, on its line, listed once → totals apart by the prices
        → pieces and bytes → root. Raises RemoteProtocolError('bad-receipt'), and what `look` raises.
        """
        last, leaves = self.last, unpack_leaves(receipt.leaves)
        if receipt.outpoint != self._outpoint:
            raise _bad(f"a receipt of channel {Outpoint.unpack(receipt.outpoint)}")
        if receipt.epoch != last.epoch + 1:
            raise _bad(f"epoch {receipt.epoch} where {last.epoch + 1} is due")
        if not all(a <= b <= c for a, b, c in zip_longest(last.totals, receipt.totals, totals, fillvalue=0)):
            raise _bad(f"totals {list(receipt.totals)} after {list(last.totals)}; {list(totals)} were paid")
        sold = [self._sold(leaf, receipt.totals, look) for leaf in leaves]
        if len({(leaf.infohash, leaf.piece) for leaf in leaves}) < len(leaves):
            raise _bad("a piece is listed twice")
        self._check_claims(leaves, sold)
        pieces, size = last.pieces + len(leaves), last.size + sum(one.size for one in sold)
        if (receipt.pieces, receipt.size) != (pieces, size):
            raise _bad(f"{receipt.pieces} pieces of {receipt.size} bytes so far where {pieces} of {size} are right")
        if receipt.root != merkle_root([leaf.digest(one.hash) for leaf, one in zip(leaves, sold, strict=True)]):
            raise _bad("the root is not that of the leaves")
        return tuple(one.price for one in sold)

    def take(self, receipt: Receipt, prices: Sequence[int]) -> None:
        """The epoch counts from now on. prices: as `check` gave them."""
        self._epochs.append(content(receipt))
        for leaf, price in zip(unpack_leaves(receipt.leaves), prices, strict=True):
            self._listed.add((leaf.infohash, leaf.piece))
            insort(self._claims[leaf.line], (leaf.total, price))

    def _sold(self, leaf: Leaf, totals: Totals, look: Look) -> Sold:
        sold = look(leaf)
        name = f"piece {leaf.piece} of {leaf.infohash.hex()}"
        if leaf.line != sold.line:
            raise _bad(f"{name} was sold on line {sold.line}, not on line {leaf.line}")
        if leaf.line >= len(totals) or leaf.total > totals[leaf.line]:
            raise _bad(f"{name} at {leaf.total} sat of line {leaf.line}; the totals are {list(totals)}")
        if (leaf.infohash, leaf.piece) in self._listed:
            raise _bad(f"{name} is in an earlier epoch")
        return sold

    def _check_claims(self, leaves: Sequence[Leaf], sold: Sequence[Sold]) -> None:
        """No satoshi pays for two pieces: each claims its price below its total, and no two claims overlap."""
        added: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for leaf, one in zip(leaves, sold, strict=True):
            added[leaf.line].append((leaf.total, one.price))
        for line, new in added.items():
            for (before, _), (total, price) in pairwise([(0, 0), *sorted(self._claims[line] + new)]):
                if total - price < before:
                    raise _bad(f"on line {line} a piece of {price} sat stands at {total}, and another one at {before}")


def content(receipt: Receipt | ReceiptSigned) -> ReceiptSigned:
    """What is signed, without what belongs to one connection: handle and signature."""
    return ReceiptSigned(
        0, receipt.outpoint, receipt.epoch, receipt.pieces, receipt.size, receipt.root, receipt.totals
    )  # fmt: skip


def countersigned(receipt: Receipt) -> ReceiptSigned:
    """The payee's answer, to be signed."""
    return replace(content(receipt), handle=receipt.handle)


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-receipt", text, Action.REFUSE)
