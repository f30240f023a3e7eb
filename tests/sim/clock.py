"""Virtual time: an event loop that never waits, and clocks that people may have set wrong.

Libraries that speed up asyncio's time (looptime, aiotools) patch a loop that waits for real sockets and threads, whose
order is not the same twice. Here nothing is real: what would be a thread is done at once, and when nothing is left to
do now, it is the time of the next timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any

EPOCH = 1_800_000_000
"""Unix seconds at which every run begins."""


class _NoSockets:
    """What the loop takes for its selector: it waits by moving the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise AssertionError("nothing is left that could ever happen: somebody waits for what will not come")
        self._loop.now += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Time passes only when nobody has anything to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = _NoSockets(self)

    def time(self) -> float:
        return self.now

    def run_in_executor[T, *Ts](
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _process_events(self, event_list: list[Any]) -> None: ...

    def _write_to_self(self) -> None: ...


def run[T](main: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class Clock:
    """The true time of one world. Money's clocks may be made to run ahead of the steady one: hours of waiting for an
    expiry then cost a few of its minutes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.rate = 1.0
        """Seconds of money's time in a steady one."""
        self._base = float(EPOCH) - loop.time()

    @property
    def steady(self) -> float:
        return self._loop.time()

    @property
    def unix(self) -> float:
        return self._base + self.rate * self._loop.time()

    def hurry(self, rate: float) -> None:
        """From now on a steady second is `rate` seconds of money's time."""
        self._base, self.rate = self.unix - rate * self._loop.time(), rate

    async def until(self, unix: float) -> None:
        if unix > self.unix:
            await asyncio.sleep((unix - self.unix) / self.rate)
