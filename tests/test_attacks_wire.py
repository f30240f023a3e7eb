"""Attacks on whole nodes, over real TCP and a real chain: peers written by hand cheat, honest nodes keep their money.

What a cheating viewer got is counted where it arrives. What an honest viewer lost is what it signed for pieces that
never came.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.regtest_node import RegtestNode
from bct.bitcoin.chain import GOOD, Network, Outcome
from bct.bitcoin.keys import PrivateKey
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.channel.state import State
from bct.errors import BctError, FundsError, StoreError
from bct.node.daemon import Node
from bct.node.library import Publication
from bct.node.play import Play
from bct.node.purse import Spending
from bct.node.till import Earning
from bct.pay.budget import Budget
from bct.pay.messages import (
    ChannelClosed,
    ChannelError,
    ChannelOpen,
    CloseReason,
    Fault,
    OfferRequest,
    PaymentRefused,
    PiecePayment,
    Refusal,
)
from bct.title.link import TorrentLink
from bct.title.ranges import PieceRange
from bct.title.terms import Terms
from bct.torrent.geometry import Block
from bct.torrent.metadata import MetadataRequest
from bct.torrent.metainfo import Metainfo
from bct.torrent.wire import Extended
from bct.units import Payees, PieceIndex, Satoshi
from bct.wallet.paths import RECEIVE
from tests.cheats import Behaviour, CheatingViewer, Stall, now, some_pieces, takes_and_closes
from tests.coins import Coin, coins_of, spend
from tests.conftest import open_chain
from tests.nodes import MemoryStore, make_film, running_node
from tests.test_paid_viewing import fund, publish, watch

pytestmark = pytest.mark.anyio

PIECES, FREE = 16, 2
PIECE = 64 * 1024


@dataclass
class Market:
    """An honest seeder that sells a film, and a funded node whose purse pays, honestly or not."""

    seeder: Node
    viewer: Node
    link: TorrentLink
    film: bytes
    metainfo: Metainfo
    creator: PrivateKey

    async def cheat(self, net: int = 0) -> CheatingViewer:
        return await CheatingViewer.call(self.seeder, self.metainfo, self.creator.public, net)

    def earning(self) -> Earning:
        (earning,) = self.seeder.till.earnings.values()
        return earning

    def spending(self) -> Spending:
        (spending,) = self.viewer.purse.spendings.values()
        return spending

    def terms(self, **change: object) -> Terms:
        """The creator's, signed, with something changed."""
        made = Terms(
            network=Network.REGTEST,
            infohash=self.metainfo.infohash,
            price=Satoshi(1),
            payees=Payees.of((self.creator.hash, 6000)),
            free=(PieceRange(PieceIndex(0), FREE),),
            sequence=1,
            valid_from=now() - 60,
            valid_until=now() + 3600,
            creator=self.creator.public,
        )
        return replace(made, **change).sign(self.creator)  # type: ignore[arg-type]

    def stall(self, behaviour: Behaviour, terms: Terms | None = None) -> Stall:
        return Stall(self.metainfo, self.film, terms or self.terms(), behaviour)

    async def meet_the_honest_one(self, play: Play) -> None:
        await self.viewer.hub.connect(self.link.peers[0].host, self.link.peers[0].port, play.swarm)


@asynccontextmanager
async def market(
    root: Path, chain: ChainNode, miner: RegtestMiner, *, price: int = 1, satoshi: int = 100_000, coins: int = 2
) -> AsyncIterator[Market]:
    async with running_node(root / "seeder", chain) as seeder, running_node(root / "viewer", chain) as viewer:
        if satoshi:  # two coins: one may be set aside for a funding that never comes back
            paid = await miner.pay(p2pkh(viewer.wallet.new_address()), satoshi, coins)
            await miner.mine()
            viewer.wallet.saw(paid, await miner.height())
        link, film = await publish(seeder, root / "seeder", PIECES, price, FREE)
        metainfo = seeder.library.metainfo(link.infohash)
        assert metainfo
        yield Market(seeder, viewer, link, film, metainfo, seeder.creator_key())


@pytest.fixture
async def shop(tmp_path: Path, chain: ChainNode, miner: RegtestMiner) -> AsyncIterator[Market]:
    async with market(tmp_path, chain, miner) as opened:
        yield opened


