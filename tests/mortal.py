"""Nodes that can be killed at each effect: everything that leaves them or lasts passes here, is counted, and may be the
last thing they do.

A node's machines decide and its shell acts: it writes to a ledger or the database, keeps a piece, hands a transaction
to the chain, says something to a peer. Each of these is a point twice, just before and just after. `Life` is one run of
a node from start to end; from its last moment on nothing leaves it any more, as with a process that was killed. What
stays is what a machine keeps: the files, less what a power cut takes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random

from bct.backends.disk import DiskStore
from bct.backends.ledger import Ledger
from bct.bitcoin.chain import Broadcast, Chain
from bct.channel.state import State
from bct.channel.store import ChannelStore, SavedPayee, SavedPayer
from bct.errors import StoreError, TemporaryError
from bct.pay import records
from bct.pay.messages import MESSAGES, Chunk
from bct.torrent.metainfo import Metainfo
from bct.torrent.store import PieceStore
from bct.torrent.transport import Connection, Listener, Receiver, Transport
from bct.torrent.wire import HANDSHAKE_SIZE, Buffer
from bct.torrent.wire import Piece as PieceMessage
from bct.units import Outpoint, PieceIndex

LAG, RING = 0.01, 0.02
FRAME = 12
"""Bytes of a ledger's record around its payload."""
_EXTENDED = 20
_NAMES = {kind.TYPE: kind.__name__ for kind in MESSAGES}


class Crash(Enum):
    """What a crash leaves of the bytes that a ledger was given and that were not synced."""

    KILLED = "killed"  # all: the system still has them
    CUT = "cut"  # none
    TORN = "torn"  # some, ending anywhere
    NOISE = "noise"  # other bytes in their place
    SWAPPED = "swapped"  # the second half before the first


class KilledError(BaseException):
    """Nothing a node may catch: it is not there any more."""


@dataclass(frozen=True, slots=True)
class Point:
    """The `count`-th time that a node comes to this effect."""

    effect: str
    count: int

    def __str__(self) -> str:
        return f"{self.effect} #{self.count}"


@dataclass
class Life:
    """One run of a node. last: where it is killed; on_end: what happens when it is over, however that came."""

    last: Point | None = None
    killed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it came to `last`."""
    full: Point | None = None
    """From here on the disk takes nothing."""
    is_full: bool = False
    copied: Point | None = None
    on_copy: Callable[[], None] = lambda: None
    """Called when it comes to `copied`."""
    on_end: Callable[[], None] = lambda: None
    points: list[Point] = field(default_factory=list)
    """Every point it came to."""
    counts: Counter[str] = field(default_factory=Counter)
    """How often it came to each effect; a node's next life counts on."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def reach(self, effect: str) -> None:
        """Goes on from this point, or not."""
        if self.over.is_set():
            raise KilledError
        self.counts[effect] += 1
        self.points.append(Point(effect, self.counts[effect]))
        if self.points[-1] == self.copied:
            self.on_copy()
        if self.points[-1] == self.full:
            self.is_full = True
        if self.points[-1] == self.last:
            self.killed.set()
            self.end()
            raise KilledError

    def write(self, effect: str) -> None:
        """The point before something that lasts. Raises StoreError when the disk is full."""
        self.reach(f"before {effect}")
        if self.is_full:
            raise StoreError("the disk is full")

    def end(self) -> None:
        self.over.set()
        self.on_end()


