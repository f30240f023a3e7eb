"""The running node: up, until somebody asks it to end, and down in the order that money needs."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import structlog
import uvloop

from bct.api.app import make_app
from bct.api.server import ApiServer, address_of, bind
from bct.api.status import ended_view
from bct.api.watch import Watch
from bct.cli import tokens, wiring
from bct.cli.home import Home
from bct.cli.running import forget, tell
from bct.cli.watching import open_door
from bct.config import Config
from bct.node.daemon import Ended, Node
from bct.wallet.keyring import Keyring

log = structlog.get_logger()

STOP_SECONDS = 10.0
"""By then everything is settled, or saved to be settled after the next start."""


def run(home: Home, config: Config, keyring: Keyring, ready: Callable[[dict[str, Any]], None]) -> list[Ended]:
    """Until SIGINT, SIGTERM or /api/stop. ready: told once where the node is reached.

    Raises ConfigError, ChainError, StoreError, TemporaryError when it does not come up.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(home, config, keyring, ready))


class _End:
    """Somebody wants the node to end; everyone who asked hears what became of its payment channels."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.asked = asyncio.Event()
        self.ended: asyncio.Future[list[Ended]] = loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.asked.set)

    async def ask(self) -> list[Ended]:
        self.asked.set()
        return await asyncio.shield(self.ended)


async def _serve(home: Home, config: Config, keyring: Keyring, ready: Callable[[dict[str, Any]], None]) -> list[Ended]:
    end = _End()
    async with AsyncExitStack() as stack:
        listener = bind(config.api)
        stack.callback(listener.close)
        node = await wiring.make_node(stack, home, config, keyring)
        await node.start()
        secret, address = secrets.token_hex(32), address_of(listener)
        server = ApiServer(make_app(node, secret, address, end.ask), listener)
        server.start()
        if node.lookout:
            await open_door(stack, config.watchman.listen, Watch(node.lookout, node.bell, tokens.load(home)))
        found = {"pid": os.getpid(), "api": address, "listen": _listen(node)}
        tell(home, secret, found)
        stack.callback(forget, home)
        ready(found | {"wallet": "locked" if keyring.locked else "open", "log": str(home.log)})
        await end.asked.wait()
        ended = await _stop(node)
        end.ended.set_result(ended)
        await server.stop()
    return ended


async def _stop(node: Node) -> list[Ended]:
    ended: list[Ended] = []
    try:
        async with asyncio.timeout(STOP_SECONDS):
            ended = await node.stop()
    except TimeoutError:
        log.warning("not everything was settled in time; it will be after the next start", seconds=STOP_SECONDS)
    for view in map(ended_view, ended):
        log.info("channel at the end", channel=view.channel, role=view.role, paid=view.paid, txid=view.txid)
    return ended


def _listen(node: Node) -> str:
    return f"{node.config.wire.listen_host}:{node.hub.port}"
