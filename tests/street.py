"""A viewer, a seeder and a chain, and what is left of them when one is killed: the ground of stories about kill points.

Real nodes with real ledgers, databases, pieces and TCP; the chain is the one in memory, so that days cost nothing. A
story is what both do, step by step. Who is killed comes back from his files while the other goes on; what he was doing
is left undone, and the story goes on with its next step. In the end nothing is open any more, and what everybody has
can be counted.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from bct.backends import database as database_file
from bct.backends import ledger as ledger_file
from bct.backends.database import Database
from bct.backends.tcp import Tcp
from bct.bitcoin.chain import Seen
from bct.bitcoin.hd import words_of_entropy
from bct.bitcoin.keys import PrivateKey, sha256
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import FINAL, Tx
from bct.channel.state import FINAL_STATES
from bct.config import ChannelConfig, Config, WireConfig
from bct.errors import BctError, ChainError
from bct.node.daemon import Node, Parts
from bct.node.play import Play
from bct.node.watchman import Watchman
from bct.pay import records
from bct.pay.records import Paid
from bct.pay.replay import Replay
from bct.units import Outpoint
from bct.wallet.keyring import Keyring
from tests.model_chain import ModelChain
from tests.mortal import (
    Crash,
    KilledError,
    Life,
    MortalChain,
    MortalChannels,
    MortalLedger,
    MortalStores,
    MortalTransport,
    Point,
)
from tests.stage import Title, publish, watch

HOUR = 3600
PRICE, PIECES, PAID = 7, 10, 7
"""Of each of the two titles: satoshis a piece, pieces, and pieces that are not free."""
COINS = 100_000
GOODBYE = 1.0
"""Seconds that the end of a play waits for a seeder to settle."""
_LIFE: ContextVar[Life] = ContextVar("life")


class QuietWatchman(Watchman):
    """Hears everything, and looks when the story says so."""

    def start(self) -> None:
        self._hearing = asyncio.create_task(self._hear())

    async def stop(self) -> None:
        self._hearing.cancel()

    async def _hear(self) -> None:
        async for event in self._chain.events():
            if isinstance(event, Seen):
                self._heard(Tx.parse(event.raw))


class Party:
    """One of the two. What it is between two lives lies in `root`."""

    def __init__(self, street: Street, name: str) -> None:
        self.root = street.root / name
        self.last: Point | None = None
        """Where it is to be killed."""
        self.killed, self.back = asyncio.Event(), asyncio.Event()
        self.points: list[Point] = []
        """All that it came to, in all its lives."""
        self.life = Life()
        self.node: Node
        self._street = street
        self._words = words_of_entropy(sha256(name.encode())[:16])
        self._counts: Counter[str] = Counter()
        self._context = copy_context()
        self._files = AsyncExitStack()
        self._ledgers: list[MortalLedger] = []

    async def do[T](self, work: Coroutine[Any, Any, T]) -> T:
        """What the node does, and whatever it begins by that, ends with its life. Raises KilledError when it does."""
        life = self.life
        try:
            return await asyncio.get_running_loop().create_task(work, context=self._context)
        except asyncio.CancelledError:
            if life.over.is_set():
                raise KilledError from None
            raise

    def full_at(self, point: Point) -> None:
        self.life.full = point

    def copied_at(self, point: Point) -> None:
        """A copy of its files as they are then is kept, for `old_disk`."""
        self.life.copied, self.life.on_copy = point, self._copy

    def _copy(self) -> None:
        old = self.root.with_suffix(".old")
        old.mkdir()
        (old / "bct.db").write_bytes(database_file.copy(self.root / "bct.db"))
        for name in ("payee.ledger", "payer.ledger"):
            with (old / name).open("wb") as file:
                ledger_file.copy(self.root / name, file)

    async def old_disk(self) -> bool:
        """The power goes, and what comes back is the copy. False when there is none."""
        await self.die()
        old = self.root.with_suffix(".old")
        if not old.exists():
            return False
        for file in ("bct.db", "payee.ledger", "payer.ledger"):
            (old / file).replace(self.root / file)
        return True

    def dies_at(self, point: Point | None) -> None:
        self.last = self.life.last = point

    async def start(self) -> None:
        self.life = Life(self.last, self.killed, points=self.points, counts=self._counts)
        self._files, self._ledgers = AsyncExitStack(), []
        self._context = copy_context()
        self._context.run(_LIFE.set, self.life)
        try:
            await self.do(self._start())
        except BaseException:
            await self.die()
            raise

    async def _start(self) -> None:
        life, street = self.life, self._street
        (self.root / "incoming").mkdir(parents=True, exist_ok=True)
        database = await Database.open(self.root / "bct.db")
        self._files.push_async_callback(database.close)
        self.channels = database.channels
        earned, spent = Replay(), Replay()
        keyring = Keyring.of_words(self._words)
        stores = MortalStores(life, self.root)
        self._files.callback(stores.close)
        parts = Parts(
            sources=(MortalChain(life, street.chain),),
            transport=MortalTransport(life, Tcp(), street.ports),
            stores=stores,
            channels=MortalChannels(life, database.channels),
            titles=database.titles,
            receipts=database.receipts,
            payee_ledger=self._ledger("payee", earned.add, lambda sequence: self.node.till.synced(sequence)),
            payer_ledger=self._ledger("payer", spent.add, lambda _: None),
            earned=earned,
            spent=spent,
            keyring=keyring,
            payout=keyring.payout,
            random=os.urandom,
            close=self._files.aclose,
            unix=lambda: float(street.chain.now),
        )
        self.node = Node(Config(wire=WireConfig(listen_port=0), channel=ChannelConfig()), parts)
        node = self.node
        node.watchman = QuietWatchman(
            parts.sources, node.till, node.purse, node.wallet, node.bell, lambda: float(street.chain.now)
        )
        await self.node.start()

    def _ledger(self, name: str, replay: Callable[[bytes], None], told: Callable[[int], None]) -> MortalLedger:
        ledger = MortalLedger(self.life, name, self.root / f"{name}.ledger", replay, told)
        self._files.push_async_callback(ledger.real.close)
        self._ledgers.append(ledger)
        return ledger

    async def die(self, crash: Crash = Crash.KILLED, dice: Random | None = None) -> None:
        """At once, if it is not dead yet. What its disk keeps is what the crash leaves."""
        self.life.end()
        mine = [task for task in asyncio.all_tasks() if task.get_context().get(_LIFE) is self.life]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)
        await self._files.aclose()
        if dice and crash is not Crash.KILLED:
            for ledger in self._ledgers:
                ledger.tear(crash, dice)

    def believed(self) -> dict[tuple[Outpoint, int], int]:
        """The totals, by channel and line, that it knew to be safe when it died."""
        found = (records.decode(payload) for ledger in self._ledgers for payload in ledger.believed)
        return {(one.outpoint, one.line): one.total for one in found if isinstance(one, Paid)}

    def signed(self) -> dict[Outpoint, int]:
        """Satoshis, by channel, that it had signed for when it died."""
        return {channel: spending.payer.paid for channel, spending in self.node.purse.spendings.items()}


@dataclass(frozen=True, slots=True)
class Balance:
    """Satoshis, once nothing is open any more. cost: of the pieces that came. paid: what settlements gave to seeder and
    creators. fees: what miners got. purchases: what the viewer's own books say it signed for."""

    cost: int
    paid: int
    fees: int
    channels: int
    purchases: int


