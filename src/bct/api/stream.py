"""The film as a player reads it: ``GET /stream/<token>/<name>``, with byte ranges, each piece sent once it is verified.

Who could cheat: a page or program that guesses the address, to spend the owner's money or to see what is watched; the
token is 16 random bytes, and what can be spent by reading is bounded by the play the token was made for. And the film,
which is a stranger's file: it is never sent as anything that a browser would run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import PurePosixPath
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bct.api import byte_range
from bct.api.errors import not_found, response
from bct.errors import BctError
from bct.node.daemon import Node
from bct.node.play import Play

log = structlog.get_logger()

_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
}
_HARMLESS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def path_of(play: Play) -> str:
    """Where the play is read."""
    name = play.swarm.metainfo.name if play.swarm.metainfo else "film"
    return f"/stream/{play.token}/{quote(name)}"


class Stream:
    """`answer` is the endpoint of ``/stream/{token}/{name}``; the name is for the player's window and is not looked
    at."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def answer(self, request: Request) -> Response:
        play = self._node.viewer.plays.get(request.path_params["token"])
        if play is None:
            raise not_found("no film is played under this address (any more)")
        length = play.length
        headers = _headers(play)
        try:
            wanted = _wanted(request, headers["ETag"], length)
        except byte_range.UnsatisfiableError:
            return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{length}"})
        start, end = wanted or (0, length)
        status = 206 if wanted else 200
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{length}"
        headers["Content-Length"] = str(end - start)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return _Film(play, start, end, status, headers)


def _wanted(request: Request, etag: str, length: int) -> tuple[int, int] | None:
    if not byte_range.is_current(request.headers.get("if-range"), etag):
        return None
    return byte_range.parse(request.headers.get("range"), length)


def _headers(play: Play) -> dict[str, str]:
    metainfo = play.swarm.metainfo
    suffix = PurePosixPath(metainfo.name).suffix.lower() if metainfo else ""
    return _HARMLESS | {
        "Accept-Ranges": "bytes",
        "Content-Type": _TYPES.get(suffix, "application/octet-stream"),
        "ETag": f'"{play.swarm.infohash.hex()}"',
    }


class _Film(Response):
    """Bytes [start, end) of a play. Nothing is sent before the first of them is there, so that what stops the buying
    until then has a status of its own; later it ends the connection, and the play says why."""

    def __init__(self, play: Play, start: int, end: int, status: int, headers: dict[str, str]) -> None:
        super().__init__(status_code=status, headers=headers)
        self._play = play
        self._start = start
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ends as soon as the player goes away: nothing more is bought for it then."""
        sending = asyncio.create_task(self._send(scope, receive, send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            sending.cancel()
            ended = (await asyncio.gather(sending, gone, return_exceptions=True))[0]
        if isinstance(ended, Exception):
            raise ended

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._play.read(self._start, self._end)) as parts:
            try:
                first = await anext(parts, None)
            except BctError as error:
                await response(error)(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if first is not None:
                await send({"type": "http.response.body", "body": first, "more_body": True})
            await self._rest(parts, send)

    async def _rest(self, parts: AsyncGenerator[memoryview], send: Send) -> None:
        try:
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except BctError as error:
            log.info("stream ended early", token=self._play.token[:8], text=str(error))
            return  # short of its Content-Length: the server closes the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
