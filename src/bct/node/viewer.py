"""Watching: from a link to a local URL, and from there to the last settlement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from bct.errors import BctError, ConfigError, TemporaryError
from bct.node import errand
from bct.node.buyer import TitleBuyer
from bct.node.dialer import Dialer
from bct.node.hub import Hub
from bct.node.play import Play
from bct.node.purse import Purse, Spending
from bct.node.swarm import Swarm
from bct.pay.budget import Budget
from bct.title.link import TorrentLink
from bct.title.store import Holding, SavedTitle, TitleStore
from bct.torrent.metainfo import Metainfo
from bct.torrent.store import PieceStores

log = structlog.get_logger()

METADATA_SECONDS = 20.0
CLOSE_SECONDS = 10.0
STOP_SECONDS = 4.0
"""How long a seeder may take to settle; when the node stops there is less time."""
TICK_SECONDS = 1.0
SYNC_TICKS = 5


class Viewer:
    """Every play of this node."""

    def __init__(
        self, hub: Hub, purse: Purse, stores: PieceStores, titles: TitleStore, clock: Callable[[], int]
    ) -> None:
        self.plays: dict[str, Play] = {}
        self._hub = hub
        self._purse = purse
        self._stores = stores
        self._titles = titles
        self._clock = clock
        self._dialers: dict[Swarm, Dialer] = {}
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._ticker = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Every play is settled, and every payment channel that none of them uses."""
        if self._ticker:
            self._ticker.cancel()
        idle = (self.settle(spending, STOP_SECONDS) for spending in self._purse.idle())
        await asyncio.gather(*idle, *(self.close(play, STOP_SECONDS) for play in list(self.plays.values())))

    # -- from a link to a play ----------------------------------------------------------------------------------------

    async def play(
        self, link: TorrentLink, max_sats: int | None, metainfo: Metainfo | None = None, more: int = 0
    ) -> Play:
        """A play of this title, ready to be read. metainfo: when a .torrent file came with it. more: as in `Budget`.

        Raises TemporaryError when no peer of the link answers, ConfigError when the title is being played already.
        """
        if any(play.swarm.infohash == link.infohash for play in self.plays.values()):
            raise ConfigError("this title is being played already: close that play first (bct status shows it)")
        started = self._hub.clock()
        budget = Budget(max_sats, more)
        swarm, buyer = await self.find(link, budget, metainfo)
        play = Play(self._hub.random(16).hex(), swarm, buyer, budget, self._hub.clock)
        play.started = started
        self.plays[play.token] = play
        return play

    async def find(
        self, link: TorrentLink, budget: Budget, metainfo: Metainfo | None, *, keep: bool = True
    ) -> tuple[Swarm, TitleBuyer]:
        """The title's swarm with peers and metadata; to be left with `leave`. keep: give it a place on disk.

        Raises TemporaryError.
        """
        swarm = self._hub.swarms.get(link.infohash)
        if swarm is None:
            swarm = self._hub.swarms[link.infohash] = Swarm(link.infohash, metainfo, None)
            swarm.priced = link.creator is not None
        known = asyncio.Event()
        lowest = await self._titles.lowest_sequence(link.infohash, link.creator) if link.creator else 0
        buyer = TitleBuyer(swarm, self._purse, self._titles, link.creator, budget, lowest, lambda _: known.set())
        if not (swarm.complete and keep):  # who wants to sell a whole copy still has to hear its creator's terms
            swarm.buyer = buyer
        try:
            if swarm.buyer is buyer:
                await self._connect(swarm, link)
            if swarm.metainfo is None:
                await self._wait(known, link, buyer)
            if keep:
                await self._hold(swarm)
        except BctError:
            self.leave(swarm, buyer)
            raise
        return swarm, buyer

    async def _connect(self, swarm: Swarm, link: TorrentLink) -> None:
        """To every peer of the link, from now until `leave`; one that answers is enough."""
        if swarm in self._dialers:
            return
        dialer = self._dialers[swarm] = Dialer(self._hub, swarm, link.peers)
        await dialer.start()

    @staticmethod
    async def _wait(known: asyncio.Event, link: TorrentLink, buyer: TitleBuyer) -> None:
        try:
            await asyncio.wait_for(known.wait(), METADATA_SECONDS)
        except TimeoutError:
            raise TemporaryError(
                f"no peer has told what {link.infohash.hex()} is within {METADATA_SECONDS:.0f} s"
                f" ({buyer.why_alone}): is the link right?"
            ) from None

    async def _hold(self, swarm: Swarm) -> None:
        """A place on disk for what will come; it is kept and found again."""
        metainfo = swarm.metainfo
        if swarm.store is None and metainfo is not None:
            swarm.store = await asyncio.to_thread(self._stores.open, metainfo)
            await self._titles.put_title(
                SavedTitle(metainfo.infohash, metainfo.name, Holding.WATCHED, metainfo.to_file(), self._clock())
            )

    def leave(self, swarm: Swarm, buyer: TitleBuyer) -> None:
        """Lets go of the peers that were needed for the buyer alone."""
        buyer.stop()
        if dialer := self._dialers.pop(swarm, None):
            dialer.stop()
        swarm.buyer = None
        for peer in swarm:
            peer.close()
        if swarm.store is None:
            self._hub.swarms.pop(swarm.infohash, None)

    # -- while it runs, and after -------------------------------------------------------------------------------------

    async def close(self, play: Play, seconds: float = CLOSE_SECONDS, *, keep: bool = False) -> None:
        """Settles what the play opened or resumed; what was bought stays here. keep: payment channels stay open
        instead, for the next play; `settle` ends those that none wants."""
        if self.plays.pop(play.token, None) is None:
            return
        cut_off = [] if keep else [one for one in self._purse.idle() if one in play.buyer.deals.channels]
        await asyncio.gather(play.close(seconds, keep=keep), *(self.settle(one, seconds) for one in cut_off))
        self.leave(play.swarm, play.buyer)
        if play.swarm.store:
            await asyncio.to_thread(play.swarm.store.sync)
        log.info("play closed", title=play.swarm.infohash.hex(), pieces=play.budget.pieces, fees=play.budget.fees)

    async def settle(self, spending: Spending, seconds: float = CLOSE_SECONDS) -> bool:
        """Has a payment channel settled that no play uses; whether it was. Raises WalletLockedError."""
        return await errand.settle(self._hub, self._purse, spending, seconds)

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            ticks += 1
            now = self._hub.clock()
            for play in list(self.plays.values()):
                play.buyer.tick(now)
                if not play.reading and now - play.read_at > self._purse.config.idle:
                    await self.close(play)
                elif ticks % SYNC_TICKS == 0 and play.swarm.store:
                    with suppress(BctError):  # a full disk shows at the next write, with the play's own words
                        await asyncio.to_thread(play.swarm.store.sync)
