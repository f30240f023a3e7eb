"""Creator, seeder and viewer: a data directory and a process each, driven as their owners would, by verbs and the API.

Nothing is shared between them but the chain, whose blocks somebody mines, and what one passes to another is a link.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from bct.cli.client import NodeClient, error_of
from bct.cli.demo import programs
from bct.cli.home import Home
from bct.config import ChainConfig
from bct.errors import BctError

MINE_SECONDS = 30.0

_CONFIG = """\
[chain]
url = "{url}"
cookie_file = "{cookie_file}"
zmq = "{zmq}"
faucet = "{faucet}"

[wire]
listen_port = 0

[api]
port = 0
"""


class Party:
    """One of the three. pid, listen, node: there once it has been started. payout: address where its earnings go."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.home = Home(directory / name)
        self.log = directory / f"{name}.log"
        self.payout: str
        self.pid: int
        self.listen: str
        self.node: NodeClient

    async def start(self, stack: AsyncExitStack, chain: ChainConfig) -> None:
        """A wallet of its own, and a node that runs until the stack ends. Raises BctError."""
        self.payout = (await self.verb("init"))["payout"]
        self.home.config.write_text(
            _CONFIG.format(url=chain.url, cookie_file=chain.cookie_file, zmq=chain.zmq, faucet=chain.faucet)
        )
        process = await programs.keep(stack, self._command("up", "--foreground"), self.log)
        up = self._read("up", await programs.line(process))
        self.pid, self.listen, self.node = process.pid, up["listen"], NodeClient(self.home)

    async def verb(self, *words: str) -> Any:
        """What ``bct WORDS --json`` prints. Raises BctError."""
        printed, _ = await programs.run(self._command(*words), self.log)
        return self._read(words[0], printed)

    async def get(self, path: str) -> Any:
        return await asyncio.to_thread(self.node.get, path)

    async def post(self, path: str, body: object) -> Any:
        return await asyncio.to_thread(self.node.post, path, body)

    async def delete(self, path: str) -> Any:
        return await asyncio.to_thread(self.node.delete, path)

    def _command(self, *words: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "bct.cli", *words, "--json", "--data-dir", str(self.home.root))

    def _read(self, word: str, printed: bytes) -> Any:
        try:
            said = json.loads(printed)
        except ValueError:
            raise BctError(f"the {self.name}'s bct {word} said nothing: see {self.log}") from None
        if "error" in said:
            raise BctError(f"the {self.name}'s bct {word}: {error_of(said)}")
        return said


async def mine(chain: ChainConfig) -> int:
    """One block; the chain's new height."""
    async with httpx.AsyncClient(trust_env=False, timeout=MINE_SECONDS) as http:
        answer = await http.post(f"{chain.faucet}/mine", json={"blocks": 1})
    return int(answer.json()["height"])
