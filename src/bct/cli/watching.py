"""A watchman apart as a process: no wallet, no films, no keys; a chain, a directory, and a door for those who have a
token."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import structlog
import uvloop

from bct.api.server import ApiServer, address_of, bind_anywhere
from bct.api.watch import Watch
from bct.backends.watched_files import WatchedFiles
from bct.cli import chains, tokens
from bct.cli.home import Home
from bct.cli.running import forget, tell
from bct.config import Config
from bct.errors import ConfigError
from bct.node.bell import Bell
from bct.node.lookout import Lookout

log = structlog.get_logger()

LISTEN = "127.0.0.1:8406"


def check(home: Home, config: Config) -> None:
    """Whether a watchman can run here. Raises ConfigError."""
    if home.wallet.exists():
        raise ConfigError(
            f"{home.root} is a node's: set watchman.listen there, or give the watchman its own --data-dir"
        )
    if not config.chain.url:
        raise ConfigError("a watchman looks at the chain that its payees use: set chain.url, cookie_file and zmq")


def run(home: Home, config: Config, ready: Callable[[dict[str, Any]], None]) -> None:
    """Until SIGINT or SIGTERM. ready: told once where it is reached. Raises ConfigError, ChainError, StoreError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(home, config, ready))


async def _serve(home: Home, config: Config, ready: Callable[[dict[str, Any]], None]) -> None:
    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    async with AsyncExitStack() as stack:
        chain = await chains.connect(stack, await chains.start(stack, home, config.chain))
        bell, secret = Bell(), secrets.token_hex(32)
        lookout = Lookout((chain,), WatchedFiles(home.watched), bell, lambda: int(time.time()), time.monotonic)
        await lookout.start()
        stack.push_async_callback(lookout.stop)
        address = await open_door(
            stack, config.watchman.listen or LISTEN, Watch(lookout, bell, tokens.load(home), secret)
        )
        network = chain.network.name.lower()
        found = {"pid": os.getpid(), "network": network, "api": address}
        tell(home, secret, found)
        stack.callback(forget, home)
        log.info("watchman up", address=address, channels=len(lookout.guarded))
        ready(found)
        await end.wait()


async def open_door(stack: AsyncExitStack, listen: str, watch: Watch) -> str:
    """Where others hand over what shall be watched; its address. Raises ConfigError."""
    listener = bind_anywhere(listen)
    stack.callback(listener.close)
    server = ApiServer(watch.app(), listener)
    server.start()
    stack.push_async_callback(server.stop)
    return address_of(listener)
