"""Questions to services that are not ours: how fast, how long, how much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from bct.backends.web import LONGEST_HOLD, MAX_ANSWER, PATIENCE, Answer, Pace, Web, retry_after
from bct.errors import ChainError, ConfigError
from tests.desk import serving
from tests.switch import Switch, html, huge, says, silent, too_many

pytestmark = pytest.mark.anyio


async def _echo(request: Request) -> Response:
    return JSONResponse({"headers": dict(request.headers), "body": (await request.body()).decode(), "rate": 0.5})


@pytest.fixture
async def switch() -> Switch:
    return Switch(Starlette(routes=[Route("/base/echo", _echo, methods=["GET", "POST"])]))


@pytest.fixture
async def web(switch: Switch) -> AsyncIterator[Web]:
    async with serving(switch) as address:
        opened = Web("the echo", f"{address}/base/", {"X-Key": "secret"}, timeout=0.5)
        yield opened
        await opened.close()


class TestPace:
    def test_questions_are_so_far_apart(self) -> None:
        pace = Pace(0.25)
        assert [pace.turn(now) for now in (10.0, 10.0, 10.0, 10.6, 20.0)] == [0.0, 0.25, 0.5, pytest.approx(0.15), 0.0]

    def test_who_would_wait_too_long_is_told_and_does_not_make_others_wait_longer(self) -> None:
        pace = Pace()
        pace.hold(0.0, 60.0)
        assert pace.turn(1.0) == 59.0
        assert pace.turn(1.0) == 59.0
        assert pace.turn(60.0 - PATIENCE) == PATIENCE

    def test_nobody_makes_us_wait_for_ever(self) -> None:
        pace = Pace()
        pace.hold(0.0, 1e9)
        assert pace.turn(LONGEST_HOLD) == 0.0

    def test_a_shorter_hold_does_not_end_a_longer_one(self) -> None:
        pace = Pace()
        pace.hold(0.0, 60.0)
        pace.hold(0.0, 1.0)
        assert pace.turn(10.0) == 50.0

    @given(st.lists(st.floats(0, 10), max_size=20))
    def test_however_they_come_no_two_are_closer_than_the_gap(self, pauses: list[float]) -> None:
        pace, now, asked = Pace(1.0), 0.0, []
        for pause in pauses:
            now += pause
            wait = pace.turn(now)
            if wait <= PATIENCE:
                asked.append(now + wait)
        assert all(later - earlier >= 1.0 - 1e-9 for earlier, later in pairwise(asked))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        ("-1", None),
        ("1.5", None),
        ("9" * 400, None),
        ("Wed, 21 Oct 2026", None),
    ],
)
def test_what_retry_after_says(text: str, seconds: float | None) -> None:
    assert retry_after(text) == seconds


async def test_a_question_carries_its_headers_and_comes_back_as_json(web: Web) -> None:
    found = (await web.post("/echo", {"a": [1]}, {"X-More": "yes"})).json()
    assert (found["headers"]["x-key"], found["headers"]["x-more"], found["body"]) == ("secret", "yes", '{"a":[1]}')
    assert found["rate"] == Decimal("0.5")
    assert (await web.get("/nowhere")).status == 404


async def test_an_answer_without_end_is_cut_off(web: Web, switch: Switch) -> None:
    switch.once.append(huge())
    with pytest.raises(ChainError, match=f"answered with more than {MAX_ANSWER} bytes"):
        await web.get("/echo")
    switch.once.append(says(200, "x" * 500))
    with pytest.raises(ChainError, match="answered with more than 100 bytes"):
        await web.get("/echo", limit=100)


async def test_silence_and_trickling_have_an_end(web: Web, switch: Switch) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    for fault in (silent(), lambda: StreamingResponse(trickle())):
        switch.once.append(fault)
        with pytest.raises(ChainError, match=r"the echo at 127\.0\.0\.1:\d+ did not answer within 0.5 s"):
            await web.get("/echo")


async def test_a_service_that_is_gone(web: Web) -> None:
    gone = Web("it", "http://127.0.0.1:1", {})
    with pytest.raises(ChainError, match=r"it at 127\.0\.0\.1:1 does not answer"):
        await gone.get("/")


async def test_what_is_no_json_is_shown_and_not_believed(web: Web, switch: Switch) -> None:
    for fault in (html(), html(502), says(200, "")):
        switch.once.append(fault)
        answer = await web.get("/echo")
        if answer.text != '""':
            with pytest.raises(ChainError, match=f"HTTP {answer.status} is no JSON: '<!DOCTYPE html>"):
                answer.json()
    for body in (b"", b"\xff\xfe", b"[" * 100_000, b"1" * 5_000, b"{'a': 1}"):
        with pytest.raises(ChainError, match="is no JSON"):
            Answer("it", 200, body).json()


async def test_a_redirect_is_not_followed(web: Web, switch: Switch) -> None:
    switch.once.append(lambda: RedirectResponse("http://127.0.0.1:1/elsewhere"))
    assert (await web.get("/echo")).status == 307


async def test_who_is_told_to_wait_waits_and_asks_again(web: Web, switch: Switch) -> None:
    switch.once.extend([too_many("0"), too_many("0")])
    assert (await web.get("/echo")).status == 200
    assert len(switch.asked) == 3


async def test_who_is_told_to_wait_long_asks_no_more_until_then(web: Web, switch: Switch) -> None:
    switch.always = too_many("60")
    for _ in range(3):
        with pytest.raises(ChainError, match="wants to be left alone for a while"):
            await web.get("/echo")
    assert len(switch.asked) == 1


async def test_who_is_told_to_wait_again_and_again_gives_up(web: Web, switch: Switch) -> None:
    switch.always = too_many("0")
    with pytest.raises(ChainError, match="wants to be left alone"):
        await web.get("/echo")
    assert len(switch.asked) == 3


@pytest.mark.parametrize(
    ("base", "says_what"),
    [
        ("http://arc.example.com", "asked over https"),
        ("http://10.0.0.1:9090", "asked over https"),
        ("ftp://127.0.0.1", "is written https://host/path"),
        ("arc.example.com", "is written https://host/path"),
        ("https://", "is written https://host/path"),
        ("https://user:secret@arc.example.com", "is written https://host/path"),
        ("https://arc.example.com/?key=1", "is written https://host/path"),
        ("https://[", "is written https://host/path"),
        ("", "is written https://host/path"),
    ],
)
def test_addresses_that_are_none_or_open_to_everybody(base: str, says_what: str) -> None:
    with pytest.raises(ConfigError, match=says_what):
        Web("ARC", base, {})


async def test_good_addresses() -> None:
    for base in ("https://arc.example.com", "http://localhost:9090/arc", "http://127.0.0.1:9090", "http://[::1]:9090"):
        await Web("ARC", base, {}).close()
