"""What a service of a test answers in place of the truth: every kind of fault, switched on and off."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PATIENCE = 30.0

type Fault = Callable[[], Response | Awaitable[Response]]


@dataclass
class Switch:
    """In front of an app. always: instead of every answer; once: instead of the next ones. only: what a request's path
    has to hold for it. asked: methods and paths of all requests."""

    app: ASGIApp
    always: Fault | None = None
    once: deque[Fault] = field(default_factory=deque)
    only: str = ""
    asked: list[str] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope)
        self.asked.append(f"{request.method} {request.url.path}")
        self._news.set()
        fault = None
        if self.only in request.url.path:
            fault = self.once.popleft() if self.once else self.always
        if fault is None:
            return await self.app(scope, receive, send)
        answer = fault()
        response = answer if isinstance(answer, Response) else await answer
        return await response(scope, receive, send)

    async def until_asked(self, times: int) -> None:
        """So often since `asked` was cleared."""
        async with asyncio.timeout(PATIENCE):
            while len(self.asked) < times:
                self._news.clear()
                await self._news.wait()

    def off(self) -> None:
        self.always, self.only = None, ""
        self.once.clear()


def says(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Fault:
    """JSON."""
    return lambda: Response(json.dumps(body), status, headers, "application/json")


def html(status: int = 200) -> Fault:
    return lambda: Response("<!DOCTYPE html><h1>502 Bad Gateway</h1>", status, media_type="text/html")


def too_many(seconds: str | None = None) -> Fault:
    return lambda: JSONResponse({"status": 429}, 429, {"Retry-After": seconds} if seconds else None)


def huge(part: bytes = b"[" * (1 << 20)) -> Fault:
    """64 parts of a megabyte."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield part
            await asyncio.sleep(0)

    return lambda: StreamingResponse(parts(), media_type="application/json")


def silent() -> Fault:
    """No answer at all."""

    async def never() -> Response:
        await asyncio.Event().wait()
        raise AssertionError("never")

    return never
