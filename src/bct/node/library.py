"""The titles this node holds, and what it does with each: sell, share or watch.

Who could cheat: whoever names a file. No path comes in here: files are taken from the incoming folder by an id that the
owner's own command line made, and they count only when every piece has the hash that the torrent says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import PrivateKey
from bct.node.hub import Hub
from bct.node.seller import TitleSeller
from bct.node.swarm import Swarm
from bct.node.till import Till
from bct.pay.payee_receipts import OnSale
from bct.title import terms as title_terms
from bct.title.ranges import PieceRange
from bct.title.store import Holding, SavedTitle, TitleStore
from bct.title.terms import LONGEST_VALIDITY, Terms
from bct.torrent.metainfo import Metainfo
from bct.torrent.store import PieceStores
from bct.units import Infohash, Payees, Satoshi

log = structlog.get_logger()

CLOCK_SLACK = 3600
"""Seconds that a viewer's clock may be behind ours."""
RENEW_BEFORE = 7 * 86400


@dataclass(frozen=True, slots=True)
class Publication:
    """What a creator decides about a title. incoming: the prepared file's id. price: satoshis a piece."""

    incoming: str
    metainfo: Metainfo
    manifest: bytes
    price: Satoshi
    payees: Payees
    free: tuple[PieceRange, ...]


class Library:
    """Every swarm of this node that holds a title."""

    def __init__(self, hub: Hub, stores: PieceStores, titles: TitleStore, till: Till, clock: Callable[[], int]) -> None:
        self.titles: dict[Infohash, SavedTitle] = {}
        self._hub = hub
        self._stores = stores
        self._store = titles
        self._till = till
        self._clock = clock

    async def load(self) -> None:
        """Everything that was held when the node stopped is held again."""
        for saved in await self._store.titles():
            metainfo = Metainfo.from_file(saved.metainfo)
            swarm = self._swarm(metainfo)
            swarm.store = await asyncio.to_thread(self._stores.open, metainfo)
            if saved.holding is Holding.WATCHED:
                swarm.priced = await self._store.is_sold(saved.infohash)
            self._offer(swarm, saved)

    def metainfo(self, infohash: Infohash) -> Metainfo | None:
        swarm = self._hub.swarms.get(infohash)
        return swarm.metainfo if swarm else None

    def on_sale(self, infohash: Infohash) -> OnSale | None:
        """A title that is sold here, and under which terms now."""
        swarm = self._hub.swarms.get(infohash)
        if swarm is None or swarm.metainfo is None or not isinstance(swarm.seller, TitleSeller):
            return None
        return OnSale(swarm.metainfo, swarm.seller.terms)

    def piece_size(self, infohash: Infohash, piece: int) -> int:
        """Bytes; 0 for a torrent that is not here any more."""
        metainfo = self.metainfo(infohash)
        return metainfo.geometry.size(piece) if metainfo else 0

    # -- publishing and seeding ---------------------------------------------------------------------------------------

    async def publish(self, publication: Publication, creator: PrivateKey, network: Network) -> SavedTitle:
        """Puts a prepared file on sale under fresh terms. Raises ConfigError, StoreError."""
        metainfo = publication.metainfo
        now = self._clock()
        terms = Terms(
            network=network,
            infohash=metainfo.infohash,
            price=publication.price,
            payees=publication.payees,
            free=publication.free,
            sequence=await self._store.lowest_sequence(metainfo.infohash, creator.public) + 1,
            valid_from=now - CLOCK_SLACK,
            valid_until=now - CLOCK_SLACK + LONGEST_VALIDITY,
            creator=creator.public,
        ).sign(creator)
        saved = SavedTitle(
            metainfo.infohash, metainfo.name, Holding.PUBLISHED, metainfo.to_file(), now, title_terms.encode(terms),
            publication.manifest,
        )  # fmt: skip
        await self._take_in(metainfo, publication.incoming, saved)
        await self._store.saw_terms(terms)
        return saved

    async def renew(self, creator: PrivateKey) -> None:
        """Signs anew the terms of our own titles that run out within a week. Price and payees stay; running sessions
        keep the ones they began under. Raises StoreError."""
        now = self._clock()
        for saved in list(self.titles.values()):
            if saved.holding is not Holding.PUBLISHED:
                continue
            terms = title_terms.decode(saved.terms)
            if terms.creator != creator.public or terms.valid_until - now > RENEW_BEFORE:
                continue
            begin = now - CLOCK_SLACK
            newer = replace(
                terms, sequence=terms.sequence + 1, valid_from=begin, valid_until=begin + LONGEST_VALIDITY
            ).sign(creator)
            renewed = replace(saved, terms=title_terms.encode(newer))
            await self._store.put_title(renewed)
            await self._store.saw_terms(newer)
            self._offer(self._hub.swarms[saved.infohash], renewed)
            log.info("terms renewed", infohash=saved.infohash.hex(), sequence=newer.sequence)

    async def seed(self, metainfo: Metainfo, terms: Terms | None, incoming: str) -> SavedTitle:
        """Serves a title from a file that is here already: sold for its creator under `terms`, or shared when it has
        none. Raises StoreError when the file is not the title's."""
        raw = title_terms.encode(terms) if terms else b""
        saved = SavedTitle(metainfo.infohash, metainfo.name, Holding.SEEDED, metainfo.to_file(), self._clock(), raw)
        await self._take_in(metainfo, incoming, saved)
        return saved

    async def _take_in(self, metainfo: Metainfo, incoming: str, saved: SavedTitle) -> None:
        swarm = self._swarm(metainfo)
        swarm.store = await asyncio.to_thread(self._stores.adopt, metainfo, incoming)
        await self._store.put_title(saved)
        self._offer(swarm, saved)
        log.info("title", infohash=saved.infohash.hex(), name=saved.name, holding=saved.holding.value)

    def _offer(self, swarm: Swarm, saved: SavedTitle) -> None:
        self.titles[saved.infohash] = saved
        if saved.terms and saved.holding is not Holding.WATCHED:
            terms = title_terms.decode(saved.terms)
            if isinstance(swarm.seller, TitleSeller):
                swarm.seller.terms = terms  # who is connected goes on under the terms it began with
            elif terms.price:
                swarm.seller = TitleSeller(self._till, terms)

    def _swarm(self, metainfo: Metainfo) -> Swarm:
        swarm = self._hub.swarms.get(metainfo.infohash)
        if swarm is None:
            swarm = self._hub.swarms[metainfo.infohash] = Swarm(metainfo.infohash, metainfo, None)
        return swarm
