"""The way to a watchman elsewhere: HTTP, with a token that its owner has given us."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from bct.channel.watched import Watched, encode
from bct.errors import AuthError, ConfigError, RemoteProtocolError, TemporaryError

_SECONDS = 20.0


class HttpPost:
    """A `WatchPost`. Use `close` when done."""

    def __init__(self, address: str) -> None:
        """address: ``https://host:port/#token``, as `bct watchman token` shows it. Raises ConfigError."""
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.fragment:
            raise ConfigError(
                "watchman.send_to names watchmen as https://host:port/#token, the way bct watchman token shows it"
            )
        self.name = f"{parts.scheme}://{parts.netloc}"
        self._address = f"{self.name}{parts.path.rstrip('/')}/watch"
        headers = {"Authorization": f"Bearer {parts.fragment}", "Content-Type": "application/json"}
        self._http = httpx.AsyncClient(headers=headers, timeout=_SECONDS, trust_env=False)

    async def send(self, watched: Watched) -> None:
        try:
            answer = await self._http.post(self._address, content=encode(watched))
        except httpx.HTTPError as error:
            raise TemporaryError(f"it does not answer: {error or type(error).__name__}") from error
        if answer.status_code == httpx.codes.OK:
            return
        text = f"it answers {answer.status_code}: {answer.text[:200]}"
        match answer.status_code:
            case httpx.codes.UNAUTHORIZED:
                raise AuthError(text)
            case httpx.codes.BAD_REQUEST:
                raise RemoteProtocolError("refused", text)
        raise TemporaryError(text)

    async def close(self) -> None:
        await self._http.aclose()
