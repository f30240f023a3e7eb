"""Several titles over one payment channel: kept between plays, used up before another is opened, never left to hang."""

from __future__ import annotations

import dataclasses
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.node_rpc import NodeRpc
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.regtest_node import RegtestNode
from bct.bitcoin.keys import PrivateKey, sha256
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.channel.state import State
from bct.channel.transactions import fee_at
from bct.errors import ConfigError, FundsError, TemporaryError
from bct.node import purse
from bct.node.daemon import Node
from bct.node.play import Play
from bct.node.purse import Spending
from bct.pay.capacity import Quote
from bct.pay.replay import Told
from bct.title.link import TorrentLink
from bct.units import txid_hex
from tests.deal import until
from tests.nodes import MemoryStore, running_node
from tests.relay import relaying
from tests.stage import FREE_PIECES, fund, publish, watch

pytestmark = pytest.mark.anyio

STRANGER = PrivateKey(sha256(b"another creator"))
PIECES = 6
PAID = 4
"""Of six pieces: the first two are free, and there is no tenth."""


async def watched(viewer: Node, link: TorrentLink, film: bytes, *, keep: bool) -> Play:
    """A play from its beginning to its end; one whose channel is kept has room in it for two more."""
    play = await viewer.play(link, None, more=2 if keep else 0)
    assert await watch(play) == film
    await viewer.viewer.close(play, keep=keep)
    return play


def only(viewer: Node) -> Spending:
    (spending,) = viewer.purse.spendings.values()
    return spending


async def test_a_second_title_puts_nothing_on_the_chain(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, node: RegtestNode
) -> None:
    async with AsyncExitStack() as stack:
        seeder = await stack.enter_async_context(running_node(tmp_path / "seeder", chain))
        viewer = await stack.enter_async_context(running_node(tmp_path / "viewer", chain))
        rpc = NodeRpc(node.url, node.cookie_file)
        stack.push_async_callback(rpc.close)
        await fund(viewer, miner)
        first = await publish(seeder, tmp_path / "seeder", PIECES)
        second = await publish(seeder, tmp_path / "seeder", PIECES, seed=2, creator=STRANGER)
        assert await rpc.call("getrawmempool") == []
        play = await viewer.play(first.link, None, more=1)
        assert await watch(play) == first.film
        await viewer.viewer.close(play, keep=True)
        assert only(viewer).payer.state is State.OPEN
        funding = [txid_hex(only(viewer).outpoint.txid)]
        assert await rpc.call("getrawmempool") == funding
        other = await viewer.play(second.link, None)
        assert await watch(other) == second.film
        assert await rpc.call("getrawmempool") == funding
        assert (other.budget.pieces, other.budget.fees) == (PAID, 2)
        await viewer.viewer.close(other)
        assert len(await rpc.call("getrawmempool")) == 2
        assert only(viewer).payer.totals == (PAID, PAID)
        (earning,) = seeder.till.earnings.values()
        settlement = Tx.parse(earning.settlement)
        scripts = [output.script for output in settlement.outputs]
        assert scripts[:2] == [p2pkh(seeder.creator_key().hash), p2pkh(STRANGER.hash)]
        await miner.mine()


