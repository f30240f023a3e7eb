"""A node's API in the test's own event loop, on a real port, and a client that is its owner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from starlette.types import ASGIApp

from bct.api.app import make_app
from bct.api.server import ApiServer, address_of, bind
from bct.config import ApiConfig
from bct.node.daemon import Ended, Node

SECRET = "5ec" + "0" * 61


@dataclass
class Desk:
    """stranger: a client that shows nothing."""

    address: str
    owner: httpx.AsyncClient
    stranger: httpx.AsyncClient

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Any app on a free port of its own; where."""
    listener = bind(ApiConfig(port=0))
    async with _served(ApiServer(app, listener)):
        yield address_of(listener)


@asynccontextmanager
async def desk(node: Node) -> AsyncIterator[Desk]:
    listener = bind(ApiConfig(port=0))
    address = address_of(listener)

    async def stop() -> list[Ended]:
        return []

    app = make_app(node, SECRET, address, stop)
    proof = {"Authorization": f"Bearer {SECRET}"}
    async with (
        _served(ApiServer(app, listener)),
        httpx.AsyncClient(base_url=address, headers=proof, trust_env=False) as owner,
        httpx.AsyncClient(base_url=address, trust_env=False) as stranger,
    ):
        yield Desk(address, owner, stranger)


@asynccontextmanager
async def _served(server: ApiServer) -> AsyncIterator[None]:
    server.start()
    try:
        yield
    finally:
        await server.stop()
