"""Quantities that would cost money to mix up, and the one place that rounds.

Bytes stay bytes inside the program; hex belongs to the edges (`Outpoint.parse`, `str(outpoint)`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NewType

from bct.errors import ConfigError

Satoshi = NewType("Satoshi", int)
BasisPoints = NewType("BasisPoints", int)
PieceIndex = NewType("PieceIndex", int)
Infohash = NewType("Infohash", bytes)
"""20 bytes, SHA-1 of the bencoded info dictionary (BEP 3)."""
Txid = NewType("Txid", bytes)
"""32 bytes in the order they stand inside a transaction; `txid_hex` gives the reversed order that people read."""
PubKeyHash = NewType("PubKeyHash", bytes)
"""20 bytes, RIPEMD-160 of SHA-256 of a compressed public key."""

WHOLE: BasisPoints = BasisPoints(10_000)


def txid_hex(txid: Txid) -> str:
    """The id as block explorers and the node's RPC write it."""
    return txid[::-1].hex()


def txid_from_hex(text: str) -> Txid:
    """Inverse of `txid_hex`. Raises ConfigError unless it is 64 hex digits."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise ConfigError(f"a transaction id is 64 hex digits, got {text[:70]!r}") from None
    if len(raw) != 32:
        raise ConfigError(f"a transaction id is 64 hex digits, got {len(text)}")
    return Txid(raw[::-1])


@dataclass(frozen=True, slots=True, order=True)
class Outpoint:
    """One output of one transaction, as a transaction input names it (36 bytes on the wire)."""

    txid: Txid
    index: int

    def pack(self) -> bytes:
        return self.txid + struct.pack("<I", self.index)

    @classmethod
    def unpack(cls, raw: bytes) -> Outpoint:
        """Exactly 36 bytes; the caller has checked the length."""
        return cls(Txid(raw[:32]), struct.unpack_from("<I", raw, 32)[0])

    @classmethod
    def parse(cls, text: str) -> Outpoint:
        """``txid:index`` as people write it. Raises ConfigError."""
        txid, _, index = text.partition(":")
        if not (index.isdecimal() and len(index) <= 10 and int(index) < 1 << 32):
            raise ConfigError(f"an outpoint is written txid:index, got {text[:90]!r}")
        return cls(txid_from_hex(txid), int(index))

    def __str__(self) -> str:
        return f"{txid_hex(self.txid)}:{self.index}"


@dataclass(frozen=True, slots=True)
class Split:
    """Who gets which part of one line's total: the only place in bct that rounds money.

    Shares are basis points of 10,000; what the creators leave is the seeder's. Each creator's share is the difference
    of two rounded-down running sums. Rounding each share by itself would make the newest commitment pay the seeder
    less than an older one at some totals, and a seeder would then settle the older one; with running sums the
    seeder's part never falls while the total rises.
    """

    shares: tuple[BasisPoints, ...]
    _upto: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.shares) <= 16:
            raise ConfigError(f"a split names 1 to 16 creators, got {len(self.shares)}")
        if any(not 0 < share <= WHOLE for share in self.shares):
            raise ConfigError(f"each share is 1 to 10000 basis points, got {list(self.shares)}")
        if sum(self.shares) > WHOLE:
            raise ConfigError(f"shares add up to at most 10000 basis points, got {sum(self.shares)}")
        object.__setattr__(self, "_upto", tuple(accumulate(self.shares)))

    def of(self, total: int) -> tuple[list[int], int]:
        """(each creator's satoshis in order, the seeder's). They add up to `total` exactly."""
        creators, before = [], 0
        for upto in self._upto:
            bound = total * upto // WHOLE
            creators.append(bound - before)
            before = bound
        return creators, total - before


@dataclass(frozen=True, slots=True)
class Payees:
    """Who the creators of a title are and what part each gets: one line of a payment channel.

    Two titles with equal Payees share a line. Travels as a count byte, then 22 bytes each: hash, basis points
    (big-endian).
    """

    hashes: tuple[PubKeyHash, ...]
    split: Split

    def __post_init__(self) -> None:
        if len(self.hashes) != len(self.split.shares):
            raise ConfigError(f"{len(self.hashes)} payees and {len(self.split.shares)} shares")
        if any(len(h) != 20 for h in self.hashes):
            raise ConfigError("a payee is the 20-byte hash of a public key")
        if len(set(self.hashes)) != len(self.hashes):
            raise ConfigError("a payee is named once: add its shares up")

    @classmethod
    def of(cls, *payees: tuple[bytes, int]) -> Payees:
        """From (hash, basis points) pairs. Raises ConfigError for shares or hashes that cannot be."""
        return cls(tuple(PubKeyHash(h) for h, _ in payees), Split(tuple(BasisPoints(b) for _, b in payees)))

    def pack(self) -> bytes:
        pairs = zip(self.hashes, self.split.shares, strict=True)
        return bytes((len(self.hashes),)) + b"".join(h + struct.pack(">H", share) for h, share in pairs)

    @classmethod
    def unpack(cls, raw: bytes) -> Payees:
        """Inverse of `pack`, exactly these bytes. Raises ConfigError."""
        if not raw or len(raw) != 1 + 22 * raw[0]:
            raise ConfigError(f"{len(raw)} bytes are no vector of payees")
        return cls.of(*(struct.unpack_from(">20sH", raw, at) for at in range(1, len(raw), 22)))
