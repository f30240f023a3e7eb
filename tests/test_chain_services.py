"""`ChainServices` over ARC and WhatsOnChain, with a real node behind both: what every chain must do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.chain_services import ChainServices
from bct.backends.regtest_miner import RegtestMiner
from tests.conformance.chain import STORIES, Story
from tests.services import Services, running_services

pytestmark = pytest.mark.anyio


@pytest.fixture
async def services(chain: ChainNode, tmp_path: Path) -> AsyncIterator[Services]:
    async with running_services(chain, tmp_path) as running:
        yield running


@pytest.fixture
async def net(services: Services) -> AsyncIterator[ChainServices]:
    opened = services.chain()
    yield opened
    await opened.close()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_it_is_a_chain(story: Story, net: ChainServices, miner: RegtestMiner) -> None:
    await story(net, miner)
