"""The payer's shell: every payment channel this node spends on, from funding to change or refund.

Who could cheat: the seeder (see `pay.payer_session`), and time: a crash between signing and remembering. So the channel
is saved before its OPEN leaves, a mark above what will be signed is durable before it is signed, what was bought is
appended as it is signed, and the refund needs nothing but our keys and what the chain shows. A channel is used by one
connection at a time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain as joined

import structlog

from bct.bitcoin.chain import GOOD, Chain, Header
from bct.bitcoin.keys import PrivateKey
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import FINAL, Tx, TxOutput
from bct.channel.lock import REFUND_SIZE, Lock, refund
from bct.channel.payer import Payer
from bct.channel.state import FINAL_STATES, Event, Role, State, can
from bct.channel.store import ChannelStore, SavedPayer
from bct.channel.timing import accepts_payments, check_clock, expiry_for, may_refund, now_of
from bct.channel.transactions import Params
from bct.config import ChannelConfig
from bct.errors import FundsError, RemoteProtocolError
from bct.node.wallet import NodeWallet
from bct.pay import capacity, records
from bct.pay.budget import Budget
from bct.pay.capacity import Quote
from bct.pay.ledger import Ledger
from bct.pay.messages import Message, Resume
from bct.pay.payer_receipts import PayerReceipts
from bct.pay.payer_session import Offered, PayerSession
from bct.pay.receipt_store import ReceiptStore, SavedReceipt
from bct.pay.records import Bought, Lined, Reserved
from bct.pay.replay import Told
from bct.title.terms import Terms
from bct.units import Infohash, Outpoint, PieceIndex, PubKeyHash, Satoshi, txid_hex
from bct.wallet import paths
from bct.wallet.coins import fee_for

log = structlog.get_logger()

LOCK_SIZE = 212
RESERVE_PIECES = 32
"""How far ahead the durable mark runs: one sync of the disk for so many payments."""
_OUT = frozenset((State.OPEN, State.CLOSING, State.SETTLED, State.REFUNDED))


@dataclass(slots=True)
class Purchase:
    """What was bought of one title over one channel."""

    pieces: int = 0
    satoshi: int = 0

    def add(self, price: int, pieces: int = 1) -> None:
        self.pieces += pieces
        self.satoshi += price * pieces


@dataclass(eq=False)
class Spending:
    """One channel as the shell sees it."""

    saved: SavedPayer
    payer: Payer
    receipts: PayerReceipts
    pieces: set[tuple[Infohash, PieceIndex]] = field(default_factory=set)
    title: Infohash | None = None
    """One that its seeder has: a connection to it names a torrent."""
    fees: int = 0
    """Committed to miners when it was opened, in this run of the node."""
    in_use: bool = False
    unknown: bool = False
    """The seeder says that it does not have this channel: it is not offered again."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a settlement or refund was seen."""

    @property
    def outpoint(self) -> Outpoint:
        return self.payer.params.outpoint

    @property
    def is_out(self) -> bool:
        """Whether its seeder has agreed: funding and end are the chain's business then. What a seeder has declined, or
        not answered, is not brought to the chain."""
        return not self.unknown and self.payer.state in _OUT

    def has_bought(self, infohash: Infohash, piece: PieceIndex) -> bool:
        return (infohash, piece) in self.pieces


