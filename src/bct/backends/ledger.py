"""The ledger: what a payee must not forget, at the speed of payments.

Trust: nobody but the disk can cheat here, and it does: it loses what was not synced, tears the last write, returns
blocks of an older file, and may fail a sync and then claim success. So a record counts only once `synced` has reached
it; each record's checksum covers the one before it, back to this file's random id; reading stops for good at the first
record that does not fit, and what lies behind it is put aside; and after one failed write the ledger takes no more.

One thread writes. While it waits for the disk, records gather, and the next sync covers them all: a sync costs about
the same for one record as for a thousand. After a sync it rests three milliseconds: on a disk that syncs faster,
a busy node would otherwise spend more on syncs than on payments. A record that comes to an idle ledger does not wait.

    header   magic 8 | version u32 | first sequence u64 | file id 16 | checksum 8          44 bytes
    record   payload length u32 | payload | checksum 8

Integers are big-endian. A checksum is BLAKE2b-64 of the checksum before it (of none, for the header) and of what
stands between. A record's sequence is the header's first one plus its place, so a file may continue another's count.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO, Protocol

from bct.backends import files
from bct.errors import LocalProtocolError, StoreError

VERSION = 1
MAX_PAYLOAD = 1 << 16

_BATCH = 1024
_REST = 0.003
"""Seconds."""
_MAGIC = b"bctledgr"
_HEADER = struct.Struct(">8sIQ16s")
_LENGTH = struct.Struct(">I")
_CHECK_SIZE = 8
_HEADER_SIZE = _HEADER.size + _CHECK_SIZE
_LONGEST = _CHECK_SIZE + _LENGTH.size + MAX_PAYLOAD + _CHECK_SIZE
_CHUNK = 1 << 20
_A_WAY_ON = "restore it from a backup, or move it away to start a new one, without what only it knew"


class Ledger:
    """An open ledger. `append`, `wait` and `close` belong to the event loop it was opened in."""

    def __init__(self, file: BinaryIO, found: _Found, cut: int, on_synced: Callable[[int], None] | None) -> None:
        """Use `open`."""
        self.appended = found.last
        """The sequence of the last record taken."""
        self.synced = found.last
        """The sequence of the last record that is certain to be read back after a power cut."""
        self.cut = cut
        """Bytes behind the last sound record, put aside when opening (see `cut_of`): a torn write, or damage."""
        self._file = file
        self._check = found.check
        self._on_synced = on_synced
        self._failure: StoreError | None = None
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._writer = threading.Thread(target=self._write_all, name="ledger", daemon=True)
        self._writer.start()

    @classmethod
    def open(
        cls,
        path: Path,
        replay: Callable[[bytes], None],
        on_synced: Callable[[int], None] | None = None,
    ) -> Ledger:
        """Opens, or creates, the ledger at `path`; each payload found goes to `replay` first, oldest first.

        `on_synced` is then called in the running loop with the last durable sequence, once for each sync. Blocks while
        it reads. Raises StoreError: the disk refuses, another process has it open, or it is no ledger of this version.
        """
        try:
            if not path.exists():
                files.create(path, _new_header())
            file = path.open("r+b", buffering=0)
        except OSError as error:
            raise StoreError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            _lock(file, path)
            found, cut = _recover(file, path, replay)
        except OSError as error:
            file.close()
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        except BaseException:
            file.close()
            raise
        return cls(file, found, cut, on_synced)

    def append(self, payload: bytes) -> int:
        """Hands a record to the writer, without waiting, and returns its sequence: see `synced`.

        Raises StoreError once a write has failed; nothing past `synced` may be believed from then on.
        """
        if self._failure:
            raise self._failure
        if len(payload) > MAX_PAYLOAD:
            raise LocalProtocolError(f"a ledger record holds at most {MAX_PAYLOAD} bytes, got {len(payload)}")
        self.appended += 1
        self._queue.put(payload)
        return self.appended

    async def wait(self, sequence: int) -> None:
        """Returns once the record is durable. Raises StoreError if it never will be."""
        if sequence > self.appended:
            raise LocalProtocolError(f"record {sequence} was never appended; the last one is {self.appended}")
        if sequence <= self.synced:
            return
        if self._failure:
            raise self._failure
        future = self._waiting.setdefault(sequence, self._loop.create_future())
        await asyncio.shield(future)  # several may wait for it; one that is cancelled does not cancel it for the rest

    async def close(self) -> None:
        """Syncs all that was appended, then lets the file go. Raises StoreError if that failed, now or before."""
        if self._writer.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(self._writer.join)
        await asyncio.sleep(0)  # what the writer had to say stands in the loop's queue before this
        self._file.close()
        if self._failure:
            raise self._failure

    def _write_all(self) -> None:
        written = self.synced
        closing = False
        while not closing:
            batch, closing = self._next_batch()
            try:
                self._commit(batch)
            except OSError as error:
                failure = StoreError(f"the ledger lost its disk after record {written}: {error.strerror}")
                self._loop.call_soon_threadsafe(self._fail, failure)
                return
            written += len(batch)
            self._loop.call_soon_threadsafe(self._advance, written)
            if len(batch) < _BATCH and not closing:
                time.sleep(_REST)

    def _next_batch(self) -> tuple[list[bytes], bool]:
        """What has gathered, one record at least and _BATCH at most, and whether the end was asked for."""
        batch: list[bytes] = []
        payload = self._queue.get()
        while payload is not None:
            batch.append(payload)
            if len(batch) == _BATCH:
                return batch, False
            try:
                payload = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[bytes]) -> None:
        parts: list[bytes] = []
        for payload in batch:
            record, self._check = _record(self._check, payload)
            parts.append(record)
        rest = memoryview(b"".join(parts))
        while rest:
            rest = rest[self._file.write(rest) :]  # near a full disk a write may be short; the next one says why
        os.fdatasync(self._file.fileno())

    def _advance(self, synced: int) -> None:
        before, self.synced = self.synced, synced
        for sequence in range(before + 1, synced + 1):
            if future := self._waiting.pop(sequence, None):
                future.set_result(None)
        if self._on_synced and synced > before:
            self._on_synced(synced)

    def _fail(self, failure: StoreError) -> None:
        self._failure = failure
        for future in self._waiting.values():
            future.set_exception(failure)
        self._waiting.clear()


def read(path: Path, replay: Callable[[bytes], None]) -> tuple[int, int]:
    """What `Ledger.open` would find, without touching the file: each payload goes to `replay`. (bytes of header and
    sound records, bytes behind them). A node may be writing to it meanwhile. Raises StoreError."""
    try:
        with path.open("rb", buffering=0) as file:
            found = _read(file, path, replay)
            return found.end, max(0, os.fstat(file.fileno()).st_size - found.end)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error


def copy(path: Path, out: Out) -> None:
    """Header and sound records, also while a node writes to the file. Raises StoreError when it is none, OSError."""
    with path.open("rb", buffering=0) as file:
        left = _read(file, path, lambda _: None).end
        file.seek(0)
        while left:
            chunk = file.read(min(left, _CHUNK))
            out.write(chunk)
            left -= len(chunk)


class Out(Protocol):
    """Where a copy goes."""

    def write(self, data: bytes, /) -> object: ...


def rewrite(path: Path, payloads: Iterable[bytes]) -> None:
    """The ledger at `path` holds just these records from now on or, after a crash, still all that it held. Nobody may
    have it open. Raises StoreError, and then it holds what it held."""
    draft = path.with_name(f"{path.name}.new")
    header = _new_header()
    check = header[-_CHECK_SIZE:]
    try:
        with path.open("r+b") as old, draft.open("wb") as file:
            _lock(old, path)
            draft.chmod(0o600)
            file.write(header)
            for payload in payloads:
                record, check = _record(check, payload)
                file.write(record)
            file.flush()
            os.fsync(file.fileno())
            os.replace(draft, path)
            files.sync_directory(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written anew: {error.strerror}") from error


def _new_header() -> bytes:
    head = _HEADER.pack(_MAGIC, VERSION, 1, secrets.token_bytes(16))
    return head + _checksum(head)


def _record(check: bytes, payload: bytes) -> tuple[bytes, bytes]:
    """The payload's record behind one with this checksum, and its own checksum."""
    framed = _LENGTH.pack(len(payload)) + payload
    check = _checksum(check + framed)
    return framed + check, check


