"""Questions that are asked at the same time, put to a service together: it counts requests, not what is in them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence


class Bundle[K, V]:
    """ask: answers up to `most` keys at once, each of them."""

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[dict[K, V]]], most: int) -> None:
        self._ask = ask
        self._most = most
        self._waiting: dict[K, asyncio.Future[V]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V:
        """Raises whatever `ask` raises for the bundle that the key was in."""
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().create_future()
        answer = self._waiting[key]
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await asyncio.shield(answer)  # another may wait for the same

    async def _run(self) -> None:
        """Until nobody waits; those who ask in this turn of the loop are in the first bundle."""
        await asyncio.sleep(0)
        while self._waiting:
            keys = list(self._waiting)[: self._most]
            asked = {key: self._waiting.pop(key) for key in keys}
            try:
                answers = await self._ask(keys)
            except Exception as error:  # whatever it is, it is for those who asked
                for answer in asked.values():
                    answer.set_exception(error)
                    answer.exception()  # should all of them have gone: it has been looked at
            else:
                for key, answer in asked.items():
                    answer.set_result(answers[key])
        self._task = None
