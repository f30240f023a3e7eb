"""A watchman apart: what it takes, when it settles, and what nobody can make it do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from bct.api.watch import MAX_BODY, Watch
from bct.backends.watch_post import HttpPost
from bct.backends.watched_files import WatchedFiles
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import TxOutput
from bct.channel.allowance import Allowance
from bct.channel.lock import Lock, refund
from bct.channel.transactions import Params
from bct.channel.watched import Watched, encode
from bct.errors import AuthError, ChainError, ConfigError, RemoteProtocolError, TemporaryError
from bct.node import lookout as room
from bct.node.bell import Bell
from bct.node.lookout import Lookout
from bct.node.sight import DEEP
from bct.units import Outpoint, Satoshi
from tests.channel_parts import CHANGE, HOUR, NOW, PAYEE, PAYER, new_payee, new_payer, params
from tests.coins import Coin, some_coins, spend
from tests.desk import serving
from tests.model_chain import ModelChain

pytestmark = pytest.mark.anyio

CAPACITY = 10_000
EXPIRY = NOW + 12 * HOUR
DUE = EXPIRY - 2 * HOUR + 15 * 60
SECRET = "5" * 64
TOKENS = {"a" * 64: "alice", "b" * 64: "bob"}


@dataclass
class Channel:
    """Somebody else's, on the chain. coin: what its funding spends."""

    fixed: Params
    funding: bytes
    coin: Coin

    def at(self, paid: int) -> Watched:
        """What its payee hands over when so much was paid."""
        payer, payee = new_payer(self.fixed), new_payee(self.fixed)
        now = self.fixed.lock.expiry - 12 * HOUR
        payment = payer.pay(0, paid, PAYER, now=now)
        payee.accept(0, paid, payment.signature, now=now, exposure=None)
        return Watched((self.funding,), payee.settlement(PAYEE)[0].serialize(), CHANGE)

    @property
    def outpoint(self) -> Outpoint:
        return self.fixed.outpoint


@dataclass
class Hill:
    """Where the lookout stands. now: what it takes for the time; it looks when the test says so."""

    root: Path
    chain: ModelChain = field(default_factory=lambda: ModelChain(NOW))
    now: int = NOW
    steady: float = 0.0
    bell: Bell = field(default_factory=Bell)

    async def channel(self, expiry: int = EXPIRY) -> Channel:
        lock = Lock(PAYER.public, PAYEE.public, expiry)
        (coin,) = await some_coins(self.chain, value=CAPACITY + 200)
        funding = spend(coin, script=lock.script())
        await self.chain.broadcast([funding.serialize()])
        await self.chain.mine()
        return Channel(params(CAPACITY, outpoint=Outpoint(funding.txid, 0), lock=lock), funding.serialize(), coin)

    @asynccontextmanager
    async def lookout(self, *others: ModelChain) -> AsyncIterator[Lookout]:
        opened = Lookout(
            (self.chain, *others), WatchedFiles(self.root), self.bell, lambda: self.now, lambda: self.steady
        )
        await opened.start()
        await opened.stop()
        yield opened

    async def settled(self, channel: Channel) -> bytes | None:
        """What spends its outpoint, raw."""
        spend = await self.chain.spender(channel.outpoint)
        return await self.chain.transaction(spend.txid) if spend else None

    @property
    def words(self) -> list[str]:
        return [alarm.word for alarm in self.bell.alarms]


@pytest.fixture
def hill(tmp_path: Path) -> Hill:
    return Hill(tmp_path)


# -- settling ---------------------------------------------------------------------------------------------------------


async def test_it_settles_a_quarter_of_an_hour_after_the_payee_should_have_and_not_before(hill: Hill) -> None:
    channel = await hill.channel()
    async with hill.lookout() as lookout:
        assert await lookout.take("alice", channel.at(62))
        for moment, settled in ((DUE - 1, None), (DUE, channel.at(62).settlement)):
            hill.now = moment
            await lookout.look()
            assert await hill.settled(channel) == settled


