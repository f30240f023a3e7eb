"""Stands between a viewer and a seeder, passes every byte on, and counts: standard library, nothing of bct.

    python tools/watch_wire.py --to 127.0.0.1:6881 --free 17 --piece 262144

Prints the address that it listens at; then, for each line on standard input, one JSON object; ends with the input. It
reads only what BitTorrent frames show: lengths, kinds, piece numbers, and the first byte of bct_pay messages.

{"payments", "payment_bytes": sizes seen, frame included, "paid_bytes": of pieces that are not free, "unpaid_bytes": the
most by which they ever were ahead of the payments that had passed before}
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

HANDSHAKE = 68
PIECE, EXTENDED = 7, 20
PIECE_PAYMENT = 0x09
READ = 1 << 18

Reading = Generator[None, None, bytes]
Heard = Callable[[int, bytes], None]
"""Called with a message's whole size and its beginning (of a piece) or all of it."""


@dataclass
class Count:
    """What has passed, over all connections. free: pieces from the first on. piece: bytes that one payment buys."""

    free: int
    piece: int
    payments: int = 0
    sizes: set[int] = field(default_factory=set)
    paid_bytes: int = 0
    unpaid_bytes: int = 0

    def payment(self, size: int) -> None:
        self.payments += 1
        self.sizes.add(size)

    def block(self, index: int, size: int) -> None:
        if index >= self.free:
            self.paid_bytes += size
            self.unpaid_bytes = max(self.unpaid_bytes, self.paid_bytes - self.payments * self.piece)

    def shown(self) -> str:
        told = {"payments": self.payments, "payment_bytes": sorted(self.sizes)}
        return json.dumps(told | {"paid_bytes": self.paid_bytes, "unpaid_bytes": self.unpaid_bytes})


class Call:
    """One connection: what the seeder named bct_pay in its handshake, the viewer's messages bear."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._bct_pay: int | None = None

    def from_seeder(self, size: int, message: bytes) -> None:
        if message[0] == PIECE:
            self._count.block(int.from_bytes(message[1:5]), size - 13)
        elif message[:2] == bytes((EXTENDED, 0)):
            found = re.search(rb"7:bct_payi(\d+)e", message)
            self._bct_pay = int(found[1]) if found else None

    def from_viewer(self, size: int, message: bytes) -> None:
        if len(message) > 2 and message[0] == EXTENDED and (message[1], message[2]) == (self._bct_pay, PIECE_PAYMENT):
            self._count.payment(size)


class Frames:
    """One direction's bytes, cut into messages. A piece is heard of as soon as its head has passed."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._buffer = bytearray()
        self._reading = self._read()
        next(self._reading)

    def feed(self, data: bytes) -> None:
        self._buffer += data
        next(self._reading)

    def _read(self) -> Generator[None]:
        yield from self._take(HANDSHAKE)
        while True:
            size = int.from_bytes((yield from self._take(4)))
            if not size:
                continue
            kind = yield from self._take(1)
            head = kind + (yield from self._take(8 if kind[0] == PIECE else size - 1))
            self._heard(4 + size, head)
            yield from self._take(size - len(head))

    def _take(self, size: int) -> Reading:
        while len(self._buffer) < size:
            yield
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Heard) -> None:
    """Counts first, passes on after: what is counted later can only have been said later."""
    frames = Frames(heard)
    try:
        while data := await reader.read(READ):
            frames.feed(data)
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def watch(host: str, port: int, count: Count) -> None:
    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = Call(count)
        there, back = await asyncio.open_connection(host, port)
        await asyncio.gather(carry(reader, back, call.from_viewer), carry(there, writer, call.from_seeder))

    server = await asyncio.start_server(joined, "127.0.0.1")
    print("{}:{}".format(*server.sockets[0].getsockname()[:2]), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(count.shown(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts what passes between a viewer and a seeder.")
    parser.add_argument("--to", required=True, help="the seeder, host:port")
    parser.add_argument("--free", required=True, type=int, help="pieces that cost nothing, from the first on")
    parser.add_argument("--piece", required=True, type=int, help="bytes of a piece")
    said = parser.parse_args()
    host, _, port = said.to.rpartition(":")
    asyncio.run(watch(host, int(port), Count(said.free, said.piece)))


if __name__ == "__main__":
    main()