def _checksum(data: bytes) -> bytes:
    return blake2b(data, digest_size=_CHECK_SIZE).digest()


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however it ends
    except BlockingIOError:
        raise StoreError(f"{path} is open in another node; stop that one first") from None
    if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise StoreError(f"{path} was written anew by another node at this moment; stop that one first")


@dataclass(frozen=True, slots=True)
class _Found:
    """What a file holds. check, last: checksum and sequence of the last sound record; end: where it ends."""

    check: bytes
    last: int
    end: int


def _recover(file: BinaryIO, path: Path, replay: Callable[[bytes], None]) -> tuple[_Found, int]:
    """What was found, and the bytes cut off behind it. Leaves the file at its end, and durable as it was read."""
    found = _read(file, path, replay)
    cut = os.fstat(file.fileno()).st_size - found.end
    file.seek(found.end)
    if cut > 0:
        files.replace(cut_of(path, found.last), file.read(cut))
        file.truncate(found.end)
        file.seek(found.end)
    os.fdatasync(file.fileno())  # a killed process leaves records that are in memory only
    return found, cut


def cut_of(path: Path, last: int) -> Path:
    """Where the bytes are kept that were found behind record `last` of a ledger and are not believed."""
    return path.with_name(f"{path.name}.cut-{last}")


