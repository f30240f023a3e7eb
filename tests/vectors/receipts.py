"""vectors/receipts.json: receipts as bytes: leaves, their tree, a proof of one piece, and epochs that both have signed.

`leaves` are packed as a RECEIPT carries them; `digest` is a leaf's node in the tree. `trees` are over the first so many
leaves of the first epoch. A proof is climbed from the bottom up, each step with the node beside ours and the side that
one stands on. `epochs` are two in a row of one channel; the payee had a commitment at `paid`. The context is that of
messages.json.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha1
from typing import Any

from bct.pay.messages import Receipt
from bct.pay.receipts import EPOCH, Leaf, Sold, Step, countersigned, merkle_proof, merkle_root
from bct.units import Infohash, PieceIndex
from tests.channel_parts import FUNDING, PAYEE, PAYER
from tests.vectors.messages import CONTEXT

Json = dict[str, Any]

FILM, SERIES = Infohash(bytes(range(20))), Infohash(bytes(range(20, 40)))
SIZE, PRICE = 1 << 18, 3
LINE = {FILM: 0, SERIES: 1}


def sold(leaf: Leaf) -> Sold:
    """What a seeder knows of any piece of the two torrents."""
    name = leaf.infohash + leaf.piece.to_bytes(4)
    return Sold(sha1(name, usedforsecurity=False).digest(), SIZE, LINE[leaf.infohash], PRICE)


def leaves(infohash: Infohash, count: int, paid_before: int = 0) -> list[Leaf]:
    """Pieces 2, 3, … of a torrent, bought one after the other."""
    return [
        Leaf(infohash, PieceIndex(2 + i), LINE[infohash], paid_before + PRICE * (i + 1)) for i in range(count)
    ]  # fmt: skip


def pack(listed: list[Leaf]) -> bytes:
    return b"".join(leaf.pack() for leaf in listed)


def epoch(number: int, listed: list[Leaf], totals: tuple[int, ...], before: int = 0) -> Receipt:
    """Signed by the payer. before: pieces in earlier epochs."""
    pieces = before + len(listed)
    root = merkle_root([leaf.digest(sold(leaf).hash) for leaf in listed])
    unsigned = Receipt(
        7, FUNDING.pack(), number, pieces, pieces * SIZE, root, totals, bytes(64), pack(listed)
    )  # fmt: skip
    return replace(unsigned, signature=PAYER.sign(CONTEXT.digest(unsigned)))


FIRST = leaves(FILM, EPOCH)
SECOND = [*leaves(SERIES, 3), *leaves(FILM, 67)[64:]]
EPOCHS = (epoch(1, FIRST, (195,)), epoch(2, SECOND, (204, 9), before=EPOCH))
PAID = (204, 9)


def build() -> Json:
    digests = [leaf.digest(sold(leaf).hash) for leaf in FIRST]
    return {
        "leaves": [entry(leaf) for leaf in (FIRST[0], FIRST[1], SECOND[0])],
        "trees": {str(count): merkle_root(digests[:count]).hex() for count in (1, 2, 3, 4, 5, 6, 7, 8, 63, 64)},
        "proofs": [
            {"leaves": count, "index": index, "proof": [step(one) for one in merkle_proof(digests[:count], index)]}
            for count, index in ((1, 0), (2, 1), (5, 4), (7, 2), (64, 41))
        ],
        "price": PRICE,
        "piece_length": SIZE,
        "paid": list(PAID),
        "epochs": [{"receipt": one.encode().hex(), "receipt_signed": answer(one).hex()} for one in EPOCHS],
    }


def entry(leaf: Leaf) -> Json:
    piece_hash = sold(leaf).hash
    return {
        "infohash": leaf.infohash.hex(),
        "piece": leaf.piece,
        "line": leaf.line,
        "total": leaf.total,
        "piece_hash": piece_hash.hex(),
        "bytes": leaf.pack().hex(),
        "digest": leaf.digest(piece_hash).hex(),
    }


def step(one: Step) -> Json:
    return {"beside": one.sibling.hex(), "side": "left" if one.left else "right"}


def answer(receipt: Receipt) -> bytes:
    unsigned = countersigned(receipt)
    return replace(unsigned, signature=PAYEE.sign(CONTEXT.digest(unsigned))).encode()
