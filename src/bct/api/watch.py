"""``/watch``: where payees hand over what a watchman apart shall hold. Unlike the owner's door it may face the world.

Who could cheat: anybody on the net. In this order: a token is shown, or nothing is read; a body has at most `MAX_BODY`
bytes and comes within `BODY_SECONDS`; the token has room and allowance left; and what was brought is checked like
any stranger's bytes (`channel.watched`). Who has a token sees what was handed over under it, and nothing else.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from bct.api.errors import response
from bct.channel.watched import decode
from bct.errors import AuthError, BctError, ConfigError, RemoteProtocolError, TemporaryError
from bct.node.lookout import Guarded, Lookout

MAX_BODY = 256 << 10
BODY_SECONDS = 20.0


class Guest(msgspec.Struct, frozen=True):
    """One channel that is watched. paid: satoshis to others than its payer. due: when it is settled from here, Unix
    seconds. state: as the chain shows it."""

    channel: str
    paid: int
    expiry: int
    due: int
    state: str


def guest(guarded: Guarded) -> Guest:
    checked = guarded.checked
    return Guest(str(guarded.outpoint), checked.paid, checked.lock.expiry, checked.due, guarded.state.value)


class Watch:
    """tokens: name of each, by what is shown."""

    def __init__(self, lookout: Lookout, tokens: Mapping[str, str]) -> None:
        self._lookout = lookout
        self._tokens = {token.encode(): name for token, name in tokens.items()}

    def app(self) -> ASGIApp:
        return Starlette(routes=[Route("/watch", self._take, methods=["POST"]), Route("/watch", self._show)])

    async def _take(self, request: Request) -> Response:
        try:
            owner = self._owner(request)
            kept = await self._lookout.take(owner, decode(await _body(request)))
        except RemoteProtocolError as error:
            return response(ConfigError(str(error)))
        except BctError as error:
            return response(error)
        return _json({"kept": kept})

    async def _show(self, request: Request) -> Response:
        try:
            owner = self._owner(request)
        except BctError as error:
            return response(error)
        return _json({"channels": [guest(one) for one in self._lookout.of(owner)]})

    def _owner(self, request: Request) -> str:
        """Raises AuthError. Every token is compared, so that nothing is learned from how long it takes."""
        shown = request.headers.get("authorization", "").encode("latin-1").removeprefix(b"Bearer ")
        found = [name for token, name in self._tokens.items() if hmac.compare_digest(token, shown)]
        if not found:
            raise AuthError("the token is missing or wrong: ask whoever runs this watchman for one")
        return found[0]


async def _body(request: Request) -> bytes:
    """Raises ConfigError, TemporaryError."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise ConfigError(f"what is handed over has at most {MAX_BODY} bytes")
    except (TimeoutError, ClientDisconnect):
        raise TemporaryError(f"it did not come within {BODY_SECONDS:.0f} s") from None
    return bytes(body)


def _json(answer: object) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