class Street:
    """Two titles of two creators are on sale at one seeder; a viewer has coins."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.chain = ModelChain()
        self.ports: dict[int, int] = {}
        self.seeder = Party(self, "seeder")
        self.viewer = Party(self, "viewer")
        self.titles: list[Title] = []

    @property
    def parties(self) -> tuple[Party, Party]:
        return self.seeder, self.viewer

    @property
    def by_name(self) -> dict[str, Party]:
        return {"seeder": self.seeder, "viewer": self.viewer}

    async def set_up(self) -> None:
        await self.seeder.start()
        await self.viewer.start()
        for number, creator in enumerate((None, PrivateKey(sha256(b"another creator")))):
            self.titles.append(
                await self.seeder.do(
                    publish(self.seeder.node, self.seeder.root, PIECES, price=PRICE, seed=number, creator=creator)
                )
            )
        await self.chain.pay(p2pkh(self.viewer.node.wallet.new_address()), COINS)
        await self.chain.mine()
        await self.look(self.viewer)

    # -- what both do: a story's steps --------------------------------------------------------------------------------

    async def watch(self, title: Title, pieces: int = PIECES, *, close: bool = True) -> None:
        """So many pieces, then the play is closed."""
        await self._step(self._watch, title, pieces, close)

    async def _watch(self, title: Title, pieces: int, close: bool) -> None:
        viewer = self.viewer
        play = await viewer.do(viewer.node.play(title.link, None))
        end = min(pieces * title.metainfo.piece_length, play.length)
        assert await viewer.do(watch(play, 0, end)) == title.film[:end]
        if close:
            await self._close(play)

    async def close_all(self) -> None:
        """Every play."""
        for play in list(self.viewer.node.viewer.plays.values()):
            await self._step(self._close, play)

    async def _close(self, play: Play) -> None:
        await self.viewer.do(self.viewer.node.viewer.close(play, GOODBYE))

    async def off(self, party: Party) -> None:
        """The power goes."""
        await self._step(party.die)

    async def on(self, party: Party) -> None:
        await self._step(self._on, party)

    async def _on(self, party: Party) -> None:
        await party.start()
        if party is self.seeder:
            self.ports[self.titles[0].link.peers[0].port] = party.node.hub.port

    async def stop(self, party: Party) -> None:
        """In order."""
        await self._step(lambda: party.do(party.node.stop()))
        await self.off(party)

    async def hours(self, hours: float) -> None:
        self.chain.now += int(hours * HOUR)
        await self.blocks(12)

    async def blocks(self, count: int = 1) -> None:
        await self.chain.mine(count)
        for party in self.parties:
            await self.look(party)

    async def look(self, party: Party) -> None:
        """Twice, a minute apart: what a look does is seen by the next, and what failed is tried again."""
        if not party.life.over.is_set():
            for _ in range(2):
                self.chain.now += 60
                await self._step(lambda: party.do(party.node.watchman.look()))

    async def chain_is_back(self, *parties: Party) -> None:
        """Who of these could not start without it starts now."""
        self.chain.answers = True
        for party in parties:
            if party.life.over.is_set():
                await self.on(party)

    async def instead(self, other: bytes = b"", first: Party | None = None) -> None:
        """A fork takes back how channels have ended, and all that came after; the other transaction may be quicker
        then. first: who looks at once, before anybody else does anything."""
        spends = [await self.chain.spender(saved.params.outpoint) for saved in await self.viewer.channels.payers()]
        ends = [spend for spend in spends if spend]
        heights = [spend.height for spend in ends if spend.height is not None]
        self.chain.fork((await self.chain.tip()).height - min(heights) + 1 if heights else 0, [e.txid for e in ends])
        await self.chain.broadcast([other] if other else [])
        if first:
            await self.look(first)
        await self.blocks(1)

    async def _step[**P](self, do: Callable[P, Coroutine[Any, Any, object]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Undone when somebody dies of it, or a disk is full; the next one finds everybody back."""
        try:
            await do(*args, **kwargs)
        except KilledError:
            pass
        except BctError:
            if not any(party.life.full for party in self.parties):
                raise
        for party in self.parties:
            if party.killed.is_set():
                await party.back.wait()

    # -- a story, and how it ends -------------------------------------------------------------------------------------

    async def tell(self, story: Story, party: Party | None = None, crash: Crash = Crash.KILLED, seed: int = 0) -> None:
        """party: who is killed in it, at its `last`."""
        reviving = asyncio.create_task(self._revive(party, crash, Random(seed))) if party else None
        await story(self)
        for each in self.parties:
            each.dies_at(None)
        if reviving and not reviving.done():
            reviving.cancel()
        elif reviving:
            await reviving

    async def _revive(self, party: Party, crash: Crash, dice: Random) -> None:
        """Totals never fall: what it knew to be safe it still has, and what it may have signed it counts as spent."""
        await party.killed.wait()
        await party.die(crash, dice)
        believed, signed = party.believed(), party.signed()
        party.last = None
        try:
            await self._on(party)
        except ChainError:
            return  # no node starts without a chain: see `chain_is_back`
        finally:
            party.back.set()
        for (channel, line), total in believed.items():
            earning = party.node.till.earnings.get(channel)
            assert earning is None or earning.account.payee.totals[line] >= total
        for channel, paid in signed.items():
            spending = party.node.purse.spendings.get(channel)
            assert spending is None or spending.payer.spent >= paid

    async def finish(self) -> Balance:
        """Both come back, the viewer sees the rest of both films, and everything ends that was open."""
        for party in self.parties:
            if party.life.is_full:
                await party.die()
            if party.life.over.is_set():
                await self._on(party)
        await self.close_all()
        for title in self.titles:
            await self.watch(title)
        await self.hours(1)
        await self.hours(80)
        await self.blocks(100)
        await self.blocks(100)
        return await self._balance()

    async def _balance(self) -> Balance:
        node = self.viewer.node
        channels = await self.viewer.channels.payers()
        assert all(saved.state in FINAL_STATES for saved in channels)
        assert all(saved.state in FINAL_STATES for saved in await self.seeder.channels.payees())
        paid = 0
        for saved in channels:
            spend = await self.chain.spender(saved.params.outpoint)
            raw = await self.chain.transaction(spend.txid) if spend else None
            if raw and Tx.parse(raw).inputs[0].sequence == FINAL:
                change = p2pkh(saved.params.change)
                paid += sum(output.value for output in Tx.parse(raw).outputs if output.script != change)
        left = node.wallet.balance
        held = left.confirmed + left.pending + left.reserved
        bought = sum(receipt.satoshi for receipt in await node.purchases())
        return Balance(len(self.titles) * PAID * PRICE, paid, COINS - held - paid, len(channels), bought)


type Story = Callable[[Street], Coroutine[Any, Any, None]]


@asynccontextmanager
async def street(root: Path) -> AsyncIterator[Street]:
    """Swept clean in the end, however it went."""
    made = Street(root)
    try:
        await made.set_up()
        yield made
    finally:
        for party in made.parties:
            await party.die()
        shutil.rmtree(root)
