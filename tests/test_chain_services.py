"""`ChainServices` over ARC and WhatsOnChain, with a real node behind both: what every chain must do, and what becomes
of services that lie, fail or disagree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from bct.backends import chain_services
from bct.backends.arc_callbacks import CallbackDoor
from bct.backends.chain_node import ChainNode
from bct.backends.chain_services import ChainServices
from bct.backends.news import News
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.regtest_node import RegtestNode
from bct.bitcoin import address
from bct.bitcoin.chain import GOOD, Broadcast, HistoryItem, Outcome, Place, Seen, Spend, Tip
from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import FINAL, Tx
from bct.errors import ChainError, ConfigError
from bct.units import PubKeyHash, Txid, txid_hex
from tests.coins import coins_of, some_coins, spend
from tests.conformance.chain import NOWHERE, STORIES, Story, a_dead_source_says_so, outcomes, until
from tests.conftest import open_chain
from tests.services import Services, running_services
from tests.switch import Fault, html, huge, says, silent, too_many
from tests.test_chain_node import IN_A_WEEK, mine_elsewhere

pytestmark = pytest.mark.anyio

ACCEPTED, KNOWN, PARKED, CONFLICT, INVALID, UNREACHABLE = Outcome
PATIENCE = 30.0
ADDRESS, OTHER_ADDRESS = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8", "mfcGAzvis9JQAb6avB6WBGiGrgWzLxuGaC"
EMPTY: dict[str, Any] = {"result": None, "error": ""}


def raw_text(text: str) -> Fault:
    return lambda: PlainTextResponse(text)


def policy(satoshis: Any, size: Any) -> dict[str, Any]:
    return {"policy": {"miningFee": {"satoshis": satoshis, "bytes": size}}}


@pytest.fixture(scope="module")
async def running(
    node: RegtestNode, miner: RegtestMiner, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Services]:
    behind = open_chain(node)
    async with running_services(behind, tmp_path_factory.mktemp("services")) as services:
        yield services
    await behind.close()


@pytest.fixture
async def services(running: Services) -> AsyncIterator[Services]:
    """Without faults, and with none left behind."""
    yield running
    for service in (running.arc, running.woc, running.headers):
        service.switch.off()
    running.woc.blind.clear()


@pytest.fixture
async def net(services: Services) -> AsyncIterator[ChainServices]:
    opened = services.chain()
    yield opened
    await opened.close()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_it_is_a_chain(story: Story, net: ChainServices, miner: RegtestMiner) -> None:
    await story(net, miner)


async def test_it_is_one_with_a_headers_service_too(services: Services, miner: RegtestMiner) -> None:
    net = services.chain(own_headers=True)
    for name in ("headers_hang_together", "each_mined_transaction_is_proven_to_its_header"):
        await next(story for story in STORIES if story.__name__ == name)(net, miner)
    await net.close()


async def test_services_that_are_gone_are_unreachable(services: Services) -> None:
    services.arc_url, urls = "http://127.0.0.1:1", (services.arc_url, services.woc_url)
    services.woc_url = "http://127.0.0.1:1/v1/bsv"
    net = services.chain()
    services.arc_url, services.woc_url = urls
    await a_dead_source_says_so(net)
    for ask in (net.tip, net.fee_rate, lambda: net.place(NOWHERE), lambda: net.history(b"\x51")):
        with pytest.raises(ChainError, match=r"127\.0\.0\.1:1 does not answer"):
            await ask()
    await net.close()


async def test_arc_gets_what_the_inputs_spend(services: Services, net: ChainServices, miner: RegtestMiner) -> None:
    """In extended format (BRC-30), for parents in the same batch as well; without, where a parent is not to be had."""
    (coin,) = await some_coins(miner)
    services.arc.plain = 0
    parent = spend(coin)
    assert await outcomes(net, parent, spend(*coins_of(parent, coin.key))) == [ACCEPTED, ACCEPTED]
    assert services.arc.plain == 0
    services.woc.switch.always, services.woc.switch.only = html(502), "/hex"
    (other,) = await some_coins(miner)
    assert await outcomes(net, spend(other)) == [ACCEPTED], "this ARC takes the plain format too"
    assert services.arc.plain == 1


async def test_both_are_heard_and_each_is_told_apart(net: ChainServices, miner: RegtestMiner) -> None:
    (coin,) = await some_coins(miner)
    (answer,) = await net.broadcast([spend(coin).serialize()])
    (arc, said), (woc, known) = answer.said
    assert arc.startswith("ARC at 127.0.0.1:")
    assert woc.startswith("WhatsOnChain at 127.0.0.1:")
    assert (said, known) == (ACCEPTED, KNOWN)


async def test_what_is_not_final_is_parked_and_not_handed_on(
    services: Services, net: ChainServices, chain: ChainNode, miner: RegtestMiner
) -> None:
    (coin,) = await some_coins(miner)
    tip = await net.tip()
    services.arc.switch.asked.clear()
    later = spend(coin, sequence=FINAL - 1, locktime=IN_A_WEEK)
    assert await outcomes(net, later) == [PARKED]
    assert await outcomes(net, spend(coin, sequence=FINAL - 1, locktime=tip.height + 1)) == [PARKED]
    assert not services.arc.switch.asked
    assert await outcomes(chain, spend(coin, sequence=FINAL - 1, locktime=tip.height)) == [ACCEPTED], "the node agrees"
    (coin,) = await some_coins(miner)
    assert await outcomes(chain, spend(coin, sequence=FINAL - 1, locktime=tip.median_time - 1)) == [ACCEPTED]


# -- broadcasters -----------------------------------------------------------------------------------------------------

FAULTS: dict[str, Fault] = {
    "an error": says(500, {"status": 500, "title": "Internal"}),
    "generic": says(409, {"status": 409, "detail": "Transaction could not be processed"}),
    "bad request": says(400, {"status": 400, "detail": "error parsing transactions from request"}),
    "unprocessable": says(422, {"status": 422, "detail": "Unprocessable"}),
    "not authorized": says(401, {}),
    "told to wait": too_many("60"),
    "told to wait a moment": too_many("0"),
    "HTML": html(200),
    "a gateway's HTML": html(502),
    "huge": huge(),
    "empty": says(200, []),
    "null": says(200, None),
    "a number": says(200, 7),
    "of another": says(200, [{"txid": "0b" * 32, "txStatus": "SEEN_ON_NETWORK", "status": 200}]),
    "of another, alone": says(200, "0b" * 32),
    "queued": says(200, [{"txid": "", "txStatus": "QUEUED", "status": 200}]),
}


class TestABroadcasterFails:
    """THREATS 35."""

    @pytest.mark.parametrize("fault", FAULTS)
    async def test_arc(self, services: Services, miner: RegtestMiner, chain: ChainNode, fault: str) -> None:
        """The other one is heard, and has passed it on."""
        (coin,) = await some_coins(miner)
        net = services.chain()
        services.arc.switch.always, services.arc.switch.only = FAULTS[fault], "/v1/txs"
        tx = spend(coin)
        (answer,) = await net.broadcast([tx.serialize()])
        assert (answer.outcome, dict(answer.said)) == (
            ACCEPTED,
            dict(zip(names(answer), (UNREACHABLE, ACCEPTED), strict=True)),
        )
        assert await chain.place(tx.txid) == Place(None, 0)
        await net.close()

    @pytest.mark.parametrize("fault", FAULTS)
    async def test_whatsonchain(self, services: Services, miner: RegtestMiner, fault: str) -> None:
        (coin,) = await some_coins(miner)
        net = services.chain()
        services.woc.switch.always, services.woc.switch.only = FAULTS[fault], "/tx/raw"
        (answer,) = await net.broadcast([spend(coin).serialize()])
        assert [outcome for _, outcome in answer.said] == [ACCEPTED, UNREACHABLE]
        assert answer.outcome is ACCEPTED
        await net.close()

    @pytest.mark.parametrize("fault", FAULTS)
    async def test_both(self, services: Services, miner: RegtestMiner, chain: ChainNode, fault: str) -> None:
        (coin,) = await some_coins(miner)
        net = services.chain()
        services.arc.switch.always = services.woc.switch.always = FAULTS[fault]
        tx = spend(coin)
        (answer,) = await net.broadcast([tx.serialize()])
        assert answer.outcome is UNREACHABLE
        assert await chain.place(tx.txid) is None
        await net.close()

    async def test_both_are_silent(self, services: Services, miner: RegtestMiner) -> None:
        (coin,) = await some_coins(miner)
        net = services.chain(timeout=0.3)
        services.arc.switch.always = services.woc.switch.always = silent()
        (answer,) = await net.broadcast([spend(coin).serialize()])
        assert answer.outcome is UNREACHABLE
        assert "did not answer within 0.3 s" in answer.detail
        await net.close()

    async def test_who_is_told_to_wait_does_not_ask_again(self, services: Services, miner: RegtestMiner) -> None:
        (coin,) = await some_coins(miner)
        net = services.chain()
        services.arc.switch.always = too_many("60")
        services.arc.switch.asked.clear()
        for _ in range(3):
            (answer,) = await net.broadcast([spend(coin).serialize()])
            assert "wants to be left alone" not in answer.detail
            assert answer.outcome in GOOD
        assert len(services.arc.switch.asked) == 1
        await net.close()


def names(answer: Broadcast) -> list[str]:
    return [name for name, _ in answer.said]


def arc_item(tx: Tx, **fields: Any) -> dict[str, Any]:
    return {"txid": txid_hex(tx.txid), "status": 200, "title": "OK"} | fields


class TestBroadcastersDisagree:
    """THREATS 35, 58."""

    async def said(self, services: Services, miner: RegtestMiner, **fields: Any) -> tuple[Tx, Broadcast]:
        """What becomes of a good transaction of which ARC says this."""
        (coin,) = await some_coins(miner)
        tx = spend(coin)
        net = services.chain()
        services.arc.switch.always = says(200, [arc_item(tx, **fields)])
        services.arc.switch.only = "/v1/txs"
        (answer,) = await net.broadcast([tx.serialize()])
        services.arc.switch.off()
        await net.close()
        return tx, answer

    async def test_one_word_of_another_spend_outweighs_a_yes(self, services: Services, miner: RegtestMiner) -> None:
        _, answer = await self.said(services, miner, txStatus="DOUBLE_SPEND_ATTEMPTED", competingTxs=["0b" * 32])
        assert (answer.outcome, [outcome for _, outcome in answer.said]) == (CONFLICT, [CONFLICT, ACCEPTED])
        assert "competing: " + "0b" * 32 in answer.detail

    async def test_a_no_does_not_outweigh_a_yes_and_is_told(self, services: Services, miner: RegtestMiner) -> None:
        """An error with HTTP 200 around it."""
        _, answer = await self.said(services, miner, status=465, title="Fee too low", detail="arc error 465")
        assert (answer.outcome, [outcome for _, outcome in answer.said]) == (ACCEPTED, [INVALID, ACCEPTED])

    async def test_a_yes_without_the_deed_is_made_good_by_the_other(
        self, services: Services, miner: RegtestMiner, chain: ChainNode
    ) -> None:
        tx, answer = await self.said(services, miner, txStatus="SEEN_ON_NETWORK")
        assert answer.outcome is ACCEPTED
        assert await chain.place(tx.txid) == Place(None, 0)

    async def test_a_conflict_with_itself_is_looked_into(self, services: Services, miner: RegtestMiner) -> None:
        """It came in by two doors: the coin is spent by the very transaction, or by nobody."""
        tx, answer = await self.said(services, miner, txStatus="DOUBLE_SPEND_ATTEMPTED", competingTxs=[])
        assert answer.outcome is CONFLICT
        net = services.chain()
        services.arc.switch.always = says(
            200, [arc_item(tx, txStatus="DOUBLE_SPEND_ATTEMPTED", competingTxs=[txid_hex(tx.txid)])]
        )
        (answer,) = await net.broadcast([tx.serialize()])
        assert answer.outcome is KNOWN
        await net.close()

    async def test_what_arc_lacks_coins_for_counts_as_nothing_of_arcs(
        self, services: Services, miner: RegtestMiner
    ) -> None:
        """The look at the coins is WhatsOnChain's word, or one source would be counted as two."""
        tx, answer = await self.said(services, miner, txStatus="SEEN_IN_ORPHAN_MEMPOOL")
        assert (answer.outcome, [outcome for _, outcome in answer.said]) == (ACCEPTED, [UNREACHABLE, ACCEPTED])
        net = services.chain()
        services.arc.switch.always = says(200, [arc_item(tx, txStatus="SEEN_IN_ORPHAN_MEMPOOL")])
        services.woc.switch.always, services.woc.switch.only = raw_text("Missing inputs"), "/tx/raw"
        (answer,) = await net.broadcast([tx.serialize()])
        assert (answer.outcome, [outcome for _, outcome in answer.said]) == (KNOWN, [UNREACHABLE, KNOWN])
        await net.close()

    async def test_a_whole_package_is_judged_one_by_one(self, services: Services, miner: RegtestMiner) -> None:
        """ARC names those it took first, whatever order they came in."""
        good, poor = await some_coins(miner, 2)
        net = services.chain()
        low, fine = spend(poor, fee=1), spend(good)
        answers = await net.broadcast([low.serialize(), fine.serialize()])
        assert [answer.txid for answer in answers] == [low.txid, fine.txid]
        assert [answer.outcome for answer in answers] == [INVALID, ACCEPTED]
        assert dict(answers[0].said) == dict(zip(names(answers[0]), (INVALID, INVALID), strict=True))
        await net.close()

    async def test_the_list_may_come_in_an_object(self, services: Services, miner: RegtestMiner) -> None:
        """As arc.yaml describes it."""
        (coin,) = await some_coins(miner)
        tx, net = spend(coin), services.chain()
        services.arc.switch.once.append(says(200, {"transactions": [arc_item(tx, txStatus="SEEN_ON_NETWORK")]}))
        services.woc.switch.always, services.woc.switch.only = html(502), "/tx/raw"
        (answer,) = await net.broadcast([tx.serialize()])
        assert answer.outcome is ACCEPTED
        await net.close()


