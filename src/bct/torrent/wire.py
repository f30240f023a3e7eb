"""The peer wire's words as bytes and back: the handshake, the messages of BEP 3 and BEP 6, BEP 10's envelope.

A message travels as a frame: u32 length, u8 id, body; all numbers big-endian. Each message is a frozen dataclass with
`encode` (the whole frame) and `decode` (the body alone) side by side. Whether a message makes sense now is for
`connection` to say; here only its shape is judged.

Trust: every byte is a stranger's. A decoder raises RemoteProtocolError and nothing else, and allocates nothing that
the bytes it was given do not pay for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from bct.errors import RemoteProtocolError
from bct.torrent.geometry import BLOCK_SIZE, Block

type Buffer = bytes | bytearray | memoryview

PROTOCOL = b"\x13BitTorrent protocol"
HANDSHAKE_SIZE = 68
KEEP_ALIVE = bytes(4)

LARGE_BLOCK_SIZE = 256 * 1024
"""Bytes one request may ask for between two bct peers: a piece in one message."""
MAX_BITFIELD = 64 * 1024
"""Bytes: 524,288 pieces, more than an info dictionary of 8 MiB has room to hash."""
MAX_EXTENDED = 1024 * 1024 + 64 * 1024
"""Bytes of one extended message: a funding transaction with its ancestors (1 MiB) and what stands around it."""

_U32 = struct.Struct(">I")
_HEAD = struct.Struct(">IB")
_INDEX = struct.Struct(">IBI")
_RANGE = struct.Struct(">IBIII")
_PIECE = struct.Struct(">IBII")
_PORT = struct.Struct(">IBH")
_TWO = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Handshake:
    """The first 68 bytes each way (BEP 3). `reserved` says what else the sender speaks."""

    infohash: bytes
    peer_id: bytes
    reserved: bytes = b"\0\0\0\0\0\x10\0\x04"

    @property
    def extended(self) -> bool:
        """BEP 10."""
        return bool(self.reserved[5] & 0x10)

    @property
    def fast(self) -> bool:
        """BEP 6."""
        return bool(self.reserved[7] & 0x04)

    def encode(self) -> bytes:
        return PROTOCOL + self.reserved + self.infohash + self.peer_id

    @classmethod
    def decode(cls, raw: Buffer) -> Self:
        """Exactly 68 bytes. Raises RemoteProtocolError('bad-handshake')."""
        raw = bytes(raw)
        if len(raw) != HANDSHAKE_SIZE:
            raise RemoteProtocolError("bad-handshake", f"a handshake has {HANDSHAKE_SIZE} bytes, got {len(raw)}")
        if raw[:20] != PROTOCOL:
            raise RemoteProtocolError("bad-handshake", f"a handshake begins with {PROTOCOL!r}, got {raw[:20]!r}")
        return cls(raw[28:48], raw[48:68], raw[20:28])


@dataclass(frozen=True, slots=True)
class _Bare:
    """A message that is its id."""

    ID: ClassVar[int]

    def encode(self) -> bytes:
        return _HEAD.pack(1, self.ID)

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        _expect(cls.__name__, body, 0)
        return cls()


@dataclass(frozen=True, slots=True)
class _Indexed:
    """A message that names one piece."""

    ID: ClassVar[int]
    index: int

    def encode(self) -> bytes:
        return _INDEX.pack(5, self.ID, self.index)

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        _expect(cls.__name__, body, 4)
        return cls(_U32.unpack(body)[0])


@dataclass(frozen=True, slots=True)
class _Ranged:
    """A message that names one block."""

    ID: ClassVar[int]
    block: Block

    def encode(self) -> bytes:
        return _RANGE.pack(13, self.ID, *self.block)

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        _expect(cls.__name__, body, 12)
        return cls(Block(*struct.unpack(">III", body)))


@dataclass(frozen=True, slots=True)
class Choke(_Bare):
    ID = 0


@dataclass(frozen=True, slots=True)
class Unchoke(_Bare):
    ID = 1


@dataclass(frozen=True, slots=True)
class Interested(_Bare):
    ID = 2


@dataclass(frozen=True, slots=True)
class NotInterested(_Bare):
    ID = 3


@dataclass(frozen=True, slots=True)
class Have(_Indexed):
    ID = 4


@dataclass(frozen=True, slots=True)
class Bitfield:
    """All the sender's pieces at once; `PieceMap.from_bytes` reads it, once the number of pieces is known."""

    ID: ClassVar[int] = 5
    bits: bytes

    def encode(self) -> bytes:
        return _HEAD.pack(1 + len(self.bits), self.ID) + self.bits

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        return cls(bytes(body))