def paid_bytes(cheat: CheatingViewer) -> int:
    """Bytes of pieces that cost something, as they arrived."""
    return sum(size for piece, size in cheat.got.items() if piece >= FREE)


async def piece_comes(play: Play, piece: int) -> bytes:
    """One piece, as a player reads it."""
    async with asyncio.timeout(20):
        return b"".join([bytes(part) async for part in play.read(piece * PIECE, (piece + 1) * PIECE)])


async def until(what: object) -> None:
    """Waits, with the loop running, for a condition that has no event of its own."""
    assert callable(what)
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


# -- the viewer cheats ------------------------------------------------------------------------------------------------


async def test_no_payment_no_byte(shop: Market) -> None:
    """THREATS 20, 49: the free pieces come, of the paid ones not one byte; who goes on asking is cut off."""
    cheat = await shop.cheat()
    await cheat.offered()
    cheat.ask(0, 1, 2, 3)
    await cheat.answered()
    assert (sorted(cheat.got), paid_bytes(cheat)) == ([0, 1], 0)
    for _ in range(6):
        if not cheat.over.is_set():
            cheat.ask(*range(2, PIECES))
            await until(lambda: cheat.over.is_set() or not cheat.wire.requested)
    await cheat.ended()
    assert paid_bytes(cheat) == 0
    await cheat.close()


async def test_a_plain_client_gets_the_free_pieces(shop: Market) -> None:
    """THREATS 49: without bct_pay it is shown them alone, unchoked, and refused the rest."""
    cheat = await shop.cheat()
    await cheat.until(lambda: cheat.wire.pieces and len(cheat.wire.pieces))
    assert list(cheat.wire.pieces or ()) == [0, 1]
    await cheat.close()


async def test_pays_one_and_asks_for_two(shop: Market) -> None:
    """THREATS 20: what arrives is one piece, however the requests are mixed."""
    cheat = await shop.cheat()
    await cheat.open(shop.viewer)
    cheat.pay()
    cheat.ask(2, 3)
    await cheat.answered()
    assert cheat.got == {2: PIECE}
    await cheat.close()


async def test_asks_for_a_byte_of_every_piece(shop: Market) -> None:
    """THREATS 20: a piece is opened by its first byte and costs its price."""
    cheat = await shop.cheat()
    await cheat.open(shop.viewer)
    cheat.pay(3)
    for piece in range(2, PIECES):
        cheat.wire.request([Block(piece, 7, 1)])
    cheat.flush()
    await cheat.answered()
    assert cheat.got == {2: 1, 3: 1, 4: 1}
    await cheat.close()


async def test_an_opened_piece_three_times(shop: Market) -> None:
    """A piece comes again after a broken connection, but not for ever."""
    cheat = await shop.cheat()
    await cheat.open(shop.viewer)
    cheat.pay()
    for _ in range(5):
        cheat.ask(2)
        await cheat.answered()
    assert cheat.got == {2: 3 * PIECE}
    await cheat.close()


async def test_a_payment_said_again(shop: Market) -> None:
    """THREATS 9, 24: on its own connection its total does not rise; on another its handle names nothing."""
    cheat, other = await shop.cheat(), await shop.cheat()
    await cheat.open(shop.viewer)
    payment = cheat.pay()
    cheat.say(payment, payment)
    assert [(await cheat.hear(PaymentRefused, n)).reason for n in (1, 2)] == [Refusal.NOT_RISING] * 2
    await other.offered()
    other.say(payment)
    assert (await other.hear(PaymentRefused)).reason == Refusal.UNKNOWN_HANDLE
    for one in (cheat, other):
        one.ask(2, 3)
        await one.answered()
    assert paid_bytes(cheat) + paid_bytes(other) == PIECE
    for one in (cheat, other):
        await one.close()


async def test_the_same_channel_on_two_connections(shop: Market) -> None:
    """THREATS 24: RESUME ends the older handle; together they get what was paid."""
    first, second = await shop.cheat(), await shop.cheat()
    spending = await first.open(shop.viewer)
    first.pay(2)
    first.ask(2)
    await first.answered()
    await second.offered()
    second.say(second.session.resume(spending.payer, shop.viewer.purse.key(spending), 5))
    await second.until(lambda: second.session.ready)
    assert (await first.hear(ChannelError)).code == Fault.MOVED
    for one in (first, second):
        one.ask(3, 4)
        await one.answered()
    assert (paid_bytes(first), paid_bytes(second)) == (PIECE, PIECE)
    for one in (first, second):
        await one.close()


