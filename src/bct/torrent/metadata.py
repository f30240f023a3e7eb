"""The info dictionary from peer to peer (BEP 9, `ut_metadata`), for those who came with a magnet link.

Trust: who asks gets what is public, but a bounded number of times. Who answers is asked for the whole dictionary
alone: if what it gave does not hash to the infohash, it lied, and nobody else is to blame. Nothing is allocated by the
size it claims, only by the bytes it sends.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from bct.errors import Action, RemoteProtocolError
from bct.torrent import bencode
from bct.torrent.bencode import Value
from bct.torrent.extension import MAX_METADATA
from bct.torrent.geometry import BLOCK_SIZE
from bct.units import Infohash

_MAX_HEAD = 1024
_ROUNDS = 2
"""Times one peer may have the whole dictionary."""
_WINDOW = 16
"""Parts asked for at a time: enough for the dictionary of a film in one round trip."""


@dataclass(frozen=True, slots=True)
class MetadataRequest:
    TYPE: ClassVar[int] = 0
    part: int

    def encode(self) -> bytes:
        return bencode.encode({b"msg_type": self.TYPE, b"piece": self.part})


@dataclass(frozen=True, slots=True)
class MetadataData:
    """16 KiB of the dictionary, less in the last part, behind its bencoded head."""

    TYPE: ClassVar[int] = 1
    part: int
    total_size: int
    data: bytes

    def encode(self) -> bytes:
        head: dict[bytes, Value] = {b"msg_type": self.TYPE, b"piece": self.part, b"total_size": self.total_size}
        return bencode.encode(head) + self.data


@dataclass(frozen=True, slots=True)
class MetadataReject:
    TYPE: ClassVar[int] = 2
    part: int

    def encode(self) -> bytes:
        return bencode.encode({b"msg_type": self.TYPE, b"piece": self.part})


type MetadataMessage = MetadataRequest | MetadataData | MetadataReject


def decode(payload: bytes) -> MetadataMessage | None:
    """None for a type nobody told us about. Raises RemoteProtocolError('bad-bencoding' or 'bad-metadata')."""
    head, end = bencode.decode_prefix(payload[: _MAX_HEAD + BLOCK_SIZE], _MAX_HEAD + BLOCK_SIZE)
    if not isinstance(head, dict) or len(payload) > end + BLOCK_SIZE:
        raise _bad(f"a message of {len(payload)} bytes is no dictionary with at most {BLOCK_SIZE} bytes behind it")
    part = _number(head, b"piece")
    match head.get(b"msg_type"):
        case MetadataRequest.TYPE:
            return MetadataRequest(part)
        case MetadataData.TYPE:
            return MetadataData(part, _number(head, b"total_size"), payload[end:])
        case MetadataReject.TYPE:
            return MetadataReject(part)
    return None


class MetadataServer:
    """Answers one peer's requests for our info dictionary, as often as it takes to fetch it twice."""

    __slots__ = ("_info_bytes", "_left")

    def __init__(self, info_bytes: bytes) -> None:
        self._info_bytes = info_bytes
        self._left = _ROUNDS * -(-len(info_bytes) // BLOCK_SIZE)

    def answer(self, request: MetadataRequest) -> MetadataData | MetadataReject:
        start = request.part * BLOCK_SIZE
        if start >= len(self._info_bytes) or self._left == 0:
            return MetadataReject(request.part)
        self._left -= 1
        return MetadataData(request.part, len(self._info_bytes), self._info_bytes[start : start + BLOCK_SIZE])


class MetadataFetch:
    """The whole info dictionary from one peer, which claims that it has `size` bytes."""

    __slots__ = ("_asked", "_infohash", "_parts", "_size")

    def __init__(self, infohash: Infohash, size: int) -> None:
        """size: the peer's `metadata_size`. Raises RemoteProtocolError('bad-metadata') when it cannot be so."""
        if not 0 < size <= MAX_METADATA:
            raise _bad(f"an info dictionary of {size} bytes; 1 to {MAX_METADATA} are read")
        self._infohash = infohash
        self._size = size
        self._asked = 0
        self._parts: dict[int, bytes] = {}

    def requests(self) -> list[MetadataRequest]:
        """What to ask for now: each part is named once, a window's worth ahead of what has come."""
        end = min(-(-self._size // BLOCK_SIZE), len(self._parts) + _WINDOW)
        asked, self._asked = self._asked, max(self._asked, end)
        return [MetadataRequest(part) for part in range(asked, end)]

    def receive(self, message: MetadataData) -> bytes | None:
        """Takes a part that was asked for. Returns the info dictionary when it is complete and true. Raises
        RemoteProtocolError('bad-metadata'), with Action.BAN when the peer gave a false dictionary."""
        part, size = message.part, min(BLOCK_SIZE, self._size - message.part * BLOCK_SIZE)
        if part >= self._asked or part in self._parts:
            raise _bad(f"part {part} came without having been asked for")
        if len(message.data) != size or message.total_size != self._size:
            raise _bad(f"part {part} has {len(message.data)} bytes of {message.total_size}, not {size} of {self._size}")
        self._parts[part] = message.data
        return self._judged() if len(self._parts) * BLOCK_SIZE >= self._size else None

    def _judged(self) -> bytes:
        info_bytes = b"".join(self._parts[part] for part in sorted(self._parts))
        found = hashlib.sha1(info_bytes, usedforsecurity=False).digest()
        if found != self._infohash:
            text = f"the info dictionary hashes to {found.hex()}, asked was {self._infohash.hex()}"
            raise RemoteProtocolError("bad-metadata", text, Action.BAN)
        return info_bytes


def _number(head: dict[bytes, Value], key: bytes) -> int:
    value = head.get(key)
    if not isinstance(value, int) or not 0 <= value <= MAX_METADATA:
        raise _bad(f"{key.decode()} is a number from 0 to {MAX_METADATA}, got {value!r:.40}")
    return value


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-metadata", text)
