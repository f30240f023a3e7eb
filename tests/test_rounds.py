"""When a watchman looks, on virtual time: hours of outage and nights of sleep cost nothing here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from bct.bitcoin.tx import Tx
from bct.errors import ChainError
from bct.node.rounds import LONGEST_PAUSE, LOOK_SECONDS, Rounds
from tests.channel_parts import HOUR, NOW
from tests.model_chain import ModelChain
from tests.sim.clock import run


class Watch:
    """Rounds whose looks are counted. ahead: seconds by which the machine's clock is before the steady one."""

    def __init__(self) -> None:
        self.chain = ModelChain(NOW)
        self.ahead = 0
        self.looks: list[float] = []
        self.trouble: Exception | None = None
        self.steady = asyncio.get_running_loop().time
        self.rounds = Rounds(
            self.chain, self.look, self.heard, lambda: NOW + int(self.steady()) + self.ahead, self.steady
        )

    async def look(self) -> None:
        self.looks.append(self.steady())
        await self.chain.tip()
        if self.trouble:
            raise self.trouble

    def heard(self, tx: Tx) -> bool:
        return tx.outputs[0].value == 1_000

    def since(self, moment: float) -> list[int]:
        """Seconds of the looks after a moment."""
        return [round(look - moment) for look in self.looks if look > moment]


def story(tell: Callable[[Watch], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test on virtual time, with a watch that has begun."""

    async def told() -> None:
        watch = Watch()
        watch.rounds.start()
        try:
            await tell(watch)
        finally:
            await watch.rounds.stop()

    def test() -> None:
        run(told())

    test.__name__, test.__doc__ = tell.__name__, tell.__doc__
    return test


@story
async def test_every_few_seconds_and_at_once_when_something_of_ours_happens(watch: Watch) -> None:
    await asyncio.sleep(23)
    assert watch.looks[-4:] == [5, 10, 15, 20]
    await watch.chain.pay(b"\x51", 999)
    await asyncio.sleep(1)
    assert watch.looks[-1] == 20, "what is nobody's business wakes nobody"
    await watch.chain.pay(b"\x51", 1_000)
    await asyncio.sleep(0.5)
    assert watch.looks[-1] == 24
    await watch.chain.mine()
    await asyncio.sleep(0.1)
    assert watch.looks[-1] == 24.5


@story
async def test_a_chain_that_is_away_for_hours_is_asked_once_a_minute_and_complained_of_once(watch: Watch) -> None:
    await asyncio.sleep(1)
    watch.chain.answers = False
    with capture_logs() as logs:
        await asyncio.sleep(5 * HOUR)
        assert watch.since(1)[:6] == [4, 14, 34, 74, 134, 194]
        assert len(watch.since(1)) < 5 * HOUR / LONGEST_PAUSE + 5
        watch.chain.answers = True
        away = watch.steady()
        await asyncio.sleep(LONGEST_PAUSE)
    assert [line["event"] for line in logs] == ["the watchman cannot look"]
    first, second, *_ = watch.since(away)
    assert first <= LONGEST_PAUSE
    assert second - first == LOOK_SECONDS, "and then as before"


@story
async def test_a_machine_that_wakes_up_looks_at_once(watch: Watch) -> None:
    """The lid was closed in the middle of a long pause: the steady clock stood still, the other one did not."""
    watch.chain.answers = False
    await asyncio.sleep(10 * LONGEST_PAUSE)
    asleep = watch.looks[-1] + 1
    await asyncio.sleep(asleep - watch.steady())
    watch.ahead += 8 * HOUR
    with capture_logs() as logs:
        await asyncio.sleep(LOOK_SECONDS)
    assert len(watch.since(asleep)) == 1
    assert logs[0] == {"event": "the clock has jumped", "seconds": 8 * HOUR, "log_level": "info"}


@story
async def test_a_clock_that_is_set_back_is_a_reason_to_look_too(watch: Watch) -> None:
    watch.chain.answers = False
    await asyncio.sleep(10 * LONGEST_PAUSE)
    before = len(watch.looks)
    watch.ahead -= HOUR
    await asyncio.sleep(LOOK_SECONDS)
    assert len(watch.looks) == before + 1


@story
async def test_a_clock_that_is_corrected_by_seconds_is_not(watch: Watch) -> None:
    watch.chain.answers = False
    await asyncio.sleep(10 * LONGEST_PAUSE)
    before = list(watch.looks)
    await asyncio.sleep(before[-1] + 1 - watch.steady())
    watch.ahead += 20
    await asyncio.sleep(LOOK_SECONDS)
    assert watch.looks == before


@story
async def test_neither_an_error_nor_a_bug_ends_the_rounds(watch: Watch) -> None:
    await asyncio.sleep(1)
    for trouble in (ChainError("away"), ZeroDivisionError("a bug")):
        watch.trouble = trouble
        with capture_logs() as logs:
            await asyncio.sleep(10 * LONGEST_PAUSE)
        assert len(logs) == 1
        assert bool(logs[0]["exc_info"]) == isinstance(trouble, ZeroDivisionError), "a bug is shown in full"
    watch.trouble = None
    moment = watch.steady()
    await asyncio.sleep(LONGEST_PAUSE)
    assert watch.since(moment)


def test_waiting_for_nothing_is_noticed() -> None:
    """What these tests rest on: on virtual time a story whose rounds have ended does not hang."""

    async def told() -> None:
        watch = Watch()
        watch.rounds.start()
        await watch.rounds.stop()
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="nothing is left"):
        run(told())