# -- what is proven ---------------------------------------------------------------------------------------------------


class TestNobodyIsBelievedThatItIsMined:
    """THREATS 3."""

    async def test_arcs_own_path_is_enough(self, services: Services, net: ChainServices, miner: RegtestMiner) -> None:
        tx = await handed_in(net, miner)
        await miner.mine()
        services.woc.switch.always, services.woc.switch.only = html(502), "/proof/"
        height = (await net.tip()).height
        assert await net.place(tx.txid) == Place(height, 1)
        services.arc.switch.always = html(502)
        await miner.mine()
        assert await net.place(tx.txid) == Place(height, 2), "a proof that still holds is not asked for again"

    @pytest.mark.parametrize("path", ["", "00", "zz", "feffffff7f", None, 5])
    async def test_mined_without_a_proof_is_not_mined(
        self, services: Services, net: ChainServices, miner: RegtestMiner, path: Any
    ) -> None:
        tx = await handed_in(net, miner)
        lie = arc_item(tx, txStatus="MINED", blockHeight=5, blockHash="00" * 32, merklePath=path)
        services.arc.switch.always = says(200, lie)
        assert await net.place(tx.txid) == Place(None, 0)
        assert await net.merkle_path(tx.txid) is None

    async def test_a_path_to_somewhere_else_is_not_taken(
        self, services: Services, net: ChainServices, miner: RegtestMiner
    ) -> None:
        tx, height = await handed_in(net, miner), (await net.tip()).height
        lie = MerklePath.of_branch(height, tx.txid, 0, [bytes(32)]).serialize()
        services.arc.switch.always = says(200, arc_item(tx, txStatus="MINED", merklePath=lie.hex()))
        assert await net.place(tx.txid) == Place(None, 0)
        tip = (await net.tip()).hash[::-1].hex()
        branch = {"index": 0, "txOrId": txid_hex(tx.txid), "target": tip, "nodes": ["0b" * 32]}
        services.woc.switch.always, services.woc.switch.only = says(200, [branch]), "/proof/"
        with pytest.raises(
            ChainError, match=f"shows {txid_hex(tx.txid)} in block {height}, and its proof leads elsewhere"
        ):
            await net.place(tx.txid)

    async def test_a_block_that_is_none_of_ours_proves_nothing(
        self, services: Services, net: ChainServices, miner: RegtestMiner
    ) -> None:
        tx = await handed_in(net, miner)
        branch = {"index": 0, "txOrId": txid_hex(tx.txid), "target": "0c" * 32, "nodes": []}
        services.woc.switch.always, services.woc.switch.only = says(200, [branch]), "/proof/"
        assert await net.place(tx.txid) == Place(None, 0)
        assert await net.merkle_path(tx.txid) is None

    @pytest.mark.parametrize(
        "body", [[], None, {}, [{}], [7], {"index": -1}, [{"index": 0, "target": "0c", "nodes": []}]]
    )
    async def test_whatever_comes_as_a_proof(self, services: Services, miner: RegtestMiner, body: Any) -> None:
        net = services.chain()
        tx = await handed_in(net, miner)
        services.woc.switch.always, services.woc.switch.only = says(200, body), "/proof/"
        if body in ([], None):
            assert await net.place(tx.txid) == Place(None, 0)
        else:
            with pytest.raises(ChainError, match="what it answered"):
                await net.place(tx.txid)
        await net.close()

    async def test_after_a_reorganisation_nothing_of_it_is_left(
        self, services: Services, net: ChainServices, chain: ChainNode, miner: RegtestMiner
    ) -> None:
        (coin,) = await some_coins(miner)
        tx = spend(coin)
        await outcomes(net, tx)
        mined = await miner.mine(2)
        height = (await net.tip()).height
        assert await net.place(tx.txid) == Place(height - 1, 2)
        assert await net.spender(coin.outpoint) == Spend(tx.txid, 0, height - 1)
        events = net.events()
        assert await anext(events) == Tip(await net.tip())
        await chain.rpc.call("invalidateblock", mined[0][::-1].hex())
        assert await net.tip() == await net.tip(), "no branch with more work is shown"
        newest = (await mine_elsewhere(chain, 3))[-1]
        assert await until(events, lambda e: isinstance(e, Tip) and e.header.hash == newest)
        assert await net.place(tx.txid) == await chain.place(tx.txid) == Place(height - 1, 3)
        assert await net.spender(coin.outpoint) == Spend(tx.txid, 0, height - 1)