async def test_an_offer_opens_one_channel(shop: Market) -> None:
    """THREATS 24: two fundings under one nonce, tried on one connection after the other: the store takes it once."""
    cheat = await shop.cheat()
    await cheat.open(shop.viewer)
    nonce = (await cheat.offered()).offer.nonce
    cheat.say(cheat.session.close(CloseReason.DONE))
    await cheat.hear(ChannelClosed)
    message, _ = await shop.viewer.purse.engage(
        cheat.session, await cheat.offered(), ("127.0.0.1", 0), some_pieces(50), Budget(None)
    )
    assert isinstance(message, ChannelOpen)
    assert message.nonce == nonce
    cheat.say(message)
    said = await cheat.hear(ChannelError)
    assert (said.code, b"has opened a channel already" in said.text) == (Fault.BAD_OPEN, True)
    assert len(shop.seeder.till.earnings) == 1
    await cheat.close()


async def test_the_funding_is_double_spent(shop: Market, chain: ChainNode, miner: RegtestMiner) -> None:
    """THREATS 1: the funding is with our chain before the first byte, so the second spend is refused, and a block
    holds ours."""
    cheat = await shop.cheat()
    spending = await cheat.open(shop.viewer)
    cheat.pay(5)
    cheat.ask(2)
    await cheat.answered()
    coin = await funding_coin(chain, shop.viewer, spending)
    (answer,) = await chain.broadcast([spend(coin, fee=50_000).serialize()])
    assert answer.outcome is Outcome.CONFLICT
    await shop.seeder.close_channel(shop.earning().outpoint)
    await miner.mine()
    place = await chain.place(Tx.parse(shop.earning().settlement).txid)
    assert place
    assert place.confirmations == 1
    await cheat.close()


async def funding_coin(chain: ChainNode, viewer: Node, spending: Spending) -> Coin:
    """The coin that the channel was funded with."""
    spent = Tx.parse(spending.saved.funding).inputs[0].outpoint
    raw = await chain.transaction(spent.txid)
    assert raw
    return next(one for one in coins_of(Tx.parse(raw), viewer.wallet.key((*RECEIVE, 0))) if one.outpoint == spent)


async def test_a_conflict_that_only_another_source_sees(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, node: RegtestNode
) -> None:
    """THREATS 2, 58: our node takes the funding, a second one holds another spend of its coin. Once it has said so the
    channel is good for nothing."""
    second_node = await RegtestNode.start(tmp_path / "second")
    second = open_chain(second_node)
    try:
        async with (
            running_node(tmp_path / "seeder", chain, others=(second,)) as seeder,
            running_node(tmp_path / "viewer", chain) as viewer,
        ):
            await fund(viewer, miner)
            link, film = await publish(seeder, tmp_path / "seeder", PIECES)
            await copy_blocks(chain, second)
            metainfo = seeder.library.metainfo(link.infohash)
            assert metainfo
            shop = Market(seeder, viewer, link, film, metainfo, seeder.creator_key())
            cheat = await shop.cheat()
            offered = await cheat.offered()
            opening, spending = await viewer.purse.engage(
                cheat.session, offered, ("127.0.0.1", 0), some_pieces(100), Budget(None)
            )
            coin = await funding_coin(chain, viewer, spending)
            (answer,) = await second.broadcast([spend(coin, fee=500).serialize()])
            assert answer.outcome in GOOD
            spending.payer.reserve(0, 1, 100)
            cheat.say(opening)
            await cheat.until(lambda: cheat.session.ready)
            await seeder.till.look_again(shop.earning())
            assert shop.earning().account.cap == 0
            cheat.say(forced_payment(cheat, spending))
            assert (await cheat.hear(PaymentRefused)).reason == Refusal.EXPOSURE
            cheat.ask(2)
            await cheat.answered()
            assert paid_bytes(cheat) == 0
            await cheat.close()
    finally:
        await second.close()
        await second_node.stop()


async def copy_blocks(source: ChainNode, target: ChainNode) -> None:
    tip = await source.tip()
    for height in range(1, tip.height + 1):
        block_hash = await source.rpc.call("getblockhash", height)
        await target.rpc.call("submitblock", await source.rpc.call("getblock", block_hash, 0))
    assert (await target.tip()).hash == tip.hash


