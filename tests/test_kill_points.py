"""Killed at any effect, viewer or seeder, whatever became of the last writes: the channel goes on, is settled, or is
refunded.

A story is told once to find its points: everything a node does that lasts or leaves it, just before and just after.
Then it is told again for each point, and there one of the two is hit: by `kill -9`, by a power cut that tears what was
not synced, by a disk that is full from then on; or an old copy of a disk comes back in the end. A few points by
default, by dice; all of them under `long`. Only who is hit loses anything: the viewer its window, the seeder what it
served ahead of its disk. THREATS 26 to 29.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from bct.bitcoin.tx import Tx
from bct.channel import payee as payee_module
from bct.channel import payer as payer_module
from bct.channel.state import TABLE, Event, Role, State, move
from bct.node import dialer
from bct.node import play as playing
from bct.pay.account import unsynced_risk
from bct.wallet.paths import RECEIVE
from tests.coins import Coin, spend
from tests.mortal import Crash, Point
from tests.street import COINS, PIECES, PRICE, Balance, Story, Street, street

pytestmark = pytest.mark.anyio

SEED = 1
WINDOW = max(PRICE, 20)
"""Satoshis that a viewer has under way at most (see `pay.window`)."""
RISK = unsynced_risk(PRICE)
PAIRS = 76
"""Satoshis of fees that a channel costs at most, from funding to its dearer end."""

Move = tuple[Role, State, Event]


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was cut off calls again at once."""
    monkeypatch.setattr(dialer, "FIRST_PAUSE", 0.01)


# -- the stories ------------------------------------------------------------------------------------------------------


