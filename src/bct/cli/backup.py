"""`bct backup` and `bct restore`: what a node must not lose, in one file.

Trust: who reads a backup has what lies in the data directory: the words, sealed if they are sealed there and in clear
if not, and with clear words the money. So it is its owner's alone (mode 0600). It counts when each file in it has the
size and SHA-256 that the manifest says and this program can read them all; it names no paths.

    ZIP        wallet.json, config.toml, bct.db, payee.ledger, payer.ledger (those that are there), manifest.json
    manifest   {"version": 1, "network": "regtest", "made": Unix seconds, "files": {name: {"size": …, "sha256": hex}}}

A node may run meanwhile: the database is copied as it is at one moment, and then each ledger up to its last sound
record, so that what the database knows of a channel the ledgers know, too. Films are not in it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import msgspec

from bct.backends import database, files, keyfile, ledger
from bct.backends.database import Database
from bct.bitcoin.chain import Network
from bct.channel.state import FINAL_STATES
from bct.cli import recovery
from bct.cli.home import Home
from bct.errors import ConfigError, StoreError
from bct.pay.replay import Replay

VERSION = 1
_MANIFEST = "manifest.json"
_CHUNK = 1 << 20


class _Entry(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class _Manifest(msgspec.Struct, frozen=True):
    version: int
    network: str
    made: int
    files: dict[str, _Entry]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a node would come back with. made: Unix seconds. sealed: the words were not read, for want of their
    passphrase. earning, spending: payment channels that are not over. bought: pieces."""

    made: int
    network: str
    sealed: bool
    earning: int
    spending: int
    titles: int
    bought: int


# -- making one -------------------------------------------------------------------------------------------------------