class MortalLedger:
    """A `pay.ledger.Ledger` over the real one. lag: seconds that its disk takes longer: more is unsynced at once."""

    def __init__(
        self,
        life: Life,
        name: str,
        path: Path,
        replay: Callable[[bytes], None],
        told: Callable[[int], None],
        lag: float = LAG,
    ) -> None:
        self.real = Ledger.open(path, replay, self._on_synced)
        self.synced = self.real.synced
        self.appended: list[bytes] = []
        """What this life has appended, in order."""
        self._news = asyncio.Event()
        self._path = path
        self._first = self.real.synced + 1
        self._life = life
        self._name = name
        self._told = told
        self._lag = lag

    def append(self, payload: bytes) -> int:
        what = f"{type(records.decode(payload)).__name__} in the {self._name}'s ledger"
        self._life.write(what)
        sequence = self.real.append(payload)
        self.appended.append(payload)
        self._life.reach(f"after {what}")
        return sequence

    async def wait(self, sequence: int) -> None:
        await self.real.wait(sequence)
        if self._life.is_full:
            raise StoreError("the disk is full")
        while self.synced < sequence:
            self._news.clear()
            await self._news.wait()
        self._life.reach(f"after a sync of the {self._name}'s ledger that was waited for")

    def _on_synced(self, sequence: int) -> None:
        asyncio.get_running_loop().call_later(self._lag, self._tell, sequence)

    def _tell(self, sequence: int) -> None:
        if not self._life.over.is_set():
            self._life.reach(f"a sync of the {self._name}'s ledger")
            self.synced = sequence
            self._told(sequence)
            self._news.set()

    @property
    def believed(self) -> list[bytes]:
        """What this life has appended and knows to be durable."""
        return self.appended[: self.synced - self._first + 1]

    def tear(self, crash: Crash, dice: Random) -> None:
        """Does to the closed file what the crash does."""
        raw = self._path.read_bytes()
        unsynced = sum(len(payload) + FRAME for payload in self.appended[self.synced - self._first + 1 :])
        kept, tail = raw[: len(raw) - unsynced], raw[len(raw) - unsynced :]
        match crash:
            case Crash.CUT:
                tail = b""
            case Crash.TORN:
                tail = tail[: dice.randint(0, len(tail))]
            case Crash.NOISE:
                tail = tail[: dice.randint(0, len(tail))] + dice.randbytes(len(tail))
            case Crash.SWAPPED:
                tail = tail[len(tail) // 2 :] + tail[: len(tail) // 2]
        self._path.write_bytes(kept + tail)


class MortalChannels:
    """A `ChannelStore` over another one."""

    def __init__(self, life: Life, real: ChannelStore) -> None:
        self._life = life
        self._real = real

    async def add_payee(self, saved: SavedPayee) -> bool:
        self._life.write("a payee's new channel")
        added = await self._real.add_payee(saved)
        self._life.reach("after a payee's new channel")
        return added

    async def payees(self) -> list[SavedPayee]:
        return await self._real.payees()

    async def move_payee(self, outpoint: Outpoint, state: State, settlement: bytes = b"") -> None:
        self._life.write(f"a payee's {state.value}")
        await self._real.move_payee(outpoint, state, settlement)
        self._life.reach(f"after a payee's {state.value}")

    async def add_payer(self, saved: SavedPayer) -> None:
        self._life.write("a payer's new channel")
        await self._real.add_payer(saved)
        self._life.reach("after a payer's new channel")

    async def payers(self) -> list[SavedPayer]:
        return await self._real.payers()

    async def move_payer(self, outpoint: Outpoint, state: State, closing: bytes = b"") -> None:
        self._life.write(f"a payer's {state.value}")
        await self._real.move_payer(outpoint, state, closing)
        self._life.reach(f"after a payer's {state.value}")


class MortalChain:
    """A `Chain` over another one: what is handed to it is an effect, what is asked is not."""

    def __init__(self, life: Life, real: Chain) -> None:
        self._life = life
        self._real = real
        self.network = real.network
        self.place, self.transaction, self.tip, self.header = real.place, real.transaction, real.tip, real.header
        self.history, self.spender, self.merkle_path = real.history, real.spender, real.merkle_path
        self.fee_rate, self.events, self.close = real.fee_rate, real.events, real.close

    async def broadcast(self, raws: Sequence[bytes]) -> list[Broadcast]:
        self._life.reach("before a broadcast")
        answers = await self._real.broadcast(raws)
        self._life.reach("after a broadcast")
        return answers


class MortalStores:
    """The `PieceStores` below one directory."""

    def __init__(self, life: Life, root: Path) -> None:
        self._life = life
        self._root = root
        self._open: list[MortalPieces] = []

    def open(self, metainfo: Metainfo) -> PieceStore:
        return self._mortal(DiskStore.open(self._root / "titles", metainfo))

    def adopt(self, metainfo: Metainfo, name: str) -> PieceStore:
        return self._mortal(DiskStore.adopt(self._root / "titles", metainfo, self._root / "incoming" / name))

    def _mortal(self, real: DiskStore) -> PieceStore:
        self._open.append(MortalPieces(self._life, real))
        return self._open[-1]

    def close(self) -> None:
        for store in self._open:
            store.close()


class MortalPieces:
    """A `PieceStore` over the real one."""

    def __init__(self, life: Life, real: DiskStore) -> None:
        self.pieces = real.pieces
        self._life = life
        self._real = real
        self._closed = False
        self.read, self.sync = real.read, real.sync

    def write(self, index: PieceIndex, data: Buffer) -> None:
        self._life.write("a piece")
        self._real.write(index, data)
        self._life.reach("after a piece")

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._real.close()


class MortalTransport:
    """A `Transport` over another one. ports: where a port that was listened on before has moved to."""

    def __init__(self, life: Life, real: Transport, ports: dict[int, int]) -> None:
        self._life = life
        self._real = real
        self._ports = ports

    async def connect(self, host: str, port: int) -> Connection:
        """Rings until somebody answers: who is coming back is not gone."""
        while True:
            with suppress(TemporaryError):
                return MortalConnection(self._life, await self._real.connect(host, self._ports.get(port, port)))
            await asyncio.sleep(RING)

    async def listen(self, host: str, port: int, on_connection: Callable[[Connection], None]) -> Listener:
        listener = await self._real.listen(
            host, port, lambda connection: on_connection(MortalConnection(self._life, connection))
        )
        self._life.on_end = _both(self._life.on_end, listener.close)
        return listener


class MortalConnection:
    """A `Connection` over another one. What is said of payments, and pieces, are effects, by the messages' names."""

    def __init__(self, life: Life, real: Connection) -> None:
        self.LOW_WATER = real.LOW_WATER
        self._life = life
        self._real = real
        self._said = bytearray()
        self._begun = False
        self.pause, self.resume, self.close = real.pause, real.resume, real.close
        life.on_end = _both(life.on_end, real.close)

    @property
    def remote(self) -> tuple[str, int]:
        return self._real.remote

    @property
    def buffered(self) -> int:
        return self._real.buffered

    def start(self, receiver: Receiver) -> None:
        self._real.start(MortalReceiver(self._life, receiver))

    def send(self, buffers: Sequence[Buffer]) -> None:
        for buffer in buffers:
            self._said += buffer
        names = " + ".join(dict.fromkeys(self._names()))
        if not names:
            self._real.send(buffers)
            return
        self._life.reach(f"before saying {names}")
        self._real.send(buffers)
        self._life.reach(f"after saying {names}")

    def _names(self) -> list[str]:
        """Of the whole messages that were said and are not named yet."""
        if not self._begun and len(self._said) >= HANDSHAKE_SIZE:
            self._begun = True
            del self._said[:HANDSHAKE_SIZE]
        names = []
        while len(self._said) >= 4 and len(self._said) >= (end := 4 + int.from_bytes(self._said[:4])):
            names += _name(bytes(self._said[4:end]))
            del self._said[:end]
        return names


class MortalReceiver:
    """A `Receiver` in front of another one: who is dead hears nothing."""

    def __init__(self, life: Life, real: Receiver) -> None:
        self._life = life
        self._real = real

    def received(self, data: memoryview) -> None:
        if not self._life.over.is_set():
            self._real.received(data)

    def drained(self) -> None:
        if not self._life.over.is_set():
            self._real.drained()

    def lost(self, error: Exception | None) -> None:
        if not self._life.over.is_set():
            self._real.lost(error)  # type: ignore[arg-type]


def _name(frame: bytes) -> list[str]:
    """bct_pay's messages, and pieces; nothing else is an effect of a machine that handles money."""
    if frame[:1] == bytes((PieceMessage.ID,)):
        return ["a piece"]
    if frame[:1] != bytes((_EXTENDED,)) or frame[1:2] == b"\0" or frame[2:3] == b"d":
        return []
    return [_NAMES[frame[8] if frame[2] == Chunk.TYPE else frame[2]]]


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both