async def test_a_kept_channel_is_settled_when_its_owner_asks(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """The next title came from another seeder: the change of the first one does not wait until that is tired of it."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", PIECES)
        play = await viewer.play(title.link, None)
        assert await watch(play) == title.film
        with pytest.raises(ConfigError, match="a play uses"):
            await viewer.close_channel(only(viewer).outpoint)
        await viewer.viewer.close(play, keep=True)
        before = viewer.wallet.balance
        await viewer.close_channel(only(viewer).outpoint)
        assert only(viewer).payer.state is State.SETTLED
        (earning,) = seeder.till.earnings.values()
        assert earning.state is State.SETTLED
        assert viewer.wallet.balance.pending > before.pending
        await viewer.close_channel(only(viewer).outpoint)


async def test_what_the_seeder_never_got_is_handed_in_before_the_end(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", PIECES)
        await watched(viewer, title.link, title.film, keep=True)
        spending = only(viewer)
        await viewer.purse.reserve(spending, 0, 1)
        spending.payer.pay(0, 1, viewer.purse.key(spending), now=viewer.purse.now)
        await viewer.close_channel(spending.outpoint)
        (earning,) = seeder.till.earnings.values()
        assert earning.account.payee.totals == (PAID + 1,) == spending.payer.totals


async def test_a_seeder_that_is_gone_settles_nothing_and_that_is_said(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    async with running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        async with running_node(tmp_path / "seeder", chain) as seeder, relaying(seeder.hub.port) as relay:
            title = await publish(seeder, tmp_path / "seeder", PIECES)
            await watched(viewer, title.by(relay.port), title.film, keep=True)
            relay.open = False
            with pytest.raises(TemporaryError, match=rf"127.0.0.1:{relay.port} does not settle .* expiry"):
                await viewer.close_channel(only(viewer).outpoint)
            assert only(viewer) in viewer.purse.idle(), "it can be used, or asked for, later"


async def test_nothing_is_said_to_somebody_else_at_the_seeders_address(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """THREATS 25."""
    async with (
        running_node(tmp_path / "viewer", chain) as viewer,
        running_node(tmp_path / "seeder", chain) as seeder,
        running_node(tmp_path / "other", chain) as other,
        relaying(seeder.hub.port) as relay,
    ):
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", PIECES)
        await publish(other, tmp_path / "other", PIECES)
        await watched(viewer, title.by(relay.port), title.film, keep=True)
        relay.target = ("127.0.0.1", other.hub.port)
        with pytest.raises(TemporaryError):
            await viewer.close_channel(only(viewer).outpoint)
        assert only(viewer).payer.state is State.OPEN
        assert only(viewer) in viewer.purse.idle(), "what a stranger says of it counts for nothing"
        assert other.till.book.accounts == {}


async def test_a_node_that_stops_has_its_kept_channels_settled(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    store = MemoryStore()
    async with running_node(tmp_path / "seeder", chain) as seeder:
        async with running_node(tmp_path / "viewer", chain, store=store) as viewer:
            await fund(viewer, miner)
            title = await publish(seeder, tmp_path / "seeder", PIECES)
            await watched(viewer, title.link, title.film, keep=True)
            assert [one.state for one in await store.payers()] == [State.OPEN]
        (saved,) = await store.payers()
        assert saved.state is State.SETTLED


async def test_a_node_stops_though_a_seeder_cannot_be_reached(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    async with (
        running_node(tmp_path / "seeder", chain) as seeder,
        relaying(seeder.hub.port) as relay,
        running_node(tmp_path / "viewer", chain) as viewer,
    ):
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", PIECES)
        await watched(viewer, title.by(relay.port), title.film, keep=True)
        relay.open = False
        await viewer.viewer.stop()
        assert only(viewer).payer.state is State.OPEN


async def test_a_play_that_was_cut_off_is_settled_all_the_same(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """Its connection is gone when it is closed: a short one is made for its channel."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", PIECES)
        play = await viewer.play(title.link, None)
        assert await watch(play) == title.film
        (peer,) = play.swarm.peers
        peer.close()
        await peer.ended.wait()
        await viewer.viewer.close(play)
        assert only(viewer).payer.state is State.SETTLED


