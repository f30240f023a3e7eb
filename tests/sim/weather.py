"""What befalls a world without anybody's ill will: wires, power, clocks, blocks and lines to the chain.

Everything passes within the bounds that the protocol asks of an honest machine: a payee is never away for an hour, and
no block is taken back that three others stand on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any

from tests.sim.chain import Lie
from tests.sim.host import Host
from tests.sim.world import HOUR, World

MOST_AWAY = 40 * 60
"""Seconds of money's time that a machine may be without power or chain."""
DEEPEST = 3


class Weather:
    """hosts: on whom it falls."""

    def __init__(self, world: World, hosts: list[Host]) -> None:
        self._world = world
        self._hosts = hosts
        self._dice = Random(f"{world.seed} weather")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._kinds: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (6, self._wire_is_cut),
            (2, self._wire_hangs),
            (5, self._power_fails),
            (2, self._node_is_restarted),
            (4, self._block),
            (2, self._reorganisation),
            (3, self._line_is_down),
            (2, self._network_splits),
            (2, self._second_source_lies),
            (2, self._clock_is_set),
            (2, self._wires_slow_down),
        ]

    async def blow(self, seconds: float, pause: float) -> None:
        """For so long, something happens every `pause` steady seconds, more or less."""
        world, dice = self._world, self._dice
        until = world.loop.time() + seconds
        weights, kinds = zip(*self._kinds, strict=True)
        while (left := until - world.loop.time()) > 0:
            await world.sleep(min(left, dice.expovariate(1 / pause)))
            (kind,) = dice.choices(kinds, weights)
            await kind()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._world.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _a_while(self) -> None:
        clock = self._world.clock
        await clock.until(clock.unix + self._dice.uniform(1, MOST_AWAY if clock.rate > 1 else 60))

    # -- wires --------------------------------------------------------------------------------------------------------

    async def _wire_is_cut(self) -> None:
        if wires := [wire for wire in self._world.net.wires if not wire.over]:
            self._world.note("a wire is cut")
            self._dice.choice(wires).cut()

    async def _wire_hangs(self) -> None:
        if wires := [wire for wire in self._world.net.wires if not wire.over]:
            self._world.note("a wire hangs")
            self._dice.choice(wires).hang()

    async def _wires_slow_down(self) -> None:
        self._world.net.delay = (0.005, self._dice.choice((0.05, 0.5, 3.0)))
        self._world.net.speed = self._dice.choice((8e6, 2e5, 2e4))

    # -- machines -----------------------------------------------------------------------------------------------------

    async def _power_fails(self) -> None:
        host = self._dice.choice(self._hosts)
        if host.up:
            self._world.note("power fails", host=host)
            host.crash()
            self._later(self._comes_back(host))

    async def _comes_back(self, host: Host) -> None:
        await self._a_while()
        if not host.up:
            await host.boot()

    async def _node_is_restarted(self) -> None:
        host = self._dice.choice(self._hosts)
        if host.up and host.started:
            self._world.note("restarted", host=host)
            await asyncio.wait([host.run(host.node.stop())])
            host.crash()
            await host.boot()

    async def _clock_is_set(self) -> None:
        self._dice.choice(self._hosts).skew = self._dice.choice((0, 0, 45, -45, 3 * HOUR, -3 * HOUR))

    # -- the chain ----------------------------------------------------------------------------------------------------

    async def _block(self) -> None:
        await self._world.mine(node=self._dice.choice(self._world.bitcoin))

    async def _reorganisation(self) -> None:
        node = self._world.bitcoin[0]
        depth = min(self._dice.randint(1, DEEPEST), node.height - 1)
        if depth < 1:
            return
        lost = [txid for txid in node.newest(depth) if self._dice.random() < 0.5]
        self._world.note("reorganisation", depth=depth, lost=len(lost))
        node.fork(depth, lost)
        await self._world.mine(depth + 1)

    async def _line_is_down(self) -> None:
        host = self._dice.choice(self._hosts)
        for source in host.sources:
            source.away = True
        self._world.note("no line to the chain", host=host)
        self._later(self._line_is_up(host))

    async def _line_is_up(self, host: Host) -> None:
        await self._a_while()
        for source in host.sources:
            source.away = False

    async def _network_splits(self) -> None:
        self._world.bitcoin[1].deaf = True
        self._later(self._network_heals())

    async def _network_heals(self) -> None:
        await self._a_while()
        self._world.bitcoin[1].reunite()

    async def _second_source_lies(self) -> None:
        for host in self._hosts:
            for source in host.sources[1:]:
                source.lie = self._dice.choice((None, *Lie))
