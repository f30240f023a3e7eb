"""Who is told of what is earned, how often, and what happens when nobody listens. On virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from bct.bitcoin.tx import Tx, TxInput, TxOutput
from bct.channel.state import Event
from bct.channel.store import SavedPayee
from bct.channel.watched import Watched, check
from bct.errors import AuthError, BctError, RemoteProtocolError, TemporaryError
from bct.node.bell import Bell
from bct.node.teller import Teller
from bct.node.till import Earning
from bct.pay.account import Account, Verdict
from bct.pay.receipts import EPOCH
from bct.units import Outpoint, PieceIndex, Satoshi
from tests.channel_parts import CHANGE, FILM, FUNDING, HOUR, LOCK, NOW, PAYEE, PAYER, new_payee, new_payer, params
from tests.pay_parts import FILM_TERMS, PIECE
from tests.sim.clock import run


class Channel:
    """One that this node earns on, and its viewer. number: tells it from others."""

    def __init__(self, number: int = 0) -> None:
        funding = Tx((TxInput(Outpoint(FUNDING.txid, number)),), (TxOutput(Satoshi(10_000), LOCK.script()),))
        fixed = params(10_000, outpoint=Outpoint(funding.txid, 0))
        self.viewer = new_payer(fixed)
        saved = SavedPayee(fixed, bytes(16), FILM, (funding.serialize(),), NOW, 900)
        self.earning = Earning(saved, Account(new_payee(fixed), bytes(16), None), "", NOW)

    def sell(self, teller: Teller, pieces: int = 1) -> None:
        """So many pieces are paid for and let go, a satoshi each."""
        account = self.earning.account
        for _ in range(pieces):
            payment = self.viewer.pay(0, 1, PAYER, now=NOW)
            account.payee.accept(0, payment.total, payment.signature, now=NOW, exposure=None)
            at = PieceIndex(2 + account.pieces)
            verdict, _ = account.ask(0, FILM_TERMS.infohash, at, PIECE, PIECE, 1)
            assert verdict is Verdict.SERVE
            teller.opened(self.earning)


class Friend:
    """A watchman elsewhere: a `WatchPost` that notes what it was told. trouble: what it answers instead."""

    def __init__(self, name: str = "http://friend") -> None:
        self.name = name
        self.trouble: BctError | None = None
        self.hangs = False
        self.tries: list[float] = []
        self.got: list[Watched] = []

    @property
    def told(self) -> list[int]:
        """The totals."""
        return [check(watched).paid for watched in self.got]

    async def send(self, watched: Watched) -> None:
        self.tries.append(asyncio.get_running_loop().time())
        if self.hangs:
            await asyncio.Event().wait()
        if self.trouble:
            raise self.trouble
        self.got.append(watched)

    async def close(self) -> None: ...


class Scene:
    def __init__(self) -> None:
        self.friend = Friend()
        self.bell = Bell()
        self.teller = self.tell(self.friend)

    def tell(self, *friends: Friend) -> Teller:
        return Teller(friends, lambda _: PAYEE, self.bell, asyncio.get_running_loop().time)

    @property
    def alarms(self) -> list[str]:
        return [alarm.text for alarm in self.bell.alarms]


def story(tell: Callable[[Scene], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    async def told() -> None:
        scene = Scene()
        scene.teller.start(())
        try:
            await tell(scene)
        finally:
            await scene.teller.stop()

    def test() -> None:
        run(told())

    test.__name__, test.__doc__ = tell.__name__, tell.__doc__
    return test


@story
async def test_each_epoch_of_pieces_is_told_and_the_end(scene: Scene) -> None:
    channel = Channel()
    channel.sell(scene.teller, EPOCH - 1)
    await asyncio.sleep(1)
    assert scene.friend.told == []
    channel.sell(scene.teller, 1)
    await asyncio.sleep(1)
    channel.sell(scene.teller, EPOCH + 9)
    await asyncio.sleep(1)
    assert scene.friend.told == [EPOCH, 2 * EPOCH], "a creator loses an epoch at most"
    channel.earning.account.payee.on(Event.CLOSE)
    for _ in range(3):
        scene.teller.tell(channel.earning)
    await asyncio.sleep(1)
    assert scene.friend.told == [EPOCH, 2 * EPOCH, 2 * EPOCH + 9]


@story
async def test_a_channel_that_is_over_or_was_never_paid_is_not_told(scene: Scene) -> None:
    channel = Channel()
    scene.teller.tell(channel.earning)
    channel.sell(scene.teller)
    channel.earning.account.payee.on(Event.SETTLEMENT_SEEN)
    scene.teller.tell(channel.earning)
    await asyncio.sleep(1)
    assert scene.friend.tries == []


@story
async def test_one_that_is_away_is_tried_ever_more_rarely_and_gets_only_the_newest(scene: Scene) -> None:
    channel, other = Channel(1), Channel(2)
    scene.friend.trouble = TemporaryError("away")
    channel.sell(scene.teller, EPOCH)
    await asyncio.sleep(10 * 60)
    assert scene.friend.tries[:6] == [0, 5, 15, 35, 75, 135]
    assert len(scene.friend.tries) < 15
    channel.sell(scene.teller, 3 * EPOCH)
    other.sell(scene.teller, EPOCH)
    scene.friend.trouble = None
    await asyncio.sleep(61)
    assert scene.friend.told == [4 * EPOCH, EPOCH]


@story
async def test_one_that_hangs_holds_up_neither_serving_nor_another_watchman(scene: Scene) -> None:
    hanging, good = Friend("http://hanging"), Friend("http://good")
    hanging.hangs = True
    teller = scene.tell(hanging, good)
    teller.start(())
    channel = Channel()
    for _ in range(5):
        channel.sell(teller, EPOCH)
        await asyncio.sleep(1)
    assert good.told == [EPOCH * count for count in range(1, 6)]
    assert hanging.told == []
    hanging.hangs = False
    await asyncio.sleep(120)
    assert hanging.told == [5 * EPOCH]
    await teller.stop()


@story
async def test_after_an_hour_without_a_word_it_is_an_alarm_until_it_answers(scene: Scene) -> None:
    channel = Channel()
    scene.friend.trouble = TemporaryError("it does not answer")
    channel.sell(scene.teller, EPOCH)
    await asyncio.sleep(HOUR - 1)
    assert scene.alarms == []
    await asyncio.sleep(62)
    (text,) = scene.alarms
    assert "http://friend takes nothing (it does not answer), not of 1 payment channels" in text
    scene.friend.trouble = None
    await asyncio.sleep(121)
    assert scene.alarms == []


@story
async def test_a_wrong_token_is_an_alarm_at_once(scene: Scene) -> None:
    channel = Channel()
    scene.friend.trouble = AuthError("the token is wrong")
    channel.sell(scene.teller, EPOCH)
    await asyncio.sleep(61)
    (text,) = scene.alarms
    assert "the token is wrong" in text


@story
async def test_what_is_refused_for_good_does_not_stand_in_the_way(scene: Scene) -> None:
    first, second = Channel(1), Channel(2)
    scene.friend.trouble = RemoteProtocolError("refused", "not this one")
    first.sell(scene.teller, EPOCH)
    await asyncio.sleep(1)
    scene.friend.trouble = None
    second.sell(scene.teller, EPOCH)
    await asyncio.sleep(1)
    assert scene.friend.told == [EPOCH]


@story
async def test_after_a_restart_everything_is_told_once_more(scene: Scene) -> None:
    """What the last run had not got rid of is lost with it."""
    channel, fresh = Channel(1), Channel(2)
    channel.sell(Teller((), lambda _: PAYEE, scene.bell, lambda: 0.0), EPOCH + 5)
    friend = Friend()
    teller = scene.tell(friend)
    teller.start([channel.earning, fresh.earning])
    await asyncio.sleep(1)
    assert friend.told == [EPOCH + 5]
    channel.sell(teller, EPOCH)
    await asyncio.sleep(1)
    assert friend.told == [EPOCH + 5, 2 * EPOCH + 5]
    await teller.stop()


@story
async def test_what_is_told_is_what_would_be_settled(scene: Scene) -> None:
    channel = Channel()
    channel.sell(scene.teller, EPOCH)
    await asyncio.sleep(1)
    tx, _ = channel.earning.account.payee.settlement(PAYEE)
    assert scene.friend.got == [Watched(channel.earning.saved.funding, tx.serialize(), CHANGE)]
