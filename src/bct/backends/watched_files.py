"""What a watchman apart holds, on disk: a file a channel, in a directory for each token.

    watched/<token's name>/<txid>.<index>.json

A file is replaced whole and is durable before the sender hears that it was taken.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from bct.backends import files
from bct.channel.watched import Watched, decode, encode
from bct.errors import RemoteProtocolError, StoreError
from bct.units import Outpoint, txid_hex

log = structlog.get_logger()


class WatchedFiles:
    """A `WatchedStore` below one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def load(self) -> list[tuple[str, Watched]]:
        return await asyncio.to_thread(self._load)

    async def put(self, owner: str, outpoint: Outpoint, watched: Watched) -> None:
        await asyncio.to_thread(self._put, self._path(owner, outpoint), encode(watched))

    async def drop(self, owner: str, outpoint: Outpoint) -> None:
        await asyncio.to_thread(self._drop, self._path(owner, outpoint))

    def _path(self, owner: str, outpoint: Outpoint) -> Path:
        return self._root / owner / f"{txid_hex(outpoint.txid)}.{outpoint.index}.json"

    def _load(self) -> list[tuple[str, Watched]]:
        found = []
        for path in sorted(self._root.glob("*/*.json")):
            try:
                found.append((path.parent.name, decode(path.read_bytes())))
            except (OSError, RemoteProtocolError) as error:
                log.error("not watched any more", file=str(path), text=str(error))
        return found

    @staticmethod
    def _put(path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.replace(path, data)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror}") from error

    @staticmethod
    def _drop(path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be removed: {error.strerror}") from error
