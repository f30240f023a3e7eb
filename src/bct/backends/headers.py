"""Our own copy of the block headers: kept in step with whoever shows them, and on disk.

Trust: `bitcoin.header_chain` judges every header; what it refuses is an error that names the source, and changes
nothing. The file is ours and is judged again when it is read; a torn or foreign one is fetched anew. It has 80 bytes
for each block from the pinned one on, and of those before only as far down as a proof ever reached: never more than 80
bytes for each block there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from bct.backends import files
from bct.backends.header_sources import HeaderSource
from bct.bitcoin.chain import Header
from bct.bitcoin.header_chain import DEEPEST, HeaderChain
from bct.bitcoin.headers import SIZE, Rules
from bct.errors import ChainError, RemoteProtocolError, StoreError

_HEAD = 4  # bytes of the file before the headers: the height of the first
_STEP = 10_000  # headers fetched at a time on the way down: as many as WhatsOnChain puts into a file


class Headers:
    """The best chain that the source shows. file: where they are kept."""

    def __init__(self, rules: Rules, source: HeaderSource, file: Path) -> None:
        """Raises StoreError."""
        self._source = source
        self._file = file
        self._chain = _read(rules, file)
        self._met = False
        self._syncing = asyncio.Lock()
        self._descending = asyncio.Lock()

    @property
    def name(self) -> str:
        return self._source.name

    async def sync(self) -> Header:
        """The tip, after the source was asked for news. Raises ChainError."""
        async with self._syncing:
            first, raws = await self._source.newest()
            self._met = True
            if self._chain.joins(first, raws):
                self._extend(first, raws)
            else:
                await self._catch_up(first + len(raws) - 1)
            tip = self._chain.header(self._chain.height)
        assert tip
        return tip

    async def header(self, height: int) -> Header | None:
        """None above the tip, as of the last `sync`. Below what is held, those in between are fetched. Raises
        ChainError."""
        if not self._met:
            await self.sync()
        if height > self._chain.height:
            return None
        if not self._chain.covers(height):
            await self._descend(height)
        return self._chain.header(height)

    def height_of(self, block_hash: bytes) -> int | None:
        """Of a block in the best chain, as far as it is held."""
        return self._chain.height_of(block_hash)

    async def _catch_up(self, newest: int) -> None:
        """From a block that both have, or from the beginning, up to the source's newest."""
        if self._chain.height < self._chain.base:
            at = await self._begin()
        else:
            at = max(self._chain.base, min(newest, self._chain.height) + 1 - DEEPEST)
        raws: list[bytes] = []
        while at + len(raws) <= newest:
            raws += await self._source.headers(at + len(raws))
            if self._extend(at, raws):  # else what has come of a branch has less work so far
                at, raws = at + len(raws), []

    async def _begin(self) -> int:
        """Fetches what holds the pinned block. The height after it."""
        rules = self._chain.rules
        raws: list[bytes] = []
        while rules.start + len(raws) <= rules.pinned[0]:
            raws += await self._source.headers(rules.start + len(raws))
        try:
            self._chain.begin(rules.start, raws)
        except RemoteProtocolError as error:
            raise self._refused(error) from error
        self._rewrite()
        return self._chain.height + 1

    def _extend(self, first: int, raws: Sequence[bytes]) -> bool:
        """Whether the tip is another one now."""
        try:
            changed = self._chain.extend(first, raws)
        except RemoteProtocolError as error:
            raise self._refused(error) from error
        if changed:
            self._write(first)
        return changed

    async def _descend(self, height: int) -> None:
        """Downwards from the lowest one held, each step bound to it by its hashes."""
        async with self._descending:
            try:
                while not self._chain.covers(height):
                    self._chain.extend_down(await self._below(self._chain.base))
            except RemoteProtocolError as error:
                raise self._refused(error) from error
            finally:
                self._rewrite()

    async def _below(self, base: int) -> list[bytes]:
        """Headers that end right below `base`."""
        first = (base - 2) // _STEP * _STEP + 1 if base > 1 else 0
        raws: list[bytes] = []
        while first + len(raws) < base:
            raws += await self._source.headers(first + len(raws))
        return raws[: base - first]

    def _refused(self, error: RemoteProtocolError) -> ChainError:
        return ChainError(f"{self.name} shows headers that cannot be: {error}")

    # -- the file -----------------------------------------------------------------------------------------------------

    def _write(self, height: int) -> None:
        """What has changed from here on."""
        try:
            with self._file.open("r+b") as file:
                file.seek(_HEAD + (height - self._chain.base) * SIZE)
                file.write(self._chain.raw(height))
                file.truncate()
        except OSError as error:
            raise self._unwritten(error) from error

    def _rewrite(self) -> None:
        base = self._chain.base
        try:
            files.replace(self._file, base.to_bytes(_HEAD, "little") + self._chain.raw(base))
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> ChainError:
        return ChainError(f"the block headers cannot be kept in {self._file}: {error.strerror}")


def _read(rules: Rules, file: Path) -> HeaderChain:
    """What was kept; nothing when there is no such file, or not the right one. Raises StoreError."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return HeaderChain(rules)
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror}") from error
    whole = content[: _HEAD + (len(content) - _HEAD) // SIZE * SIZE]
    try:
        return HeaderChain(rules, int.from_bytes(whole[:_HEAD], "little"), whole[_HEAD:])
    except RemoteProtocolError:
        return HeaderChain(rules)