async def handed_in(net: ChainServices, miner: RegtestMiner) -> Tx:
    (coin,) = await some_coins(miner)
    tx = spend(coin)
    assert (await outcomes(net, tx))[0] in GOOD
    return tx


# -- what an index says -----------------------------------------------------------------------------------------------


class TestAnIndexCannotInvent:
    async def test_other_bytes(self, services: Services, net: ChainServices, miner: RegtestMiner) -> None:
        (coin,) = await some_coins(miner)
        services.woc.switch.always, services.woc.switch.only = raw_text(spend(coin).serialize().hex()), "/hex"
        with pytest.raises(ChainError, match=f"is another transaction than {txid_hex(NOWHERE)}"):
            await net.transaction(NOWHERE)
        services.woc.switch.always = raw_text("no hex")
        with pytest.raises(ChainError, match="is not the hex that it should be: 'no hex'"):
            await net.transaction(NOWHERE)

    async def test_a_spender_that_does_not_spend(
        self, services: Services, net: ChainServices, miner: RegtestMiner
    ) -> None:
        coin, other = await some_coins(miner, 2)
        tx = spend(coin)
        await outcomes(net, tx)
        for lie in ({"txid": txid_hex(tx.txid), "vin": 0}, {"txid": txid_hex(tx.txid), "vin": 7}):
            services.woc.switch.always, services.woc.switch.only = says(200, lie), "/spent"
            with pytest.raises(ChainError, match=f"as the spender of {other.outpoint}, which it is not"):
                await net.spender(other.outpoint)
        bodies: tuple[Any, ...] = (
            {},
            [],
            {"txid": "0b", "vin": 0},
            {"txid": "0b" * 32, "vin": -1},
            {"txid": 5, "vin": 0},
        )
        for body in bodies:
            services.woc.switch.always = says(200, body)
            with pytest.raises(ChainError, match="what it answered"):
                await net.spender(other.outpoint)

    @pytest.mark.parametrize(
        "body",
        [[], {}, {"result": 5}, {"result": [5]}, {"result": [{"tx_hash": "0b"}]}, {"result": [], "error": "busy"}],
    )
    async def test_whatever_comes_as_a_history(self, services: Services, net: ChainServices, body: Any) -> None:
        services.woc.switch.always = says(200, body)
        with pytest.raises(ChainError, match="what it answered"):
            await net.history(b"\x51")

    @pytest.mark.parametrize(
        "body",
        [
            5,
            {"address": ADDRESS},
            [],
            [5, {"address": OTHER_ADDRESS, "confirmed": EMPTY, "unconfirmed": EMPTY}],
            [{"address": [ADDRESS], "confirmed": EMPTY, "unconfirmed": EMPTY}],
            [{"address": ADDRESS}],
            [{"address": ADDRESS, "confirmed": EMPTY, "unconfirmed": []}],
            [{"address": ADDRESS, "confirmed": {"result": 5}, "unconfirmed": EMPTY}],
            [{"address": ADDRESS, "confirmed": EMPTY, "unconfirmed": {"result": None, "error": "busy"}}],
        ],
    )
    async def test_whatever_comes_as_histories(self, services: Services, net: ChainServices, body: Any) -> None:
        services.woc.switch.always = says(200, body)
        with pytest.raises(ChainError, match="what it answered"):
            await net.history(p2pkh(address.decode(ADDRESS, net.network)))

    async def test_twenty_addresses_are_one_question(self, services: Services, net: ChainServices) -> None:
        scripts = [p2pkh(PubKeyHash(bytes([number] * 20))) for number in range(45)]
        services.woc.switch.asked.clear()
        assert await asyncio.gather(*map(net.history, scripts)) == [[]] * 45
        assert services.woc.switch.asked == ["POST /v1/bsv/regtest/addresses/history/all"] * 3

    async def test_a_history_without_end(self, services: Services, net: ChainServices) -> None:
        services.woc.switch.always = says(200, {"result": [], "error": "", "nextPageToken": "more"})
        with pytest.raises(ChainError, match="has more than 100 pages"):
            await net.history(b"\x51")

    async def test_a_long_history_is_read_page_by_page(self, net: ChainServices, miner: RegtestMiner) -> None:
        (coin,) = await some_coins(miner)
        items, coins = [coin.outpoint.txid], [coin]
        for _ in range(7):
            tx = spend(*coins)
            await outcomes(net, tx)
            items.append(tx.txid)
            coins = coins_of(tx, coin.key)
            await miner.mine()
        found = await net.history(coin.script)
        assert [item.txid for item in found] == items
        height = (await net.tip()).height
        assert found[-1] == HistoryItem(items[-1], height)

    @pytest.mark.parametrize("body", [[], {}, [{}], [{"txid": "0b" * 32}], 5])
    async def test_whatever_comes_as_a_status(self, services: Services, net: ChainServices, body: Any) -> None:
        services.woc.switch.always, services.woc.switch.only = says(200, body), "/txs/status"
        with pytest.raises(ChainError, match="is no status of the transaction that was asked for"):
            await net.place(NOWHERE)


