"""The HTTP server, inside the node's own event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from bct.config import ApiConfig
from bct.errors import ConfigError

_LAST_ANSWERS = 2
"""Seconds that requests under way have to end when the server stops."""


def bind(config: ApiConfig) -> socket.socket:
    """A listening socket. Raises ConfigError when the address is not this machine's own, or taken."""
    host = "127.0.0.1" if config.host == "localhost" else config.host
    try:
        if not ipaddress.ip_address(host).is_loopback:
            raise ConfigError(f"api.host is {config.host}: the owner's door opens on loopback only (127.0.0.1 or ::1)")
        listener = socket.create_server((host, config.port), family=_family(host))
        # Head and body of an answer are two small writes; the second would wait 40 ms for the first to be acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except ValueError:
        raise ConfigError(f"api.host is {config.host!r}: it is an address, 127.0.0.1 or ::1") from None
    except OSError as error:
        raise ConfigError(
            f"port {config.port} of {host} cannot be listened on ({error.strerror}): choose another with api.port"
        ) from None


def bind_anywhere(address: str) -> socket.socket:
    """A listening socket at host:port, which others may reach. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    try:
        listener = socket.create_server((host.strip("[]"), int(port)), family=_family(host))
    except (ValueError, OverflowError):
        raise ConfigError(f"watchman.listen is {address!r}: it is host:port, for example 0.0.0.0:8406") from None
    except OSError as error:
        raise ConfigError(f"{address} cannot be listened on ({error.strerror}): set watchman.listen") from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def address_of(listener: socket.socket) -> str:
    """Where the API is reached: http://host:port."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the node's: it settles first."""
        yield


class ApiServer:
    """Serves from `start` to `stop`."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                app,
                loop="none",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_LAST_ANSWERS,
            )
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def stop(self) -> None:
        """Lets requests under way end first."""
        self._server.should_exit = True
        if self._task:
            await self._task
