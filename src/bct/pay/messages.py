"""bct_pay: the messages of the paid wire (a BEP 10 extension), and what their signatures cover.

A message is one type byte and then fixed big-endian fields in the order of its `LAYOUT`; a variable part carries its
length first. Lengths are checked before anything is built, trailing bytes are refused, and whatever the bytes, the
only error is RemoteProtocolError('bad-message'). Types from 0x80 on may be ignored by who does not know them; a lower
unknown one is an error.

Signed messages have a `signature`: 64 bytes compact low-S over sha256d of a tag, the type, the network, both sides'
random numbers and keys from the extended handshake, and the fields before the signature. So nothing signed on one
connection means anything on another.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from itertools import takewhile
from typing import Any, ClassVar, NamedTuple

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import sha256d
from bct.errors import RemoteProtocolError

EXTENSION = b"bct_pay"
VERSION = 1
MESSAGE_MAX = 1 << 20
CHUNK_SIZE = 32 * 1024
TOTALS_MAX = 64
LEAF_SIZE = 29
LEAVES_MAX = 64


class Codec(NamedTuple):
    """How one field is written, and read at an offset: (value, where it ends)."""

    write: Callable[[Any], bytes]
    read: Callable[[bytes, int], tuple[Any, int]]


def _fixed(size: int) -> Codec:
    def write(value: bytes) -> bytes:
        if len(value) != size:
            raise ValueError(f"{size} bytes wanted, got {len(value)}")
        return bytes(value)

    return Codec(write, lambda raw, at: (_take(raw, at, size), at + size))


def _number(size: int) -> Codec:
    return Codec(lambda n: n.to_bytes(size), lambda raw, at: (int.from_bytes(_take(raw, at, size)), at + size))


def _counted(width: int, limit: int) -> Codec:
    """Bytes behind their own length."""

    def read(raw: bytes, at: int) -> tuple[bytes, int]:
        size = int.from_bytes(_take(raw, at, width))
        if size > limit:
            raise _bad(f"a field of {size} bytes, at most {limit} are taken")
        return _take(raw, at + width, size), at + width + size

    return Codec(lambda value: len(value).to_bytes(width) + value, read)


def _numbers(width: int, limit: int) -> Codec:
    """A tuple of u32 behind its own count."""

    def read(raw: bytes, at: int) -> tuple[tuple[int, ...], int]:
        count = int.from_bytes(_take(raw, at, width))
        if count > limit:
            raise _bad(f"a list of {count}, at most {limit} are taken")
        at += width
        return struct.unpack(f">{count}I", _take(raw, at, 4 * count)), at + 4 * count

    return Codec(lambda values: len(values).to_bytes(width) + struct.pack(f">{len(values)}I", *values), read)


def _take(raw: bytes, at: int, size: int) -> bytes:
    if at + size > len(raw):
        raise _bad(f"ends {at + size - len(raw)} bytes early")
    return raw[at : at + size]


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-message", f"bct_pay: {text}")


U8, U16, U32, U64 = _number(1), _number(2), _number(4), _number(8)
HASH, KEY, NONCE, SIGNATURE, OUTPOINT, INFOHASH, DIGEST = map(_fixed, (20, 33, 16, 64, 36, 20, 32))
TERMS = _counted(2, 2048)
BITS = _counted(4, 1 << 18)
FUNDING = _counted(4, MESSAGE_MAX)
TEXT = _counted(2, 1024)
LEAVES = _counted(2, LEAVES_MAX * LEAF_SIZE)
PART = _counted(4, CHUNK_SIZE)
TOTALS = _numbers(1, TOTALS_MAX)
INDICES = _numbers(4, 1 << 18)

Layout = tuple[tuple[str, Codec], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all: `encode` and `decode` walk the same LAYOUT, so they cannot drift apart."""

    TYPE: ClassVar[int]
    LAYOUT: ClassVar[Layout]

    def body(self, before: str = "") -> bytes:
        """All fields, or those before the one named."""
        fields = takewhile(lambda field: field[0] != before, self.LAYOUT)
        return b"".join(codec.write(getattr(self, name)) for name, codec in fields)

    def encode(self) -> bytes:
        return bytes((self.TYPE,)) + self.body()


