"""The chain a node is wired to: one that is configured, or a regtest node of our own with somebody who mines on it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_node import RegtestNode, die_with_parent
from bct.bitcoin.chain import Network
from bct.cli.home import Home
from bct.config import ChainConfig
from bct.errors import ChainError, ConfigError

BLOCK_SECONDS = 2
"""How soon a block follows a transaction on the embedded chain."""
FAUCET_SECONDS = 60.0


async def start(stack: AsyncExitStack, home: Home, config: ChainConfig) -> ChainConfig:
    """How the chain is reached. What had to be started for it ends with the stack.

    Raises ConfigError, ChainError, TemporaryError.
    """
    if config.url:
        if not config.cookie_file or not config.zmq:
            raise ConfigError("chain.url is set: set chain.cookie_file and chain.zmq of that node as well")
        return config
    node = await RegtestNode.start(home.chain, config.bitcoind)
    stack.push_async_callback(node.stop)
    config = replace(config, url=node.url, cookie_file=str(node.cookie_file), zmq=node.zmq)
    return replace(config, faucet=config.faucet or await _start_faucet(stack, config))


async def connect(stack: AsyncExitStack, config: ChainConfig) -> ChainNode:
    """A chain that has answered. Raises ChainError."""
    chain = ChainNode(Network[config.network.upper()], config.url, Path(config.cookie_file), config.zmq)
    stack.push_async_callback(chain.close)
    found = (await chain.rpc.call("getblockchaininfo"))["chain"]
    if found != config.network:
        raise ConfigError(f"the node at {config.url} is on network {found!r}, not {config.network!r}")
    return chain


async def _start_faucet(stack: AsyncExitStack, config: ChainConfig) -> str:
    """Its address. It is a process of its own: a node neither mines nor gives coins away."""
    command = ("-m", "bct.backends.regtest_faucet", "--rpc", config.url, "--cookie", config.cookie_file)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "--interval", str(BLOCK_SECONDS)),
        stdin=DEVNULL,
        stdout=PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    stack.push_async_callback(_end, process)
    assert process.stdout
    try:
        address = await asyncio.wait_for(process.stdout.readline(), FAUCET_SECONDS)
    except TimeoutError:
        address = b""
    if not address:
        raise ChainError("the faucet of the embedded chain did not start: the log says why")
    return address.decode().strip()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()