def forced_payment(cheat: CheatingViewer, spending: Spending) -> PiecePayment:
    """A payment although the seeder has said that it takes none."""
    assert cheat.session.key
    paid = spending.payer.pay(0, 1, cheat.session.key, now=now())
    return PiecePayment(cheat.session._handle, paid.line, paid.total, paid.signature)


async def test_close_does_not_make_room_for_more(tmp_path: Path, chain: ChainNode, miner: RegtestMiner) -> None:
    """THREATS 57: one address block is trusted with 2,000 sat on fundings that no block holds, also when it closes one
    channel after the other."""
    async with market(tmp_path, chain, miner, coins=3) as shop:
        for paid in (950, 950):
            cheat = await shop.cheat()
            await cheat.open(shop.viewer, remaining=1000)
            cheat.pay(paid)
            cheat.say(cheat.session.close(CloseReason.DONE))
            await cheat.hear(ChannelClosed)
            await cheat.close()
        last = await shop.cheat()
        await last.open(shop.viewer, remaining=1000)
        last.pay(100)
        last.pay(1)
        assert (await last.hear(PaymentRefused)).reason == Refusal.EXPOSURE
        await last.close()


# -- strangers --------------------------------------------------------------------------------------------------------


async def hello(seeder: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", seeder.hub.port)


@pytest.mark.parametrize("first", [b"\x12BitTorrent protocol", bytes(range(96)) * 6])
async def test_message_encryption_and_garbage(shop: Market, first: bytes) -> None:
    """THREATS 23: any first byte but 0x13 ends the connection at once, without a byte in answer."""
    reader, writer = await hello(shop.seeder)
    writer.write(first)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_garbage_behind_the_handshake(shop: Market) -> None:
    """THREATS 23."""
    cheat = await shop.cheat()
    await cheat.offered()
    cheat.raw(b"\x00\xff\xff\xff" + bytes(100))
    await cheat.ended()
    assert not any(peer for swarm in shop.seeder.hub.swarms.values() for peer in swarm.peers)
    await cheat.close()


async def test_garbage_in_bct_pay(shop: Market) -> None:
    """THREATS 23."""
    cheat = await shop.cheat()
    await cheat.offered()
    cheat.wire.send_extension("bct_pay", b"\x05short")
    cheat.flush()
    await cheat.ended()
    await cheat.close()


async def test_another_network(shop: Market) -> None:
    """THREATS 25: mainnet money and regtest money do not meet."""
    cheat = await shop.cheat(net=Network.MAIN.value)
    await cheat.ended()
    assert cheat.heard == []
    await cheat.close()


async def test_connections_that_say_nothing(tmp_path: Path, chain: ChainNode, miner: RegtestMiner) -> None:
    """THREATS 22: a handshake has to come; an address has a number of places."""
    async with running_node(tmp_path, chain, handshake_timeout=0.1) as seeder:
        silent = [await hello(seeder) for _ in range(70)]
        await until(lambda: len(seeder.hub.peers) == seeder.config.wire.max_peers_per_address)
        for reader, writer in silent:
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()
        await until(lambda: not seeder.hub.peers)


async def test_a_peer_that_takes_bct_pay_back(shop: Market) -> None:
    """What it asked for before cannot be answered any more: it is cut off, and the watchman lives on."""
    cheat = await shop.cheat()
    await cheat.open(shop.viewer)
    cheat.pay()
    cheat.say(OfferRequest(shop.metainfo.infohash))
    cheat.wire.send_extension("bct_pay", OfferRequest(shop.metainfo.infohash).encode())
    cheat.raw(b"".join(bytes(one) for one in cheat.wire.data_to_send()) + Extended(0, b"d1:md7:bct_payi0eee").encode())
    await cheat.ended()
    await shop.seeder.close_channel(shop.earning().outpoint)
    await shop.seeder.watchman.look()
    assert shop.earning().state is State.SETTLED
    await cheat.close()


async def test_metadata_asked_for_by_who_does_not_speak_it(shop: Market) -> None:
    """There is no id to answer under: nothing is said, and nothing breaks."""
    cheat = await shop.cheat()
    await cheat.offered()
    cheat.raw(Extended(0, b"d1:md7:bct_payi1e11:ut_metadatai0eee").encode())
    cheat.raw(Extended(2, MetadataRequest(0).encode()).encode())
    cheat.ask(0)
    await cheat.answered()
    assert cheat.got == {0: PIECE}
    await cheat.close()


async def test_a_watched_title_is_not_given_away(shop: Market, tmp_path: Path, chain: ChainNode) -> None:
    """THREATS 49, 50: who has bought a title has not bought it for everyone: it leaves by a seller's gate or not at
    all, also after a restart."""
    store = MemoryStore()
    async with running_node(tmp_path / "guest", chain, store=store) as guest:
        play = await guest.play(shop.link, None)
        await piece_comes(play, 0)
        assert play.swarm.store
        play.swarm.store.write(PieceIndex(5), bytearray(shop.film[5 * PIECE : 6 * PIECE]))
        await nothing_leaves(guest, shop)
        await guest.viewer.close(play)
        await nothing_leaves(guest, shop)
    async with running_node(tmp_path / "guest", chain, store=store) as guest:
        await nothing_leaves(guest, shop)


async def nothing_leaves(guest: Node, shop: Market) -> None:
    thief = await CheatingViewer.call(guest, shop.metainfo, shop.creator.public)
    await thief.until(lambda: thief.wire.peer_extended)
    thief.ask(5)
    await thief.answered()
    assert not thief.got
    await thief.close()


# -- the seeder cheats ------------------------------------------------------------------------------------------------


async def first_pays_the_cheat(shop: Market, stall: Stall) -> Play:
    """A play that knows the cheat alone; two pieces are free, so it has to pay for piece 2."""
    return await shop.viewer.play(stall.link(shop.creator.public), None, shop.metainfo)


async def and_then_the_honest_one(shop: Market, play: Play) -> None:
    """The piece that was paid for in vain comes from somebody else."""
    await shop.meet_the_honest_one(play)
    assert await piece_comes(play, 2) == shop.film[2 * PIECE : 3 * PIECE]


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(),
        Behaviour(rejects=True),
        pytest.param(Behaviour(blocks=lambda data: bytes(len(data))), marks=pytest.mark.long),
        Behaviour(blocks=lambda data: bytes((data[0] ^ 1,)) + data[1:]),
    ],
    ids=["nothing", "rejects", "zeros", "one bit"],
)
async def test_takes_a_payment_and_does_not_deliver(shop: Market, behaviour: Behaviour) -> None:
    """THREATS 18, 19: what is lost is one piece's price; nothing more is paid to it, and it is remembered. HAVE_MAP
    had said that it has everything."""
    async with shop.stall(behaviour) as stall:
        play = await first_pays_the_cheat(shop, stall)
        reading = asyncio.create_task(piece_comes(play, 2))
        await until(lambda: stall.heard(PiecePayment))
        await until(lambda: play.budget.pieces)
        if not behaviour.rejects and not behaviour.blocks:
            play.buyer.tick(shop.viewer.hub.clock() + 11)  # ten seconds without a byte
        await until(lambda: not play.buyer.seats or all(seat.useless for seat in play.buyer.seats.values()))
        assert play.budget.pieces == 1
        shop.viewer.hub._banned.clear()  # the honest one has the same address here
        await and_then_the_honest_one(shop, play)
        await reading
        assert len(stall.heard(PiecePayment)) == 1
        noted = shop.viewer.viewer._titles.noted  # type: ignore[attr-defined]
        assert [key for key, _ in noted] == [stall.customers[0].key.public]


