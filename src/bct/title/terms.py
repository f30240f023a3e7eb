"""What the creator of a torrent asks for it, signed: price, who gets which share, what is free, until when.

Who could cheat: a seeder that shows terms of its own, of another title, another network, or older ones that pay the
creator less; a viewer that shows the seeder terms with other payees. Both sides therefore run the same `check`
against the creator's key that came with the link, and against the highest sequence number they have seen for the
infohash. Nothing in the bytes is believed before the signature under that key holds.

On the wire, big-endian: version u8, network u8, infohash 20, price u32; payees: count u8, each hash 20 and basis
points u16; free ranges: count u8, each first piece u32 and count u32; sequence u32, valid from u32, valid until u32,
creator key 33, signature 64. One payee and one free range make 167 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import PrivateKey, sha256d, verify
from bct.errors import Action, ConfigError, LocalProtocolError, RemoteProtocolError
from bct.title.ranges import PieceRange
from bct.units import Infohash, Payees, PieceIndex, Satoshi

VERSION = 1
LONGEST_VALIDITY = 30 * 24 * 3600
"""Seconds. Terms are signed anew within it, so that a lost or leaked price dies by itself."""
MAX_FREE_RANGES = 8
MAX_SIZE = 553
"""Sixteen payees and eight free ranges."""

_TAG = b"bct_terms/1\0"
_HEAD = struct.Struct(">BB20sI")
_PAYEE = struct.Struct(">20sH")
_FREE = struct.Struct(">II")
_TAIL = struct.Struct(">III33s")
_SIGNATURE = 64


@dataclass(frozen=True, slots=True)
class Terms:
    """One torrent's terms. Raises ConfigError where no creator could mean them.

    Valid from `valid_from` until before `valid_until`, Unix seconds. A price of 0 satoshis a piece means that no
    payment channel is needed. `creator` is the compressed key, 33 bytes; `signature` is empty until `sign`.
    """

    network: Network
    infohash: Infohash
    price: Satoshi
    payees: Payees
    free: tuple[PieceRange, ...]
    sequence: int
    valid_from: int
    valid_until: int
    creator: bytes
    signature: bytes = b""

    def __post_init__(self) -> None:
        if len(self.infohash) != 20 or len(self.creator) != 33:
            raise ConfigError(f"an infohash has 20 bytes and a key 33, got {len(self.infohash)}, {len(self.creator)}")
        if not (0 <= self.price < 2**32 and 0 <= self.sequence < 2**32):
            raise ConfigError(f"price {self.price} and sequence {self.sequence} must fit 32 bits")
        if not 0 <= self.valid_from < self.valid_until < 2**32:
            raise ConfigError(f"terms cannot be valid from {self.valid_from} until {self.valid_until}")
        if self.valid_until - self.valid_from > LONGEST_VALIDITY:
            days = (self.valid_until - self.valid_from) / 86400
            raise ConfigError(f"terms are valid for at most 30 days and signed anew, got {days:.1f}")
        if len(self.free) > MAX_FREE_RANGES:
            raise ConfigError(f"terms name at most {MAX_FREE_RANGES} free ranges, got {len(self.free)}")
        if any(left.end >= right.first for left, right in pairwise(self.free)):
            raise ConfigError("free ranges are written in order, with at least one paid piece between two of them")

    def sign(self, key: PrivateKey) -> Terms:
        """The same terms with the creator's signature."""
        if key.public != self.creator:
            raise LocalProtocolError("terms are signed with the key that they name as the creator's")
        return replace(self, signature=key.sign(_digest(_body(self))))

    def is_free(self, piece: int) -> bool:
        return self.price == 0 or any(piece in free for free in self.free)

    def price_of(self, piece: PieceIndex) -> Satoshi:
        return Satoshi(0) if self.is_free(piece) else self.price

    def paid_in(self, pieces: PieceRange) -> int:
        """How many of `pieces` cost something."""
        if self.price == 0:
            return 0
        return pieces.count - sum(pieces.common(free) for free in self.free)

    def total(self, pieces: PieceRange) -> Satoshi:
        """What all of `pieces` cost."""
        return Satoshi(self.price * self.paid_in(pieces))

    def remaining(self, missing: Iterable[PieceIndex]) -> Satoshi:
        """What the pieces still missing cost: each once, wherever it is bought."""
        return Satoshi(sum(map(self.price_of, missing)))


