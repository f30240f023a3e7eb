"""Who may speak to the node over HTTP: its owner on this machine, and no web page of anybody's.

Who could cheat: a page in the owner's browser that calls 127.0.0.1, directly or under a name of its own that it has
pointed there (DNS rebinding); another user of the machine; a program that sends a body without end. In this order:

* the Host header names this very address, so a rebound name gets nowhere;
* Origin and Sec-Fetch-Site, which a page cannot forge, are absent or our own;
* all but the stream needs the secret of the cookie file, which only the owner can read; a stream's address carries a
  secret of its own, since players send no headers;
* a body has at most `MAX_BODY` bytes.
"""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bct.api.errors import response
from bct.errors import AuthError

MAX_BODY = 4 << 20
STREAM = "/stream/"
_OWN_SITE = frozenset(("same-origin", "none"))


class Door:
    """ASGI middleware around everything. secret: hex, as in the cookie file. port: where the server listens."""

    def __init__(self, app: ASGIApp, secret: str, port: int) -> None:
        self._app = app
        self._bearer = f"Bearer {secret}".encode()
        self._hosts = frozenset(f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope["path"], Headers(scope=scope))
        if refusal:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, _bounded(receive), send)

    def _refusal(self, path: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if host not in self._hosts:
            return response(AuthError(f"this node is not called {host[:80]!r}"))
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and origin != f"http://{host}":
            return response(AuthError(f"pages of {origin[:80]!r} may not speak to this node"))
        if site is not None and site not in _OWN_SITE:
            return response(AuthError("other sites' pages may not speak to this node"))
        if not path.startswith(STREAM) and not self._is_owner(headers):
            return response(AuthError("the secret of the data directory's .cookie file is missing or wrong"))
        return None

    def _is_owner(self, headers: Headers) -> bool:
        shown = headers.get("authorization", "").encode("latin-1")
        return hmac.compare_digest(shown, self._bearer)


def _bounded(receive: Receive) -> Receive:
    """What follows is read no further than this, whatever length was announced."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY:
            raise HTTPException(413, f"a request's body has at most {MAX_BODY} bytes")
        return message

    return limited