async def test_an_open_channel_is_used_up_before_another_is_opened(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        first = await publish(seeder, tmp_path / "seeder", PIECES)
        second = await publish(seeder, tmp_path / "seeder", 40, seed=2)
        kept = (await watched(viewer, first.link, first.film, keep=True)).buyer.deals.channels[0]
        room = kept.payer.left(kept.payer.lines[0])
        assert 0 < room < 37
        play = await watched(viewer, second.link, second.film, keep=False)
        assert play.buyer.deals.channels[0] is kept
        assert len(play.buyer.deals.channels) == 2
        assert kept.payer.left(kept.payer.lines[0]) == 0
        assert play.budget.pieces == 40 - len(FREE_PIECES)
        assert all(spending.payer.state is State.SETTLED for spending in play.buyer.deals.channels)


async def test_a_channel_whose_lines_are_full_is_not_offered_to_another_creators_title(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """Eight outputs hold six creators. The seventh's title opens a channel of its own, and nobody is at fault."""
    store = MemoryStore()
    async with (
        running_node(tmp_path / "seeder", chain, max_outputs=3) as seeder,
        running_node(tmp_path / "viewer", chain, store=store) as viewer,
    ):
        await fund(viewer, miner)
        first = await publish(seeder, tmp_path / "seeder", PIECES)
        second = await publish(seeder, tmp_path / "seeder", PIECES, seed=2, creator=STRANGER)
        await watched(viewer, first.link, first.film, keep=True)
        kept = only(viewer)
        await watched(viewer, second.link, second.film, keep=False)
        assert len(viewer.purse.spendings) == 2
        assert store.noted == []
        await viewer.close_channel(kept.outpoint)
        assert all(spending.payer.state is State.SETTLED for spending in viewer.purse.spendings.values())


async def test_a_channel_that_an_old_backup_cannot_resume_makes_way_for_another(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """The log knows one line, the seeder two: whom the second one pays cannot be checked. What is locked comes back
    from the seeder's own settlement. THREATS 53: a seeder that does this on purpose is remembered for it."""
    store = MemoryStore()
    async with (
        running_node(tmp_path / "seeder", chain) as seeder,
        running_node(tmp_path / "viewer", chain, store=store) as viewer,
    ):
        await fund(viewer, miner)
        first = await publish(seeder, tmp_path / "seeder", PIECES)
        second = await publish(seeder, tmp_path / "seeder", PIECES, seed=2, creator=STRANGER)
        third = await publish(seeder, tmp_path / "seeder", PIECES, seed=3)
        for title in (first, second):
            await watched(viewer, title.link, title.film, keep=True)
        old = only(viewer)
        old.payer, _ = purse.restore(old.saved, Told())
        play = await watched(viewer, third.link, third.film, keep=False)
        assert len(play.buyer.deals.channels) == 2
        assert (old.unknown, old.payer.state) == (True, State.OPEN)
        assert play.buyer.deals.channels[1].payer.totals == (PAID,)
        assert [why for _, why in store.noted] == ["resume"]


async def test_of_two_seeders_the_one_that_has_our_channel_is_paid(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    async with (
        running_node(tmp_path / "known", chain) as known,
        running_node(tmp_path / "other", chain) as other,
        running_node(tmp_path / "viewer", chain) as viewer,
    ):
        await fund(viewer, miner)
        first = await publish(known, tmp_path / "known", PIECES)
        second = await publish(known, tmp_path / "known", PIECES, seed=2, creator=STRANGER)
        assert (await publish(other, tmp_path / "other", PIECES, seed=2, creator=STRANGER)).film == second.film
        await watched(viewer, first.link, first.film, keep=True)
        play = await viewer.play(second.by(other.hub.port, known.hub.port), None)
        await until(lambda: sum(seat.session is not None for seat in play.buyer.seats.values()) == 2)
        await until(lambda: all(seat.session and seat.session.offered for seat in play.buyer.seats.values()))
        assert await watch(play) == second.film
        await viewer.viewer.close(play)
        assert len(viewer.purse.spendings) == 1


# -- what it may cost -------------------------------------------------------------------------------------------------


async def test_a_cap_over_two_titles_is_never_passed_not_by_one_satoshi(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """Opening and the first title cost 78 sat, the second one's line 2: of 82 sat, two are left for its four pieces."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        first = await publish(seeder, tmp_path / "seeder", PIECES)
        second = await publish(seeder, tmp_path / "seeder", PIECES, seed=2, creator=STRANGER)
        before = viewer.wallet.balance
        play = await viewer.play(first.link, 82, more=1)
        assert await watch(play) == first.film
        await viewer.viewer.close(play, keep=True)
        assert (play.budget.pieces, play.budget.fees) == (4, 74)
        other = await viewer.play(second.link, 82 - play.budget.total)
        with pytest.raises(FundsError, match="of at most 4 sat are spent"):
            await watch(other)
        await viewer.viewer.close(other)
        assert (other.budget.pieces, other.budget.fees) == (2, 2)
        assert only(viewer).payer.totals == (4, 2)
        after = viewer.wallet.balance
        assert sum(dataclasses.astuple(before)) - sum(dataclasses.astuple(after)) == 82


@pytest.mark.parametrize(
    ("cap", "more", "room"),
    [(None, 0, 20), (None, 2, 60), (74 + 45, 2, 45), (74 + 12, 2, 12)],
)
async def test_a_channel_gets_room_for_what_follows_as_far_as_the_cap_goes(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, cap: int | None, more: int, room: int
) -> None:
    """And the quote says so before: what is locked for twenty pieces of 1 sat, and for up to two titles after it."""
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", 23)
        play = await viewer.play(title.link, cap, more=more)
        await play.buyer.asking.first_terms(5)
        quote = play.buyer.opening.quote()
        assert quote
        assert (quote.cost, quote.fees, quote.opening) == (20, 74, 74)
        assert quote.locked == room + fee_at(100, 3 + more)
        with suppress(FundsError):
            await watch(play)
        assert only(viewer).payer.params.capacity == quote.locked
        assert play.budget.pieces == min(20, room)


async def test_a_small_wallet_locks_what_this_title_needs(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner, 110)
        title = await publish(seeder, tmp_path / "seeder", 23)
        play = await viewer.play(title.link, None, more=2)
        assert await watch(play) == title.film
        assert only(viewer).payer.params.capacity == 20 + fee_at(100, 3)


async def test_a_title_that_fits_into_the_open_channel_locks_nothing(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        first = await publish(seeder, tmp_path / "seeder", PIECES)
        second = await publish(seeder, tmp_path / "seeder", PIECES, seed=2, creator=STRANGER)
        long = await publish(seeder, tmp_path / "seeder", 40, seed=3)
        kept = (await watched(viewer, first.link, first.film, keep=True)).buyer.deals.channels[0]
        quotes = []
        for title in (second, long):
            play = await viewer.play(title.link, None)
            await play.buyer.asking.first_terms(5)
            quotes.append(play.buyer.opening.quote())
            await viewer.viewer.close(play)
        small, large = quotes
        assert small == Quote(price=1, pieces=4, cost=4, fees=2, locked=0, opening=74)
        rest = 37 - kept.payer.left(kept.payer.lines[0])
        assert large == Quote(price=1, pieces=37, cost=37, fees=74, locked=rest + fee_at(100, 3), opening=74)
