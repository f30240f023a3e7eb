"""Bencoding (BEP 3), canonical form only: one value has one spelling, so hashing what was re-encoded is safe.

Refused on reading: keys that do not rise, leading zeros, -0, bytes behind the value, and what a stranger could use to
make us work: too many bytes, nesting or values, integers of more than 64 bits.

Our own, since the libraries each lack something: libtorrent's reader takes unsorted keys and -0, fastbencode bounds no
nesting and cannot say where a value ends, which BEP 9 needs.
"""

from __future__ import annotations

import re

from bct.errors import RemoteProtocolError

type Value = int | bytes | list[Value] | dict[bytes, Value]

MAX_DEPTH = 32
MAX_VALUES = 250_000
"""An empty list takes two bytes on the wire and fifty in memory. A torrent of 30,000 files has this many values."""

_INTEGER = re.compile(rb"i(0|-?[1-9][0-9]{0,18})e")
_LENGTH = re.compile(rb"(0|[1-9][0-9]{0,8}):")


def encode(value: Value) -> bytes:
    """Keys are sorted here."""
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def _write(value: Value, parts: list[bytes]) -> None:
    match value:
        case int():
            parts.append(b"i%de" % value)
        case bytes():
            parts.append(b"%d:%b" % (len(value), value))
        case list():
            parts.append(b"l")
            for item in value:
                _write(item, parts)
            parts.append(b"e")
        case dict():
            parts.append(b"d")
            for key in sorted(value):
                _write(key, parts)
                _write(value[key], parts)
            parts.append(b"e")


def decode(raw: bytes, max_size: int) -> Value:
    """Exactly one value of at most `max_size` bytes. Raises RemoteProtocolError('bad-bencoding')."""
    value, end = decode_prefix(raw, max_size)
    if end != len(raw):
        raise _bad(f"{len(raw) - end} bytes follow the value")
    return value


def decode_dict(raw: bytes, max_size: int) -> dict[bytes, Value]:
    """As `decode`, and it must be a dictionary."""
    value = decode(raw, max_size)
    if not isinstance(value, dict):
        raise _bad(f"a dictionary was expected, not {type(value).__name__}")
    return value


def decode_prefix(raw: bytes, max_size: int) -> tuple[Value, int]:
    """The value that `raw` begins with, and where it ends (BEP 9 puts bytes behind one). Raises
    RemoteProtocolError('bad-bencoding')."""
    if len(raw) > max_size:
        raise _bad(f"{len(raw)} bytes where at most {max_size} are read")
    reader = _Reader(raw)
    return reader.read(0), reader.at


class _Reader:
    __slots__ = ("at", "raw", "values")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0
        self.values = 0

    def read(self, depth: int) -> Value:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            raise _bad(f"over {MAX_DEPTH} deep or over {MAX_VALUES} values, at byte {self.at}")
        match self.raw[self.at : self.at + 1]:
            case b"i":
                return self.read_integer()
            case b"l":
                return self.read_list(depth + 1)
            case b"d":
                return self.read_dict(depth + 1)
        return self.read_string()

    def read_integer(self) -> int:
        found = _INTEGER.match(self.raw, self.at)
        if not found:
            raise _bad(f"no canonical integer at byte {self.at}")
        self.at = found.end()
        return int(found[1])

    def read_string(self) -> bytes:
        found = _LENGTH.match(self.raw, self.at)
        if not found:
            raise _bad(f"no value at byte {self.at} of {len(self.raw)}")
        start, self.at = found.end(), found.end() + int(found[1])
        if self.at > len(self.raw):
            raise _bad(f"a string ends {self.at - len(self.raw)} bytes behind the last one")
        return self.raw[start : self.at]

    def read_list(self, depth: int) -> list[Value]:
        self.at += 1
        items = []
        while not self.ends():
            items.append(self.read(depth))
        return items

    def read_dict(self, depth: int) -> dict[bytes, Value]:
        self.at += 1
        items: dict[bytes, Value] = {}
        last: bytes | None = None
        while not self.ends():
            key = self.read_string()
            if last is not None and key <= last:
                raise _bad(f"key {key[:40]!r} comes after {last[:40]!r}")
            items[key] = self.read(depth)
            last = key
        return items

    def ends(self) -> bool:
        """Steps over the end of a list or dictionary when it is there."""
        if self.raw[self.at : self.at + 1] != b"e":
            return False
        self.at += 1
        return True


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-bencoding", f"not canonical bencoding: {text}")
