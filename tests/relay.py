"""A wire with a witness: every byte between two programs passes here, is counted, and can be cut off.

What left a node is not taken from the node's own word: the relay reads the BitTorrent frames of both sides in passing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum

from bct.torrent.wire import HANDSHAKE_SIZE, PROTOCOL, Have, Piece, Reject, Request

_ABOUT_ONE_PIECE = (Have.ID, Request.ID, Piece.ID, Reject.ID)


class Wrong(Enum):
    """What goes wrong with a wire."""

    CUT = "cut"
    HANG = "hang"  # nothing passes any more, either way
    LOSE = "lose"  # what the calling side says is lost


@dataclass
class Said:
    """What one side of one connection has said."""

    messages: Counter[int] = field(default_factory=Counter)
    """By id; keep-alives are counted as -1."""
    about: dict[int, set[int]] = field(default_factory=dict)
    """Piece indices by message id, where the message names one."""
    payload: int = 0
    """Bytes of blocks."""
    foreign: bool = False
    """It did not begin with BitTorrent's handshake: message encryption."""
    size: int = 0
    _rest: bytearray = field(default_factory=bytearray)

    def heard(self, data: bytes) -> None:
        self.size += len(data)
        if not self.foreign:
            self._rest += data
            self._parse()

    def _parse(self) -> None:
        if self.size == len(self._rest):  # the handshake has not been taken off yet
            self.foreign = not PROTOCOL.startswith(self._rest[: len(PROTOCOL)])
            if self.foreign or len(self._rest) < HANDSHAKE_SIZE:
                return
            del self._rest[:HANDSHAKE_SIZE]
        while len(self._rest) >= 4 and len(self._rest) >= 4 + (length := int.from_bytes(self._rest[:4])):
            self._count(bytes(self._rest[4 : 4 + length]))
            del self._rest[: 4 + length]

    def _count(self, frame: bytes) -> None:
        kind = frame[0] if frame else -1
        self.messages[kind] += 1
        if kind in _ABOUT_ONE_PIECE:
            self.about.setdefault(kind, set()).add(int.from_bytes(frame[1:5]))
        if kind == Piece.ID:
            self.payload += len(frame) - 9


@dataclass
class Call:
    """One connection through the relay."""

    dialled: Said = field(default_factory=Said)
    """What the side has said that called."""
    answered: Said = field(default_factory=Said)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when `Relay.most` has come through."""
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def cut(self) -> None:
        """Both ends at once, without a word."""
        self.hung_up.set()
        for writer in self.writers:
            writer.transport.abort()


class Relay:
    """A port that leads to `target`, which may be changed; existing calls stay where they are."""

    def __init__(self, host: str, target: tuple[str, int]) -> None:
        self.host = host
        self.target = target
        self.calls: list[Call] = []
        self.open = True
        """Whether calls are put through; while it is False they are hung up."""
        self.most: int | None = None
        """Bytes of blocks that the called side gets through on one call before it goes wrong; None for no bound."""
        self.then = Wrong.CUT
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._put_through, self.host, 0)

    def cut(self) -> None:
        for call in self.calls:
            call.cut()

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*(call.over.wait() for call in self.calls))

    async def _put_through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        call = Call(writers=[writer])
        self.calls.append(call)
        try:
            there, back = await asyncio.open_connection(*self.target)
            call.writers.append(back)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(call, call.dialled, reader, back))
                both.create_task(self._carry(call, call.answered, there, writer))
        except* OSError:
            pass
        finally:
            call.cut()
            call.over.set()

    async def _carry(self, call: Call, said: Said, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                said.heard(data)
                if self.most is not None and call.answered.payload > self.most:
                    call.full.set()
                    if self.then is Wrong.HANG:
                        await call.hung_up.wait()
                    if self.then is not Wrong.LOSE:
                        break
                    if said is call.dialled:
                        continue
                writer.write(data)
                await writer.drain()
        call.cut()


@asynccontextmanager
async def relaying(port: int, host: str = "127.0.0.1") -> AsyncIterator[Relay]:
    """A relay on `host` that leads to 127.0.0.1:port."""
    relay = Relay(host, ("127.0.0.1", port))
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()
