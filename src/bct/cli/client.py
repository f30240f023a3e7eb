"""Speaks to the running node over its API; its errors come out as the errors they were.

The standard library's HTTP is enough for that, and is there in a tenth of the time that httpx takes to import.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from bct import errors
from bct.cli.home import Home
from bct.errors import AuthError, BctError, NotRunningError

TIMEOUT = 60.0
_KINDS = {
    kind.word(): kind
    for kind in (
        errors.AuthError,
        errors.ChainError,
        errors.ConfigError,
        errors.FundsError,
        errors.MediaError,
        errors.StoreError,
        errors.TemporaryError,
        errors.WalletLockedError,
    )
}


class NodeClient:
    """Reads where the node is from its data directory: `found`. Raises NotRunningError, AuthError."""

    def __init__(self, home: Home) -> None:
        self._home = home
        try:
            self.found: dict[str, Any] = json.loads(home.running.read_bytes())
            self._secret = home.cookie.read_text().strip()
        except FileNotFoundError:
            raise self._silent() from None
        except (OSError, ValueError) as error:
            raise AuthError(f"the running node's files in {home.root} cannot be read: {error}") from None
        self.address: str = self.found["api"]

    def get(self, path: str) -> Any:
        return self._call("GET", path)

    def post(self, path: str, body: object = None) -> Any:
        return self._call("POST", path, body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON. Raises the error that the node answers with, NotRunningError when nothing does."""
        try:
            status, raw = self._exchange(method, path, json.dumps(body).encode())
        except ConnectionRefusedError:
            raise self._silent() from None
        except (OSError, HTTPException) as error:
            text = f"the node at {self.address} broke off: {error or type(error).__name__}; its log is {self._home.log}"
            raise NotRunningError(text) from None
        try:
            answer = json.loads(raw)
        except ValueError:
            raise NotRunningError(f"what answers at {self.address} is no bct node: start it with bct up") from None
        if status >= 400:
            raise error_of(answer)
        return answer

    def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._secret}", "Content-Type": "application/json"}
        connection = HTTPConnection(urlsplit(self.address).netloc, timeout=TIMEOUT)
        try:
            connection.request(method, path, None if method == "GET" else body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _silent(self) -> NotRunningError:
        return NotRunningError(f"no node runs in {self._home.root}: start it with bct up")


def error_of(said: dict[str, str]) -> BctError:
    """The error that an answer tells of."""
    return _KINDS.get(said.get("error", ""), BctError)(said.get("text", "the node did not say why"))
