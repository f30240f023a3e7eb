"""A whole node, wired as the command line wires it, in a process of its own: one that can be killed.

    python -m tests.node_process ROOT WORDS URL COOKIE ZMQ LINK PIECES [WATCHMAN]

With a link it plays; with an empty one it has a title of so many pieces on sale, and tells the watchman what it earns.
It says where it stands in lines of JSON on stdout, and lives until it is killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from bct.backends.regtest_node import RegtestNode, die_with_parent
from bct.cli.home import Home
from bct.cli.wiring import make_node
from bct.config import ChainConfig, Config, WatchmanConfig, WireConfig
from bct.node.daemon import Node
from bct.title.link import TorrentLink, parse
from bct.wallet.keyring import Keyring
from bct.wallet.paths import RECEIVE
from tests.stage import publish, watch

PATIENCE = 60.0


class NodeProcess:
    """The other side: what a test does with one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self) -> dict[str, Any]:
        """The next thing it says about itself; its log is passed over."""
        assert self._process.stdout
        async with asyncio.timeout(PATIENCE):
            while line := await self._process.stdout.readline():
                if line.startswith(b"{"):
                    said: dict[str, Any] = json.loads(line)
                    return said
        raise AssertionError(f"the node has ended with {await self._process.wait()}")

    def go_on(self) -> None:
        assert self._process.stdin
        self._process.stdin.write(b"go on\n")

    async def kill(self) -> None:
        """As the power does."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


@asynccontextmanager
async def node_process(
    root: Path, words: str, chain: RegtestNode, link: str = "", *, pieces: int = 24, watchman: str = ""
) -> AsyncIterator[NodeProcess]:
    """The same root and words bring it back after it was killed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, str(root), words, chain.url, str(chain.cookie_file), chain.zmq),
        *(link, str(pieces), *([watchman] if watchman else [])),
        stdin=PIPE,
        stdout=PIPE,
        preexec_fn=die_with_parent,
        cwd=Path(__file__).parents[1],
    )
    node = NodeProcess(process)
    try:
        yield node
    finally:
        await node.kill()


async def main(root: str, words: str, url: str, cookie: str, zmq: str, link: str, pieces: str, *told: str) -> None:
    home = Home(Path(root))
    home.make()
    config = Config(
        chain=ChainConfig(url=url, cookie_file=cookie, zmq=zmq),
        wire=WireConfig(listen_port=0),
        watchman=WatchmanConfig(send_to=told),
    )
    async with AsyncExitStack() as stack:
        node = await make_node(stack, home, config, Keyring.of_words(words))
        await node.start()
        await (play(node, link) if link else sell(node, home.root, int(pieces)))
        await asyncio.Event().wait()


async def sell(node: Node, root: Path, pieces: int) -> None:
    """{"port", "link"}: of the one title, published the first time."""
    title = next(iter(node.library.titles.values()), None)
    link = node.link(title) if title else (await publish(node, root, pieces)).link
    say(port=node.hub.port, link=str(link))


async def play(node: Node, link: str) -> None:
    """{"address"}, then waits to be told to go on; and when the film has been read {"film", "bought", "fees"}."""
    say(address=node.wallet.new_address().hex())
    await asyncio.to_thread(sys.stdin.readline)
    await node.wallet.sync([(*RECEIVE, 0)])
    where = parse(link)
    assert isinstance(where, TorrentLink)
    viewing = await node.play(where, None)
    film = await watch(viewing)
    say(film=hashlib.sha1(film).hexdigest(), bought=viewing.budget.pieces, fees=viewing.budget.fees)


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