def encode(terms: Terms) -> bytes:
    """Signed terms as they travel."""
    if len(terms.signature) != _SIGNATURE:
        raise LocalProtocolError("terms travel only when signed")
    return _body(terms) + terms.signature


def decode(data: bytes) -> Terms:
    """Inverse of `encode`; exactly these bytes. Shape only: `check` says whether they count. Raises
    RemoteProtocolError "bad-terms"."""
    if len(data) > MAX_SIZE:
        raise _bad(f"terms have at most {MAX_SIZE} bytes, got {len(data)}")
    try:
        return _parse(data)
    except struct.error:
        raise _bad(f"terms end early, after {len(data)} bytes") from None
    except ConfigError as error:
        raise _bad(str(error)) from None


def check(
    terms: Terms, *, creator: bytes, network: Network, infohash: Infohash, now: int, lowest_sequence: int = 0
) -> None:
    """Whether to deal under `terms`. Raises RemoteProtocolError with the first reason not to.

    creator: the key that came with the link. now: Unix seconds. lowest_sequence: the highest number seen so far.
    """
    if terms.creator != creator:
        raise RemoteProtocolError("wrong-creator", f"terms by {terms.creator.hex()}, the link says {creator.hex()}")
    if not verify(creator, _digest(_body(terms)), terms.signature):
        raise RemoteProtocolError("bad-signature", "the terms' signature is not their creator's")
    if terms.network is not network:
        raise RemoteProtocolError("wrong-network", f"terms for {terms.network.name}, this node runs {network.name}")
    if terms.infohash != infohash:
        raise RemoteProtocolError("wrong-title", f"terms for {terms.infohash.hex()}, asked for {infohash.hex()}")
    _check_time(terms, now)
    if terms.sequence < lowest_sequence:
        text = f"terms number {terms.sequence} are older than number {lowest_sequence}, which the creator signed too"
        raise RemoteProtocolError("old-sequence", text, Action.REFUSE)


def _check_time(terms: Terms, now: int) -> None:
    # A seeder that was offline shows stale terms in good faith: it is refused, not cut off.
    if now >= terms.valid_until:
        text = f"terms expired {now - terms.valid_until} s ago: the creator signs them anew"
        raise RemoteProtocolError("expired", text, Action.REFUSE)
    if now < terms.valid_from:
        text = f"terms begin in {terms.valid_from - now} s: one of the clocks is wrong"
        raise RemoteProtocolError("not-yet-valid", text, Action.REFUSE)


def _body(terms: Terms) -> bytes:
    return b"".join(
        (
            _HEAD.pack(VERSION, terms.network.value, terms.infohash, terms.price),
            terms.payees.pack(),
            bytes((len(terms.free),)),
            *(_FREE.pack(free.first, free.count) for free in terms.free),
            _TAIL.pack(terms.sequence, terms.valid_from, terms.valid_until, terms.creator),
        )
    )


def _parse(data: bytes) -> Terms:
    version, network, infohash, price = _HEAD.unpack_from(data)
    if version != VERSION:
        raise _bad(f"terms of version {version}, this node reads version {VERSION}")
    if network not in Network:
        raise _bad(f"there is no network number {network}")
    payees, at = _vector(data, _HEAD.size, _PAYEE)
    free, at = _vector(data, at, _FREE)
    sequence, valid_from, valid_until, creator = _TAIL.unpack_from(data, at)
    signature = data[at + _TAIL.size :]
    if len(signature) != _SIGNATURE:
        raise _bad(f"a signature has {_SIGNATURE} bytes, got {len(signature)}")
    return Terms(
        network=Network(network),
        infohash=Infohash(infohash),
        price=Satoshi(price),
        payees=Payees.of(*payees),
        free=tuple(PieceRange(PieceIndex(first), count) for first, count in free),
        sequence=sequence,
        valid_from=valid_from,
        valid_until=valid_until,
        creator=creator,
        signature=signature,
    )


def _vector(data: bytes, at: int, item: struct.Struct) -> tuple[list[tuple[Any, int]], int]:
    """A count byte and that many items; and where they end."""
    (count,) = struct.unpack_from(">B", data, at)
    return [item.unpack_from(data, at + 1 + i * item.size) for i in range(count)], at + 1 + count * item.size


def _digest(body: bytes) -> bytes:
    return sha256d(_TAG + body)


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-terms", text)
