"""The node over HTTP, for its owner on this machine: JSON under /api, films under /stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.types import ASGIApp

from bct import __version__
from bct.api import errors, metrics, money, plays, status, titles
from bct.api.door import STREAM, Door
from bct.api.stream import Stream
from bct.node.daemon import Ended, Node


def make_app(node: Node, secret: str, address: str, stop: Callable[[], Awaitable[list[Ended]]]) -> ASGIApp:
    """secret: what the owner shows, hex. address: where it is reached, http://host:port. stop: see `status.router`."""
    app = FastAPI(title="bct", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    errors.install(app)
    routers = (status.router(node, stop), titles.router(node), plays.router(node, address), money.router(node))
    for router in (*routers, metrics.router(node)):
        app.include_router(router)
    app.add_route(STREAM + "{token}/{name:path}", Stream(node).answer, methods=["GET"])
    return Door(app, secret, int(address.rpartition(":")[2]))
