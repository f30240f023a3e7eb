"""Speaks to the running node over its API; its errors come out as the errors they were."""

from __future__ import annotations

import json
from typing import Any

import httpx

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
            secret = home.cookie.read_text().strip()
        except FileNotFoundError:
            raise self._silent() from None
        except (OSError, ValueError) as error:
            raise AuthError(f"the running node's files in {home.root} cannot be read: {error}") from None
        self.address: str = self.found["api"]
        self._http = httpx.Client(
            base_url=self.address, headers={"Authorization": f"Bearer {secret}"}, timeout=TIMEOUT, trust_env=False
        )

    def get(self, path: str) -> Any:
        return self._call("GET", path)

    def post(self, path: str, body: object = None) -> Any:
        return self._call("POST", path, body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.ConnectError:
            raise self._silent() from None
        except httpx.HTTPError as error:
            text = f"the node at {self.address} broke off: {error or type(error).__name__}; its log is {self._home.log}"
            raise NotRunningError(text) from None
        answer = _read(response)
        if response.is_success:
            return answer
        raise error_of(answer)

    def _silent(self) -> NotRunningError:
        return NotRunningError(f"no node runs in {self._home.root}: start it with bct up")


def error_of(said: dict[str, str]) -> BctError:
    """The error that an answer tells of."""
    return _KINDS.get(said.get("error", ""), BctError)(said.get("text", "the node did not say why"))


def _read(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise NotRunningError(f"what answers at {response.url} is no bct node: start it with bct up") from None
