"""One machine's disk: what it keeps when the power goes, and what it has not written yet.

A ledger's records are durable a few milliseconds after they were appended; when the power goes in between, some of the
last ones are there and the rest is not. A database's change takes a moment before and a moment after. Pieces last once
they were synced.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from bct.errors import StoreError
from bct.pay import records
from bct.pay.records import Record
from bct.torrent.geometry import PieceMap
from bct.torrent.metainfo import Metainfo
from bct.torrent.wire import Buffer
from bct.units import Infohash, PieceIndex
from tests.nodes import MemoryStore
from tests.sim.power import Power

type Pieces = dict[PieceIndex, bytes]


@dataclass
class Disk:
    """What lasts. incoming: files ready to be published, by name."""

    earned: list[bytes] = field(default_factory=list)
    spent: list[bytes] = field(default_factory=list)
    books: MemoryStore = field(default_factory=MemoryStore)
    pieces: dict[Infohash, Pieces] = field(default_factory=dict)
    incoming: dict[str, bytes] = field(default_factory=dict)
    full: bool = False
    """Nothing more can be written."""

    def check(self) -> None:
        if self.full:
            raise StoreError("the disk is full")


class SimLedger:
    """A `Ledger` for one life of the machine. seen: told of each record as it is appended."""

    def __init__(
        self,
        disk: Disk,
        kept: list[bytes],
        power: Power,
        dice: Random,
        seen: Callable[[Record], None],
        on_synced: Callable[[int], None] = lambda sequence: None,
    ) -> None:
        self.synced = self.appended = len(kept)
        self._disk = disk
        self._kept = kept
        self._power = power
        self._dice = dice
        self._seen = seen
        self._on_synced = on_synced
        self._written: list[bytes] = []
        self._failure: StoreError | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        power.when_off(self._tear)

    def append(self, payload: bytes) -> int:
        self._power.check()
        if self._failure:
            raise self._failure
        self._written.append(payload)
        self.appended += 1
        self._seen(records.decode(payload))
        if len(self._written) == 1:
            asyncio.get_running_loop().call_later(self._dice.uniform(0.001, 0.02), self._sync)
        return self.appended

    async def wait(self, sequence: int) -> None:
        self._power.check()
        if self._failure:
            raise self._failure
        if sequence > self.synced:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((sequence, future))
            await future

    def _sync(self) -> None:
        if not self._power.on:
            return
        try:
            self._disk.check()
        except StoreError as error:
            self._failure = error
        else:
            self._kept += self._written
            self._written.clear()
            self.synced = len(self._kept)
            self._on_synced(self.synced)
        self._answer()

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for sequence, future in waiting:
            if future.done():
                continue
            if self._failure:
                future.set_exception(self._failure)
            elif sequence <= self.synced:
                future.set_result(None)
            else:
                self._waiting.append((sequence, future))

    def _tear(self) -> None:
        """Of what was not synced, some has reached the disk."""
        if not self._disk.full:
            self._kept += self._written[: self._dice.randint(0, len(self._written))]


class Books(MemoryStore):
    """The database for one life of the machine: a change takes a moment until it is so, and one until it is known."""

    def __init__(self, disk: Disk, power: Power, dice: Random) -> None:
        super().__init__(**vars(disk.books))
        self._disk = disk
        self._power = power
        self._dice = dice

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return self._slowly(found) if inspect.iscoroutinefunction(found) and name != "_moment" else found

    def _slowly(self, work: Callable[..., Any]) -> Callable[..., Any]:
        async def slowly(*args: Any) -> Any:
            await self._moment()
            self._disk.check()
            done = await work(*args)
            await self._moment()
            return done

        return slowly

    async def _moment(self) -> None:
        self._power.check()
        await asyncio.sleep(self._dice.uniform(0, 0.02))
        self._power.check()


class SimPieces:
    """A `PieceStore` for one life of the machine. kept: what it told of each piece that was written."""

    def __init__(
        self, metainfo: Metainfo, lasting: Pieces, disk: Disk, power: Power, kept: Callable[[PieceIndex], None]
    ) -> None:
        self.pieces = PieceMap(metainfo.geometry.count)
        self._lasting = lasting
        self._now = dict(lasting)
        self._disk = disk
        self._power = power
        self._kept = kept
        for index in lasting:
            self.pieces.add(index)

    def read(self, index: PieceIndex) -> memoryview:
        return memoryview(self._now[index])

    def write(self, index: PieceIndex, data: Buffer) -> None:
        self._power.check()
        self._disk.check()
        self._now[index] = bytes(data)
        self.pieces.add(index)
        self._kept(index)

    def sync(self) -> None:
        self._power.check()
        self._lasting.update(self._now)

    def close(self) -> None:
        if self._power.on:
            self.sync()


class SimStores:
    """The `PieceStores` of one machine. kept: told of each piece that is written."""

    def __init__(self, disk: Disk, power: Power, kept: Callable[[Infohash, PieceIndex], None]) -> None:
        self._disk = disk
        self._power = power
        self._kept = kept

    def open(self, metainfo: Metainfo) -> SimPieces:
        lasting = self._disk.pieces.setdefault(metainfo.infohash, {})
        return SimPieces(metainfo, lasting, self._disk, self._power, lambda index: self._kept(metainfo.infohash, index))

    def adopt(self, metainfo: Metainfo, name: str) -> SimPieces:
        film, geometry = self._disk.incoming.pop(name), metainfo.geometry
        self._disk.pieces[metainfo.infohash] = {
            PieceIndex(index): film[geometry.offset(index) :][: geometry.size(index)] for index in range(geometry.count)
        }
        return self.open(metainfo)
