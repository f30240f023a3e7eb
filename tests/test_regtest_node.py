"""The node that bct starts for itself: it comes up, goes down, survives being killed and never outlives its parent."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from bct.backends.node_rpc import NodeRpc
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.regtest_node import RegtestNode, find_bitcoind
from bct.errors import ChainError, ConfigError, TemporaryError
from tests.conftest import open_chain

pytestmark = pytest.mark.anyio

PATIENCE_MS = 30_000


async def height(node: RegtestNode) -> int:
    rpc = NodeRpc(node.url, node.cookie_file)
    try:
        count: int = await rpc.call("getblockcount")
    finally:
        await rpc.close()
    return count


async def mine(node: RegtestNode) -> None:
    chain = open_chain(node)
    await RegtestMiner(chain).start()
    await chain.close()


def program(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o700)
    return str(path)


async def test_it_comes_up_and_goes_down_and_up_again_with_its_chain(tmp_path: Path) -> None:
    node = await RegtestNode.start(tmp_path)
    await mine(node)
    await node.stop()
    assert node.process.returncode == 0
    again = await RegtestNode.start(tmp_path)
    assert await height(again) == 101
    await again.stop()


async def test_one_directory_holds_one_node(tmp_path: Path) -> None:
    node = await RegtestNode.start(tmp_path)
    with pytest.raises(TemporaryError, match="already running"):
        await RegtestNode.start(tmp_path)
    assert await height(node) == 0, "the first one goes on"
    await node.stop()
    await node.stop()


async def test_killed_without_a_word_it_finds_its_blocks_again(tmp_path: Path) -> None:
    node = await RegtestNode.start(tmp_path)
    await mine(node)
    await node.kill()
    assert (tmp_path / "regtest" / "bitcoind.pid").exists()
    assert node.cookie_file.exists()
    again = await RegtestNode.start(tmp_path)
    assert await height(again) == 101
    await again.stop()


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from bct.backends.regtest_node import RegtestNode\n"
        "async def main():\n"
        "    node = await RegtestNode.start(Path(sys.argv[1]))\n"
        "    print(node.process.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert os.getsid(pid) == pid, "a session of its own: Ctrl-C at our terminal is not for it"
            ended = select.poll()
            ended.register(os.pidfd_open(pid), select.POLLIN)
        finally:
            parent.kill()
    assert ended.poll(PATIENCE_MS)


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no program '/nowhere/bitcoind'"):
        await RegtestNode.start(tmp_path, "/nowhere/bitcoind")


def test_a_program_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = program(tmp_path / "bitcoind", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_bitcoind() == mine
    assert find_bitcoind(sys.executable) == sys.executable


async def test_a_node_that_does_not_come_up_is_quoted(tmp_path: Path) -> None:
    broken = program(tmp_path / "broken", "#!/bin/sh\necho Error: no room >&2; exit 3\n")
    with pytest.raises(ChainError, match="Error: no room"):
        await RegtestNode.start(tmp_path / "data", broken)
    silent = program(tmp_path / "silent", "#!/bin/sh\nexit 3\n")
    with pytest.raises(ChainError, match="exit code 3"):
        await RegtestNode.start(tmp_path / "data", silent)