async def test_closes_and_closes_again(shop: Market) -> None:
    """THREATS 53: it takes the funding and says 'settled'. It gets one channel, not one after the other."""
    async with shop.stall(Behaviour(answers=takes_and_closes)) as stall:
        play = await first_pays_the_cheat(shop, stall)
        reading = asyncio.create_task(piece_comes(play, 2))
        await until(lambda: any(seat.useless for seat in play.buyer.seats.values()))
        await and_then_the_honest_one(shop, play)
        await reading
        assert len(stall.heard(ChannelOpen)) == 1


@pytest.mark.parametrize("code", [Fault.UNKNOWN_CHANNEL, pytest.param(Fault.BAD_LINE, marks=pytest.mark.long)])
async def test_refuses_every_opening(shop: Market, code: Fault) -> None:
    """THREATS 8, 53: whatever the word, there is no second opening; the coins are free again at once."""
    refusing = Behaviour(answers=lambda opening: [ChannelError(opening.handle, code, 0, b"<script>")])
    async with shop.stall(refusing) as stall:
        play = await first_pays_the_cheat(shop, stall)
        reading = asyncio.create_task(piece_comes(play, 2))
        await until(lambda: any(seat.useless for seat in play.buyer.seats.values()))
        await and_then_the_honest_one(shop, play)
        await reading
        assert len(stall.heard(ChannelOpen)) == 1


