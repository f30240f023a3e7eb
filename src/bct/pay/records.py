"""What the two ledgers hold: one record a decision that money hangs on.

Payee: `Paid`, `Opened`, `Lined`. Payer: `Reserved`, `Bought`, `Lined`. In either, once it was shortened: `Pieces`. A
record names its payment channel by the outpoint and can be read alone; the newest record about a thing wins. First byte
the kind, then big-endian fields.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bct.channel.transactions import Totals
from bct.errors import ConfigError, StoreError
from bct.units import Infohash, Outpoint, Payees, PieceIndex

PAID_FIELDS = struct.Struct(">B36sBI64s")
PIECE_FIELDS = struct.Struct(">B36sB20sII")
PAID, ONE_PIECE = b"\1", (b"\2", b"\3")
"""Kinds whose fields `replay` reads by itself."""
_MARKS = struct.Struct(">B36sB")
_PIECES = struct.Struct(">B36sB20sIH")
PIECES_MOST = 8192
"""Of one record."""


@dataclass(frozen=True, slots=True)
class Paid:
    """The payee accepted this total, signed by the payer."""

    outpoint: Outpoint
    line: int
    total: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The payee gave the piece out for `price` satoshis of the line."""

    outpoint: Outpoint
    line: int
    infohash: Infohash
    piece: PieceIndex
    price: int


@dataclass(frozen=True, slots=True)
class Bought:
    """The payer signed `price` satoshis for the piece."""

    outpoint: Outpoint
    line: int
    infohash: Infohash
    piece: PieceIndex
    price: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """The payer may sign up to these totals."""

    outpoint: Outpoint
    marks: Totals


@dataclass(frozen=True, slots=True)
class Lined:
    """The channel has a further line, agreed by both sides."""

    outpoint: Outpoint
    line: int
    payees: Payees


@dataclass(frozen=True, slots=True)
class Pieces:
    """Many `Opened`, or many `Bought`, by whose ledger it is."""

    outpoint: Outpoint
    line: int
    infohash: Infohash
    price: int
    pieces: tuple[PieceIndex, ...]


Record = Paid | Opened | Bought | Reserved | Lined | Pieces


def encode(record: Record) -> bytes:
    match record:
        case Paid(outpoint, line, total, signature):
            return PAID_FIELDS.pack(1, outpoint.pack(), line, total, signature)
        case Opened(outpoint, line, infohash, piece, price):
            return PIECE_FIELDS.pack(2, outpoint.pack(), line, infohash, piece, price)
        case Bought(outpoint, line, infohash, piece, price):
            return PIECE_FIELDS.pack(3, outpoint.pack(), line, infohash, piece, price)
        case Reserved(outpoint, marks):
            return _MARKS.pack(4, outpoint.pack(), len(marks)) + struct.pack(f">{len(marks)}I", *marks)
        case Lined(outpoint, line, payees):
            return _MARKS.pack(5, outpoint.pack(), line) + payees.pack()
        case Pieces(outpoint, line, infohash, price, pieces):
            head = _PIECES.pack(6, outpoint.pack(), line, infohash, price, len(pieces))
            return head + struct.pack(f">{len(pieces)}I", *pieces)


def decode(payload: bytes) -> Record:
    """Inverse of `encode`. Raises StoreError: the ledger's checksums hold, so this is a newer version's record."""
    try:
        match payload[:1]:
            case b"\1":
                _, outpoint, line, total, signature = PAID_FIELDS.unpack(payload)
                return Paid(Outpoint.unpack(outpoint), line, total, signature)
            case b"\2":
                return Opened(*_piece(payload))
            case b"\3":
                return Bought(*_piece(payload))
            case b"\4":
                _, outpoint, count = _MARKS.unpack_from(payload)
                marks = struct.unpack(f">{count}I", payload[_MARKS.size :])
                return Reserved(Outpoint.unpack(outpoint), marks)
            case b"\5":
                _, outpoint, line = _MARKS.unpack_from(payload)
                return Lined(Outpoint.unpack(outpoint), line, Payees.unpack(payload[_MARKS.size :]))
            case b"\6":
                _, outpoint, line, infohash, price, count = _PIECES.unpack_from(payload)
                pieces = tuple(map(PieceIndex, struct.unpack(f">{count}I", payload[_PIECES.size :])))
                return Pieces(Outpoint.unpack(outpoint), line, Infohash(infohash), price, pieces)
    except (struct.error, ConfigError):
        pass
    raise StoreError(f"a ledger record of kind {payload[:1].hex()} and {len(payload)} bytes: made by a newer bct?")


def _piece(payload: bytes) -> tuple[Outpoint, int, Infohash, PieceIndex, int]:
    _, outpoint, line, infohash, piece, price = PIECE_FIELDS.unpack(payload)
    return Outpoint.unpack(outpoint), line, Infohash(infohash), PieceIndex(piece), price
