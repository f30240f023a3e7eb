"""The virtual clock."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.sim.clock import EPOCH, Clock, run


def test_hours_cost_nothing() -> None:
    async def story() -> tuple[float, list[str]]:
        order: list[str] = []

        async def later(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            order.append(name)

        await asyncio.gather(later("second", 3600), later("first", 60), asyncio.to_thread(order.append, "at once"))
        return asyncio.get_running_loop().time(), order

    started = time.monotonic()
    assert run(story()) == (3600, ["at once", "first", "second"])
    assert time.monotonic() - started < 5


def test_waiting_for_what_never_comes_is_noticed() -> None:
    async def story() -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="nothing is left"):
        run(story())


def test_what_a_thread_raises_is_raised() -> None:
    async def story() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)

    run(story())


def test_moneys_clock_can_hurry() -> None:
    async def story() -> None:
        clock = Clock(asyncio.get_running_loop())
        await asyncio.sleep(10)
        clock.hurry(60)
        await asyncio.sleep(10)
        assert (clock.steady, clock.unix) == (20, EPOCH + 610)
        await clock.until(EPOCH + 1210)
        assert (clock.steady, clock.unix) == (30, EPOCH + 1210)
        await clock.until(EPOCH)
        assert clock.steady == 30

    run(story())
