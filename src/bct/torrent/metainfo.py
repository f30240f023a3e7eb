"""The metainfo file (BEP 3, v1; trackers as in BEP 12): read strictly, built canonically.

What identifies a torrent is the SHA-1 of the exact bytes of its info dictionary. Since only canonical bencoding is
read, re-encoding gives those bytes back.

Trust: the info dictionary comes from whoever made the torrent, by way of strangers. It is believed once its hash is the
infohash that was asked for, and even then it may be hostile: sizes are bounded, and a name that could leave the
directory it is put in is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bct.errors import RemoteProtocolError
from bct.torrent import bencode
from bct.torrent.bencode import Value
from bct.torrent.extension import MAX_METADATA
from bct.torrent.geometry import BLOCK_SIZE, Geometry
from bct.units import Infohash

MAX_FILE = MAX_METADATA + 1024 * 1024
"""Bytes of a .torrent file: the info dictionary and a megabyte for what stands around it."""
MAX_PIECE_LENGTH = 64 * 1024 * 1024
MAX_LENGTH = 1 << 50
_HASH = 20
_MAX_DEPTH = 32
_MAX_TRACKERS = 64


@dataclass(frozen=True, slots=True)
class File:
    """One file in a torrent. `path`: below the torrent's name; empty for the one file of a single-file torrent."""

    path: tuple[str, ...]
    length: int
    offset: int
    """Where it starts in the torrent, in bytes."""


@dataclass(frozen=True, slots=True)
class Metainfo:
    """A v1 torrent. `info_bytes` is what BEP 9 sends; `hashes` the SHA-1 of each piece, 20 bytes each, joined."""

    info_bytes: bytes
    infohash: Infohash
    name: str
    geometry: Geometry
    hashes: bytes
    files: tuple[File, ...]
    private: bool = False
    """BEP 27: peers come from the trackers only."""
    trackers: tuple[tuple[str, ...], ...] = ()
    """Addresses by tier (BEP 12): untrusted text."""

    @property
    def length(self) -> int:
        """Bytes of all files together."""
        return self.geometry.length

    @property
    def piece_length(self) -> int:
        return self.geometry.piece_length

    def piece_hash(self, index: int) -> bytes:
        return self.hashes[index * _HASH : (index + 1) * _HASH]

    @classmethod
    def from_info(cls, info_bytes: bytes, trackers: tuple[tuple[str, ...], ...] = ()) -> Metainfo:
        """From the info dictionary alone. Raises RemoteProtocolError('bad-bencoding' or 'bad-metainfo')."""
        info = bencode.decode_dict(info_bytes, MAX_METADATA)
        name = _safe_name(_bytes(info, b"name"))
        files = _files(info)
        geometry = _geometry(sum(file.length for file in files), _int(info, b"piece length"))
        hashes = _bytes(info, b"pieces")
        if len(hashes) != geometry.count * _HASH:
            raise _bad(f"{len(hashes)} bytes of hashes for {geometry.count} pieces of {_HASH} bytes each")
        infohash = Infohash(hashlib.sha1(info_bytes, usedforsecurity=False).digest())
        return cls(info_bytes, infohash, name, geometry, hashes, files, info.get(b"private") == 1, trackers)

    @classmethod
    def from_file(cls, raw: bytes) -> Metainfo:
        """From a .torrent file. Raises RemoteProtocolError('bad-bencoding' or 'bad-metainfo')."""
        outer = bencode.decode_dict(raw, MAX_FILE)
        info = outer.get(b"info")
        if not isinstance(info, dict):
            raise _bad("there is no info dictionary")
        return cls.from_info(bencode.encode(info), _trackers(outer))

    def to_file(self) -> bytes:
        """A .torrent file."""
        outer: dict[bytes, Value] = {b"info": bencode.decode(self.info_bytes, MAX_METADATA)}
        if self.trackers:
            outer[b"announce"] = self.trackers[0][0].encode()
            outer[b"announce-list"] = [[url.encode() for url in tier] for tier in self.trackers]
        return bencode.encode(outer)


