"""The faucet as a process of its own, asked over HTTP as `bct wallet topup` does."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.node_rpc import NodeRpc
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.regtest_node import RegtestNode, find_bitcoind
from bct.bitcoin.chain import Tip
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.errors import ChainError, FundsError
from bct.units import Outpoint, txid_from_hex
from tests.coins import new_key
from tests.conformance.chain import until
from tests.conftest import open_chain

pytestmark = pytest.mark.anyio

FAUCET = (sys.executable, "-m", "bct.backends.regtest_faucet")


@pytest.fixture(scope="module")
async def own_node(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RegtestNode]:
    """Not the shared one: two miners on one node would spend each other's coins."""
    running = await RegtestNode.start(tmp_path_factory.mktemp("faucet"))
    yield running
    await running.stop()


@pytest.fixture(scope="module")
async def faucet(own_node: RegtestNode) -> AsyncIterator[httpx.AsyncClient]:
    arguments = ("--rpc", own_node.url, "--cookie", str(own_node.cookie_file), "--interval", "0.05")
    process = await asyncio.create_subprocess_exec(*FAUCET, *arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
        yield client
    process.terminate()
    await process.wait()


@pytest.fixture
async def own_chain(own_node: RegtestNode) -> AsyncIterator[ChainNode]:
    opened = open_chain(own_node)
    yield opened
    await opened.close()


async def ask(faucet: httpx.AsyncClient, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    response = await faucet.post(path, json=body)
    return response.status_code, response.json()


async def test_it_pays_a_key_and_mines_the_payment(faucet: httpx.AsyncClient, own_chain: ChainNode) -> None:
    key = new_key()
    status, told = await ask(faucet, "/pay", {"hash": key.hash.hex(), "satoshi": 4_000, "count": 3})
    assert status == 200
    tx = Tx.parse(await own_chain.transaction(txid_from_hex(told["txid"])) or b"")
    assert [o.value for o in tx.outputs if o.script == p2pkh(key.hash)] == [4_000] * 3
    place = await own_chain.place(tx.txid)
    assert place is not None
    assert place.height is not None


async def test_it_pays_any_script(faucet: httpx.AsyncClient, own_chain: ChainNode) -> None:
    _, told = await ask(faucet, "/pay", {"script": "5152", "satoshi": 1})
    raw = await own_chain.transaction(txid_from_hex(told["txid"]))
    assert Tx.parse(raw or b"").outputs[0].script == b"\x51\x52"


async def test_it_mines(faucet: httpx.AsyncClient, own_chain: ChainNode) -> None:
    before = (await own_chain.tip()).height
    assert await ask(faucet, "/mine", {"blocks": 3}) == (200, {"height": before + 3})


async def test_it_mines_by_itself_what_waits_and_nothing_else(faucet: httpx.AsyncClient, own_chain: ChainNode) -> None:
    events = own_chain.events()
    quiet = await anext(events)
    assert isinstance(quiet, Tip)
    miner = RegtestMiner(own_chain)
    await miner.start()
    await miner.pay(b"\x51", 1_000)
    event = await until(events, lambda e: isinstance(e, Tip) and e != quiet)
    assert isinstance(event, Tip)
    assert event.header.height == quiet.header.height + 1


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/pay", {"hash": "00", "satoshi": 1}, "20 bytes"),
        ("/pay", {"hash": "zz", "satoshi": 1}, "non-hexadecimal"),
        ("/pay", {"hash": "00" * 20, "satoshi": 0}, "'satoshi' is a number from 1"),
        ("/pay", {"hash": "00" * 20, "satoshi": 1, "count": 1001}, "'count' is a number from 1 to 1000, got 1001"),
        ("/pay", {"hash": "00" * 20, "satoshi": 21 * 10**14}, "holds"),
        ("/mine", {"blocks": "many"}, "'blocks' is a number"),
        ("/mine", [], "an object"),
    ],
)
async def test_what_it_cannot_do_it_says(faucet: httpx.AsyncClient, path: str, body: Any, told: str) -> None:
    status, answer = await ask(faucet, path, body)
    assert status == 400
    assert told in answer["error"]


def test_it_refuses_any_other_network(tmp_path: Path) -> None:
    """A real node on the test network, alone in the world."""
    flags = ("-testnet", "-listen=0", "-connect=127.0.0.1:1", "-dnsseed=0", "-disablewallet", "-rpcbind=127.0.0.1")
    limits = ("-excessiveblocksize=0", "-maxstackmemoryusageconsensus=0", "-minminingtxfee=0.00000100")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [find_bitcoind(), *flags, *limits, f"-datadir={tmp_path}", f"-rpcport={port}", "-rpcallowip=127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as node:
        try:
            cookie = tmp_path / "testnet3" / ".cookie"
            asyncio.run(answering(f"http://127.0.0.1:{port}", cookie))
            arguments = (*FAUCET, "--rpc", f"http://127.0.0.1:{port}", "--cookie", str(cookie))
            ended = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
            assert ended.returncode == 2
            assert "regtest only, this node runs on 'test'" in ended.stderr
        finally:
            node.terminate()


async def answering(url: str, cookie: Path) -> None:
    rpc = NodeRpc(url, cookie)
    while True:
        try:
            await rpc.call("getblockcount")
        except ChainError:
            await asyncio.sleep(0.05)
        else:
            return await rpc.close()


async def test_the_miner_says_when_its_purse_is_empty(chain: ChainNode, miner: RegtestMiner) -> None:
    with pytest.raises(FundsError, match="mine some blocks"):
        await miner.pay(b"\x51", 21 * 10**14)


async def test_a_miner_finds_its_unspent_coins_again(chain: ChainNode, miner: RegtestMiner) -> None:
    tx = await miner.pay(b"\x51", 1_000)
    second = RegtestMiner(chain)
    await second.start()
    paid = await second.pay(b"\x52", 1_000)
    assert all(coin.outpoint != tx.inputs[0].outpoint for coin in paid.inputs)
    assert await chain.spender(Outpoint(paid.txid, 0)) is None
    await miner.start()
