"""Fixtures that several test files share: a real BSV node in regtest, one for each pytest worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.regtest_node import RegtestNode
from bct.bitcoin.chain import Network

# That a machine is busy is no failure of ours; what takes long is bounded by the whole run.
settings.register_profile("bct", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bct")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def node(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RegtestNode]:
    """A BSV node, 101 blocks high once `miner` is there. Shared: leave no parked transactions, no mock time."""
    running = await RegtestNode.start(tmp_path_factory.mktemp("node"))
    yield running
    await running.stop()


@pytest.fixture(scope="session")
async def miner(node: RegtestNode) -> AsyncIterator[RegtestMiner]:
    """``await miner.pay(script, satoshi, count)`` and ``await miner.mine(blocks)``."""
    chain = open_chain(node)
    opened = RegtestMiner(chain)
    await opened.start()
    yield opened
    await chain.close()


@pytest.fixture
async def chain(node: RegtestNode, miner: RegtestMiner) -> AsyncIterator[ChainNode]:
    """A fresh `ChainNode` over the shared node."""
    opened = open_chain(node)
    yield opened
    await opened.close()


def open_chain(node: RegtestNode) -> ChainNode:
    return ChainNode(Network.REGTEST, node.url, Path(node.cookie_file), node.zmq)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests say of themselves that is worth reading when they pass: how far fuzzing got."""
    reports = terminalreporter.getreports("passed")
    for line in sorted({str(told) for report in reports for name, told in report.user_properties if name == "told"}):
        terminalreporter.write_line(line)