async def test_never_answers_the_opening(shop: Market) -> None:
    """THREATS 8: after 20 s another seeder is paid; one that is silent holds nobody up."""
    async with shop.stall(Behaviour(answers=lambda opening: [])) as stall:
        play = await first_pays_the_cheat(shop, stall)
        reading = asyncio.create_task(piece_comes(play, 2))
        await until(lambda: stall.heard(ChannelOpen))
        play.buyer.tick(shop.viewer.hub.clock() + 21)
        await and_then_the_honest_one(shop, play)
        await reading
        assert play.budget.pieces == 1


@pytest.mark.parametrize(
    "change",
    [
        {"payees": Payees.of((bytes(20), 9000))},
        {"sequence": 0},
        {"creator": PrivateKey(b"1" * 32).public},
        *(
            pytest.param(change, marks=pytest.mark.long)
            for change in (
                {"price": Satoshi(1000)},
                {"valid_until": 1, "valid_from": 0},
                {"infohash": bytes(20)},
                {"network": Network.MAIN},
            )
        ),
    ],
    ids=lambda one: next(iter(one)),
)
async def test_terms_that_are_not_the_creators(shop: Market, change: dict[str, object]) -> None:
    """THREATS 15, 16, 52: other payees, another price, expired, of another title, network or creator, downgraded. The
    seeder is cut off, and no money was locked for it."""
    honest = shop.terms()
    crooked = replace(honest, **change)  # type: ignore[arg-type]
    if "creator" in change:
        crooked = crooked.sign(PrivateKey(b"1" * 32))
    elif not change.keys() & {"payees", "price"}:  # these two the seeder would alter without the creator's key
        crooked = crooked.sign(shop.creator)
    await shop.viewer.viewer._titles.saw_terms(honest)
    async with shop.stall(Behaviour(), crooked) as stall:
        play = await first_pays_the_cheat(shop, stall)
        await until(lambda: not play.buyer.seats)
        assert not stall.heard(ChannelOpen)
        assert not shop.viewer.purse.spendings


# -- nobody cheats, but things break ----------------------------------------------------------------------------------


async def test_a_free_title_needs_no_channel(tmp_path: Path, chain: ChainNode, miner: RegtestMiner) -> None:
    async with market(tmp_path, chain, miner, price=0, satoshi=0) as shop:
        play = await shop.viewer.play(shop.link, 0)
        async with asyncio.timeout(20):
            assert await watch(play) == shop.film
        assert (play.budget.total, len(shop.viewer.purse.spendings)) == (0, 0)


async def test_an_empty_wallet(tmp_path: Path, chain: ChainNode, miner: RegtestMiner) -> None:
    """The free pieces play; then the reader hears what is missing."""
    async with market(tmp_path, chain, miner, satoshi=0) as shop:
        play = await shop.viewer.play(shop.link, None)
        assert await piece_comes(play, 1) == shop.film[PIECE : 2 * PIECE]
        with pytest.raises(FundsError):
            await piece_comes(play, 2)


async def test_the_cap_of_a_play(shop: Market) -> None:
    """Pieces and fees together stay within it; the reader hears when it is reached."""
    play = await shop.viewer.play(shop.link, 82)
    async with asyncio.timeout(20):
        with pytest.raises(FundsError):
            await watch(play)
    assert 0 < play.budget.pieces < PIECES - FREE
    assert play.budget.total <= 82
    await shop.viewer.viewer.close(play)


