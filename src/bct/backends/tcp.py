"""Peer connections over TCP: plain non-blocking sockets on whichever event loop runs (asyncio's or uvloop's).

Why not asyncio's transports: a transport keeps a receive buffer or makes a bytes object a read, and joins or copies
what it sends. Here all connections read into one buffer, which is sound because the receiver is done with it before
the callback returns, so an idle peer costs a socket and one small object; and what was said within a turn of the loop
leaves in few `sendmsg` calls of many buffers each, uncopied. Needs `loop.add_reader`: on Windows, the selector loop.

Trust: bytes are only carried. A peer that sends without end is read one buffer a turn, so that it cannot starve
others; one that does not read is seen in `buffered`, and its owner stops saying things.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from bct.errors import BctError, ConfigError, TemporaryError
from bct.torrent.transport import Connection, Receiver
from bct.torrent.wire import Buffer

RECEIVE_SIZE = 1024 * 1024
"""Bytes read at a time. Fetching a GiB cost 1.23 CPU seconds with this, 1.42 with a quarter, 1.73 with a sixteenth."""
GATHER = 64
"""Buffers a `sendmsg`: 32 blocks, each with its header."""
SEND_SHARE = 2 * 1024 * 1024
"""Bytes one connection sends before others have their turn."""
_BACKLOG = 1024
_ACCEPT_SHARE = 64
_ACCEPT_PAUSE = 1.0
"""Seconds without accepting when the system has no more descriptors: asking again at once would spin."""


class Tcp:
    """The `Transport` over TCP. One per event loop; must be made inside it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(RECEIVE_SIZE))

    async def connect(self, host: str, port: int) -> Connection:
        """Tries the addresses of `host` in turn. Raises TemporaryError with the last failure."""
        try:
            infos = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise TemporaryError(f"{host} has no address: {error}") from error
        failure: OSError | None = None
        for family, _, _, _, address in infos:
            try:
                return await self._connect_to(family, address)
            except OSError as error:
                failure = error
        raise TemporaryError(f"{host} port {port} cannot be reached: {failure}") from failure

    async def _connect_to(self, family: int, address: tuple[object, ...]) -> Connection:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await self._loop.sock_connect(sock, address)
            return TcpConnection(self._loop, sock, self._buffer)
        except BaseException:
            sock.close()
            raise

    async def listen(self, host: str, port: int, on_connection: Callable[[Connection], None]) -> TcpListener:
        """`host` is one address, IPv4 or IPv6, or a name that stands for one. Raises ConfigError."""
        try:
            infos = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = infos[0]
            sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {error}; choose another port, or 0 for any"
            ) from error
        sock.setblocking(False)
        return TcpListener(self._loop, sock, self._buffer, on_connection)


class TcpListener:
    """An open port."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        buffer: memoryview,
        on_connection: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._buffer = buffer
        self._on_connection = on_connection
        self.port: int = sock.getsockname()[1]
        loop.add_reader(sock, self._accept)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPT_SHARE):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._sock)
                self._loop.call_later(_ACCEPT_PAUSE, self._accept_again)
                return
            self._welcome(sock)

    def _accept_again(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._accept)

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            connection = TcpConnection(self._loop, sock, self._buffer)
        except OSError:  # it was gone before we looked at it
            sock.close()
            return
        self._on_connection(connection)


class TcpConnection:
    """The `Connection` over one socket."""

    LOW_WATER = 1024 * 1024

    __slots__ = ("_above", "_buffer", "_flushing", "_loop", "_out", "_receiver", "_sock", "buffered", "remote")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, buffer: memoryview) -> None:
        """Raises OSError when the socket is not connected (any more)."""
        self._loop = loop
        self._sock = sock
        self._buffer = buffer
        self._receiver: Receiver | None = None
        self._out: deque[Buffer] = deque()
        self._flushing = False  # a flush will come, from the loop's next turn or when the socket has room
        self._above = False  # `buffered` has been above the low-water mark since `drained` was last said
        self.buffered = 0
        host, port = sock.getpeername()[:2]
        self.remote: tuple[str, int] = (host, port)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.resume()

    def pause(self) -> None:
        if not self._closed:
            self._loop.remove_reader(self._sock)

    def resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._sock, self._on_readable)

    @property
    def _closed(self) -> bool:
        return self._sock.fileno() < 0

    def _on_readable(self) -> None:
        if self._closed or self._receiver is None:
            return
        try:
            size = self._sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(_broken(error))
            return
        if size:
            self._hand_over(self._buffer[:size])
        else:
            self._end(None)

    def _hand_over(self, data: memoryview) -> None:
        try:
            assert self._receiver is not None
            self._receiver.received(data)
        except BaseException:  # a bug of the receiver's: what it made of the stream so far cannot be continued
            self._end(None)
            raise

    def send(self, buffers: Sequence[Buffer]) -> None:
        if self._closed:
            return
        self._out.extend(buffers)
        self.buffered += sum(map(len, buffers))
        if not self._flushing and self._out:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """The one that was put off to the end of the turn."""
        if not self._closed:
            self._flushing = self._send_now()
            if self._flushing:
                self._loop.add_writer(self._sock, self._on_writable)

    def _on_writable(self) -> None:
        self._flushing = self._send_now()
        if not self._flushing and not self._closed:
            self._loop.remove_writer(self._sock)

    def _send_now(self) -> bool:
        """Sends what the system takes, up to our share of the turn. True when something is left."""
        self._above = self._above or self.buffered > self.LOW_WATER
        try:
            self._gather(SEND_SHARE)
        except OSError as error:
            self._end(_broken(error))
            return False
        if self._above and self.buffered <= self.LOW_WATER and self._receiver:
            self._above = False
            self._receiver.drained()
        return bool(self._out)

    def _gather(self, share: int) -> None:
        """Raises OSError but not for want of room."""
        while self._out and share > 0:
            try:
                sent = self._sock.sendmsg(islice(self._out, GATHER))
            except (BlockingIOError, InterruptedError):
                return
            share -= sent
            self._drop(sent)

    def _drop(self, sent: int) -> None:
        """Takes `sent` bytes off the front of what is to go."""
        out = self._out
        self.buffered -= sent
        while out and sent >= (size := len(out[0])):
            out.popleft()
            sent -= size
        if sent:
            out[0] = memoryview(out[0])[sent:]

    def close(self) -> None:
        if not self._closed:
            try:
                self._gather(self.buffered)
            except OSError as error:
                self._end(_broken(error))
                return
            self._end(None)

    def _end(self, error: BctError | None) -> None:
        if self._closed:
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._out.clear()
        self.buffered = 0
        receiver, self._receiver = self._receiver, None
        if receiver:
            self._loop.call_soon(receiver.lost, error)


def _broken(error: OSError) -> TemporaryError:
    return TemporaryError(f"the connection broke: {error}")
