"""A BSV node's ZMQ notifications as `ChainEvent`s.

ZMQ reconnects by itself and says nothing of what was missed. So a `Tip` comes whenever the connection was made anew,
whenever the node's own numbering shows a hole, and whenever in a quiet moment the best block turns out to be another
one. Whoever gets a `Tip` looks again at what it waits for.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import zmq
import zmq.asyncio

from bct.bitcoin.chain import ChainEvent, Header, Seen, Tip
from bct.bitcoin.keys import sha256d
from bct.errors import ChainError
from bct.units import Txid

TOPICS = ("hashblock2", "rawtx2")
_TX = b"rawtx2"
_QUIET_MS = 5_000
_RETRY, _RETRY_LONGEST = 0.25, 8.0
_RECONNECT_MS = 100
_QUEUE = 100_000
"""Messages kept for a slow reader; beyond, ZMQ drops some, which the numbering then shows."""


async def node_events(address: str, tip: Callable[[], Awaitable[Header]]) -> AsyncIterator[ChainEvent]:
    """Endless; begins with a `Tip`. address: the node's ZMQ publisher. tip: asks for the best block's header."""
    socket: zmq.asyncio.Socket = zmq.asyncio.Context.instance().socket(zmq.SUB)
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    try:
        socket.set(zmq.RCVHWM, _QUEUE)
        socket.set(zmq.RECONNECT_IVL, _RECONNECT_MS)
        for topic in TOPICS:
            socket.subscribe(topic)
        socket.connect(address)
        last: Header | None = None
        numbers: dict[bytes, int] = {}
        while True:
            message, gap = await _receive(socket, monitor, numbers)
            is_tx = bool(message) and message[0] == _TX
            if gap or not is_tx:
                header = await _until_reachable(tip)
                if gap or header != last:
                    yield Tip(header)
                last = header
            if is_tx:
                yield Seen(Txid(sha256d(message[1])), message[1])
    finally:
        socket.disable_monitor()
        socket.close(linger=0)


async def _receive(
    socket: zmq.asyncio.Socket, monitor: zmq.asyncio.Socket, numbers: dict[bytes, int]
) -> tuple[list[bytes], bool]:
    """The next message (none after a quiet while), and whether something may have been missed before it."""
    poller = zmq.asyncio.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(monitor, zmq.POLLIN)
    ready = dict(await poller.poll(_QUIET_MS))
    if monitor in ready:
        await monitor.recv_multipart()
        return [], True
    if socket not in ready:
        return [], False
    message: list[bytes] = await socket.recv_multipart()
    topic, _, number = message
    sequence: int = struct.unpack("<I", number)[0]
    gap = numbers.get(topic, sequence - 1) + 1 != sequence
    numbers[topic] = sequence
    return message, gap


async def _until_reachable(tip: Callable[[], Awaitable[Header]]) -> Header:
    pause = _RETRY
    while True:
        try:
            return await tip()
        except ChainError:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _RETRY_LONGEST)
