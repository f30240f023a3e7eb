"""Whole nodes that reach the chain through ARC and WhatsOnChain alone: opened, paid over, settled, and lied to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bct.backends import chain_services
from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.bitcoin.chain import Outcome
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.channel.state import State
from bct.node.daemon import Node
from bct.node.till import Earning
from tests.nodes import running_node
from tests.services import Services, running_services
from tests.stage import fund, publish, watch
from tests.switch import html, says

pytestmark = pytest.mark.anyio

FRESH, CLEAN = 1_000, 100_000


@pytest.fixture
async def services(chain: ChainNode, tmp_path: Path) -> AsyncIterator[Services]:
    async with running_services(chain, tmp_path) as running:
        yield running


@dataclass
class Clock:
    """The seeder's: it stands still, and is put forward."""

    began: float = field(default_factory=time.time)
    ahead: float = 0.0

    def __call__(self) -> float:
        return self.began + self.ahead


@dataclass
class Pair:
    seeder: Node
    viewer: Node
    root: Path
    clock: Clock

    @property
    def earning(self) -> Earning:
        (only,) = self.seeder.till.earnings.values()
        return only


@asynccontextmanager
async def pair(services: Services, miner: RegtestMiner, root: Path) -> AsyncIterator[Pair]:
    """A seeder and a viewer with money, each with a chain of its own over the same services."""
    clock = Clock()
    one, other = (services.chain(file=root / f"{name}.headers") for name in ("seeder", "viewer"))
    async with (
        running_node(root / "seeder", one, unix=clock) as seeder,
        running_node(root / "viewer", other) as viewer,
    ):
        await fund(viewer, miner)
        yield Pair(seeder, viewer, root, clock)
    await one.close()
    await other.close()


async def test_a_film_is_bought_piece_by_piece_and_settled_60_to_40(
    services: Services, chain: ChainNode, miner: RegtestMiner, tmp_path: Path
) -> None:
    async with pair(services, miner, tmp_path) as two:
        title = await publish(two.seeder, tmp_path / "seeder")
        play = await two.viewer.play(title.link, None)
        assert await watch(play) == title.film
        await two.viewer.viewer.close(play)
        settlement = Tx.parse(two.earning.settlement)
        assert [o.value for o in settlement.outputs[:2]] == [12, 9]
        assert settlement.outputs[0].script == p2pkh(two.seeder.creator_key().hash)
        assert two.earning.state is State.SETTLED
        await miner.mine()
        place = await chain.place(settlement.txid)
        assert place
        assert place.confirmations == 1
        await two.viewer.watchman.look()
        (spending,) = two.viewer.purse.spendings.values()
        assert spending.payer.state is State.SETTLED
        assert 0 <= two.viewer.wallet.balance.confirmed - (100_000 - 21 - spending.fees) <= 2, (
            "never more than was said"
        )


async def opened(two: Pair) -> None:
    """A channel over which something was paid, and whose funding no block holds."""
    title = await publish(two.seeder, two.root / "seeder")
    play = await two.viewer.play(title.link, None)
    await watch(play, 0, 5 * 64 * 1024)
    assert two.earning.account.payee.paid > 0


async def test_two_that_say_yes_twice_make_a_funding_clean(
    services: Services, miner: RegtestMiner, tmp_path: Path
) -> None:
    """THREATS 58: ARC and WhatsOnChain, and both again half a minute later."""
    async with pair(services, miner, tmp_path) as two:
        await opened(two)
        assert two.earning.account.cap == FRESH
        two.clock.ahead = 29
        await two.seeder.till.look_again(two.earning)
        assert two.earning.account.cap == FRESH
        two.clock.ahead = 32
        await two.seeder.till.look_again(two.earning)
        assert two.earning.account.cap == CLEAN
        await miner.mine()
        await two.seeder.till.look_again(two.earning)
        assert two.earning.account.cap is None, "a block holds it, and the proof leads to a header of ours"


