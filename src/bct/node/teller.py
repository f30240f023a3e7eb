"""Tells watchmen elsewhere of what this node earns, so that its end is not the end of a creator's share.

Who could cheat: a watchman that sends what it was given before its time: it ends that payment channel, and what was
paid over it since is lost; so only those are told whom the owner has named. One that does not answer holds up nothing:
whatever is newer takes the place of what still waits for it, tries get rarer, and after an hour it is an alarm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import structlog

from bct.bitcoin.keys import PrivateKey
from bct.channel.alarms import Alarm
from bct.channel.patience import Patience
from bct.channel.state import State
from bct.channel.watched import Watched
from bct.errors import AuthError, BctError, RemoteProtocolError
from bct.node.bell import Bell
from bct.node.till import Earning
from bct.pay.receipts import EPOCH
from bct.units import Outpoint

log = structlog.get_logger()

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
ALARM_AFTER = 3600.0
TELL_SECONDS = 30.0
LOOK_SECONDS = 60.0


class WatchPost(Protocol):
    """The way to one watchman. name: for people; no secret in it."""

    name: str

    async def send(self, watched: Watched) -> None:
        """Returns once it is durable there. Raises AuthError, RemoteProtocolError when it is refused for good, and
        TemporaryError for everything that may pass."""
        ...

    async def close(self) -> None: ...


class Teller:
    """All who are told. key_of: a channel's payee key, by its offer's nonce. steady: seconds of a clock that only goes
    forward."""

    def __init__(
        self,
        posts: Sequence[WatchPost],
        key_of: Callable[[bytes], PrivateKey],
        bell: Bell,
        steady: Callable[[], float],
    ) -> None:
        self._lines = [_Line(post, steady) for post in posts]
        self._key_of = key_of
        self._bell = bell
        self._told: dict[Outpoint, tuple[int, int]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, earnings: Iterable[Earning]) -> None:
        """earnings: every channel there is; what an earlier run could not tell of them is told now."""
        if self._lines:
            self._tasks = [asyncio.create_task(line.run()) for line in self._lines]
            self._tasks.append(asyncio.create_task(self._look()))
        for earning in earnings:
            self.tell(earning)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for line in self._lines:
            await line.post.close()

    def opened(self, earning: Earning) -> None:
        """One more piece was paid and opened: an epoch's worth of them is told."""
        if self._lines and earning.account.pieces - self._told.get(earning.outpoint, (0, 0))[0] >= EPOCH:
            self.tell(earning)

    def tell(self, earning: Earning) -> None:
        """What settles the channel as it stands, unless it was told already."""
        payee, account = earning.account.payee, earning.account
        _, paid = self._told.get(account.outpoint, (0, 0))
        is_open = payee.state in (State.OPEN, State.CLOSING) and payee.can_settle
        if not self._lines or not is_open or payee.paid <= paid:
            return
        self._told[account.outpoint] = account.pieces, payee.paid
        tx = earning.made() or payee.settlement(self._key_of(account.nonce))[0]
        for line in self._lines:
            line.put(account.outpoint, Watched(earning.saved.funding, tx.serialize(), payee.params.change))

    async def _look(self) -> None:
        while True:
            self._bell.ring("teller", [alarm for line in self._lines for alarm in line.alarms()])
            await asyncio.sleep(LOOK_SECONDS)


class _Line:
    """To one watchman: the newest of each channel that it has not taken yet, oldest news first."""

    def __init__(self, post: WatchPost, steady: Callable[[], float]) -> None:
        self.post = post
        self._steady = steady
        self._waiting: dict[Outpoint, Watched] = {}
        self._news = asyncio.Event()
        self._failing_since: float | None = None
        self._trouble = ""
        self._refused = False

    def put(self, outpoint: Outpoint, watched: Watched) -> None:
        self._waiting[outpoint] = watched
        self._news.set()

    async def run(self) -> None:
        patience = Patience(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            await self._news.wait()
            if await self._say_one():
                patience = Patience(FIRST_PAUSE, LONGEST_PAUSE)
            else:
                patience.tried(self._steady())
                await asyncio.sleep(patience.pause)

    async def _say_one(self) -> bool:
        """Whether the watchman took, or refused for good, what waits longest."""
        outpoint, watched = next(iter(self._waiting.items()))
        try:
            async with asyncio.timeout(TELL_SECONDS):
                await self.post.send(watched)
        except RemoteProtocolError as error:  # it will not have this one, now or later
            log.error("a watchman refuses", watchman=self.post.name, channel=str(outpoint), text=str(error))
        except (BctError, TimeoutError) as error:
            self._failed(error)
            return False
        self._failing_since, self._refused = None, False
        if self._waiting[outpoint] is watched:
            del self._waiting[outpoint]
        if not self._waiting:
            self._news.clear()
        return True

    def _failed(self, error: Exception) -> None:
        self._trouble = str(error) or f"it did not answer within {TELL_SECONDS:.0f} s"
        self._refused = isinstance(error, AuthError)
        if self._failing_since is None:
            self._failing_since = self._steady()
            log.warning("a watchman does not take it", watchman=self.post.name, text=self._trouble)

    def alarms(self) -> Iterator[Alarm]:
        """One that has taken nothing for an hour, or knows us not."""
        since = self._failing_since
        if since is not None and (self._refused or self._steady() - since >= ALARM_AFTER):
            text = f"the watchman at {self.post.name} takes nothing ({self._trouble}), not of"
            text += f" {len(self._waiting)} payment channels: see that it runs and knows our token"
            yield Alarm("watchman", self.post.name, text)
