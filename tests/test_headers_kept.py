"""Our copy of the headers, over a source that is made for the test, and over the two real kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from bct.backends.chain_node import ChainNode
from bct.backends.header_sources import BlockHeadersService, HeaderSource, WocHeaders
from bct.backends.headers import Headers
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.web import Web
from bct.backends.woc import Woc
from bct.bitcoin.chain import Network
from bct.bitcoin.header_chain import DEEPEST
from bct.bitcoin.headers import RULES, Rules, hash_of
from bct.errors import ChainError, StoreError
from tests.header_parts import row, rules_of
from tests.services import Services, running_services
from tests.switch import html, says
from tests.test_chain_node import mine_elsewhere

pytestmark = pytest.mark.anyio

TRUNK = row(700)


@dataclass
class Row:
    """A `HeaderSource` of headers in memory. some: how many it gives at a time. asked: from which heights."""

    raws: list[bytes]
    some: int = 50
    asked: list[int] = field(default_factory=list)
    name: str = "the row"

    async def newest(self) -> tuple[int, list[bytes]]:
        return max(0, len(self.raws) - 3), self.raws[-3:]

    async def headers(self, first: int) -> list[bytes]:
        self.asked.append(first)
        if not self.raws[first:]:
            raise ChainError("the row has no such header")
        return self.raws[first : first + self.some]


def kept(source: HeaderSource, tmp_path: Path, rules: Rules | None = None) -> Headers:
    return Headers(rules or rules_of(TRUNK, 500), source, tmp_path / "headers")


async def test_it_begins_at_the_pinned_block_and_follows(tmp_path: Path) -> None:
    source = Row(TRUNK[:600])
    headers = kept(source, tmp_path)
    tip = await headers.sync()
    assert (tip.height, tip.hash) == (599, hash_of(TRUNK[599]))
    assert min(source.asked) == 500 - 147
    source.raws = TRUNK[:603]
    source.asked.clear()
    assert (await headers.sync()).height == 602
    assert source.asked == [], "the newest three were enough"
    source.raws = TRUNK
    assert (await headers.sync()).height == 699
    assert min(source.asked) == 602 + 1 - DEEPEST


async def test_a_reorganisation_is_followed(tmp_path: Path) -> None:
    source = Row(TRUNK[:600])
    headers = kept(source, tmp_path)
    await headers.sync()
    source.raws = [*TRUNK[:560], *row(60, TRUNK[:560], salt=1)]
    assert (await headers.sync()).hash == hash_of(source.raws[-1])
    again = kept(Row(source.raws), tmp_path)
    assert (await again.sync()).height == 619, "and what was kept is the new branch"


async def test_it_comes_back_from_its_file_and_asks_only_for_news(tmp_path: Path) -> None:
    await kept(Row(TRUNK[:600]), tmp_path).sync()
    source = Row(TRUNK[:602])
    again = kept(source, tmp_path)
    assert (await again.sync()).height == 601
    assert source.asked == []
    for damage in (b"", b"\0", bytes(4000)):
        (tmp_path / "headers").write_bytes(damage)
        anew = kept(Row(TRUNK[:602]), tmp_path)
        assert (await anew.sync()).height == 601
    torn = (tmp_path / "headers").read_bytes()[:-37]
    (tmp_path / "headers").write_bytes(torn)
    source = Row(TRUNK[:602])
    assert (await kept(source, tmp_path).sync()).height == 601
    assert source.asked == [], "the whole headers of a torn file were good"


async def test_a_file_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "headers").mkdir()
    with pytest.raises(StoreError, match="headers cannot be read"):
        kept(Row(TRUNK), tmp_path)
    nowhere = Headers(rules_of(TRUNK, 500), Row(TRUNK), tmp_path / "nowhere" / "headers")
    with pytest.raises(ChainError, match="cannot be kept in"):
        await nowhere.sync()


async def test_old_blocks_are_fetched_when_a_proof_reaches_down(tmp_path: Path) -> None:
    source = Row(TRUNK)
    headers = kept(source, tmp_path)
    await headers.sync()
    assert headers.height_of(hash_of(TRUNK[100])) is None
    source.asked.clear()
    old = await headers.header(100)
    assert old
    assert old.hash == hash_of(TRUNK[100])
    assert old.median_time == old.time - 5 * 600
    source.asked.clear()
    assert await headers.header(200)
    assert headers.height_of(hash_of(TRUNK[100])) == 100
    assert source.asked == []
    first = await headers.header(0)
    assert first
    assert first.previous == bytes(32)
    again = kept(Row(TRUNK), tmp_path)
    assert (await again.sync()).height == 699
    assert again.height_of(hash_of(TRUNK[0])) == 0, "they are kept as well"


async def test_a_lie_about_old_blocks_is_found_out(tmp_path: Path) -> None:
    source = Row(TRUNK)
    headers = kept(source, tmp_path)
    await headers.sync()
    source.raws = [*row(300, salt=9), *TRUNK[300:]]
    with pytest.raises(ChainError, match="the row shows headers that cannot be: headers that are said to be in a row"):
        await headers.header(100)
    source.raws = TRUNK
    assert await headers.header(100)


async def test_lies_are_errors_and_change_nothing(tmp_path: Path) -> None:
    source = Row(TRUNK[:600])
    headers = kept(source, tmp_path)
    tip = await headers.sync()
    for lie in (
        row(620, salt=1),
        [*TRUNK[:600], TRUNK[601]],
        [*TRUNK[:600], b"short"],
        [*TRUNK[:480], *row(200, TRUNK[:480], salt=1)],
    ):
        source.raws = lie
        with pytest.raises(ChainError, match=r"the row shows headers that cannot be: .*do not join ours"):
            await headers.sync()
    source.raws = TRUNK[:600]
    assert await headers.sync() == tip
    with pytest.raises(ChainError, match="pinned is"):
        await kept(Row(row(620, salt=1)), tmp_path / "..", rules_of(TRUNK, 500)).sync()


async def test_a_source_that_is_behind_or_has_nothing(tmp_path: Path) -> None:
    source = Row(TRUNK[:600])
    headers = kept(source, tmp_path)
    tip = await headers.sync()
    source.raws = TRUNK[:590]
    assert await headers.sync() == tip
    source.raws = []
    assert await headers.sync() == tip
    with pytest.raises(ChainError, match="no such header"):
        await kept(Row(TRUNK[:400]), tmp_path / "..").sync()


# -- over what services really show ----------------------------------------------------------------------------------


@pytest.fixture
async def services(chain: ChainNode, miner: RegtestMiner, tmp_path: Path) -> AsyncIterator[Services]:
    async with running_services(chain, tmp_path) as running:
        yield running


@pytest.fixture(params=["whatsonchain", "block headers service"])
async def source(request: pytest.FixtureRequest, services: Services) -> AsyncIterator[WocHeaders | BlockHeadersService]:
    if request.param == "whatsonchain":
        woc = Woc(services.woc_url, Network.REGTEST, rate=1000)
        yield WocHeaders(woc.web)
        await woc.close()
    else:
        service = BlockHeadersService(services.headers_url)
        yield service
        await service.close()


async def test_the_nodes_own_headers_arrive(
    source: HeaderSource, services: Services, chain: ChainNode, miner: RegtestMiner
) -> None:
    headers = Headers(RULES[Network.REGTEST], source, services.file)
    for blocks in (0, 1, 5, 30, 130):  # in the newest ten, in one answer, and in files
        if blocks:
            await miner.mine(blocks)
        tip = await headers.sync()
        assert tip == await chain.tip()
    for height in (0, 1, 10, 11, tip.height - 1):
        assert await headers.header(height) == await chain.header(height)
    assert await headers.header(tip.height + 1) is None


async def test_the_nodes_reorganisation_arrives(
    source: HeaderSource, services: Services, chain: ChainNode, miner: RegtestMiner
) -> None:
    headers = Headers(RULES[Network.REGTEST], source, services.file)
    mined = await miner.mine(3)  # with many more taken back the node would think that it is cut off, and stop
    before = await headers.sync()
    await chain.rpc.call("invalidateblock", mined[0][::-1].hex())
    assert await headers.sync() == before, "what is shown has less work"
    await mine_elsewhere(chain, 4)
    assert await headers.sync() == await chain.tip()


@pytest.mark.parametrize(
    "body", [[], {}, None, "x", 5, [{"height": 3}], [{"height": "3"}], {"header": {}, "height": 1}, {"files": 1}, [[]]]
)
async def test_whatever_comes_instead_is_an_error(source: HeaderSource, services: Services, body: Any) -> None:
    for service in (services.woc, services.headers):
        service.switch.always = says(200, body)
    with pytest.raises(ChainError, match="what it answered with HTTP 200"):
        await source.newest()
    with pytest.raises(ChainError, match="what it answered with HTTP 200"):
        await source.headers(0)
    for service in (services.woc, services.headers):
        service.switch.always = html(502)
    with pytest.raises(ChainError, match="HTTP 502 is an error: '<!DOCTYPE"):
        await source.newest()


async def test_numbers_that_do_not_fit_are_an_error(services: Services) -> None:
    service = BlockHeadersService(services.headers_url)
    good = {"prevBlockHash": "00" * 32, "merkleRoot": "00" * 32, "version": -1, "nonce": 0}
    services.headers.switch.once.append(
        says(200, {"height": 5, "header": good | {"creationTimestamp": 1, "difficultyTarget": 1}})
    )
    height, (raw,) = await service.newest()
    assert (height, raw[:4]) == (5, b"\xff\xff\xff\xff"), "a version with a sign is the same four bytes"
    for change in ({"creationTimestamp": 2**32}, {"difficultyTarget": -1}, {"nonce": 10**30}, {"merkleRoot": "00"}):
        header = good | {"creationTimestamp": 1, "difficultyTarget": 1} | change
        services.headers.switch.once.append(says(200, {"height": 5, "header": header}))
        with pytest.raises(ChainError, match="what it answered"):
            await service.newest()
    await service.close()


async def test_headers_in_hex_are_read_as_well(services: Services, chain: ChainNode) -> None:
    """The documentation says binary; clients have met both."""
    web = Web("WhatsOnChain", f"{services.woc_url}/regtest", {})
    source = WocHeaders(web)
    first, newest = await source.newest()
    raw = b"".join(newest)
    services.woc.switch.once.append(lambda: PlainTextResponse(raw.hex()))
    assert await source.headers(first) == newest
    for bad in (raw.hex()[:-2], "zz" * 80, ""):
        services.woc.switch.once.append(partial(PlainTextResponse, bad))
        with pytest.raises(ChainError, match="what it answered"):
            await source.headers(first)
    await web.close()