class TestAnIndexIsLate:
    """THREATS 35: what was handed in a moment ago is there, though WhatsOnChain does not know it yet."""

    async def test_what_arc_has_is_there(self, services: Services, net: ChainServices, miner: RegtestMiner) -> None:
        (coin,) = await some_coins(miner)
        tx = spend(coin)
        await outcomes(net, tx)
        services.woc.blind.add(tx.txid)
        assert await net.place(tx.txid) == Place(None, 0)
        assert await net.transaction(tx.txid) == tx.serialize()
        assert await net.spender(coin.outpoint) == Spend(tx.txid, 0, None)

    async def test_but_not_on_arcs_word_for_ever(
        self, services: Services, net: ChainServices, miner: RegtestMiner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An ARC that says yes and passes nothing on would otherwise hold back what has to be handed in again."""
        (coin,) = await some_coins(miner)
        tx = spend(coin)
        await outcomes(net, tx)
        services.woc.blind.add(tx.txid)
        monkeypatch.setattr(chain_services, "LAG", 0.0)
        assert await net.spender(coin.outpoint) is None

    async def test_nor_when_arc_does_not_have_it(
        self, services: Services, net: ChainServices, miner: RegtestMiner
    ) -> None:
        (coin,) = await some_coins(miner)
        tx = spend(coin)
        await outcomes(net, tx)
        services.woc.blind.add(tx.txid)
        for fault in (says(404, {}), html(502), says(200, arc_item(tx, txStatus="REJECTED"))):
            services.arc.switch.always = fault
            assert await net.spender(coin.outpoint) is None
            assert await net.place(tx.txid) is None


# -- the fee ----------------------------------------------------------------------------------------------------------


class TestTheFee:
    """THREATS 33."""

    @pytest.mark.parametrize(
        ("satoshis", "size", "rate"), [(1, 1000, 1), (50, 1000, 50), (1, 3, 334), (5, 10_000, 1), (0, 1000, 0)]
    )
    async def test_it_is_for_a_thousand_bytes_rounded_up(
        self, services: Services, net: ChainServices, satoshis: int, size: int, rate: int
    ) -> None:
        services.arc.switch.always = says(200, policy(satoshis, size))
        assert await net.fee_rate() == rate

    async def test_beyond_all_sense_it_is_not_believed(self, services: Services, net: ChainServices) -> None:
        """Else a refund could be made to pay everything to miners."""
        services.arc.switch.always = says(200, policy(10_000, 1000))
        assert await net.fee_rate() == 10_000
        services.arc.switch.always = says(200, policy(10_001, 1000))
        with pytest.raises(ChainError, match="asks for 10001 sat/kB, more than 10000 are not believed"):
            await net.fee_rate()

    @pytest.mark.parametrize("body", [policy(-1, 1000), policy(1, 0), policy(1, -5), policy("1", 1000), {}, [], 5])
    async def test_whatever_comes_as_a_policy(self, services: Services, net: ChainServices, body: Any) -> None:
        services.arc.switch.always = says(200, body)
        with pytest.raises(ChainError, match="names no mining fee"):
            await net.fee_rate()


# -- events -----------------------------------------------------------------------------------------------------------


class TestEvents:
    async def test_after_the_source_was_away_the_tip_comes_first(
        self, services: Services, net: ChainServices, miner: RegtestMiner
    ) -> None:
        events = net.events()
        tip = await anext(events)
        services.woc.switch.always = html(502)
        services.woc.switch.asked.clear()
        waiting = asyncio.ensure_future(anext(events))
        await services.woc.switch.until_asked(2)
        services.woc.switch.off()
        assert await waiting == tip == Tip(await net.tip())

    async def test_who_listens_slowly_misses_no_tip(self, services: Services, miner: RegtestMiner) -> None:
        news = News()
        net = services.chain(news=news, poll=PATIENCE)
        events = net.events()
        await anext(events)
        for number in range(1_005):
            news.seen(Seen(Txid(number.to_bytes(32)), b""))
        heard = [await anext(events) for _ in range(1_001)]
        assert sum(isinstance(event, Seen) for event in heard) == 1_000
        assert isinstance(heard[-1], Tip), "some were lost, so everything is to be looked at again"
        await net.close()

    async def test_a_callback_of_arc_makes_us_look_at_once(self, services: Services, miner: RegtestMiner) -> None:
        """The body is not read; without the token nothing happens."""
        news = News()
        door = CallbackDoor("http://127.0.0.1:1/", "127.0.0.1:0", news.hint)
        door.callback = type(door.callback)(f"http://127.0.0.1:{door.port}/any/path", door.callback.token)
        door.start()
        net = services.chain(callback=door.callback, news=news, poll=PATIENCE)
        events = net.events()
        await anext(events)
        tx = await handed_in(net, miner)
        assert await anext(events) == Seen(tx.txid, tx.serialize())
        await miner.mine()
        told = dict(services.arc.given[tx.txid])
        assert told["x-fullstatusupdates"] == "true"
        services.arc.given[tx.txid] = told | {"x-callbacktoken": "guessed"}
        assert await services.arc.call_back(tx.txid) == 401
        services.arc.given[tx.txid] = told
        waiting = asyncio.ensure_future(until(events, lambda e: isinstance(e, Tip)))
        assert await services.arc.call_back(tx.txid) == 200
        assert await waiting == Tip(await net.tip())
        await net.close()
        await door.stop()

    @pytest.mark.parametrize(
        "listen", ["8405", ":8405", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999", "8.8.8.8:1"]
    )
    def test_a_door_that_cannot_be_opened(self, listen: str) -> None:
        with pytest.raises(ConfigError, match=r"chain\.callback_listen"):
            CallbackDoor("https://example.com", listen, lambda: None)