def build_info(name: str, length: int, piece_length: int, hashes: Iterable[bytes]) -> bytes:
    """The info dictionary of one file; `hashes`: the SHA-1 of its pieces in order. `Metainfo.from_info` judges it."""
    info: dict[bytes, Value] = {
        b"length": length,
        b"name": name.encode(),
        b"piece length": piece_length,
        b"pieces": b"".join(hashes),
    }
    return bencode.encode(info)


def _geometry(length: int, piece_length: int) -> Geometry:
    if not 0 < length <= MAX_LENGTH:
        raise _bad(f"{length} bytes in all; 1 to {MAX_LENGTH} are read")
    if not BLOCK_SIZE <= piece_length <= MAX_PIECE_LENGTH or piece_length % BLOCK_SIZE:
        raise _bad(f"piece length {piece_length}; read are multiples of {BLOCK_SIZE} up to {MAX_PIECE_LENGTH}")
    return Geometry(length, piece_length)


def _files(info: dict[bytes, Value]) -> tuple[File, ...]:
    if b"files" not in info:
        return (File((), _int(info, b"length"), 0),)
    files: list[File] = []
    offset = 0
    for entry in _list(info, b"files"):
        if not isinstance(entry, dict):
            raise _bad("a file is a dictionary")
        file = File(_path(_list(entry, b"path")), _int(entry, b"length"), offset)
        files.append(file)
        offset += file.length
    _check_distinct([file.path for file in files])
    return tuple(files)


def _path(parts: Sequence[Value]) -> tuple[str, ...]:
    if not 1 <= len(parts) <= _MAX_DEPTH:
        raise _bad(f"a path of {len(parts)} names; 1 to {_MAX_DEPTH} are read")
    return tuple(_safe_name(part) for part in parts)


def _check_distinct(paths: Sequence[tuple[str, ...]]) -> None:
    """No file twice, and none where a directory is needed."""
    directories = {path[:depth] for path in paths for depth in range(1, len(path))}
    if len(set(paths)) != len(paths) or directories.intersection(paths):
        raise _bad("two files of the torrent have the same place")


def _safe_name(raw: Value) -> str:
    """One name of a path, on every system: no separator, drive or control character, not the directory itself or the
    one above."""
    if not isinstance(raw, bytes) or not 1 <= len(raw) <= 255:
        raise _bad("a name has 1 to 255 bytes")
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise _bad(f"the name {raw[:40]!r} is not UTF-8") from None
    if name in (".", "..") or any(c in "/\\:\x7f" or c < " " for c in name):
        raise _bad(f"the name {name[:40]!r} could lead out of its directory")
    return name


def _trackers(outer: dict[bytes, Value]) -> tuple[tuple[str, ...], ...]:
    """Those that can be read; a torrent with an odd tracker is still a torrent."""
    tiers = outer.get(b"announce-list")
    if not isinstance(tiers, list):
        tiers = [[outer.get(b"announce", b"")]]
    read = (
        tuple(u.decode(errors="replace") for u in t if isinstance(u, bytes) and u) for t in tiers if isinstance(t, list)
    )
    return tuple(tier for tier in read if tier)[:_MAX_TRACKERS]


def _int(entry: dict[bytes, Value], key: bytes) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or value < 0:
        raise _bad(f"{key.decode()} is a number from 0 up")
    return value


def _bytes(entry: dict[bytes, Value], key: bytes) -> bytes:
    value = entry.get(key)
    if not isinstance(value, bytes):
        raise _bad(f"{key.decode()} is a string of bytes")
    return value


def _list(entry: dict[bytes, Value], key: bytes) -> list[Value]:
    value = entry.get(key)
    if not isinstance(value, list):
        raise _bad(f"{key.decode()} is a list")
    return value


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-metainfo", f"not a torrent that is read here: {text}")
