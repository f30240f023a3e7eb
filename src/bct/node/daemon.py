"""One node: every role it plays, started and stopped in the order that money needs.

Up: ledgers and database, channels as they stood, the wallet, the watchman, then the door for peers. Down: no new peers,
plays settled and their change on its way, what we earned settled, and only then the files closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from bct.bitcoin.chain import Chain
from bct.bitcoin.keys import PrivateKey
from bct.bitcoin.tx import Tx
from bct.channel.state import Role, State
from bct.channel.store import ChannelStore, SavedPayer
from bct.channel.timing import may_refund
from bct.config import Config
from bct.errors import BctError, ConfigError, TemporaryError, WalletLockedError
from bct.node.bell import Bell
from bct.node.hub import Hub
from bct.node.library import Library, Publication
from bct.node.lookout import Lookout, WatchedStore
from bct.node.play import Play
from bct.node.purse import Purse, Spending
from bct.node.teller import Teller, WatchPost
from bct.node.till import Till
from bct.node.viewer import Viewer
from bct.node.wallet import NodeWallet
from bct.node.watchman import Watchman
from bct.pay.budget import Budget
from bct.pay.ledger import Ledger
from bct.pay.offers import Policy
from bct.pay.payee_session import PayeeKeys
from bct.pay.receipt_store import ReceiptStore
from bct.pay.replay import Replay
from bct.title import terms as title_terms
from bct.title.link import Peer as Address
from bct.title.link import TorrentLink
from bct.title.store import Holding, SavedTitle, TitleStore
from bct.torrent.metainfo import Metainfo
from bct.torrent.store import PieceStores
from bct.torrent.transport import Transport
from bct.units import Infohash, Outpoint, PubKeyHash, Txid
from bct.wallet import paths
from bct.wallet.keyring import Keyring

log = structlog.get_logger()

OFFER_SECONDS = 10.0
RENEW_SECONDS = 3600.0
_UNASKED = {State.OPENING, State.OPEN}
_UNSETTLED = _UNASKED | {State.CLOSING}


@dataclass(frozen=True)
class Parts:
    """The back-ends a node is built of. sources: chains, ours first. earned, spent: what the two ledgers tell.

    payout: where earnings go, known also while the wallet is locked. random: so many bytes from the system. steady,
    unix: seconds of a clock that only goes forward, and of the machine's own, which may be wrong. posts: the ways to
    watchmen elsewhere who are told what is earned here. watched: what others hand over, where this node is a watchman
    for them.
    """

    sources: Sequence[Chain]
    transport: Transport
    stores: PieceStores
    channels: ChannelStore
    titles: TitleStore
    receipts: ReceiptStore
    payee_ledger: Ledger
    payer_ledger: Ledger
    earned: Replay
    spent: Replay
    keyring: Keyring
    payout: PubKeyHash
    random: Callable[[int], bytes]
    close: Callable[[], Awaitable[None]]
    steady: Callable[[], float] = time.monotonic
    unix: Callable[[], float] = time.time
    posts: Sequence[WatchPost] = ()
    watched: WatchedStore | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A channel that was open when the node stopped. paid: satoshis. txid: of its settlement or refund; None when the
    chain has not seen one yet."""

    role: Role
    outpoint: Outpoint
    paid: int
    txid: Txid | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was bought of one title over one payment channel."""

    infohash: Infohash
    name: str
    pieces: int
    satoshi: int
    channel: SavedPayer


class Node:
    """The facade: everything the API and the command line do goes through here."""

    def __init__(self, config: Config, parts: Parts) -> None:
        self.config = config
        self._parts = parts
        chain, random = parts.sources[0], parts.random
        self.chain = chain
        self.started = parts.unix()
        self.hub = Hub(parts.transport, config.wire, chain.network, parts.steady, random)
        self.wallet = NodeWallet(chain, parts.keyring)
        self.bell = Bell()
        keys = PayeeKeys(
            identity=parts.keyring.key(paths.IDENTITY),
            secret=random(32),
            derive=lambda nonce: parts.keyring.key(paths.payee(nonce)),
        )
        settings = config.channel
        policy = Policy(parts.payout, settings.fee_rate, settings.fee_rate_cap, settings.max_outputs, settings.idle)
        self.till = Till(
            parts.sources, parts.channels, parts.receipts, parts.payee_ledger, keys, policy, settings, self._unix,
            lambda infohash: self.library.on_sale(infohash),
        )  # fmt: skip
        self.purse = Purse(
            chain, parts.channels, parts.receipts, parts.payer_ledger, self.wallet, settings, self._unix, random
        )
        self.library = Library(self.hub, parts.stores, parts.titles, self.till, self._unix)
        self.viewer = Viewer(self.hub, self.purse, parts.stores, parts.titles, self._unix)
        self._renewing: asyncio.Task[None] | None = None
        self.watchman = Watchman(parts.sources, self.till, self.purse, self.wallet, self.bell, parts.steady)
        self.teller = Teller(parts.posts, keys.derive, self.bell, parts.steady)
        self.till.on_opened, self.till.on_closing = self.teller.opened, self.teller.tell
        self.lookout: Lookout | None = None
        if parts.watched:
            self.lookout = Lookout(parts.sources, parts.watched, self.bell, self._unix, parts.steady)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises ConfigError, ChainError or StoreError, and then nothing is left running."""
        await self.library.load()
        await self.till.load(self._parts.earned.channels(), self.library.piece_size)
        await self.purse.load(self._parts.spent.channels())
        await self.wallet.sync(self.purse.addresses())
        self.watchman.start()
        self.teller.start(self.till.earnings.values())
        if self.lookout:
            await self.lookout.start()
        await self.hub.start()
        self.viewer.start()
        self._renewing = asyncio.create_task(self._renew())
        log.info("node up", peers_port=self.hub.port, titles=len(self.library.titles))

    async def _renew(self) -> None:
        """Keeps the terms of our own titles from running out; a locked wallet cannot, and says so."""
        while True:
            try:
                await self.library.renew(self.creator_key())
            except BctError as error:
                log.warning("terms cannot be renewed", text=str(error))
            await asyncio.sleep(RENEW_SECONDS)

    def _unix(self) -> int:
        return int(self._parts.unix())

    async def stop(self) -> list[Ended]:
        """Settles everything that can be settled now; what cannot is saved and goes on at the next start.

        Says what became of every channel that was open.
        """
        earning = [e for e in self.till.earnings.values() if e.state in _UNSETTLED]
        spending = [s for s in self.purse.spendings.values() if s.payer.state in _UNSETTLED]
        if self._renewing:
            self._renewing.cancel()
        steps = (self.viewer.stop, self.till.stop, self.purse.stop, self.hub.stop, self.watchman.stop, self.teller.stop)
        for step in (*steps, self.lookout.stop) if self.lookout else steps:
            try:
                await step()
            except BctError as error:
                log.warning("while stopping", step=step.__qualname__, text=str(error))
        for swarm in self.hub.swarms.values():
            if swarm.store:
                swarm.store.close()
        await self._parts.close()
        log.info("node down")
        return [
            *(_ended(Role.PAYEE, e.outpoint, e.state, e.account.payee.paid, e.settlement) for e in earning),
            *(_ended(Role.PAYER, s.outpoint, s.payer.state, s.payer.paid, s.saved.closing) for s in spending),
        ]

    # -- titles -------------------------------------------------------------------------------------------------------

    def creator_key(self) -> PrivateKey:
        """The key of this owner's profile. Raises WalletLockedError."""
        return self.wallet.key((*paths.CREATOR, 0))

    @property
    def payout(self) -> PubKeyHash:
        """Where this node's earnings go, as seeder and, unless said otherwise, as creator."""
        return self._parts.payout

    def link(self, saved: SavedTitle) -> TorrentLink:
        """The link that finds this title here. A free title's is an ordinary torrent's: nothing is ever paid for it."""
        terms = title_terms.decode(saved.terms) if saved.terms else None
        creator = terms.creator if terms and terms.price else None
        here = Address(self.config.wire.public_host or self.config.wire.listen_host, self.hub.port)
        return TorrentLink(saved.infohash, creator, saved.name, (here,))

    async def publish(self, publication: Publication) -> SavedTitle:
        return await self.library.publish(publication, self.creator_key(), self.chain.network)

    async def seed(self, link: TorrentLink, incoming: str) -> SavedTitle:
        """Serves the title of `link` from a file of the incoming folder; what it is and costs comes from its peers."""
        known = self.library.titles.get(link.infohash)
        if known and known.holding is not Holding.WATCHED:
            raise ConfigError(f"{known.name} is {known.holding.value} here already: bct titles shows it")
        swarm, buyer = await self.viewer.find(link, Budget(0), None, keep=False)
        try:
            terms = await buyer.asking.first_terms(OFFER_SECONDS) if link.creator else None
            if link.creator and terms is None:  # a peer that shows all of it for nothing does not make it free
                raise TemporaryError("no seeder of the link shows its creator's terms: try again, or ask its creator")
            if swarm.metainfo is None:
                raise TemporaryError("the title's metadata has not arrived")
            return await self.library.seed(swarm.metainfo, terms, incoming)
        finally:
            self.viewer.leave(swarm, buyer)

    async def play(
        self, link: TorrentLink, max_sats: int | None, metainfo: Metainfo | None = None, more: int = 0
    ) -> Play:
        return await self.viewer.play(link, max_sats, metainfo, more)

    # -- channels -----------------------------------------------------------------------------------------------------

    async def close_channel(self, outpoint: Outpoint) -> None:
        """Settles a channel now: one we earn on, or one we pay over and no play uses. Raises ConfigError for any other
        one, TemporaryError when its seeder cannot be brought to it, WalletLockedError."""
        if earning := self.till.earnings.get(outpoint):
            await self.till.settle(earning, "asked")
        elif spending := self.purse.spendings.get(outpoint):
            await self._close_spending(spending)
        else:
            raise ConfigError(f"no payment channel {outpoint} is known here: bct channels list shows them")

    async def _close_spending(self, spending: Spending) -> None:
        if spending.in_use:
            raise ConfigError(f"a play uses the payment channel {spending.outpoint}: it is settled when that is closed")
        if spending.payer.state in _UNASKED and not await self.viewer.settle(spending):
            raise TemporaryError(
                f"the seeder at {spending.saved.host}:{spending.saved.port} does not settle {spending.outpoint} now. "
                "It does when it has heard nothing for a while; failing that, the change comes back at the expiry"
            )

    async def refund_channel(self, outpoint: Outpoint) -> None:
        """Takes back a channel we spend on whose expiry has passed. Raises ConfigError, TemporaryError when it is too
        early, and ChainError."""
        spending = self.purse.spendings.get(outpoint)
        if spending is None:
            raise ConfigError(f"no payment channel {outpoint} is spent on here: bct channels list shows them")
        if self.wallet.locked:
            raise WalletLockedError("the wallet is locked: a refund needs its passphrase")
        median_time = (await self.chain.tip()).median_time
        expiry = spending.payer.params.lock.expiry
        if not may_refund(expiry, median_time):
            raise TemporaryError(
                f"the chain takes the refund of {outpoint} in {expiry - median_time + 1} s of its own clock, "
                "and it is sent by itself then"
            )
        if self.purse.is_refundable(spending, median_time):
            await self.purse.refund(spending, median_time)

    # -- what was ------------------------------------------------------------------------------------------------------

    async def purchases(self) -> list[Receipt]:
        """Everything that was ever bought here, oldest channel first."""
        names = {saved.infohash: saved.name for saved in await self._parts.titles.titles()}
        return [
            Receipt(infohash, names.get(infohash, ""), bought.pieces, bought.satoshi, saved)
            for saved in await self._parts.channels.payers()
            for infohash, bought in self.purse.purchases[saved.params.outpoint].items()
        ]


def _ended(role: Role, outpoint: Outpoint, state: State, paid: int, closing: bytes) -> Ended:
    return Ended(role, outpoint, paid, Tx.parse(closing).txid if closing and state not in _UNSETTLED else None)