def _read(file: BinaryIO, path: Path, replay: Callable[[bytes], None]) -> _Found:
    """Up to the first record that does not fit; what follows it is not looked at. A record's checksum covers the one
    that stands right in front of it, so all that it covers lies in one piece."""
    first, check = _read_header(file.read(_HEADER_SIZE), path)
    last, end, rest = first - 1, _HEADER_SIZE, check
    while len(rest) <= _LONGEST and (chunk := file.read(_CHUNK)):
        data, at = rest + chunk, _CHECK_SIZE
        while (begin := at + _LENGTH.size) <= len(data):
            stop = begin + int.from_bytes(data[at:begin])
            after = stop + _CHECK_SIZE
            if after > len(data):
                break
            check = data[stop:after]
            if blake2b(data[at - _CHECK_SIZE : stop], digest_size=_CHECK_SIZE).digest() != check:
                return _Found(data[at - _CHECK_SIZE : at], last, end)
            replay(data[begin:stop])
            last, end, at = last + 1, end + after - at, after
        rest = data[at - _CHECK_SIZE :]
    return _Found(rest[:_CHECK_SIZE], last, end)


def _read_header(raw: bytes, path: Path) -> tuple[int, bytes]:
    """(sequence of the first record, checksum)."""
    if len(raw) < _HEADER_SIZE or not raw.startswith(_MAGIC):
        raise StoreError(f"{path} is no ledger: {_A_WAY_ON}")
    head, check = raw[: _HEADER.size], raw[_HEADER.size :]
    _, version, first, _ = _HEADER.unpack(head)
    if version != VERSION:
        raise StoreError(f"{path} is a ledger of version {version}; this program knows version {VERSION}: update bct")
    if check != _checksum(head):
        raise StoreError(f"the first {_HEADER_SIZE} bytes of {path} are damaged: {_A_WAY_ON}")
    return first, check