class CloseReason(IntEnum):
    DONE = 0
    IDLE = 1
    EXPIRY = 2
    SHUTDOWN = 3
    CAPACITY = 4
    FAULT = 5


class Refusal(IntEnum):
    """Why a payment was refused, by the reasons of `channel.payee`."""

    NOT_OPEN = 1
    BAD_LINE = 2
    NOT_RISING = 3
    OVER_CAPACITY = 4
    EXPOSURE = 5
    EXPIRING = 6
    BAD_SIGNATURE = 7
    UNKNOWN_HANDLE = 8

    @classmethod
    def of(cls, reason: str) -> Refusal:
        return cls[reason.replace("-", "_").upper()]


class Fault(IntEnum):
    """What CHANNEL_ERROR may say."""

    BAD_OPEN = 1
    FUNDING_REFUSED = 2
    FUNDING_CONFLICT = 3
    TRY_LATER = 4
    UNKNOWN_CHANNEL = 5
    BAD_RESUME = 6
    BAD_LINE = 7
    BAD_CLOSE = 8
    MOVED = 9  # resumed on another connection
    BAD_RECEIPT = 10  # the channel goes on


@dataclass(frozen=True, slots=True)
class OfferRequest(Message):
    TYPE = 0x01
    LAYOUT = (("infohash", INFOHASH),)
    infohash: bytes


@dataclass(frozen=True, slots=True)
class Offer(Message):
    """What this seeder takes for this torrent. Signed by the key of its handshake."""

    TYPE = 0x02
    LAYOUT = (
        ("terms", TERMS), ("payee", KEY), ("payout", HASH), ("fee_rate", U16), ("max_outputs", U8),
        ("capacity_min", U32), ("capacity_max", U32), ("idle", U32), ("nonce", NONCE), ("signature", SIGNATURE),
    )  # fmt: skip
    terms: bytes
    payee: bytes
    payout: bytes
    fee_rate: int
    max_outputs: int
    capacity_min: int
    capacity_max: int
    idle: int
    nonce: bytes
    signature: bytes = bytes(64)


@dataclass(frozen=True, slots=True)
class HaveMap(Message):
    """The true piece map; the bitfield of BEP 3 shows only what is free. bits: high bit first, spare bits zero."""

    TYPE = 0x03
    LAYOUT = (("bits", BITS),)
    bits: bytes


@dataclass(frozen=True, slots=True)
class HaveDelta(Message):
    TYPE = 0x04
    LAYOUT = (("pieces", INDICES),)
    pieces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChannelOpen(Message):
    """Signed by the payer key. funding: Atomic BEEF (BRC-95). Line 0 pays the offer's terms."""

    TYPE = 0x05
    LAYOUT = (
        ("handle", U32), ("nonce", NONCE), ("payer", KEY), ("vout", U32), ("expiry", U32), ("change", HASH),
        ("fee_rate", U16), ("max_outputs", U8), ("idle", U32), ("funding", FUNDING), ("signature", SIGNATURE),
    )  # fmt: skip
    handle: int
    nonce: bytes
    payer: bytes
    vout: int
    expiry: int
    change: bytes
    fee_rate: int
    max_outputs: int
    idle: int
    funding: bytes
    signature: bytes = bytes(64)


UNLIMITED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ChannelReady(Message):
    """cap: most satoshis this channel is good for until its funding is mined; UNLIMITED from then on."""

    TYPE = 0x06
    LAYOUT = (("handle", U32), ("cap", U32))
    handle: int
    cap: int


@dataclass(frozen=True, slots=True)
class AddLine(Message):
    TYPE = 0x07
    LAYOUT = (("handle", U32), ("line", U8), ("terms", TERMS))
    handle: int
    line: int
    terms: bytes


@dataclass(frozen=True, slots=True)
class LineAdded(Message):
    TYPE = 0x08
    LAYOUT = (("handle", U32), ("line", U8))
    handle: int
    line: int


@dataclass(frozen=True, slots=True)
class PiecePayment(Message):
    """74 bytes; 80 on the wire. The signature is the payer's on the commitment itself."""

    TYPE = 0x09
    LAYOUT = (("handle", U32), ("line", U8), ("total", U32), ("signature", SIGNATURE))
    handle: int
    line: int
    total: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class PaymentAck(Message):
    TYPE = 0x0A
    LAYOUT = (("handle", U32), ("totals", TOTALS))
    handle: int
    totals: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PaymentRefused(Message):
    """totals, last: what holds, and the payer's signature over it (zeros at totals 0)."""

    TYPE = 0x0B
    LAYOUT = (("handle", U32), ("reason", U8), ("totals", TOTALS), ("last", SIGNATURE))
    handle: int
    reason: int
    totals: tuple[int, ...]
    last: bytes


@dataclass(frozen=True, slots=True)
class Receipt(Message):
    """Signed by the payer key: so many pieces of `size` bytes in all have come over this channel since it was opened.

    root: of the Merkle tree over this epoch's leaves (`pay.receipts`). They stand behind the signature, since the root
    speaks for them: one can be shown later without the others.
    """

    TYPE = 0x0C
    LAYOUT = (
        ("handle", U32), ("outpoint", OUTPOINT), ("epoch", U32), ("pieces", U32), ("size", U64), ("root", DIGEST),
        ("totals", TOTALS), ("signature", SIGNATURE), ("leaves", LEAVES),
    )  # fmt: skip
    handle: int
    outpoint: bytes
    epoch: int
    pieces: int
    size: int
    root: bytes
    totals: tuple[int, ...]
    signature: bytes
    leaves: bytes


@dataclass(frozen=True, slots=True)
class ReceiptSigned(Message):
    """The same without the leaves, signed by the payee key."""

    TYPE = 0x0D
    LAYOUT = Receipt.LAYOUT[:-1]
    handle: int
    outpoint: bytes
    epoch: int
    pieces: int
    size: int
    root: bytes
    totals: tuple[int, ...]
    signature: bytes = bytes(64)


@dataclass(frozen=True, slots=True)
class Resume(Message):
    """Signed by the payer key: this connection takes the channel over."""

    TYPE = 0x0E
    LAYOUT = (("handle", U32), ("outpoint", OUTPOINT), ("signature", SIGNATURE))
    handle: int
    outpoint: bytes
    signature: bytes = bytes(64)


@dataclass(frozen=True, slots=True)
class Resumed(Message):
    """Signed by the payee key. last: the payer's signature over these totals. opened: pieces of this torrent."""

    TYPE = 0x0F
    LAYOUT = (
        ("handle", U32), ("cap", U32), ("totals", TOTALS), ("last", SIGNATURE), ("opened", INDICES),
        ("signature", SIGNATURE),
    )  # fmt: skip
    handle: int
    cap: int
    totals: tuple[int, ...]
    last: bytes
    opened: tuple[int, ...]
    signature: bytes = bytes(64)


@dataclass(frozen=True, slots=True)
class ChannelClose(Message):
    """Signed by who sends it. commitment: the payer's signature over these totals (zeros when the payee closes)."""

    TYPE = 0x10
    LAYOUT = (("handle", U32), ("reason", U8), ("totals", TOTALS), ("commitment", SIGNATURE), ("signature", SIGNATURE))
    handle: int
    reason: int
    totals: tuple[int, ...]
    commitment: bytes
    signature: bytes = bytes(64)


@dataclass(frozen=True, slots=True)
class ChannelClosed(Message):
    """commitment: the payee's signature over the newest totals, so that the payer can broadcast as well."""

    TYPE = 0x11
    LAYOUT = (("handle", U32), ("txid", DIGEST), ("commitment", SIGNATURE))
    handle: int
    txid: bytes
    commitment: bytes