async def trade(here: Street) -> None:
    """Half a film, then the viewer's power goes; the other creator's film over the same channel, and another one when
    that is full; settled and buried."""
    await here.watch(here.titles[0], PIECES // 2, close=False)
    await here.off(here.viewer)
    await here.on(here.viewer)
    await here.watch(here.titles[1])
    await here.blocks(1)
    await here.blocks(100)


async def abandoned(here: Street) -> None:
    """The viewer leaves without a word: settled when it has been away too long."""
    await here.watch(here.titles[0], PIECES // 2, close=False)
    await here.off(here.viewer)
    await here.blocks(1)
    await here.hours(1)
    await here.on(here.viewer)
    await here.blocks(100)


async def expiring(here: Street) -> None:
    """A play that does not end: settled two hours before the refund."""
    await here.watch(here.titles[0], PIECES // 2, close=False)
    await here.blocks(1)
    await here.hours(10.5)
    await here.blocks(100)


async def stopping(here: Street) -> None:
    """Both nodes are stopped in order, in the middle of a play."""
    await here.watch(here.titles[0], PIECES // 2, close=False)
    await here.stop(here.seeder)
    await here.stop(here.viewer)
    await here.on(here.seeder)
    await here.on(here.viewer)
    await here.blocks(100)


async def refunded(here: Street) -> None:
    """The seeder is not seen again until it is too late."""
    await here.watch(here.titles[0], PIECES // 2, close=False)
    await here.off(here.seeder)
    await here.blocks(1)
    await here.hours(13)
    await here.on(here.seeder)
    await here.blocks(1)
    await here.blocks(100)


async def forked(here: Street) -> None:
    """The refund is in a block, then the settlement, then the one again and the other, as forks have it."""
    await here.watch(here.titles[0], PIECES // 2, close=False)
    await here.off(here.seeder)
    await here.blocks(1)
    await here.hours(13)
    refund = b"".join([saved.closing for saved in await here.viewer.channels.payers()][-1:])
    await here.on(here.seeder)
    await here.instead(first=here.seeder)
    settlement = b"".join([saved.settlement for saved in await here.seeder.channels.payees()][-1:])
    await here.instead(refund)
    await here.instead(first=here.seeder)
    await here.instead(refund)
    await here.instead(first=here.viewer)
    await here.instead(settlement)
    await here.instead(first=here.seeder)
    await here.instead(first=here.viewer)
    await here.instead(refund)
    await here.blocks(100)


async def double_spent(here: Street) -> None:
    """The funding never comes into a block: another transaction does with the same coin."""
    await here.watch(here.titles[0], PIECES // 2, close=False)
    await spend_again(here)
    await here.blocks(100)


async def double_spent_while_closing(here: Street) -> None:
    """The same, when the chain is away while they close."""
    await here.watch(here.titles[0], PIECES // 2, close=False)
    here.chain.answers = False
    await here.close_all()
    await spend_again(here)
    await here.blocks(100)


async def double_spent_for_long(here: Street) -> None:
    """The same, when the expiry comes before all is buried."""
    await here.watch(here.titles[0], PIECES // 2, close=False)
    await spend_again(here)
    await here.hours(13)
    await here.blocks(100)


async def closed_in_vain(here: Street) -> None:
    """The viewer closes while the chain is away, and the seeder is never seen again."""
    await here.watch(here.titles[0], PIECES // 2, close=False)
    here.chain.answers = False
    await here.close_all()
    await here.off(here.seeder)
    await here.chain_is_back(here.viewer)
    await here.hours(13)
    await here.blocks(1)


async def overtaken(here: Street) -> None:
    """The refund is sent, and the settlement is in a block all the same."""
    await here.watch(here.titles[0], PIECES // 2, close=False)
    await here.off(here.seeder)
    await here.hours(13)
    await here.on(here.seeder)
    await here.instead(first=here.seeder)


async def spend_again(here: Street) -> None:
    await here.chain_is_back(*here.parties)
    saved = await here.viewer.channels.payers()
    for one in saved:
        here.chain.forget(one.params.outpoint.txid)
    for one in saved[-1:]:
        (spent,) = Tx.parse(one.funding).inputs
        coin = Coin(spent.outpoint, COINS, here.viewer.node.wallet.key((*RECEIVE, 0)))
        await here.chain.broadcast([spend(coin).serialize()])
    await here.blocks(1)


HONEST: tuple[Story, ...] = (trade, abandoned, expiring, stopping)
LOSING: tuple[Story, ...] = (
    refunded,
    closed_in_vain,
    overtaken,
    forked,
    double_spent,
    double_spent_while_closing,
    double_spent_for_long,
)
"""Here the seeder is away for half a day, or cheated: what it was paid until then is lost without any crash."""
STORIES = HONEST + LOSING


# -- a story told once ------------------------------------------------------------------------------------------------


@dataclass
class Told:
    """points: of each party, by name. moves: of the state machines."""

    balance: Balance
    points: dict[str, list[Point]]
    moves: set[Move] = field(default_factory=set)


async def told(root: Path, story: Story) -> Told:
    moves: set[Move] = set()
    async with street(root) as here:
        before = {name: len(party.points) for name, party in here.by_name.items()}
        with moves_noted(moves):
            await here.tell(story)
        points = {name: party.points[before[name] :] for name, party in here.by_name.items()}
        return Told(await here.finish(), points, moves)


@contextmanager
def moves_noted(moves: set[Move]) -> Iterator[None]:
    def noted(role: Role, state: State, event: Event) -> State:
        after = move(role, state, event)
        moves.add((role, state, event))
        return after

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payer_module, "move", noted)
        patch.setattr(payee_module, "move", noted)
        yield


@pytest.fixture(scope="module")
async def once(tmp_path_factory: pytest.TempPathFactory) -> dict[Story, Told]:
    """Every story, with nobody killed."""
    root = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialer, "FIRST_PAUSE", 0.01)
        return {story: await told(root / story.__name__, story) for story in STORIES}


async def test_what_everybody_has_in_the_end_when_nobody_is_killed(once: dict[Story, Told]) -> None:
    for story in HONEST:
        balance = once[story].balance
        assert balance.cost == balance.paid == balance.purchases
        assert balance.fees <= PAIRS * balance.channels


# -- killed -----------------------------------------------------------------------------------------------------------


async def killed(root: Path, story: Story, who: str, point: Point, crash: Crash) -> Balance | None:
    """What everybody has in the end; None when the story did not come to this point, as when two wires race."""
    async with street(root) as here:
        party = here.by_name[who]
        party.dies_at(point)
        await here.tell(story, party, crash)
        reached = party.killed.is_set()
        balance = await here.finish()
    return balance if reached else None


def judge(story: Story, who: str, once: Balance, balance: Balance) -> int:
    """Satoshis lost to the crash. Nothing but the bounds may be, and only by who was killed."""
    lost = (balance.cost - balance.paid) - (once.cost - once.paid)
    if who == "seeder":
        assert lost <= RISK
        assert balance.paid <= balance.cost
    else:
        assert -lost <= WINDOW or story in LOSING
        assert balance.paid - balance.cost <= WINDOW
        assert balance.paid >= balance.cost or story in LOSING
    assert balance.channels <= once.channels + 1
    assert balance.fees <= once.fees + PAIRS
    assert abs(balance.purchases - balance.paid) <= max(WINDOW, once.purchases - once.paid)
    return max(0, lost if who == "seeder" else balance.paid - balance.cost)


@pytest.mark.parametrize("who", ["seeder", "viewer"])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_killed_at_some_point(tmp_path: Path, once: dict[Story, Told], story: Story, who: str) -> None:
    dice = Random(f"{SEED} {story.__name__} {who}")
    points = dice.sample(once[story].points[who], 5)
    crash = dice.choice(list(Crash))
    for point in points:
        balance = await killed(tmp_path / "street", story, who, point, crash)
        if balance:
            judge(story, who, once[story].balance, balance)
            return
    pytest.fail(f"the story came to none of {points}")


@pytest.mark.long
@pytest.mark.parametrize("who", ["seeder", "viewer"])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_killed_at_every_point(tmp_path: Path, once: dict[Story, Told], story: Story, who: str) -> None:
    dice, lost, missed = Random(f"{SEED} {story.__name__} {who}"), [0], 0
    points = once[story].points[who]
    for point in points:
        crash = dice.choice(list(Crash))
        balance = await killed(tmp_path / "street", story, who, point, crash)
        if balance is None:
            missed += 1
            continue
        try:
            lost.append(judge(story, who, once[story].balance, balance))
        except AssertionError as error:
            raise AssertionError(f"{point}, {crash.value}: {balance}") from error
    print(f"{story.__name__}, {who}: {len(points) - missed} points, at most {max(lost)} sat lost")
    assert missed <= len(points) // 10


# -- a full disk ------------------------------------------------------------------------------------------------------


async def filled(root: Path, story: Story, who: str, point: Point) -> Balance | None:
    """What everybody has in the end, when the disk was freed and the node started again."""
    async with street(root) as here:
        party = here.by_name[who]
        party.full_at(point)
        await here.tell(story)
        reached = party.life.is_full
        balance = await here.finish()
    return balance if reached else None


def writes(points: list[Point]) -> list[Point]:
    """Those just before something that lasts."""
    return [one for one in points if one.effect.startswith("before ") and not re.search("saying|broadcast", one.effect)]


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader to whom nothing comes gives up soon."""
    monkeypatch.setattr(playing, "PATIENCE", 1.0)


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize("who", ["seeder", "viewer"])
async def test_a_disk_that_is_full_from_some_write_on(tmp_path: Path, once: dict[Story, Told], who: str) -> None:
    for point in Random(f"{SEED} full {who}").sample(writes(once[trade].points[who]), 5):
        if balance := await filled(tmp_path / "street", trade, who, point):
            judge(trade, who, once[trade].balance, balance)
            return


@pytest.mark.long
@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize("who", ["seeder", "viewer"])
@pytest.mark.parametrize("story", [trade, stopping, refunded], ids=lambda story: story.__name__)
async def test_a_disk_that_is_full_from_any_write_on(
    tmp_path: Path, once: dict[Story, Told], story: Story, who: str
) -> None:
    for point in writes(once[story].points[who]):
        if balance := await filled(tmp_path / "street", story, who, point):
            judge(story, who, once[story].balance, balance)


# -- an old disk ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Old:
    """A story, and the point in it at which the disk was copied that comes back when it has ended. move: what its
    node has to make of it."""

    story: Story
    who: str
    point: Point
    move: Move


NEW = Point("after a payer's new channel", 1)
OLD = (
    Old(abandoned, "viewer", NEW, (Role.PAYER, State.OPENING, Event.SETTLEMENT_SEEN)),
    Old(refunded, "viewer", NEW, (Role.PAYER, State.OPENING, Event.REFUND_SEEN)),
    Old(refunded, "viewer", Point("after a payer's open", 1), (Role.PAYER, State.OPEN, Event.REFUND_SEEN)),
    Old(forked, "viewer", Point("after a payer's closing", 1), (Role.PAYER, State.CLOSING, Event.REFUND_SEEN)),
    Old(
        overtaken, "viewer", Point("after a payer's refunding", 1), (Role.PAYER, State.REFUNDING, Event.SETTLEMENT_SEEN)
    ),
    Old(double_spent, "viewer", NEW, (Role.PAYER, State.OPENING, Event.FUNDING_LOST)),
    Old(trade, "seeder", Point("after a payee's new channel", 1), (Role.PAYEE, State.OPEN, Event.SETTLEMENT_SEEN)),
)


@pytest.mark.parametrize("old", OLD, ids=lambda old: " ".join(str(part.value) for part in old.move))
async def test_an_old_disk_comes_back(tmp_path: Path, once: dict[Story, Told], old: Old) -> None:
    """What was over without it it finds over."""
    async with street(tmp_path / "street") as here:
        party = here.by_name[old.who]
        party.copied_at(old.point)
        await here.tell(old.story)
        assert await party.old_disk()
        moves: set[Move] = set()
        with moves_noted(moves):
            await here.on(party)
            await here.blocks(1)
        assert old.move in moves
        balance = await here.finish()
    before = once[old.story].balance
    assert (balance.paid, balance.channels) == (before.paid, before.channels)


# -- the table --------------------------------------------------------------------------------------------------------

KILLED: dict[Move, tuple[Story, str, Point]] = {
    (Role.PAYER, State.OPENING, Event.EXPIRED): (abandoned, "viewer", NEW),
    (Role.PAYER, State.REFUNDING, Event.EXPIRED): (refunded, "viewer", Point("after a payer's refunding", 1)),
}
"""What comes about only when somebody is killed, and where."""

NEVER: dict[Move, str] = {
    (Role.PAYER, State.OPENING, Event.CLOSE): "a channel is closed over a connection that has agreed to it",
    (Role.PAYER, State.CLOSING, Event.CLOSE): "and not again over another",
    (Role.PAYER, State.REFUNDING, Event.CLOSE): "and not when it has expired",
    (Role.PAYEE, State.OPEN, Event.AGREED): "a payee is agreed with once",
    (Role.PAYEE, State.CLOSING, Event.CLOSE): "only when two closes cross on the wire: see test_payee_session",
    (Role.PAYEE, State.OPEN, Event.REFUND_SEEN): "when a refund can be sent the payee is closing",
} | {
    (Role.PAYEE, State.OPENING, event): "a payee's channel is opening while it is saved, and not on any disk"
    for event in (Event.CLOSE, Event.FUNDING_LOST, Event.SETTLEMENT_SEEN, Event.REFUND_SEEN)
}


@pytest.mark.parametrize("wanted", KILLED, ids=lambda wanted: " ".join(str(part.value) for part in wanted))
async def test_a_move_that_only_a_crash_brings_about(tmp_path: Path, wanted: Move) -> None:
    story, who, point = KILLED[wanted]
    moves: set[Move] = set()
    with moves_noted(moves):
        assert await killed(tmp_path / "street", story, who, point, Crash.KILLED)
    assert wanted in moves


async def test_every_move_of_the_table_comes_about_here(once: dict[Story, Told]) -> None:
    """So each is among the points that are tried, or said to be none."""
    seen = set().union(*(one.moves for one in once.values()))
    table = {(role, state, event) for role, moves in TABLE.items() for state, event in moves}
    assert seen | KILLED.keys() | {old.move for old in OLD} == table - NEVER.keys()
    for told in once.values():
        effects = {point.effect for points in told.points.values() for point in points}
        for role, state, event in told.moves - {(Role.PAYEE, State.OPENING, Event.AGREED)}:
            after = TABLE[role][state, event]
            assert (
                after is state
                or after in (State.OPEN, State.CLOSING)
                or f"before a {role.value}'s {after.value}" in effects
            )