@dataclass(frozen=True, slots=True)
class Request(_Ranged):
    ID = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One block, in spite of BEP 3's name for it. `data` read from the wire is a view of what was read."""

    ID: ClassVar[int] = 7
    index: int
    begin: int
    data: Buffer

    def encode(self) -> bytes:
        return piece_header(self.index, self.begin, len(self.data)) + self.data

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        if len(body) < 9:
            raise RemoteProtocolError("bad-message", f"a piece message of {len(body)} bytes carries no data")
        index, begin = _TWO.unpack_from(body)
        return cls(index, begin, body[8:])


def piece_header(index: int, begin: int, length: int) -> bytes:
    """What goes before the data of a `Piece`, so that the data itself need not be copied."""
    return _PIECE.pack(9 + length, Piece.ID, index, begin)


@dataclass(frozen=True, slots=True)
class Cancel(_Ranged):
    ID = 8


@dataclass(frozen=True, slots=True)
class Port:
    """Where the sender's DHT node listens (BEP 5)."""

    ID: ClassVar[int] = 9
    port: int

    def encode(self) -> bytes:
        return _PORT.pack(3, self.ID, self.port)

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        _expect(cls.__name__, body, 2)
        return cls(int.from_bytes(body))


@dataclass(frozen=True, slots=True)
class Suggest(_Indexed):
    """BEP 6: a piece the sender would like to be asked for."""

    ID = 13


@dataclass(frozen=True, slots=True)
class HaveAll(_Bare):
    """BEP 6, in place of a bitfield."""

    ID = 14


@dataclass(frozen=True, slots=True)
class HaveNone(_Bare):
    """BEP 6, in place of a bitfield."""

    ID = 15


@dataclass(frozen=True, slots=True)
class Reject(_Ranged):
    """BEP 6: this request will not be answered."""

    ID = 16


@dataclass(frozen=True, slots=True)
class AllowedFast(_Indexed):
    """BEP 6: a piece that may be asked for while choked."""

    ID = 17


@dataclass(frozen=True, slots=True)
class Extended:
    """BEP 10's envelope: id 0 is the extended handshake, others were named by the receiver in its own."""

    ID: ClassVar[int] = 20
    extension: int
    payload: bytes

    def encode(self) -> bytes:
        return _HEAD.pack(2 + len(self.payload), self.ID) + bytes((self.extension,)) + self.payload

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        if not body:
            raise RemoteProtocolError("bad-message", "an extended message without its id")
        return cls(body[0], bytes(body[1:]))


type Message = (
    Choke
    | Unchoke
    | Interested
    | NotInterested
    | Have
    | Bitfield
    | Request
    | Piece
    | Cancel
    | Port
    | Suggest
    | HaveAll
    | HaveNone
    | Reject
    | AllowedFast
    | Extended
)

_BARE = (Choke, Unchoke, Interested, NotInterested, HaveAll, HaveNone)
_INDEXED = (Have, Suggest, AllowedFast)
_RANGED = (Request, Cancel, Reject)
_DECODERS = {m.ID: m.decode for m in (*_BARE, *_INDEXED, *_RANGED, Bitfield, Piece, Port, Extended)}

MAX_FRAMES: dict[int, int] = {
    **{m.ID: 1 for m in _BARE},
    **{m.ID: 5 for m in _INDEXED},
    **{m.ID: 13 for m in _RANGED},
    Port.ID: 3,
    Bitfield.ID: 1 + MAX_BITFIELD,
    Piece.ID: 9 + LARGE_BLOCK_SIZE,
    Extended.ID: MAX_EXTENDED,
}
"""Longest frame of each id, the id byte included and the length field not."""


def frame_size(data: Buffer, at: int) -> int:
    """Bytes of the frame that starts at `at`, the length field included, as far as can be told yet: when fewer are
    there than this says, it is not whole. Judged as soon as the id is there, before room is made for the rest. An id
    that is not in `MAX_FRAMES` will be skipped, but may be no longer than a block either. Raises
    RemoteProtocolError('too-long')."""
    there = len(data) - at
    if there < 5:
        return 5 if there == 4 and any(data[at : at + 4]) else 4
    length: int
    length, kind = _HEAD.unpack_from(data, at)
    longest = MAX_FRAMES.get(kind, BLOCK_SIZE)
    if length > longest:
        raise RemoteProtocolError("too-long", f"message {kind} of {length} bytes, at most {longest} are read")
    return 4 + length


def decode(kind: int, body: memoryview) -> Message | None:
    """The message in a frame: its id and what follows the id. None for an id nobody told us about, to be skipped.
    Raises RemoteProtocolError('bad-message')."""
    decoder = _DECODERS.get(kind)
    return decoder(body) if decoder else None


def _expect(name: str, body: memoryview, length: int) -> None:
    if len(body) != length:
        raise RemoteProtocolError("bad-message", f"{name} has {length} bytes behind its id, got {len(body)}")
