"""What honest people do with their machines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from bct.errors import BctError
from bct.node.play import Play
from tests.sim.host import Host
from tests.sim.world import Title, World

CAPS = (60, 120, 300, 1000)
"""Satoshis that a play may cost."""


def watcher(world: World, host: Host, titles: list[Title], times: int = 3) -> Callable[[], Coroutine[Any, Any, None]]:
    """Watches something, some of it or all, a few times; begins again when its machine does."""
    dice = Random(f"{world.seed} {host} watches")

    async def chore() -> None:
        for _ in range(times):
            await asyncio.sleep(dice.uniform(0, 10))
            title, cap = dice.choice(titles), dice.choice(CAPS)
            host.allowed += cap
            try:
                await _watch(host, title, cap, dice)
            except (BctError, TimeoutError) as error:
                world.note("not seen", title=title.metainfo.name, why=repr(error))

    return chore


async def _watch(host: Host, title: Title, cap: int, dice: Random) -> None:
    play = await host.node.play(title.link, cap)
    try:
        for _ in range(dice.randint(1, 3)):
            start = dice.choice((0, dice.randrange(play.length)))
            end = dice.choice((play.length, min(play.length, start + dice.randint(1, 100_000))))
            async with asyncio.timeout(dice.choice((5, 60, 600))):
                await _read(play, title, start, end)
            await asyncio.sleep(dice.choice((0, 5, 60)))
    finally:
        if dice.random() < 0.9:
            await host.node.viewer.close(play)


async def _read(play: Play, title: Title, start: int, end: int) -> None:
    at = start
    async for part in play.read(start, end):
        assert bytes(part) == title.film[at : at + len(part)]
        at += len(part)