async def test_a_second_title_over_the_same_channel(shop: Market, tmp_path: Path, chain: ChainNode) -> None:
    """RESUME and ADD_LINE: no transaction. Its creators are others, so it gets a line of its own."""
    play = await shop.viewer.play(shop.link, None)
    assert await piece_comes(play, 2) == shop.film[2 * PIECE : 3 * PIECE]
    metainfo, incoming, film = make_film(tmp_path / "seeder", PIECES, seed=2)
    payees = Payees.of((PrivateKey(b"2" * 32).hash, 5000))
    publication = Publication(incoming, metainfo, b"", Satoshi(2), payees, (PieceRange(PieceIndex(0), FREE),))
    second_link = shop.seeder.link(await shop.seeder.publish(publication))
    shop.viewer.viewer.leave(play.swarm, play.buyer)
    shop.viewer.viewer.plays.clear()
    await until(lambda: not shop.spending().in_use)
    second = await shop.viewer.play(second_link, None)
    assert await piece_comes(second, 2) == film[2 * PIECE : 3 * PIECE]
    assert len(shop.spending().payer.lines) == 2
    assert second.budget.fees <= 4, "no transaction of its own, one more output in the settlement"
    await shop.viewer.viewer.close(second)
    outputs = Tx.parse(shop.earning().settlement).outputs
    assert p2pkh(PrivateKey(b"2" * 32).hash) in [output.script for output in outputs]


async def test_the_connection_is_cut_in_the_middle(shop: Market) -> None:
    """RESUME on a new connection: every piece comes, and each is paid for once."""
    play = await shop.viewer.play(shop.link, None)
    watching = asyncio.create_task(watch(play))
    for cut in range(1, 4):
        await until(lambda cut=cut: play.budget.pieces >= 3 * cut or watching.done())
        for peer in list(play.swarm.peers):
            peer.connection.close()
        await until(lambda: not play.swarm.peers)
        await shop.meet_the_honest_one(play)
    async with asyncio.timeout(20):
        assert await watching == shop.film
    assert play.budget.pieces == PIECES - FREE
    assert len(shop.viewer.purse.spendings) == 1
    await shop.viewer.viewer.close(play)
    assert shop.earning().account.payee.paid == PIECES - FREE


async def test_a_channel_that_is_too_small_makes_way(shop: Market) -> None:
    """Its money is spent to the last piece, then it is settled and another one is opened."""
    await a_channel_for_eight_pieces(shop)
    play = await shop.viewer.play(shop.link, None)
    async with asyncio.timeout(20):
        assert await watch(play) == shop.film
    await shop.viewer.viewer.close(play)
    assert [s.payer.paid for s in shop.viewer.purse.spendings.values()] == [8, PIECES - FREE - 8]


async def test_what_a_full_channel_has_paid_for_is_fetched_over_it(shop: Market) -> None:
    """Eight pieces are signed for and the channel is full. Four the seeder counts as bought, which our log lost; four
    are in our log, and the seeder never got to them. All eight come over the old channel, none is bought again."""
    cheat = await a_channel_for_eight_pieces(shop, paid=8, asked=(2, 3, 4, 5))
    assert paid_bytes(cheat) == 4 * PIECE
    for piece in (6, 7, 8, 9):
        shop.viewer.purse.bought(shop.spending(), 0, shop.link.infohash, PieceIndex(piece), 1)
    play = await shop.viewer.play(shop.link, None)
    async with asyncio.timeout(20):
        assert await watch(play) == shop.film
    await shop.viewer.viewer.close(play)
    assert play.budget.pieces == PIECES - FREE - 8
    assert [s.payer.paid for s in shop.viewer.purse.spendings.values()] == [8, PIECES - FREE - 8]


async def a_channel_for_eight_pieces(shop: Market, paid: int = 0, asked: tuple[int, ...] = ()) -> CheatingViewer:
    """Of the honest viewer's purse, with the honest seeder, and no connection that uses it."""
    cheat = await shop.cheat()
    await cheat.open(shop.viewer, remaining=8)
    if paid:
        cheat.pay(paid)
        cheat.ask(*asked)
        await cheat.answered()
    await cheat.close()
    await until(lambda: not shop.seeder.till._users)
    shop.viewer.purse.release(shop.spending())
    return cheat


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As if the disk were full: no file of this process grows beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_the_viewers_disk_is_full(shop: Market) -> None:
    """The reader hears it; what was paid for and not kept is one window; nothing more is bought."""
    play = await shop.viewer.play(shop.link, None)
    with files_of_at_most(4 * PIECE):
        with pytest.raises(StoreError):
            async with asyncio.timeout(20):
                await watch(play)
        bought = play.budget.pieces
        with pytest.raises(StoreError):
            await piece_comes(play, 9)
        assert play.budget.pieces == bought <= 4 + 20
    await shop.viewer.viewer.close(play)


