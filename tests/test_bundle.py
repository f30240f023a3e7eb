"""Questions at the same time, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from bct.backends.bundle import Bundle
from bct.errors import ChainError

pytestmark = pytest.mark.anyio


@dataclass
class Service:
    """Doubles numbers, unless one of them is 13."""

    asked: list[tuple[int, ...]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    busy: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()
        self.bundle = Bundle(self.answer, 3)

    async def answer(self, numbers: Sequence[int]) -> dict[int, int]:
        self.asked.append(tuple(numbers))
        self.busy.set()
        await self.open.wait()
        if 13 in numbers:
            raise ChainError("13 is not answered")
        return {number: 2 * number for number in numbers}


async def test_what_is_asked_at_once_is_one_question_of_at_most_so_many() -> None:
    service = Service()
    assert await asyncio.gather(*map(service.bundle.get, range(7))) == [0, 2, 4, 6, 8, 10, 12]
    assert service.asked == [(0, 1, 2), (3, 4, 5), (6,)]
    assert await service.bundle.get(1) == 2
    assert service.asked[3:] == [(1,)], "nothing is remembered"


async def test_what_two_ask_is_asked_once_and_both_hear_it() -> None:
    service = Service()
    assert await asyncio.gather(*map(service.bundle.get, (5, 5))) == [10, 10]
    assert service.asked == [(5,)]


async def test_what_comes_while_a_question_is_out_is_in_the_next() -> None:
    """Also the same once more: the first answer may have been on its way before something happened."""
    service = Service()
    service.open.clear()
    first = asyncio.create_task(service.bundle.get(1))
    await service.busy.wait()
    later = [asyncio.create_task(service.bundle.get(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    service.open.set()
    assert await asyncio.gather(first, *later) == [2, 2, 4]
    assert service.asked == [(1,), (1, 2)]


async def test_an_error_is_for_those_who_were_in_that_question() -> None:
    service = Service()
    answers = await asyncio.gather(*map(service.bundle.get, (1, 13, 2, 3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["13 is not answered"] * 3 + ["6"]
    assert await service.bundle.get(4) == 8


async def test_one_who_goes_away_takes_nobody_s_answer_along() -> None:
    service = Service()
    service.open.clear()
    first, other = (asyncio.create_task(service.bundle.get(5)) for _ in range(2))
    await service.busy.wait()
    first.cancel()
    service.open.set()
    assert await other == 10
    assert first.cancelled()