def write(home: Home, network: Network, file: Path) -> None:
    """A backup in a new file. Raises ConfigError, StoreError."""
    home.check()
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as out:
            _write(home, network, out)
            out.flush()
            os.fsync(out.fileno())
        os.link(draft, file)  # unlike a rename, refuses to take the place of an older backup
        files.sync_directory(file.absolute().parent)
    except FileExistsError:
        raise ConfigError(f"{file} is there already: choose another name") from None
    except OSError as error:
        raise StoreError(f"the backup {file} cannot be made: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _write(home: Home, network: Network, out: BinaryIO) -> None:
    entries = {}
    with ZipFile(out, "w") as archive:
        for path, copy in _copies(home):
            if path.exists():
                with archive.open(path.name, "w", force_zip64=True) as member:
                    measured = _Measured(member.write)
                    copy(path, measured)
                entries[path.name] = measured.entry
        manifest = _Manifest(VERSION, network.name.lower(), int(time.time()), entries)
        archive.writestr(_MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def _copies(home: Home) -> list[tuple[Path, Callable[[Path, ledger.Out], object]]]:
    """What is kept, in this order, and how it is copied."""
    return [
        (home.wallet, lambda path, out: out.write(path.read_bytes())),
        (home.config, lambda path, out: out.write(path.read_bytes())),
        (home.database, lambda path, out: out.write(database.copy(path))),
        (home.earned, ledger.copy),
        (home.spent, ledger.copy),
    ]


class _Measured:
    """Passes on what is written, and counts it."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._size = 0
        self._hash = sha256()

    def write(self, data: bytes, /) -> None:
        self._size += len(data)
        self._hash.update(data)
        self._write(data)

    @property
    def entry(self) -> _Entry:
        return _Entry(self._size, self._hash.hexdigest())


# -- reading one ------------------------------------------------------------------------------------------------------


async def verify(file: Path, passphrase: str) -> Contents:
    """Takes everything out into a place that is swept afterwards, and reads it as a node would. Raises StoreError,
    ConfigError, AuthError."""
    with tempfile.TemporaryDirectory(prefix="bct-verify-") as directory:
        return await _take_out(file, Home(Path(directory)), passphrase)


async def restore(home: Home, file: Path, passphrase: str) -> Contents:
    """A data directory out of a backup, or nothing at all. Raises ConfigError when there is one already, StoreError,
    AuthError."""
    if home.root.exists() and any(home.root.iterdir()):
        raise ConfigError(f"{home.root} is not empty: move it away first, or choose another --data-dir")
    with _drafted(home) as draft:
        contents = await _take_out(file, draft, passphrase)
        draft.make()
        draft.restored.touch(mode=0o600)
        for path in (*draft.root.iterdir(), draft.root):
            _sync(path)
        draft.root.rename(home.root)
        files.sync_directory(home.root.parent)
    return contents


@contextmanager
def _drafted(home: Home) -> Iterator[Home]:
    """A directory beside the one to be, gone in the end unless it was moved there."""
    draft = home.root.with_name(f".{home.root.name}.{secrets.token_hex(8)}")
    try:
        draft.mkdir(mode=0o700, parents=True)
        yield Home(draft)
    except OSError as error:
        raise StoreError(f"{home.root} cannot be made: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _take_out(file: Path, home: Home, passphrase: str) -> Contents:
    try:
        with ZipFile(file) as archive:
            manifest = _manifest(archive)
            for name, entry in manifest.files.items():
                _extract(archive, name, entry, home.root / name)
    except OSError as error:
        raise StoreError(f"{file} cannot be taken out, or is damaged: {error.strerror}") from error
    except (BadZipFile, KeyError, ValueError, EOFError, RuntimeError, zlib.error) as error:  # all that zipfile raises
        raise StoreError(f"{file} is no backup of bct, or damaged: {error}") from None
    return await _read(home, manifest, passphrase)


def _manifest(archive: ZipFile) -> _Manifest:
    manifest = msgspec.json.decode(archive.read(_member(archive, _MANIFEST)), type=_Manifest)
    if manifest.version != VERSION:
        raise StoreError(f"this backup has version {manifest.version}; this program knows {VERSION}: update bct")
    if manifest.network.upper() not in Network.__members__:
        raise ValueError(f"there is no network {manifest.network!r}")
    known = {path.name for path, _ in _copies(Home(Path()))}
    if unknown := manifest.files.keys() - known:
        raise ValueError(f"it holds {', '.join(sorted(unknown))}")
    return manifest


def _member(archive: ZipFile, name: str) -> ZipInfo:
    """Not packed, as `write` leaves it: so nothing is taken out that is larger than the backup itself."""
    member = archive.getinfo(name)
    if member.compress_type != ZIP_STORED:
        raise ValueError(f"{name} in it is packed")
    return member


def _extract(archive: ZipFile, name: str, entry: _Entry, target: Path) -> None:
    with (
        archive.open(_member(archive, name)) as member,
        open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out,
    ):
        measured = _Measured(out.write)
        while chunk := member.read(_CHUNK):
            measured.write(chunk)
    if measured.entry != entry:
        raise ValueError(f"{name} is not what its manifest says")


async def _read(home: Home, manifest: _Manifest, passphrase: str) -> Contents:
    """Everything that a node reads at its start. Raises StoreError, ConfigError, AuthError."""
    keyring = keyfile.load(home.wallet, Network[manifest.network.upper()], passphrase)
    replays = {path: Replay() for path in (home.earned, home.spent)}
    for path, replay in replays.items():
        if path.exists() and ledger.read(path, replay.add)[1]:
            raise StoreError(f"{path.name} in the backup is damaged")
    opened = await Database.open(home.database)
    try:
        await recovery.check_owner(keyring, opened.channels)
        payees, payers = await opened.channels.payees(), await opened.channels.payers()
        titles = await opened.titles.titles()
    finally:
        await opened.close()
    return Contents(
        made=manifest.made,
        network=manifest.network,
        sealed=keyring.locked,
        earning=sum(saved.state not in FINAL_STATES for saved in payees),
        spending=sum(saved.state not in FINAL_STATES for saved in payers),
        titles=len(titles),
        bought=sum(len(found) for told in replays[home.spent].channels().values() for found in told.pieces.values()),
    )
