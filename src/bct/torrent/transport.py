"""What the node asks of whatever carries bytes between two peers: TCP, a WebRTC data channel, a WebSocket.

A `Connection` is a reliable, ordered stream of bytes. It knows no messages. Everything happens in one thread, from
callbacks; timeouts and counting peers per address are the owner's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bct.errors import BctError
from bct.torrent.wire import Buffer


class Receiver(Protocol):
    """The owner's side of a connection: what happens to it."""

    def received(self, data: memoryview) -> None:
        """Bytes arrived. The view is valid until this returns: the next peer's bytes go into the same memory."""
        ...

    def drained(self) -> None:
        """`buffered` has fallen to the low-water mark again, after having been above it."""
        ...

    def lost(self, error: BctError | None) -> None:
        """It is over: called once, last, also after an own `close`. None when one of the two sides closed it."""
        ...


class Connection(Protocol):
    """One peer's end of a stream."""

    LOW_WATER: int
    """Bytes. An owner that has more to say than this waits for `drained`."""

    @property
    def remote(self) -> tuple[str, int]:
        """Address and port of the other end, as text and number."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes said and not yet taken by the system."""
        ...

    def start(self, receiver: Receiver) -> None:
        """To be called once: from now on bytes are read. Nothing is lost before that."""
        ...

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Says these bytes, in order. All that is said within one turn of the event loop leaves together. The buffers
        are not copied: they must not change until they have left. After the end it does nothing."""
        ...

    def pause(self) -> None:
        """Stops reading, so that the other side's sending stalls."""
        ...

    def resume(self) -> None: ...

    def close(self) -> None:
        """Hands what was said to the system as far as it takes it at once, and ends. `lost` follows in a later turn;
        `received` and `drained` never come again. May be called twice."""
        ...


class Listener(Protocol):
    """An open door."""

    @property
    def port(self) -> int:
        """The real one, also when 0 was asked for."""
        ...

    def close(self) -> None:
        """No further connections; those that stand go on."""
        ...


class Transport(Protocol):
    """A way to reach and be reached."""

    async def connect(self, host: str, port: int) -> Connection:
        """Raises TemporaryError when nobody answers there."""
        ...

    async def listen(self, host: str, port: int, on_connection: Callable[[Connection], None]) -> Listener:
        """`on_connection` gets each newcomer and calls `start` on it or `close`. Raises ConfigError when the address
        cannot be had."""
        ...
