"""The life of one machine between two power cuts.

What a machine runs is found by the context its tasks inherit. When the power goes nothing of it reaches disk, network
or chain any more; then its tasks are cancelled, and what they still do on their way out is done to nobody.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

_POWER: contextvars.ContextVar[Power] = contextvars.ContextVar("power")


class Power:
    def __init__(self, name: str = "") -> None:
        self.name = name
        self.on = True
        self.context = contextvars.copy_context()
        self.context.run(_POWER.set, self)
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._farewells: list[Callable[[], None]] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work, context=self.context.copy())

    def check(self) -> None:
        """To be called by all that stands for the outside world. Raises CancelledError: nobody is there to hear."""
        if not self.on:
            raise asyncio.CancelledError

    def when_off(self, farewell: Callable[[], None]) -> None:
        self._farewells.append(farewell)

    def off(self) -> None:
        self.on = False
        for farewell in self._farewells:
            farewell()
        for task in list(self._tasks):
            task.cancel()

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))


def who() -> str:
    """The machine whose doing this is; empty for the world's own."""
    power = _POWER.get(None)
    return power.name if power else ""


def follow_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Every task made in `loop` from now on belongs to the machine that made it."""

    def make(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        power = (options.get("context") or contextvars.copy_context()).get(_POWER)
        if power:
            power.adopt(task)
        return task

    loop.set_task_factory(make)
