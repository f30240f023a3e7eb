"""JSON-RPC to a BSV node: the one place where httpx's errors and the node's become ours.

The node writes a new secret into its cookie file at each start, so a refused one is read again before giving up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from bct.errors import ChainError

TIMEOUT = 30.0
_LIMITS = httpx.Limits(max_connections=8)  # the node queues 16 calls by default and drops the rest
_HEADERS = {"Connection": "close"}
"""The node sends an answer in several small writes. On a connection kept open each waits for a delayed acknowledgement,
40 ms; on a new one none does, and a call takes 1.6 ms."""


class RpcRefusalError(ChainError):
    """The node answered, and the answer is no; `code` as in its rpc/protocol.h."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"the node refused {method}: {message} (code {code})")
        self.code = code
        self.message = message


NOT_FOUND = -5
OUT_OF_RANGE = -8

Call = tuple[str, *tuple[Any, ...]]
"""A method and its arguments."""


class NodeRpc:
    """Calls to one node. Money in answers is Decimal, never float."""

    def __init__(self, url: str, cookie_file: Path) -> None:
        self._url = url
        self._cookie_file = cookie_file
        self._auth: tuple[str, str] | None = None
        self._http = httpx.AsyncClient(headers=_HEADERS, timeout=TIMEOUT, limits=_LIMITS, trust_env=False)

    async def call(self, method: str, *arguments: Any) -> Any:
        """The result. Raises RpcRefusalError when the node says no, ChainError when it cannot be asked."""
        answer = await self._post({"id": 0, "method": method, "params": arguments})
        return _result(method, answer)

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Many calls in one request; a refused one has its RpcRefusalError in its place."""
        if not calls:
            return []
        body = [{"id": i, "method": method, "params": arguments} for i, (method, *arguments) in enumerate(calls)]
        answers = await self._post(body)
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise ChainError(f"the node at {self._url} was asked {len(calls)} things and answered otherwise")
        return [_result_or_refusal(call[0], answer) for call, answer in zip(calls, answers, strict=True)]

    async def all(self, calls: Sequence[Call]) -> list[Any]:
        """Like `batch`, but raises the first refusal."""
        answers = await self.batch(calls)
        for answer in answers:
            if isinstance(answer, RpcRefusalError):
                raise answer
        return answers

    async def close(self) -> None:
        await self._http.aclose()

    async def _post(self, body: object) -> Any:
        content = json.dumps(body)
        response = await self._send(content)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._auth = None
            response = await self._send(content)
        try:
            return json.loads(response.content, parse_float=Decimal)
        except ValueError:
            text = f"the node at {self._url} answered HTTP {response.status_code} without JSON"
            raise ChainError(f"{text}; is its cookie file {self._cookie_file}?") from None

    async def _send(self, content: str) -> httpx.Response:
        self._auth = self._auth or self._read_cookie()
        try:
            return await self._http.post(self._url, content=content, auth=self._auth)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ChainError(f"the node at {self._url} does not answer: {reason}") from error

    def _read_cookie(self) -> tuple[str, str]:
        try:
            user, _, password = self._cookie_file.read_text().strip().partition(":")
        except OSError as error:
            raise ChainError(f"the node's cookie {self._cookie_file} cannot be read: {error.strerror}") from error
        return user, password


def _result(method: str, answer: Any) -> Any:
    if not isinstance(answer, dict):
        raise ChainError(f"the node answered {method} with something that is no JSON-RPC")
    error = answer.get("error")
    if error is not None:
        raise RpcRefusalError(method, error["code"], error["message"])
    return answer.get("result")


def _result_or_refusal(method: str, answer: Any) -> Any:
    try:
        return _result(method, answer)
    except RpcRefusalError as refusal:
        return refusal
