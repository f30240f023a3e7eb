"""The door at which ARC may knock: a small HTTP server that turns each callback into a hint.

Who could cheat: anybody who finds the door, and ARC itself. So a callback has to show the token that ARC was given and
nobody else has; then it is a reason to look, and its body is not even read: what became of a transaction is asked for.
Without a door ARC is polled, and nothing is lost but some seconds.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bct.backends.arc import Callback
from bct.errors import ConfigError

_LAST_ANSWERS = 1
"""Seconds that answers under way have when the door closes."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the node's."""
        yield


class CallbackDoor:
    """Open from `start` to `stop`. callback: what ARC is told."""

    def __init__(self, url: str, listen: str, hint: Callable[[], None]) -> None:
        """url: under which ARC reaches the door. listen: host:port here. Raises ConfigError."""
        self.callback = Callback(url, secrets.token_hex(32))
        self._hint = hint
        self._listener = _bind(listen)
        settings = uvicorn.Config(
            self._answer,
            interface="asgi3",
            loop="none",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LAST_ANSWERS,
        )
        self._server = _Server(settings)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task:
            await self._task
        self._listener.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        shown = Request(scope).headers.get("Authorization", "")
        good = hmac.compare_digest(shown.encode(), f"Bearer {self.callback.token}".encode())
        if good:
            self._hint()
        await Response(status_code=200 if good else 401)(scope, receive, send)


def _bind(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"chain.callback_listen is written host:port, got {listen!r}")
    try:
        return socket.create_server((host, int(port)))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"{listen} cannot be listened on ({error}): set chain.callback_listen") from None
