"""Questions over HTTPS to a service that belongs to somebody else: the one place where httpx's errors become ours.

Who could cheat: the service, and in clear text everybody on the way. An answer is read up to a limit and for so long,
no redirect is followed, and what should be JSON and is not is an error. We in turn ask no faster than the service
allows, and leave it alone for as long as it says: a question that would have to wait longer than `PATIENCE` fails at
once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx

from bct.errors import ChainError, ConfigError
from bct.units import Txid

TIMEOUT = 20.0
"""Seconds for a whole answer, however it trickles."""
PATIENCE = 5.0
"""Seconds that a question waits for its turn, at most twice."""
LONGEST_HOLD = 120.0
"""Seconds that a service can make us leave it alone, each time it says so."""
MAX_ANSWER = 8 << 20
_ATTEMPTS = 3
_FIRST_HOLD = 1.0
_HOLD = frozenset((429, 503))
_EXCERPT = 100


@dataclass(slots=True)
class Pace:
    """When the next question may be asked. gap: seconds between two. Times are any clock's that only goes forward."""

    gap: float = 0.0
    _next: float = field(default=0.0, init=False)

    def turn(self, now: float) -> float:
        """Seconds until it is this question's turn, which is taken; more than `PATIENCE`: it is not, ask later."""
        wait = max(0.0, self._next - now)
        if wait <= PATIENCE:
            self._next = now + wait + self.gap
        return wait

    def hold(self, now: float, seconds: float) -> None:
        """Nothing is asked for so long."""
        self._next = max(self._next, now + min(seconds, LONGEST_HOLD))


@dataclass(frozen=True, slots=True)
class Answer:
    """source: who said it, for errors."""

    source: str
    status: int
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Raises ChainError. Numbers with a point are Decimal."""
        try:
            return json.loads(self.body, parse_float=Decimal)
        except (ValueError, RecursionError):
            raise self.refused("is no JSON") from None

    def good(self) -> Answer:
        """Itself, unless it is an error. Raises ChainError."""
        if self.status != 200:
            raise self.refused("is an error")
        return self

    def hex(self, text: str) -> bytes:
        """A part of it that is hex. Raises ChainError."""
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise self.refused("is not the hex that it should be") from None

    def txid(self, text: str) -> Txid:
        """A part of it that is an id of a transaction or block, as people write them. Raises ChainError."""
        raw = self.hex(text)
        if len(raw) != 32:
            raise self.refused("is not the 64 hex digits that it should be")
        return Txid(raw[::-1])

    def refused(self, why: str) -> ChainError:
        return ChainError(f"{self.source}: what it answered with HTTP {self.status} {why}: {self.text[:_EXCERPT]!r}")


class Web:
    """One service. Use `close` when done."""

    def __init__(
        self, name: str, base: str, headers: Mapping[str, str], gap: float = 0.0, timeout: float = TIMEOUT
    ) -> None:
        """base: https://host/path, or http:// on this machine. gap: seconds between questions. Raises ConfigError."""
        _check(name, base)
        self.name = f"{name} at {urlsplit(base).netloc}"
        self._base = base.rstrip("/")
        self._pace = Pace(gap)
        self._timeout = timeout
        plain = {"Accept-Encoding": "identity"}  # a small answer could be a large one, packed
        self._http = httpx.AsyncClient(headers={**headers, **plain}, timeout=timeout, trust_env=False)

    async def get(self, path: str, limit: int = MAX_ANSWER) -> Answer:
        """Any answer but one that makes us wait. limit: bytes. Raises ChainError."""
        return await self._ask("GET", path, None, limit)

    async def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Answer:
        return await self._ask("POST", path, body, MAX_ANSWER, headers)

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(
        self, method: str, path: str, body: object, limit: int, headers: Mapping[str, str] | None = None
    ) -> Answer:
        clock = asyncio.get_running_loop().time
        for attempt in range(_ATTEMPTS):
            if (wait := self._pace.turn(clock())) > PATIENCE:
                break
            await asyncio.sleep(wait)
            answer, hold = await self._send(method, path, body, limit, headers)
            if answer.status not in _HOLD:
                return answer
            self._pace.hold(clock(), _FIRST_HOLD * 2**attempt if hold is None else hold)
        raise ChainError(f"{self.name} is asked more than it answers: it wants to be left alone for a while")

    async def _send(
        self, method: str, path: str, body: object, limit: int, headers: Mapping[str, str] | None
    ) -> tuple[Answer, float | None]:
        """The answer, and how long it wants to be left alone."""
        request = self._http.build_request(method, self._base + path, json=body, headers=headers)
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._http.send(request, stream=True)
                try:
                    content = await _read(response, limit)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise ChainError(f"{self.name} did not answer within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            raise ChainError(f"{self.name} does not answer: {str(error) or type(error).__name__}") from error
        if content is None:
            raise ChainError(f"{self.name} answered with more than {limit} bytes")
        return Answer(self.name, response.status_code, content), retry_after(response.headers.get("Retry-After", ""))


async def _read(response: httpx.Response, limit: int) -> bytes | None:
    """None beyond the limit."""
    parts, size = [], 0
    async for part in response.aiter_raw():
        parts.append(part)
        size += len(part)
        if size > limit:
            return None
    return b"".join(parts)


def retry_after(text: str) -> float | None:
    """Seconds. The header may hold a date too, by the service's clock: that is passed over."""
    return float(text) if text.isdecimal() and len(text) < 7 else None


def _check(name: str, base: str) -> None:
    """Raises ConfigError for an address that is none, or over which keys and answers would travel in the open."""
    try:
        parts = urlsplit(base)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.username
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"the address of {name} is written https://host/path, got {base!r}")
    if parts.scheme == "http" and not _is_here(parts.hostname or ""):
        raise ConfigError(f"{name} is asked over https: over {base} anybody on the way could answer in its place")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