async def test_it_goes_by_the_chains_time_when_its_own_clock_is_slow(hill: Hill) -> None:
    """THREATS 48."""
    channel = await hill.channel()
    async with hill.lookout() as lookout:
        await lookout.take("alice", channel.at(62))
        hill.now, hill.chain.now = NOW - 9 * HOUR, DUE
        await hill.chain.mine()
        await lookout.look()
        assert await hill.settled(channel) == channel.at(62).settlement
        assert hill.words == ["clock"]


async def test_a_payee_that_settles_by_itself_is_left_alone(hill: Hill) -> None:
    """It has newer totals."""
    channel = await hill.channel()
    async with hill.lookout() as lookout:
        await lookout.take("alice", channel.at(62))
        await hill.chain.broadcast([channel.at(90).settlement])
        hill.now = EXPIRY
        with capture_logs() as logs:
            await lookout.look()
        assert hill.words == ["unmined"]
        assert await hill.settled(channel) == channel.at(90).settlement
        assert [line["outcomes"] for line in logs if line["event"] == "handed over"] == [["known"]], "it helps along"


async def test_what_it_settled_is_watched_until_it_is_deep_and_sent_again_when_it_is_forgotten(hill: Hill) -> None:
    channel = await hill.channel()
    async with hill.lookout() as lookout:
        await lookout.take("alice", channel.at(62))
        hill.now = DUE
        await lookout.look()
        await hill.chain.mine()
        await lookout.look()
        hill.chain.fork(1, forgotten=[(await hill.chain.spender(channel.outpoint)).txid])  # type: ignore[union-attr]
        await hill.chain.mine()
        hill.steady += 60
        await lookout.look()
        assert await hill.settled(channel) == channel.at(62).settlement
        await hill.chain.mine(DEEP)
        await lookout.look()
        assert lookout.guarded
        await hill.chain.mine()
        await lookout.look()
        assert not lookout.guarded
    assert list(hill.root.glob("*/*.json")) == []


async def test_while_its_own_source_is_away_it_settles_through_another(hill: Hill) -> None:
    channel = await hill.channel()
    other = ModelChain(NOW)
    other.follow(hill.chain)
    async with hill.lookout(other) as lookout:
        await lookout.take("alice", channel.at(62))
        hill.chain.answers = False
        hill.now, hill.steady = DUE, 700.0
        with pytest.raises(ChainError):
            await lookout.look()
        spend = await other.spender(channel.outpoint)
        assert spend
        assert hill.words == ["unreachable"]


async def test_it_comes_back_from_its_files(hill: Hill) -> None:
    channel, broken = await hill.channel(), await hill.channel()
    async with hill.lookout() as lookout:
        await lookout.take("alice", channel.at(62))
        await lookout.take("alice", broken.at(62))
    (file,) = hill.root.glob(f"alice/{broken.outpoint.txid[::-1].hex()}*")
    file.write_bytes(file.read_bytes()[:-9])
    hill.now = DUE
    async with hill.lookout() as again:
        await again.look()
        assert await hill.settled(channel) == channel.at(62).settlement
        assert await hill.settled(broken) is None


async def test_alarms_when_money_is_about_to_go_and_when_it_is_gone(hill: Hill) -> None:
    channel = await hill.channel()
    hill.chain.floor = 500  # nobody takes the settlement
    async with hill.lookout() as lookout:
        await lookout.take("alice", channel.at(62))
        hill.now = EXPIRY - HOUR
        await lookout.look()
        assert hill.words == ["unsettled"]
        hill.now = hill.chain.now = EXPIRY + HOUR
        await hill.chain.mine(11)
        out = TxOutput(Satoshi(CAPACITY - 400), p2pkh(CHANGE))
        taken = refund(channel.fixed.lock, channel.outpoint, channel.fixed.capacity, out, PAYER)
        await hill.chain.broadcast([taken.serialize()])
        await hill.chain.mine()
        await lookout.look()
        assert hill.words == ["refunded"]


async def test_what_nothing_can_come_of_is_let_go(hill: Hill) -> None:
    lost, stale = await hill.channel(), await hill.channel()
    hill.chain.floor = 500
    async with hill.lookout() as lookout:
        await lookout.take("alice", lost.at(62))
        await lookout.take("alice", stale.at(62))
        hill.chain.fork(2, forgotten=[lost.outpoint.txid])
        hill.chain.floor = 100
        await hill.chain.broadcast([spend(lost.coin, fee=900).serialize()])
        hill.chain.floor = 500
        await hill.chain.mine(DEEP + 1)
        await lookout.look()
        assert [key for _, key in lookout.guarded] == [stale.outpoint]
        hill.now = EXPIRY + 7 * 24 * HOUR + 1
        await lookout.look()
        assert not lookout.guarded


