"""Pieces on disk: one sparse file a torrent, and beside it the marks of what is known to be sound in it.

    <root>/<infohash, 40 hex digits>/data      the torrent's bytes, holes where pieces are missing
    <root>/<infohash, 40 hex digits>/marks     b"bctmark1" | bitfield (BEP 3) | BLAKE2b-64 of both

Trust: peers name nothing here; the path is made of the infohash alone. The caller has hashed a piece before it writes
it. The disk may lose whatever was not synced, so `sync` makes the data durable first and marks it after; a mark
therefore never runs ahead of its piece. What lies in the file without a mark (written after the last sync, then a
crash) is hashed again when the file is opened, and that is all that has to be.

Pieces are read through a map of the file, so that they go from the page cache to the socket; its price is that a disk
that cannot read a sector ends the process, where a plain read would have raised an error.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from hashlib import blake2b, sha1
from pathlib import Path

from bct.backends import files
from bct.errors import ConfigError, StoreError
from bct.torrent.geometry import PieceMap
from bct.torrent.metainfo import Metainfo
from bct.torrent.wire import Buffer
from bct.units import PieceIndex

_MAGIC = b"bctmark1"
_CHECK_SIZE = 8
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskStores:
    """The `PieceStores` below `root`. incoming: the folder that the owner puts files into, or links them."""

    def __init__(self, root: Path, incoming: Path) -> None:
        self._root = root
        self._incoming = incoming

    def open(self, metainfo: Metainfo) -> DiskStore:
        return DiskStore.open(self._root, metainfo)

    def adopt(self, metainfo: Metainfo, name: str) -> DiskStore:
        """Raises ConfigError for a name that would lead out of the folder, and as `DiskStore.adopt`."""
        if name in ("", ".", "..") or name != Path(name).name:
            raise ConfigError(f"{name!r} is not the name of a file in {self._incoming}")
        return DiskStore.adopt(self._root, metainfo, self._incoming / name)


class DiskStore:
    """A `PieceStore`. `write` may run beside `read` and `sync` in other threads, but not beside itself."""

    def __init__(self, directory: Path, metainfo: Metainfo, pieces: PieceMap, descriptor: int) -> None:
        """Use `open` or `adopt`."""
        self.pieces = pieces
        """What can be read."""
        self._directory = directory
        self._metainfo = metainfo
        self._geometry = metainfo.geometry
        self._descriptor = descriptor
        self._view = memoryview(mmap.mmap(descriptor, metainfo.length, access=mmap.ACCESS_READ))

    @classmethod
    def open(cls, root: Path, metainfo: Metainfo) -> DiskStore:
        """The torrent's place below `root`, made if need be; hashes what a crash left unmarked, so it may take a while.

        Raises StoreError when the disk refuses or has no room for the pieces that are missing.
        """
        directory = root / metainfo.infohash.hex()
        try:
            marked = _read_marks(directory, metainfo)
            store = cls(directory, metainfo, marked, _open_data(directory, metainfo.length))
            store._find_unmarked()
        except OSError as error:
            raise StoreError(f"{directory} cannot be opened: {error.strerror}") from error
        store._check_room()
        return store

    @classmethod
    def adopt(cls, root: Path, metainfo: Metainfo, source: Path) -> DiskStore:
        """Takes in a file that holds the whole torrent, without a copy where source and root share a file system.

        Nobody may write to `source` afterwards: it is the same file then, and shortening a mapped file kills the
        process that reads it. Raises StoreError when the disk refuses or the file is not this torrent's.
        """
        source, directory = source.resolve(), root / metainfo.infohash.hex()
        whole = PieceMap(metainfo.geometry.count, full=True)
        try:
            _check_file(source, metainfo)
            _take(source, directory)
            store = cls(directory, metainfo, whole, _open_data(directory, metainfo.length))
        except OSError as error:
            raise StoreError(f"{source} cannot be taken into {directory}: {error.strerror}") from error
        store.sync()
        return store

    def read(self, index: PieceIndex) -> memoryview:
        """The bytes of a piece in `pieces`, not copied: they are read from disk as they are sent."""
        offset = self._geometry.offset(index)
        return self._view[offset : offset + self._geometry.size(index)]

    def write(self, index: PieceIndex, data: Buffer) -> None:
        """Keeps a piece whose hash the caller has checked. A piece that is here already is left alone: it may be on its
        way to a peer. Raises StoreError."""
        if index in self.pieces:
            return
        rest, offset = memoryview(data), self._geometry.offset(index)
        try:
            while rest:
                size = os.pwrite(self._descriptor, rest, offset)
                rest, offset = rest[size:], offset + size
        except OSError as error:
            raise self._refused(error, f"piece {index}", len(rest)) from error
        self.pieces.add(index)

    def sync(self) -> None:
        """Makes durable what was written, then marks it. Blocks for as long as the disk takes. Raises StoreError."""
        written = _MAGIC + self.pieces.to_bytes()  # taken first: what arrives during the sync waits for the next one
        try:
            os.fdatasync(self._descriptor)
            files.replace(self._directory / "marks", written + _checksum(written))
        except OSError as error:
            raise self._refused(error, "what was written", 0) from error

    def close(self) -> None:
        """Syncs and lets go. Views that are still on their way to peers stay valid: the map goes with the last one."""
        try:
            self.sync()
        finally:
            os.close(self._descriptor)
            self._view = memoryview(b"")

    def _find_unmarked(self) -> None:
        """Takes up what was written after the last sync and is sound all the same."""
        for index in map(PieceIndex, range(self.pieces.count)):
            if index not in self.pieces and self._has_data(index) and self._is_sound(index):
                self.pieces.add(index)

    def _is_sound(self, index: PieceIndex) -> bool:
        # Not through the map: to touch a hole in it on a full tmpfs kills the process.
        data = os.pread(self._descriptor, self._geometry.size(index), self._geometry.offset(index))
        return _sha1(data) == self._metainfo.piece_hash(index)

    def _has_data(self, index: int) -> bool:
        """Whether anything was ever written to the piece; a file system without holes says yes for each."""
        offset = self._geometry.offset(index)
        try:
            return os.lseek(self._descriptor, offset, os.SEEK_DATA) < offset + self._geometry.size(index)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here to the end
                return False
            raise

    def _check_room(self) -> None:
        needed = sum(self._geometry.size(index) for index in range(self.pieces.count) if index not in self.pieces)
        lacking = needed - _free(self._directory)
        if lacking > 0:
            self.close()
            raise StoreError(f"{self._directory} is to take {needed} bytes more: its disk lacks {lacking} of them")

    def _refused(self, error: OSError, what: str, size: int) -> StoreError:
        if error.errno in _FULL:
            missing = max(size - _free(self._directory), 1)
            return StoreError(f"the disk of {self._directory} is full: {what} needs {missing} bytes more")
        return StoreError(f"{what} cannot be kept in {self._directory}: {error.strerror}")


def _open_data(directory: Path, length: int) -> int:
    if not directory.exists():
        directory.mkdir(parents=True)
        files.sync_directory(directory.parent)
    descriptor = os.open(directory / "data", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if os.fstat(descriptor).st_size != length:
            os.ftruncate(descriptor, length)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(source: Path, metainfo: Metainfo) -> None:
    if source.stat().st_size != metainfo.length:
        raise StoreError(f"{source} has {source.stat().st_size} bytes, the torrent {metainfo.length}")
    with source.open("rb") as file:
        for index in range(metainfo.geometry.count):
            if _sha1(file.read(metainfo.piece_length)) != metainfo.piece_hash(index):
                raise StoreError(f"{source} is not what the torrent names: piece {index} differs")


def _take(source: Path, directory: Path) -> None:
    data = directory / "data"
    if data.exists() and data.samefile(source):
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "marks").unlink(missing_ok=True)  # they speak of other bytes
    data.unlink(missing_ok=True)
    try:
        os.link(source, data)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, data)


def _read_marks(directory: Path, metainfo: Metainfo) -> PieceMap:
    """The marked pieces; none when the marks, or the file they speak of, are missing or damaged."""
    marks = directory / "marks"
    count = metainfo.geometry.count
    if not marks.exists():
        return PieceMap(count)
    raw = marks.read_bytes()
    written, check = raw[:-_CHECK_SIZE], raw[-_CHECK_SIZE:]
    if _holds(directory / "data", metainfo.length) and written.startswith(_MAGIC) and check == _checksum(written):
        return PieceMap.from_bytes(written[len(_MAGIC) :], count)
    marks.unlink()  # before there is a new file that they might be taken to speak of
    files.sync_directory(directory)
    return PieceMap(count)


def _holds(data: Path, length: int) -> bool:
    return data.exists() and data.stat().st_size == length


def _checksum(data: bytes) -> bytes:
    return blake2b(data, digest_size=_CHECK_SIZE).digest()


def _sha1(data: bytes) -> bytes:
    return sha1(data, usedforsecurity=False).digest()


def _free(directory: Path) -> int:
    """Bytes that this user may still write."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize
