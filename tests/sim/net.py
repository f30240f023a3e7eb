"""A network of memory: addresses, streams with a delay and a speed, and everything that goes wrong with a wire.

Each wire has dice of its own, so what happens on one does not depend on how often another was used. Bytes leave at the
end of a turn and arrive in pieces cut anywhere; two wires overtake each other freely. A wire can be cut, with bytes
half-way, or fall silent; a machine that loses its power is gone with or without a word.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from random import Random

from bct.errors import BctError, ConfigError, TemporaryError
from bct.torrent.transport import Connection, Listener, Receiver
from bct.torrent.wire import Buffer
from tests.sim.power import Power

WINDOW = 128 * 1024
"""Bytes on their way in one direction of one wire."""
END = b""
"""Stands behind the last bytes of a stream that was closed."""


class SimNet:
    """Every wire of one world. seed: all dice follow from it."""

    def __init__(self, seed: object) -> None:
        self.delay = (0.005, 0.08)
        """Seconds from end to end, shortest and longest; drawn for each wire."""
        self.speed = 8e6
        """Bytes a second."""
        self.wires: list[Wire] = []
        self.tap: Callable[[End, bytes], None] = lambda end, data: None
        """Sees what leaves each end, in order."""
        self._seed = seed
        self._made = 0
        self._doors: dict[tuple[str, int], Door] = {}

    def transport(self, ip: str, power: Power) -> SimTransport:
        return SimTransport(self, ip, power)

    def door(self, address: tuple[str, int]) -> Door | None:
        return self._doors.get(address)

    def open_door(self, door: Door) -> None:
        if door.address in self._doors:
            raise ConfigError(f"{door.address} is in use")
        self._doors[door.address] = door

    def close_door(self, door: Door) -> None:
        if self._doors.get(door.address) is door:
            del self._doors[door.address]

    def wire(self, caller: str, power: Power, door: Door) -> Wire:
        self._made += 1
        wire = Wire(self, Random(f"{self._seed} wire {self._made}"), (caller, 50_000 + self._made), power, door)
        self.wires = [one for one in self.wires if not one.over] + [wire]
        return wire


class SimTransport:
    """One machine's `Transport`."""

    def __init__(self, net: SimNet, ip: str, power: Power) -> None:
        self._net = net
        self._ip = ip
        self._power = power

    async def connect(self, host: str, port: int) -> Connection:
        self._power.check()
        await asyncio.sleep(self._net.delay[1])
        self._power.check()
        door = self._net.door((host, port))
        if door is None:
            raise TemporaryError(f"{host} port {port} cannot be reached")
        wire = self._net.wire(self._ip, self._power, door)
        door.knock(wire.called)
        return wire.caller

    async def listen(self, host: str, port: int, on_connection: Callable[[Connection], None]) -> Listener:
        """Whatever the host: a machine has one address."""
        self._power.check()
        return Door(self._net, (self._ip, port), self._power, on_connection)


class Door:
    """A `Listener`."""

    def __init__(
        self, net: SimNet, address: tuple[str, int], power: Power, on_connection: Callable[[Connection], None]
    ) -> None:
        self.address = address
        self.power = power
        self.context = contextvars.copy_context()
        self._net = net
        self._on_connection = on_connection
        net.open_door(self)
        power.when_off(self.close)

    @property
    def port(self) -> int:
        return self.address[1]

    def knock(self, end: End) -> None:
        asyncio.get_running_loop().call_soon(self._let_in, end, context=self.context)

    def _let_in(self, end: End) -> None:
        if self.power.on:
            self._on_connection(end)

    def close(self) -> None:
        self._net.close_door(self)


class Wire:
    """Two ends and what lies between them."""

    def __init__(self, net: SimNet, dice: Random, caller: tuple[str, int], power: Power, door: Door) -> None:
        self.net = net
        self.dice = dice
        self.delay = dice.uniform(*net.delay)
        self.silent = False
        """Nothing arrives any more, and nobody is told."""
        self.caller = End(self, door.address, power, contextvars.copy_context())
        self.called = End(self, caller, door.power, door.context)
        self.caller.other, self.called.other = self.called, self.caller

    @property
    def over(self) -> bool:
        return self.caller.over and self.called.over

    def cut(self) -> None:
        """Each end notices after a moment; what has not arrived by then never does."""
        for end in (self.caller, self.called):
            end.breaks()

    def hang(self) -> None:
        self.silent = True


class End:
    """One side of a wire: a `Connection`."""

    LOW_WATER = 64 * 1024

    def __init__(self, wire: Wire, remote: tuple[str, int], power: Power, context: contextvars.Context) -> None:
        self.wire = wire
        self.remote = remote
        self.other: End
        self.over = False
        self._power = power
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver | None = None
        self._out = bytearray()
        self._leaving = False
        self._above = False
        self._on_its_way = 0
        self._last_arrival = 0.0
        self._inbox: deque[bytes] = deque()
        self._paused = False
        power.when_off(self._power_is_off)

    @property
    def ip(self) -> str:
        """Of the machine that it belongs to."""
        return self.other.remote[0]

    def __repr__(self) -> str:
        return f"{self.ip} -> {self.remote[0]}:{self.remote[1]}"

    # -- Connection ---------------------------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        return len(self._out)

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._soon(self._drink)

    def send(self, buffers: Sequence[Buffer]) -> None:
        if self.over or not self._power.on:
            return
        for one in buffers:
            self._out += one
        if self._out and not self._leaving:
            self._leaving = True
            self._soon(self._leave)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._soon(self._drink)

    def close(self) -> None:
        if not self.over:
            self._leave()
            self._travel(END)
            self._end(None)

    # -- the way of the bytes -----------------------------------------------------------------------------------------

    def _soon(self, what: Callable[[], None]) -> None:
        self._loop.call_soon(what, context=self._context)

    def _leave(self) -> None:
        """As much as fits between the ends. The end of this machine's turn, or of the other's reading."""
        self._leaving = False
        if self.over:
            return
        self._above = self._above or len(self._out) > self.LOW_WATER
        taken = bytes(self._out[: WINDOW - self._on_its_way])
        del self._out[: len(taken)]
        if taken:
            self.wire.net.tap(self, taken)
        while taken:
            size = self.wire.dice.choice((7, 1_500, 16_384, 32_768))
            self._travel(taken[:size])
            taken = taken[size:]
        if self._above and self._receiver and len(self._out) <= self.LOW_WATER:
            self._above = False
            self._receiver.drained()

    def _travel(self, part: bytes) -> None:
        self._on_its_way += len(part)
        soonest = max(self._loop.time() + self.wire.delay, self._last_arrival + 1e-6)
        self._last_arrival = soonest + len(part) / self.wire.net.speed
        self._loop.call_at(self._last_arrival, self.other._arrives, part, context=self.other._context)

    def _arrives(self, part: bytes) -> None:
        if not self.wire.silent and not self.over:
            self._inbox.append(part)
            self._drink()

    def _drink(self) -> None:
        while self._inbox and self._receiver and not self._paused and not self.over:
            part = self._inbox.popleft()
            if part == END:
                self._end(None)
                return
            memory = bytearray(part)
            self._receiver.received(memoryview(memory))
            memory[:] = bytes(len(memory))  # it is the next peer's now
            self.other._on_its_way -= len(part)
            if self.other._out:
                self.other._soon(self.other._leave)

    # -- the end ------------------------------------------------------------------------------------------------------

    def breaks(self) -> None:
        """What is said from now on is lost; that it is over shows after a moment."""
        moment = self.wire.dice.uniform(0, 2 * self.wire.delay)
        self._loop.call_later(moment, self._end, TemporaryError("the wire was cut"), context=self._context)

    def _end(self, error: BctError | None) -> None:
        if self.over:
            return
        self.over = True
        self._out.clear()
        self._inbox.clear()
        receiver, self._receiver = self._receiver, None
        if receiver and self._power.on:
            self._loop.call_soon(receiver.lost, error, context=self._context)

    def _power_is_off(self) -> None:
        """Its machine is gone: the other end hears of it, or waits in vain."""
        if self.over:
            return
        self.over = True
        if self.wire.dice.random() < 0.7:
            self.other.breaks()
        else:
            self.wire.hang()
