"""Files of our own on a disk that may be damaged: the ledger, the wallet, a backup."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import struct
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from zipfile import ZipFile

from bct.backends import keyfile, ledger
from bct.backends.ledger import Ledger
from bct.bitcoin.chain import Network
from bct.cli import backup
from bct.errors import ConfigError, StoreError, WalletLockedError
from tests.fuzz.target import Target
from tests.vectors.wallet import WORDS


def _ledger(raw: bytes) -> None:
    """What is read back was written, from the beginning on and without a gap, and can be gone on from."""
    path = _folder() / "ledger"
    path.write_bytes(raw)
    first = asyncio.run(_reopened(path, b"after the damage"))
    assert asyncio.run(_reopened(path, b"")) == [*first, b"after the damage"]


async def _reopened(path: Path, append: bytes) -> list[bytes]:
    found: list[bytes] = []
    opened = Ledger.open(path, found.append)
    if append:
        await opened.wait(opened.append(append))
    await opened.close()
    return found


def _wallet(raw: bytes) -> None:
    """As it is; and, where it is JSON at all, with a checksum that holds, as somebody with the file would write it."""
    path = _folder() / "wallet.json"
    for text in (raw, _resealed(raw)):
        path.write_bytes(text)
        path.chmod(0o600)
        with suppress(ConfigError, StoreError, WalletLockedError):
            assert len(keyfile.load(path, Network.REGTEST).identity.secret) == 32


def _backup(raw: bytes) -> None:
    """Whatever is taken out of it is what its manifest says. Here that is never a wallet: it takes longest to read."""
    path = _folder() / "backup.zip"
    path.write_bytes(raw)
    with suppress(ConfigError):
        asyncio.run(backup.verify(path, ""))


def _resealed(raw: bytes) -> bytes:
    try:
        file = json.loads(raw)
        order = ("version", "network", "identity", "payee", "payout", "words", "sealed")
        body = {name: file["wallet"].get(name) for name in order}
        check = hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()
        return json.dumps({"wallet": body, "check": check}).encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return raw


@cache
def _folder() -> Path:
    """Gone with the process."""
    return Path(_kept().name)


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="bct-fuzz-")


def _ledgers() -> list[bytes]:
    """By hand, as the head of `backends.ledger` draws it, so that it is the same file each time."""
    written = struct.pack(">8sIQ16s", b"bctledgr", 1, 1, bytes(range(16)))
    check = _checksum(written)
    written += check
    for payload in (b"", b"a payment", bytes(range(256)), b"the last one"):
        head = struct.pack(">I", len(payload))
        check = _checksum(check + head + payload)
        written += head + payload + check
    return [written]


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def _wallets() -> list[bytes]:
    """One in clear; a sealed one takes a second to make, and is the same file but for its words."""
    path = _folder() / "new.json"
    path.unlink(missing_ok=True)
    keyfile.create(path, WORDS, Network.REGTEST)
    plain = path.read_bytes()
    sealed = json.loads(plain)
    sealed["wallet"] |= {"words": None, "sealed": {"salt": "A" * 22 + "==", "nonce": "A" * 16, "text": "AAAA"}}
    return [plain, _resealed(json.dumps(sealed).encode())]


def _backups() -> list[bytes]:
    content, packed = b"[wire]\n" * 20, io.BytesIO()
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {"version": 1, "network": "regtest", "made": 0, "files": {"config.toml": entry}}
    with ZipFile(packed, "w") as archive:
        archive.writestr("config.toml", content)
        archive.writestr("manifest.json", json.dumps(manifest))
    return [packed.getvalue()]


TARGETS: dict[str, Target] = {
    "ledger": Target(_ledger, _ledgers, (ledger,), refusals=(StoreError,), mutations=100),
    "backup": Target(_backup, _backups, (backup,), refusals=(StoreError,), mutations=300),
    "wallet-file": Target(_wallet, _wallets, (keyfile,), refusals=(), mutations=300),
}