# -- what it takes ----------------------------------------------------------------------------------------------------


async def test_the_newest_is_kept_and_an_older_one_does_not_take_its_place(hill: Hill) -> None:
    channel = await hill.channel()
    async with hill.lookout() as lookout:
        took = [await lookout.take("alice", channel.at(paid)) for paid in (62, 90, 90, 62, 91)]
        assert took == [True, True, False, False, True]
        hill.now = DUE
        await lookout.look()
        assert await hill.settled(channel) == channel.at(91).settlement


async def test_an_owner_cannot_touch_what_another_has_handed_over(hill: Hill) -> None:
    """Bob has the viewer's help, or an old copy: what Alice gave stays, and the newer of both is what settles."""
    channel = await hill.channel()
    async with hill.lookout() as lookout:
        await lookout.take("alice", channel.at(90))
        assert await lookout.take("bob", channel.at(62))
        assert [one.checked.paid for one in lookout.of("alice")] == [90]
        hill.now = DUE
        await lookout.look()
        assert await hill.settled(channel) == channel.at(90).settlement


@asynccontextmanager
async def open_to_the_world(lookout: Lookout) -> AsyncIterator[str]:
    async with serving(Watch(lookout, Bell(), TOKENS, SECRET).app()) as address:
        yield address


@asynccontextmanager
async def way_to(address: str, token: str) -> AsyncIterator[HttpPost]:
    post = HttpPost(f"{address}/#{token}")
    try:
        yield post
    finally:
        await post.close()


async def test_over_the_wire(hill: Hill) -> None:
    channel = await hill.channel()
    async with hill.lookout() as lookout, open_to_the_world(lookout) as address:
        async with way_to(address, "a" * 64) as post:
            assert post.name == address, "no secret in what people see"
            await post.send(channel.at(62))
            await post.send(channel.at(40))
            stray = replace(channel.at(62), settlement=(await hill.channel()).at(5).settlement)
            with pytest.raises(RemoteProtocolError, match="does not spend the funding"):
                await post.send(stray)
        async with httpx.AsyncClient(trust_env=False) as http:
            shown = (await http.get(f"{address}/watch", headers={"Authorization": "Bearer " + "a" * 64})).json()
            others = (await http.get(f"{address}/watch", headers={"Authorization": "Bearer " + "b" * 64})).json()
    (one,) = shown["channels"]
    assert one == {
        "owner": "alice",
        "channel": str(channel.outpoint),
        "paid": 62,
        "expiry": EXPIRY,
        "due": DUE,
        "state": "open",
    }
    assert others == {"channels": []}


