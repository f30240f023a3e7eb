"""What a ledger tells of each payment channel, put together as it is read: the newest of everything.

A ledger of a million payments has to come back within seconds, so its commonest records are not made into objects:
`Replay.add` takes them apart and keeps what counts of them. Most of a ledger is of use for a while only: older totals,
and channels that are over for good. `Replay.shortened` tells what still counts in the fewest records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator

from bct.channel.transactions import Totals
from bct.pay import records
from bct.pay.records import (
    ONE_PIECE,
    PAID,
    PAID_FIELDS,
    PIECE_FIELDS,
    Bought,
    Lined,
    Opened,
    Paid,
    Pieces,
    Record,
    Reserved,
)
from bct.units import Infohash, Outpoint, Payees, PieceIndex

LONG = 1 << 20
"""Bytes below which a ledger is not worth shortening; then it is when that halves it."""


class Told:
    """One channel. lines: by number, from line 1 on. paid: by line, the newest total and the signature that came with
    it; the newest of all stands last. marks: what may be signed up to. pieces: opened, or bought, by (line, title,
    price)."""

    __slots__ = ("lines", "marks", "paid", "pieces")

    def __init__(self) -> None:
        self.lines: dict[int, Payees] = {}
        self.paid: dict[int, tuple[int, bytes]] = {}
        self.marks: Totals = (0,)
        self.pieces: defaultdict[tuple[int, Infohash, int], list[PieceIndex]] = defaultdict(list)

    @classmethod
    def of(cls, found: Iterable[Record]) -> Told:
        """Out of one channel's records, oldest first."""
        told = cls()
        for record in found:
            told.add(record)
        return told

    def add(self, record: Record) -> None:
        match record:
            case Paid(_, line, total, signature):
                self.pay(line, total, signature)
            case Opened(_, line, infohash, piece, price) | Bought(_, line, infohash, piece, price):
                self.pieces[line, infohash, price].append(piece)
            case Pieces(_, line, infohash, price, pieces):
                self.pieces[line, infohash, price].extend(pieces)
            case Reserved(_, marks):
                self.marks = marks
            case Lined(_, line, payees):  # maybe again: for a seeder that had lost it, or in place of one never sent
                self.lines[line] = payees

    def pay(self, line: int, total: int, signature: bytes) -> None:
        self.paid.pop(line, None)
        self.paid[line] = total, signature

    def records(self, outpoint: Outpoint) -> Iterator[Record]:
        """The fewest that tell the same of the channel."""
        for line, payees in self.lines.items():
            yield Lined(outpoint, line, payees)
        for line, (total, signature) in self.paid.items():
            yield Paid(outpoint, line, total, signature)
        if any(self.marks):
            yield Reserved(outpoint, self.marks)
        yield from self.purchases(outpoint)

    def purchases(self, outpoint: Outpoint) -> Iterator[Record]:
        """Those of the pieces alone."""
        for (line, infohash, price), pieces in self.pieces.items():
            for at in range(0, len(pieces), records.PIECES_MOST):
                yield Pieces(outpoint, line, infohash, price, tuple(pieces[at : at + records.PIECES_MOST]))


class Replay:
    """One ledger as it is read."""

    def __init__(self, payloads: Iterable[bytes] = ()) -> None:
        self._told: dict[bytes, Told] = {}
        self._size = 0
        for payload in payloads:
            self.add(payload)

    def add(self, payload: bytes) -> None:
        """The next record. Raises StoreError for one of a newer version."""
        size = len(payload)
        self._size += size
        outpoint = payload[1:37]
        told = self._told.get(outpoint)
        if told is None:
            told = self._told[outpoint] = Told()
        kind = payload[:1]
        if kind == PAID and size == PAID_FIELDS.size:
            _, _, line, total, signature = PAID_FIELDS.unpack(payload)
            told.pay(line, total, signature)
        elif kind in ONE_PIECE and size == PIECE_FIELDS.size:
            _, _, line, infohash, piece, price = PIECE_FIELDS.unpack(payload)
            told.pieces[line, infohash, price].append(piece)
        else:
            told.add(records.decode(payload))

    def channels(self) -> dict[Outpoint, Told]:
        return {Outpoint.unpack(outpoint): told for outpoint, told in self._told.items()}

    def shortened(self, over: Container[Outpoint], *, purchases: bool) -> list[bytes] | None:
        """The payloads that tell all that still counts; None when the ledger is short enough as it is. over: channels
        that are done with; purchases: what was bought over them counts all the same."""
        if self._size < LONG:
            return None
        left = [
            records.encode(record)
            for outpoint, told in self.channels().items()
            for record in _counting(outpoint, told, outpoint in over, purchases)
        ]
        return left if sum(map(len, left)) * 2 <= self._size else None


def _counting(outpoint: Outpoint, told: Told, is_over: bool, purchases: bool) -> Iterable[Record]:
    if not is_over:
        return told.records(outpoint)
    return told.purchases(outpoint) if purchases else ()
