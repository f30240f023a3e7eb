"""The extended handshake (BEP 10): which extensions each side speaks, under which ids, and a few facts about itself.

Ids are per direction: each side chooses the ids under which it wants to *receive*. Fields that are missing, of the
wrong type or out of range count as not said (clients differ); only bytes that are no canonical dictionary end the
connection.

Trust: everything here is a claim. `metadata_size` and `reqq` bound what we ask for, never what we allocate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from bct.errors import RemoteProtocolError
from bct.torrent import bencode
from bct.torrent.bencode import Value

BCT_PAY = "bct_pay"
"""Both sides speaking this is what makes two peers bct peers."""
UT_METADATA = "ut_metadata"

MAX_HANDSHAKE = 16 * 1024
MAX_METADATA = 8 * 1024 * 1024
_MAX_EXTENSIONS = 64


@dataclass(frozen=True, slots=True)
class ExtendedHandshake:
    m: Mapping[str, int] = field(default_factory=dict)
    """Name of an extension → id under which the sender wants it; 0 takes an earlier one back."""
    v: str = ""
    """Client name and version: untrusted text."""
    p: int | None = None
    """TCP port the sender listens on."""
    reqq: int | None = None
    """Requests the sender lets wait unanswered."""
    yourip: bytes | None = None
    """The receiver's address as the sender sees it, 4 or 16 bytes."""
    metadata_size: int | None = None
    """Bytes of the info dictionary (BEP 9)."""
    upload_only: bool = False
    """The sender wants no pieces (BEP 21)."""
    bct: dict[bytes, Value] | None = None
    """What bct peers say about themselves; not looked into here."""

    def encode(self) -> bytes:
        """The payload of extended message 0."""
        said: dict[bytes, Value] = {b"m": {name.encode(): number for name, number in self.m.items()}}
        if self.v:
            said[b"v"] = self.v.encode()
        if self.upload_only:
            said[b"upload_only"] = 1
        numbers = {b"p": self.p, b"reqq": self.reqq, b"metadata_size": self.metadata_size}
        said.update({key: number for key, number in numbers.items() if number is not None})
        if self.yourip is not None:
            said[b"yourip"] = self.yourip
        if self.bct is not None:
            said[b"bct"] = self.bct
        return bencode.encode(said)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Raises RemoteProtocolError('bad-bencoding' or 'bad-extension')."""
        said = bencode.decode_dict(payload, MAX_HANDSHAKE)
        bct = said.get(b"bct")
        yourip = said.get(b"yourip")
        v = said.get(b"v")
        return cls(
            m=_extensions(said.get(b"m")),
            v=v[:64].decode(errors="replace") if isinstance(v, bytes) else "",
            p=_number(said, b"p", 0xFFFF),
            reqq=_number(said, b"reqq", 1_000_000),
            yourip=yourip if isinstance(yourip, bytes) and len(yourip) in (4, 16) else None,
            metadata_size=_number(said, b"metadata_size", MAX_METADATA),
            upload_only=_number(said, b"upload_only", 1) == 1,
            bct=bct if isinstance(bct, dict) else None,
        )


def _extensions(m: Value | None) -> dict[str, int]:
    if not isinstance(m, dict):
        return {}
    if len(m) > _MAX_EXTENSIONS:
        raise RemoteProtocolError("bad-extension", f"{len(m)} extensions named, at most {_MAX_EXTENSIONS} are read")
    return {
        name.decode(errors="replace"): number
        for name, number in m.items()
        if isinstance(number, int) and 0 <= number <= 0xFF
    }


def _number(said: dict[bytes, Value], key: bytes, most: int) -> int | None:
    number = said.get(key)
    return number if isinstance(number, int) and 0 < number <= most else None