async def test_whoever_runs_it_sees_all_and_reads_its_metrics(hill: Hill) -> None:
    channel = await hill.channel()
    async with hill.lookout() as lookout, open_to_the_world(lookout) as address:
        await lookout.take("alice", channel.at(62))
        await lookout.take("bob", channel.at(40))
        await lookout.look()
        async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {SECRET}"}) as http:
            shown = (await http.get(f"{address}/watch")).json()
            numbers = (await http.get(f"{address}/metrics")).text
        async with httpx.AsyncClient(trust_env=False, headers={"Authorization": "Bearer " + "a" * 64}) as http:
            assert (await http.get(f"{address}/metrics")).status_code == 401
    assert (shown["reachable"], shown["height"], shown["alarms"]) == (True, 1, [])
    assert [(one["owner"], one["paid"]) for one in shown["channels"]] == [("alice", 62), ("bob", 40)]
    assert 'bct_watched_satoshis{state="open"} 102.0' in numbers


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer " + "c" * 64, "Bearer " + "a" * 63, "é"])
async def test_a_stranger_gets_nowhere_and_nothing_of_it_is_read(hill: Hill, shown: str) -> None:
    async with (
        hill.lookout() as lookout,
        open_to_the_world(lookout) as address,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        for method in ("GET", "POST"):
            headers = {b"Authorization": shown.encode()}
            answer = await http.request(method, f"{address}/watch", headers=headers, content=b"x" * (MAX_BODY + 1))
            assert answer.status_code == 401
    assert not lookout.guarded


async def test_a_body_without_end_is_cut_off(hill: Hill) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 4096

    async with (
        hill.lookout() as lookout,
        open_to_the_world(lookout) as address,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        headers = {"Authorization": "Bearer " + "a" * 64}
        answer = await http.post(f"{address}/watch", headers=headers, content=endless())
        assert answer.status_code == 400
        assert "at most" in answer.json()["text"]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff" * 100, b'{"funding":[],"settlement":"","change":""}'])
async def test_junk_is_refused_with_words(hill: Hill, body: bytes) -> None:
    async with (
        hill.lookout() as lookout,
        open_to_the_world(lookout) as address,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        answer = await http.post(f"{address}/watch", headers={"Authorization": "Bearer " + "a" * 64}, content=body)
        assert (answer.status_code, set(answer.json())) == (400, {"error", "text", "exit_code"})


# -- how much it takes ------------------------------------------------------------------------------------------------


async def test_one_owner_fills_only_the_room_that_is_its_own(hill: Hill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_CHANNELS", 2)
    first, second, third = [await hill.channel() for _ in range(3)]
    async with hill.lookout() as lookout:
        for channel in (first, second):
            await lookout.take("alice", channel.at(62))
        with pytest.raises(TemporaryError, match="no room for more"):
            await lookout.take("alice", third.at(62))
        assert await lookout.take("alice", first.at(63)), "what is there can be renewed"
        assert await lookout.take("bob", third.at(62))


async def test_bytes_are_bounded_as_well(hill: Hill, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await hill.channel(), await hill.channel()
    async with hill.lookout() as lookout:
        await lookout.take("alice", first.at(62))
        (one,) = lookout.of("alice")
        monkeypatch.setattr(room, "MOST_BYTES", one.size + 10)
        with pytest.raises(TemporaryError):
            await lookout.take("alice", second.at(62))
        assert await lookout.take("alice", first.at(63))


async def test_a_flood_is_slowed_down_and_forgiven(hill: Hill) -> None:
    channel = await hill.channel()
    one = channel.at(62)
    async with hill.lookout() as lookout:
        for _ in range(500):
            await lookout.take("alice", one)
        with pytest.raises(TemporaryError, match="more than 50 a second"):
            await lookout.take("alice", one)
        assert await lookout.take("bob", one), "each has its own allowance"
        hill.steady += 1
        for _ in range(50):
            await lookout.take("alice", one)
        with pytest.raises(TemporaryError):
            await lookout.take("alice", one)


async def test_a_channel_that_cannot_live_takes_no_room(hill: Hill) -> None:
    far = await hill.channel(NOW + 80 * HOUR)
    async with hill.lookout() as lookout:
        with pytest.raises(RemoteProtocolError, match="none that lives"):
            await lookout.take("alice", far.at(62))


# -- the way there ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["", "host:1/#t", "ftp://host/#t", "http://host:1", "http://host:1/#", "https:///#t"]
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ConfigError, match="bct watchman token"):
        HttpPost(address)


async def test_each_way_of_not_taking_it_has_its_error(hill: Hill) -> None:
    channel = await hill.channel()
    async with hill.lookout() as lookout, open_to_the_world(lookout) as address:
        async with way_to(address, "c" * 64) as wrong:
            with pytest.raises(AuthError):
                await wrong.send(channel.at(62))
        async with way_to(address.rpartition(":")[0] + ":1", "a" * 64) as nobody:
            with pytest.raises(TemporaryError, match="does not answer"):
                await nobody.send(channel.at(62))
        async with way_to(address, "a" * 64) as post:
            lookout._allowances["alice"] = Allowance(0, 0)
            with pytest.raises(TemporaryError, match="503"):
                await post.send(channel.at(62))


def test_a_whole_epoch_fits_a_body() -> None:
    """Six funding transactions of a hundred coins each."""
    assert len(encode(Watched((bytes(15_000),) * 6, bytes(900), CHANGE))) < MAX_BODY
