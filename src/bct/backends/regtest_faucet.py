"""Coins and blocks over HTTP, for regtest only: ``python -m bct.backends.regtest_faucet --rpc URL --cookie FILE``.

A process of its own and no part of a node, since on a real network mining and selling coins are not either.

``POST /pay {"hash": <40 hex>, "satoshi": n, "count": n}`` (or "script" instead of "hash") pays count outputs of satoshi
each and mines them → ``{"txid"}``

``POST /mine {"blocks": n}`` → ``{"height"}``
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.bitcoin.chain import Network
from bct.bitcoin.script import p2pkh
from bct.errors import BctError, ChainError, ConfigError
from bct.units import PubKeyHash, txid_hex

_MOST = 1000
"""Outputs a payment, blocks a request."""


def faucet_app(miner: RegtestMiner) -> Starlette:
    """The faucet over HTTP, as the module's head says."""

    async def pay(body: dict[str, Any]) -> dict[str, Any]:
        tx = await miner.pay(_script(body), _number(body, "satoshi", 21 * 10**14), _number(body, "count", _MOST))
        await miner.mine()
        return {"txid": txid_hex(tx.txid)}

    async def mine(body: dict[str, Any]) -> dict[str, Any]:
        await miner.mine(_number(body, "blocks", _MOST))
        return {"height": await miner.height()}

    return Starlette(routes=[_route("/pay", pay), _route("/mine", mine)])


def _route(path: str, answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> Route:
    async def endpoint(request: Request) -> JSONResponse:
        try:
            body = await request.json()
            if not isinstance(body, dict):
                raise ConfigError(f"the body is an object, got {type(body).__name__}")
            return JSONResponse(await answer(body))
        except (BctError, ValueError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    return Route(path, endpoint, methods=["POST"])


def _script(body: dict[str, Any]) -> bytes:
    if "script" in body:
        return bytes.fromhex(str(body["script"]))
    pubkey_hash = bytes.fromhex(str(body.get("hash", "")))
    if len(pubkey_hash) != 20:
        raise ConfigError(f"'hash' is the 20 bytes of a public key's hash in hex, got {len(pubkey_hash)} bytes")
    return p2pkh(PubKeyHash(pubkey_hash))


def _number(body: dict[str, Any], name: str, most: int) -> int:
    number = body.get(name, 1)
    if not isinstance(number, int) or not 1 <= number <= most:
        raise ConfigError(f"{name!r} is a number from 1 to {most}, got {number!r}")
    return number


async def serve(arguments: argparse.Namespace) -> None:
    """Until it is ended. Prints its address on one line as soon as it can be asked."""
    # It listens to no notifications, so it needs no ZMQ address.
    chain = ChainNode(Network.REGTEST, arguments.rpc, arguments.cookie, zmq="")
    miner = RegtestMiner(chain)
    await miner.start()
    listener = socket.create_server(("127.0.0.1", arguments.port))
    server = uvicorn.Server(uvicorn.Config(faucet_app(miner), log_level="warning"))
    clock = asyncio.create_task(_mine_every(miner, arguments.interval)) if arguments.interval else None
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    try:
        await server.serve(sockets=[listener])
    finally:
        if clock:
            clock.cancel()
        await chain.close()


async def _mine_every(miner: RegtestMiner, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await miner.mine_waiting()
        except ChainError as error:
            print(error, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bct.backends.regtest_faucet", description="A regtest miner.")
    parser.add_argument("--rpc", required=True, help="the node's RPC address, http://host:port")
    parser.add_argument("--cookie", required=True, type=Path, help="the node's cookie file")
    parser.add_argument("--port", type=int, default=0, help="where to listen on 127.0.0.1; 0: any free port")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between blocks, if any transaction waits")
    try:
        asyncio.run(serve(parser.parse_args()))
    except BctError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