async def test_one_alone_does_not_however_often_it_is_asked(
    services: Services, miner: RegtestMiner, tmp_path: Path
) -> None:
    """THREATS 35, 58: the other one is silent, or speaks of something else."""
    async with pair(services, miner, tmp_path) as two:
        services.arc.switch.always, services.arc.switch.only = html(502), "/v1/txs"
        await opened(two)
        for ahead in (31, 62):
            two.clock.ahead = ahead
            await two.seeder.till.look_again(two.earning)
            assert two.earning.account.cap == FRESH
        services.arc.switch.off()
        services.woc.switch.always, services.woc.switch.only = html(502), "/tx/raw"
        for ahead in (63, 94):
            two.clock.ahead = ahead
            await two.seeder.till.look_again(two.earning)
        assert two.earning.account.cap == CLEAN, "each has said yes twice by now, half a minute apart"


async def test_one_word_of_another_spend_stops_everything(
    services: Services, miner: RegtestMiner, tmp_path: Path
) -> None:
    """THREATS 2, 58."""
    async with pair(services, miner, tmp_path) as two:
        await opened(two)
        txid = two.earning.outpoint.txid[::-1].hex()
        word = {"txid": txid, "status": 200, "txStatus": "DOUBLE_SPEND_ATTEMPTED", "competingTxs": ["0b" * 32]}
        services.arc.switch.always, services.arc.switch.only = says(200, [word]), "/v1/txs"
        await two.seeder.till.look_again(two.earning)
        assert two.earning.account.cap == 0


async def test_mined_is_what_is_proven(services: Services, miner: RegtestMiner, tmp_path: Path) -> None:
    """THREATS 3: an ARC that says so alone lifts no bound."""
    async with pair(services, miner, tmp_path) as two:
        await opened(two)
        txid = two.earning.outpoint.txid[::-1].hex()
        lie = {
            "txid": txid,
            "txStatus": "MINED",
            "blockHeight": 1,
            "blockHash": "0c" * 32,
            "merklePath": "01" + "00" * 40,
        }
        services.arc.switch.always, services.arc.switch.only = says(200, lie), f"/v1/tx/{txid}"
        await two.seeder.till.look_again(two.earning)
        assert two.earning.account.cap == FRESH


async def test_a_settlement_that_arc_only_says_it_passed_on_gets_there_all_the_same(
    services: Services, chain: ChainNode, miner: RegtestMiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """THREATS 35: ARC lies while WhatsOnChain is away. What nobody else sees is handed in again."""
    monkeypatch.setattr(chain_services, "LAG", 0.0)
    async with pair(services, miner, tmp_path) as two:
        await opened(two)
        await miner.mine()
        await two.seeder.watchman.look()
        settlement = await lied_about(two, services)
        assert await chain.place(settlement.txid) is None
        services.woc.switch.off()
        async with asyncio.timeout(30):
            while await chain.place(settlement.txid) is None:
                two.seeder.watchman.upkeep.handing.begin_anew()
                await two.seeder.watchman.look()
        assert two.earning.state in (State.CLOSING, State.SETTLED)


async def lied_about(two: Pair, services: Services) -> Tx:
    """The settlement that ARC says it has, and nobody was given."""
    services.woc.switch.always, services.woc.switch.only = html(502), "/tx/raw"
    tx, _ = two.earning.account.payee.settlement(two.seeder.till.keys.derive(two.earning.account.nonce))
    yes = {"txid": tx.txid[::-1].hex(), "status": 200, "txStatus": "SEEN_ON_NETWORK"}
    services.arc.switch.always, services.arc.switch.only = says(200, [yes]), "/v1/txs"
    await two.seeder.close_channel(two.earning.outpoint)
    assert two.earning.state is State.SETTLED, "as far as it was told"
    return tx


async def test_without_headers_nothing_is_opened_and_what_is_due_goes_out(
    services: Services, chain: ChainNode, miner: RegtestMiner, tmp_path: Path
) -> None:
    async with pair(services, miner, tmp_path) as two:
        await opened(two)
        await two.seeder.till.look_again(two.earning)
        services.woc.switch.always, services.woc.switch.only = html(502), "/block/"
        two.clock.ahead = 11 * 3600
        with pytest.raises(Exception, match="HTTP 502 is an error"):
            await two.seeder.watchman.look()
        place = await chain.place(Tx.parse(two.earning.settlement).txid)
        assert place is not None, "two hours before the expiry, block headers or not"
        (answer,) = await two.seeder.chain.broadcast([two.earning.settlement])
        assert answer.outcome is Outcome.KNOWN