@dataclass(frozen=True, slots=True)
class ChannelError(Message):
    """text: UTF-8 from a stranger; escaped wherever it is shown."""

    TYPE = 0x12
    LAYOUT = (("handle", U32), ("code", U8), ("fatal", U8), ("text", TEXT))
    handle: int
    code: int
    fatal: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Chunk(Message):
    """Part of a message longer than CHUNK_SIZE; the parts in order are the message. more: 0 on the last."""

    TYPE = 0x13
    LAYOUT = (("more", U8), ("part", PART))
    more: int
    part: bytes


MESSAGES: tuple[type[Message], ...] = (
    OfferRequest, Offer, HaveMap, HaveDelta, ChannelOpen, ChannelReady, AddLine, LineAdded, PiecePayment, PaymentAck,
    PaymentRefused, Receipt, ReceiptSigned, Resume, Resumed, ChannelClose, ChannelClosed, ChannelError, Chunk,
)  # fmt: skip
_BY_TYPE = {m.TYPE: m for m in MESSAGES}
_PAYMENT = struct.Struct(">BIBI64s")


def decode(raw: bytes) -> Message | None:
    """One message; None for an unknown type that may be ignored. Raises RemoteProtocolError('bad-message')."""
    if not raw:
        raise _bad("an empty message")
    if raw[0] == PiecePayment.TYPE and len(raw) == _PAYMENT.size:  # the hot path; the general one gives the same
        return PiecePayment(*_PAYMENT.unpack(raw)[1:])
    kind = _BY_TYPE.get(raw[0])
    if kind is None:
        if raw[0] >= 0x80:
            return None
        raise _bad(f"type {raw[0]:#04x} is unknown")
    at, fields = 1, []
    for _, codec in kind.LAYOUT:
        value, at = codec.read(raw, at)
        fields.append(value)
    if at != len(raw):
        raise _bad(f"{len(raw) - at} bytes follow a {kind.__name__}")
    return kind(*fields)


def chunked(message: bytes) -> list[bytes]:
    """The message itself, or the Chunk messages that carry it when it is longer than CHUNK_SIZE."""
    if len(message) <= CHUNK_SIZE:
        return [message]
    parts = [message[at : at + CHUNK_SIZE] for at in range(0, len(message), CHUNK_SIZE)]
    return [Chunk(int(i + 1 < len(parts)), part).encode() for i, part in enumerate(parts)]


class Joiner:
    """Puts chunks together again: at most MESSAGE_MAX bytes, each full but the last, nothing else in between."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def receive(self, raw: bytes) -> Message | None:
        """A whole message, or None while parts are missing or the type may be ignored."""
        message = decode(raw)
        if not isinstance(message, Chunk):
            if self._parts:
                raise _bad("another message between two chunks")
            return message
        if message.more and len(message.part) != CHUNK_SIZE:  # so that they are few
            raise _bad(f"a chunk that is not the last has {CHUNK_SIZE} bytes, got {len(message.part)}")
        self._parts.append(message.part)
        if sum(map(len, self._parts)) > MESSAGE_MAX or not message.part:
            raise _bad(f"chunks add up to more than {MESSAGE_MAX} bytes, or to nothing")
        if message.more:
            return None
        whole, self._parts = b"".join(self._parts), []
        if whole[:1] == bytes((Chunk.TYPE,)):
            raise _bad("a chunk inside a chunk")
        return decode(whole)


@dataclass(frozen=True, slots=True)
class Context:
    """What binds signatures to one connection: both sides' parts of the extended handshake."""

    network: Network
    viewer_random: bytes
    seeder_random: bytes
    viewer_key: bytes
    seeder_key: bytes

    def digest(self, message: Message) -> bytes:
        """What the signature of `message` covers: every field before it. `message.signature` itself is left out."""
        if not any(name == "signature" for name, _ in message.LAYOUT):
            raise ValueError(f"a {type(message).__name__} is not a signed message")
        return sha256d(
            b"bct_pay/1\0"
            + bytes((message.TYPE, self.network.value))
            + self.viewer_random
            + self.seeder_random
            + self.viewer_key
            + self.seeder_key
            + message.body(before="signature")
        )
