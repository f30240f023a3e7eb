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
from bct.api.metrics import metrics_response, of_a_lookout, of_alarms, registry_of
from bct.channel.watched import decode
from bct.errors import AuthError, BctError, ConfigError, RemoteProtocolError, TemporaryError
from bct.node.bell import Bell
from bct.node.lookout import Guarded, Lookout

MAX_BODY = 256 << 10
BODY_SECONDS = 20.0


class Guest(msgspec.Struct, frozen=True):
    """One channel that is watched. owner: the name of the token it came with. paid: satoshis to others than its payer.
    due: when it is settled from here, Unix seconds. state: as the chain shows it."""

    owner: str
    channel: str
    paid: int
    expiry: int
    due: int
    state: str


def guest(guarded: Guarded) -> Guest:
    checked, state = guarded.checked, guarded.state.value
    return Guest(guarded.owner, str(guarded.outpoint), checked.paid, checked.lock.expiry, checked.due, state)


class Overview(msgspec.Struct, frozen=True):
    """What whoever runs the watchman sees. height: of the best block; None before the chain's first answer."""

    reachable: bool
    height: int | None
    alarms: list[str]
    channels: list[Guest]


class Watch:
    """tokens: the name of each, by what is shown. secret: what the watchman's own owner shows; empty where the owner
    has a door of its own."""

    def __init__(self, lookout: Lookout, bell: Bell, tokens: Mapping[str, str], secret: str = "") -> None:
        self._lookout = lookout
        self._bell = bell
        self._secret = secret.encode()
        self._tokens = {token.encode(): name for token, name in tokens.items()}
        self._registry = registry_of(lambda: (*of_a_lookout(lookout), of_alarms(bell)))

    def app(self) -> ASGIApp:
        routes = [
            Route("/watch", self._take, methods=["POST"]),
            Route("/watch", self._show),
            Route("/metrics", self._metrics),
        ]
        return Starlette(routes=routes, exception_handlers={BctError: _refuse})

    async def _take(self, request: Request) -> Response:
        owner = self._name(request)
        try:
            kept = await self._lookout.take(owner, decode(await _body(request)))
        except RemoteProtocolError as error:
            raise ConfigError(str(error)) from error
        return _json({"kept": kept})

    async def _show(self, request: Request) -> Response:
        if not self._is_owner(request):
            return _json({"channels": [guest(one) for one in self._lookout.of(self._name(request))]})
        newest, alarms = self._lookout.newest, [alarm.text for alarm in self._bell.alarms]
        channels = [guest(one) for one in self._lookout.guarded.values()]
        return _json(Overview(self._lookout.reachable, newest.height if newest else None, alarms, channels))

    async def _metrics(self, request: Request) -> Response:
        if not self._is_owner(request):
            raise AuthError("metrics are for whoever runs this watchman: show the secret of its .cookie file")
        return metrics_response(self._registry)

    def _is_owner(self, request: Request) -> bool:
        return bool(self._secret) and hmac.compare_digest(_shown(request), self._secret)

    def _name(self, request: Request) -> str:
        """Of who asks. Every token is compared, so that nothing is learned from how long it takes. Raises AuthError."""
        shown = _shown(request)
        found = [name for token, name in self._tokens.items() if hmac.compare_digest(token, shown)]
        if not found:
            raise AuthError("the token is missing or wrong: ask whoever runs this watchman for one")
        return found[0]


def _shown(request: Request) -> bytes:
    return request.headers.get("authorization", "").encode("latin-1").removeprefix(b"Bearer ")


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, BctError)
    return response(error)


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