async def test_the_seeders_disk_is_full(tmp_path: Path, chain: ChainNode, miner: RegtestMiner) -> None:
    """THREATS 27: once a payment cannot be written down, none is taken and no paid byte leaves, on any connection; what
    was earned is settled all the same."""
    story: list[object] = []
    with pytest.raises(StoreError, match="the ledger lost its disk"):  # the node's last word, when it closes
        async with market(tmp_path, chain, miner) as shop:
            story += await a_full_disk(shop)
    assert story == [PIECE, 0, State.SETTLED]


async def a_full_disk(shop: Market) -> list[object]:
    """Bytes that the first connection got, and the three that resumed; what became of the channel."""
    cheat = await shop.cheat()
    spending = await cheat.open(shop.viewer, remaining=900)
    cheat.pay()
    cheat.ask(2)
    await cheat.answered()
    with files_of_at_most(16 * 1024):
        while not cheat.over.is_set():
            for _ in range(10):
                cheat.pay()
            await asyncio.sleep(0.005)
        got = 0
        for handle in range(3):
            again = await shop.cheat()
            await again.offered()
            again.say(again.session.resume(spending.payer, shop.viewer.purse.key(spending), handle))
            again.ask(3)
            await again.ended()
            got += paid_bytes(again)
            await again.close()
        await shop.seeder.close_channel(shop.earning().outpoint)
    await cheat.close()
    return [paid_bytes(cheat), got, shop.earning().state]


# -- a chain of our own: it goes away, and its clock is moved ---------------------------------------------------------


@asynccontextmanager
async def private_market(root: Path) -> AsyncIterator[tuple[Market, RegtestNode, ChainNode, RegtestMiner]]:
    own = await RegtestNode.start(root / "node")
    chain = open_chain(own)
    miner = RegtestMiner(chain)
    await miner.start()
    try:
        async with market(root, chain, miner) as shop:
            yield shop, own, chain, miner
    finally:
        await chain.close()
        await own.stop()


async def test_the_chain_goes_away(tmp_path: Path) -> None:
    """Before the first channel nothing can be bought, and the reader hears why. In the middle of a film nobody notices.
    At the end the settlement waits, and goes out when the chain is back."""
    async with private_market(tmp_path) as (shop, own, chain, _):
        await own.stop()
        early = await shop.viewer.play(shop.link, None)
        assert await piece_comes(early, 1) == shop.film[PIECE : 2 * PIECE]
        with pytest.raises(BctError) as error:
            await piece_comes(early, 2)
        assert not isinstance(error.value, FundsError)
        await shop.viewer.viewer.close(early)
        await own.restart()
        play = await shop.viewer.play(shop.link, None)
        await piece_comes(play, 2)
        await own.stop()
        async with asyncio.timeout(20):
            assert await watch(play) == shop.film
        earning = shop.earning()
        await shop.seeder.close_channel(earning.outpoint)
        assert earning.state is State.CLOSING
        await own.restart()
        await shop.seeder.watchman.look()
        assert shop.earning().state is State.SETTLED
        assert earning.account.payee.paid == PIECES - FREE
        place = await chain.place(Tx.parse(earning.settlement).txid)
        assert place


async def test_the_seeder_is_gone_for_good(tmp_path: Path) -> None:
    """THREATS 8, 30: it took the funding and a payment and was never heard of again. After the expiry everything but
    two fees comes back, from what the viewer holds alone."""
    async with private_market(tmp_path) as (shop, _, chain, miner):
        async with shop.stall(Behaviour()) as stall:
            play = await first_pays_the_cheat(shop, stall)
            reading = asyncio.create_task(piece_comes(play, 2))
            await until(lambda: stall.heard(PiecePayment))
            reading.cancel()
        spending = shop.spending()
        shop.viewer.viewer.leave(play.swarm, play.buyer)
        await chain.broadcast([spending.saved.funding])
        await miner.mine()
        expiry = spending.payer.params.lock.expiry
        assert not shop.viewer.purse.is_refundable(spending, expiry), "not a second early"
        await chain.rpc.call("setmocktime", expiry + 600)
        await miner.mine(12)
        await shop.viewer.watchman.look()
        assert shop.spending().payer.state is State.REFUNDED
        await miner.mine()
        await shop.viewer.watchman.look()
        balance = shop.viewer.wallet.balance
        assert 2 * 100_000 - balance.confirmed - balance.pending == play.budget.fees
        await chain.rpc.call("setmocktime", 0)