class Purse:
    """Every channel we spend on. clock: Unix seconds. random: so many bytes."""

    def __init__(
        self,
        chain: Chain,
        store: ChannelStore,
        receipts: ReceiptStore,
        ledger: Ledger,
        wallet: NodeWallet,
        config: ChannelConfig,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self.config = config
        self.spendings: dict[Outpoint, Spending] = {}
        self.newest: Header | None = None
        self.floor = 0
        """Satoshis per 1,000 bytes that miners ask, as the watchman last heard."""
        self.purchases: defaultdict[Outpoint, defaultdict[Infohash, Purchase]] = defaultdict(_purchases)
        """Everything that was ever bought, by channel and title."""
        self._known: list[tuple[Outpoint, int]] = []  # what the keys of every channel derive from
        self._chain = chain
        self._store = store
        self._receipts = receipts
        self._ledger = ledger
        self._wallet = wallet
        self._clock = clock
        self._random = random

    @property
    def now(self) -> int:
        return now_of(self._clock(), self.newest) if self.newest else self._clock()

    async def load(self, found: Mapping[Outpoint, Told]) -> None:
        """Every channel as it stood. found: what the ledger tells."""
        for outpoint, told in found.items():
            for (_, infohash, price), pieces in told.pieces.items():
                self.purchases[outpoint][infohash].add(price, len(pieces))
        for saved in await self._store.payers():
            if saved.state in FINAL_STATES:
                self._known.append((saved.anchor, saved.params.outpoint.index))
            else:
                outpoint = saved.params.outpoint
                self._add(saved, found.get(outpoint, Told()), await self._receipts.receipts(outpoint))

    def _add(self, saved: SavedPayer, told: Told, receipts: Iterable[SavedReceipt] = ()) -> Spending:
        payer, pieces = restore(saved, told)
        title = next((title for title, _ in pieces), None)
        spending = Spending(saved, payer, PayerReceipts(saved.params.outpoint, receipts), pieces, title)
        self.spendings[spending.outpoint] = spending
        self._known.append((saved.anchor, saved.params.outpoint.index))
        if not self._wallet.locked:
            self._wallet.watch(paths.channel_change(*self._known[-1]))
            self._wallet.watch(paths.channel_refund(*self._known[-1]))
        return spending

    def by_expiry(self) -> list[Spending]:
        """The most urgent first."""
        return sorted(self.spendings.values(), key=lambda spending: spending.payer.params.lock.expiry)

    def idle(self) -> list[Spending]:
        """Open, and used by no connection: their seeders can be asked to settle. None while the wallet is locked."""
        return [] if self._wallet.locked else list(filter(_is_idle, self.spendings.values()))

    def addresses(self) -> list[paths.Path]:
        """Where change and refund of our channels come in, those that are long over included: the coins may be there
        still."""
        return [path(*one) for one in self._known for path in (paths.channel_change, paths.channel_refund)]

    # -- opening and resuming -----------------------------------------------------------------------------------------

    async def engage(
        self,
        session: PayerSession,
        offered: Offered,
        address: tuple[str, int],
        missing: Sequence[PieceIndex],
        budget: Budget,
        playing_time: int = 0,
    ) -> tuple[Message, Spending]:
        """RESUME of the channel we have with this seeder, or OPEN of a new one. missing: pieces that are not here.
        playing_time: seconds of film still to be shown, as far as that is known. Raises FundsError when the wallet or
        the budget has too little."""
        old = self.usable(session.context.seeder_key, offered.terms, missing)
        if old is not None:
            old.in_use, old.title = True, offered.terms.infohash
            return session.resume(old.payer, self.key(old), self._handle()), old
        return await self._open(session, offered, address, offered.terms.remaining(missing), budget, playing_time)

    def usable(self, seeder: bytes, terms: Terms, missing: Sequence[PieceIndex]) -> Spending | None:
        """A channel with this seeder that can be resumed: one that has paid for missing pieces, be it full or old; else
        one with room and time for one more."""
        ours = [
            spending for spending in self.spendings.values() if spending.saved.seeder == seeder and _is_idle(spending)
        ]
        owed = (one for one in ours if any(one.has_bought(terms.infohash, piece) for piece in missing))
        roomy = (
            one
            for one in ours
            if accepts_payments(one.payer.params.lock.expiry, self.now) and one.payer.left(terms.payees) >= terms.price
        )
        return next(joined(owed, roomy), None)

    async def _open(
        self,
        session: PayerSession,
        offered: Offered,
        address: tuple[str, int],
        remaining: int,
        budget: Budget,
        playing_time: int,
    ) -> tuple[Message, Spending]:
        offer, terms = offered.offer, offered.terms
        tip = await self._chain.tip()
        check_clock(self._clock(), tip, self._chain.network)
        rate = self._rate(offered)
        end_fee = capacity.end_fee(rate, len(terms.payees.hashes))
        locked = self._to_lock(offered, rate, remaining, budget)
        expiry = expiry_for(now_of(self._clock(), tip), (1 + budget.more) * playing_time, self.config.lifetime)
        funded = await self._wallet.fund(
            locked, LOCK_SIZE, rate, lambda anchor, vout: self._lock(anchor, vout, offer.payee, expiry).script()
        )
        try:
            capacity.check_fees(funded.fee + end_fee, locked)
            budget.commit(funded.fee + end_fee)
        except FundsError:
            self._wallet.release_coins(funded.coins)
            raise
        outpoint = Outpoint(funded.tx.txid, funded.vout)
        lock = self._lock(funded.anchor, funded.vout, offer.payee, expiry)
        change = self._wallet.key(paths.channel_change(funded.anchor, funded.vout)).hash
        params = Params(outpoint, locked, lock, change, PubKeyHash(offer.payout), rate, offer.max_outputs)
        host, port = address
        saved = SavedPayer(
            params, funded.anchor, terms.payees, session.context.seeder_key, host, port, funded.tx.serialize(),
            self._clock(),
        )  # fmt: skip
        await self._store.add_payer(saved)
        spending = self._add(saved, Told())
        spending.in_use, spending.title, spending.fees = True, terms.infohash, funded.fee + end_fee
        log.info("channel opening", channel=str(outpoint), capacity=locked, fee=funded.fee)
        message = session.open(
            spending.payer, self.key(spending), self._handle(), funded.vout, funded.beef, self.config.idle
        )
        return message, spending

    def quote(self, seeder: bytes, offered: Offered, missing: Sequence[PieceIndex], budget: Budget) -> Quote:
        """What the missing pieces would cost from this seeder: over the channel that we have with it, and over a new
        one, paid from one coin, as far as that has no room."""
        terms, rate = offered.terms, self._rate(offered)
        pieces = [piece for piece in missing if not terms.is_free(piece)]
        cost, opening = terms.remaining(pieces), self.fees(len(terms.payees.hashes), rate)
        old = self.usable(seeder, terms, missing)
        held = old.payer.left(terms.payees) if old else 0
        fees = capacity.line_fee(old.payer.params.fee_rate, old.payer.lines, terms.payees) if old else 0
        if cost <= held:
            return Quote(terms.price, len(pieces), cost, fees if cost else 0, 0, opening)
        locked = self._to_lock(offered, rate, cost - held, budget)
        return Quote(terms.price, len(pieces), cost, fees + opening, locked, opening)

    def _rate(self, offered: Offered) -> int:
        return max(offered.offer.fee_rate, self.config.fee_rate, self.floor)

    def fees(self, payees: int, rate: int | None = None) -> int:
        """What one channel that pays so many creators costs in miner fees, funding and end. rate: ours unless said."""
        rate = rate or max(self.config.fee_rate, self.floor)
        return self._wallet.funding_fee(LOCK_SIZE, rate) + capacity.end_fee(rate, payees)

    def _to_lock(self, offered: Offered, rate: int, cost: int, budget: Budget) -> Satoshi:
        """For pieces that cost so much, and as much for each title that follows, as far as cap and wallet reach."""
        left = budget.left()
        most = left - self.fees(len(offered.terms.payees.hashes), rate) if left is not None else None

        def room_for(titles: int) -> Satoshi:
            wanted = titles * cost
            return capacity.to_lock(offered, rate, wanted if most is None else min(wanted, most), titles)

        row = room_for(1 + budget.more)
        return row if self._wallet.affords(row, LOCK_SIZE, rate) else room_for(1)

    def _lock(self, anchor: Outpoint, vout: int, payee: bytes, expiry: int) -> Lock:
        return Lock(self._wallet.key(paths.channel_payer(anchor, vout)).public, payee, expiry)

    def key(self, spending: Spending) -> PrivateKey:
        """The payer key of a channel. Raises WalletLockedError."""
        return self._wallet.key(paths.channel_payer(spending.saved.anchor, spending.outpoint.index))

    def _handle(self) -> int:
        return int.from_bytes(self._random(4))

    # -- paying -------------------------------------------------------------------------------------------------------

    async def reserve(self, spending: Spending, line: int, price: int) -> None:
        """Makes a mark durable that covers the next payments of `line`."""
        marks = spending.payer.reserve(line, price, RESERVE_PIECES * price)
        await self._ledger.wait(self._ledger.append(records.encode(Reserved(spending.outpoint, marks))))

    def bought(self, spending: Spending, line: int, infohash: Infohash, piece: PieceIndex, price: int) -> None:
        spending.pieces.add((infohash, piece))
        self.purchases[spending.outpoint][infohash].add(price)
        self._ledger.append(records.encode(Bought(spending.outpoint, line, infohash, piece, price)))

    async def keep(self, receipt: SavedReceipt) -> None:
        """Makes a receipt durable, or the payee's signature under it. Raises StoreError."""
        await self._receipts.put_receipt(receipt)

    async def lined(self, spending: Spending, line: int, budget: Budget) -> None:
        """Makes the newest line durable before it is added on the wire. Raises FundsError when the dearer settlement,
        with the line's outputs in it, would pass the budget."""
        lines = spending.payer.lines
        budget.commit(capacity.line_fee(spending.payer.params.fee_rate, lines[:line], lines[line]))
        record = Lined(spending.outpoint, line, lines[line])
        await self._ledger.wait(self._ledger.append(records.encode(record)))

    async def ready(self, spending: Spending) -> None:
        """The seeder has taken the channel. What it proved on RESUME may be above our marks: they are saved anew."""
        self._ledger.append(records.encode(Reserved(spending.outpoint, spending.payer.reserved)))
        await self._move(spending, spending.payer.state)

    async def _move(self, spending: Spending, state: State, closing: bytes = b"") -> None:
        """Saves the new state. closing: the transaction that ends the channel, once there is one."""
        saved = spending.saved
        spending.saved = replace(saved, state=state, closing=closing or saved.closing)
        await self._store.move_payer(spending.outpoint, state, closing)

    def release(self, spending: Spending) -> None:
        """No connection uses it any more; it can be resumed."""
        spending.in_use = False

    async def unsaid(self, spending: Spending, message: Message) -> int:
        """The OPEN or RESUME was not sent after all. A channel whose OPEN nobody has is void, and its coins are free.
        The fees that will not be paid."""
        self.release(spending)
        if isinstance(message, Resume):
            return 0
        await self.happened(spending, Event.FUNDING_LOST, None)
        del self.spendings[spending.outpoint]
        self._wallet.release_coins(i.outpoint for i in Tx.parse(spending.saved.funding).inputs)
        return spending.fees

    async def declined(self, spending: Spending) -> None:
        """The seeder does not take, or does not know, the channel. Its coins are free again unless the funding got
        out; if it does later, the refund brings them back."""
        spending.in_use, spending.unknown = False, True
        if await self._chain.place(spending.outpoint.txid) is None:
            self._wallet.release_coins(i.outpoint for i in Tx.parse(spending.saved.funding).inputs)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def closed(self, spending: Spending, txid: bytes, commitment: bytes) -> None:
        """The seeder says that it settled: we rebuild the settlement and bring it to the chain ourselves as well."""
        try:
            tx = spending.payer.settlement(commitment, self.key(spending))
        except RemoteProtocolError as error:
            log.warning("settlement unproven", channel=str(spending.outpoint), text=str(error))
            return
        answers = await self._chain.broadcast([spending.saved.funding, tx.serialize()])
        if answers[-1].outcome in GOOD and can(Role.PAYER, spending.payer.state, Event.SETTLEMENT_SEEN):
            await self.happened(spending, Event.SETTLEMENT_SEEN, tx)

    async def happened(self, spending: Spending, event: Event, tx: Tx | None) -> None:
        """What the chain says about the channel's outpoint. tx: the transaction that spends it, if one does."""
        before, older = spending.payer.state, spending.saved.closing
        closing = tx.serialize() if tx else b""
        spending.payer.on(event)
        if spending.payer.state is before and closing in (b"", older):
            return
        if older and closing != older and event is not Event.UNSEEN:
            self._wallet.drop(Tx.parse(older))  # of two that end a channel only one can be mined
        if event is Event.FUNDING_LOST:
            self._wallet.drop(Tx.parse(spending.saved.funding))
        elif tx:
            self._wallet.saw(tx)
        await self._move(spending, spending.payer.state, closing)
        txid = txid_hex(tx.txid) if tx else ""
        log.info("spending channel", channel=str(spending.outpoint), what=event.value, txid=txid)
        if tx and event is not Event.FUNDING_LOST:
            spending.over.set()

    def is_refundable(self, spending: Spending, median_time: int) -> bool:
        """Whether the expiry has passed without an end. A locked wallet cannot send the refund: it waits. A settlement
        that was seen once is what is owed: should the chain forget it, it is handed over again, and no refund is."""
        payer = spending.payer
        expired = may_refund(payer.params.lock.expiry, median_time) and not _is_settlement(spending.saved.closing)
        return expired and can(Role.PAYER, payer.state, Event.EXPIRED) and not self._wallet.locked

    async def refund(self, spending: Spending, median_time: int) -> None:
        """Sends the refund of a channel that is refundable. Raises ChainError, StoreError."""
        rate = max(await self._chain.fee_rate(), self.config.fee_rate)
        tx = self._made_refund(spending, rate) or self._new_refund(spending, rate)
        if tx is None or not may_refund(tx.locktime, median_time):
            return  # not worth its fee now; or its lock time had to be stepped up a little: the next block will do
        spending.payer.on(Event.EXPIRED)
        await self._move(spending, State.REFUNDING, tx.serialize())
        answers = await self._chain.broadcast([spending.saved.funding, tx.serialize()])
        log.info("refund", channel=str(spending.outpoint), outcome=answers[-1].outcome.value)
        if answers[-1].outcome in GOOD:
            await self.happened(spending, Event.REFUND_SEEN, tx)

    @staticmethod
    def _made_refund(spending: Spending, rate: int) -> Tx | None:
        """One that was made before, if it still pays enough: somebody may have it already."""
        raw = spending.saved.closing
        if not raw or _is_settlement(raw):
            return None
        tx = Tx.parse(raw)
        paid = spending.payer.params.capacity - sum(output.value for output in tx.outputs)
        return tx if paid * 1000 >= rate * len(raw) else None

    def _new_refund(self, spending: Spending, rate: int) -> Tx | None:
        """None while its fee would leave nothing."""
        params = spending.payer.params
        value = params.capacity - fee_for(REFUND_SIZE, rate)
        if value <= 0:
            return None
        to = self._wallet.key(paths.channel_refund(spending.saved.anchor, params.outpoint.index)).hash
        output = TxOutput(Satoshi(value), p2pkh(to))
        return refund(params.lock, params.outpoint, params.capacity, output, self.key(spending))

    async def stop(self) -> None:
        """After an orderly end the totals are certain: the marks come down to them."""
        sequences = [
            self._ledger.append(records.encode(Reserved(s.outpoint, s.payer.totals))) for s in self.spendings.values()
        ]
        if sequences:
            await self._ledger.wait(sequences[-1])


def _is_settlement(closing: bytes) -> bool:
    """closing: the transaction that ended a channel, raw; empty when there is none."""
    return bool(closing) and Tx.parse(closing).inputs[0].sequence == FINAL


def _is_idle(spending: Spending) -> bool:
    return not spending.in_use and not spending.unknown and spending.payer.state in (State.OPENING, State.OPEN)


def _purchases() -> defaultdict[Infohash, Purchase]:
    return defaultdict(Purchase)


def restore(saved: SavedPayer, told: Told) -> tuple[Payer, set[tuple[Infohash, PieceIndex]]]:
    """The payer as the ledger leaves it, and the pieces bought over it."""
    lines = (saved.payees, *told.lines.values())
    totals = [0] * len(lines)
    for (line, _, price), pieces in told.pieces.items():
        totals[line] += price * len(pieces)
    # A line whose record was lost was never asked for, so nothing can have been signed on it.
    marks = (*told.marks, *(0,) * len(lines))[: len(lines)]
    full = tuple(max(mark, total) for mark, total in zip(marks, totals, strict=True))
    bought = {(infohash, piece) for (_, infohash, _), pieces in told.pieces.items() for piece in pieces}
    return Payer(saved.params, lines, tuple(totals), full, saved.state), bought
