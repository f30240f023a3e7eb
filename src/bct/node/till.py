"""The payee's shell: carries out what the sessions of all sellers decide, for every channel this node earns on.

Who could cheat: the payer (the sessions and the account see to that), and time: a crash between accepting money and
remembering it. So the order here is fixed. A new channel is durable before CHANNEL_READY; a payment and the opening of
a piece are appended to the ledger before the piece's bytes are read, and bytes run ahead of the ledger's sync by
`unsynced_risk` only; the ledger is durable, and the channel marked closing, before a settlement is broadcast; and the
settlement that was made is the one that is sent until it is buried, whatever the ledger has lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from bct.bitcoin.chain import GOOD, Chain, Header, Outcome
from bct.bitcoin.proof import Beef
from bct.bitcoin.tx import FINAL, Tx
from bct.channel import exposure
from bct.channel.exposure import Sighting, Unconfirmed
from bct.channel.state import FINAL_STATES, Event, Role, State, can
from bct.channel.store import ChannelStore, SavedPayee
from bct.channel.timing import check_clock, now_of, settle_reason
from bct.channel.watched import paid_to_others
from bct.config import ChannelConfig
from bct.errors import ChainError, RemoteProtocolError, StoreError, TemporaryError
from bct.node.peer import Peer
from bct.pay import funding, offers, records
from bct.pay.account import Account, restore
from bct.pay.effects import CheckFunding, Effect, Keep, SaveChannel, SaveReceipt, Send, Settle
from bct.pay.ledger import Ledger
from bct.pay.messages import CloseReason, Fault
from bct.pay.offers import Policy
from bct.pay.payee_receipts import OfTitle, recall
from bct.pay.payee_session import Book, PayeeKeys, PayeeSession
from bct.pay.receipt_store import ReceiptStore
from bct.pay.records import Opened, Record
from bct.pay.replay import Told
from bct.units import Infohash, Outpoint, PieceIndex, txid_hex

log = structlog.get_logger()


class Earning:
    """One channel as the shell sees it: the account, and what it needs to be settled and watched."""

    def __init__(self, saved: SavedPayee, account: Account, block: str, now: int) -> None:
        """block: the address block it was opened from. now: when this node came to know it, also by a restart: its
        viewer then has the idle time to come back."""
        self.saved = saved
        self.account = account
        self.block = block
        self.sightings: list[Sighting] = []
        self.idle_since: int | None = now
        self.settlement = saved.settlement
        """What ends the channel, raw, once there is something: our settlement, or a refund that was seen."""
        self.commitment = b""
        """Our signature in the settlement that this run made."""
        self.answers: set[asyncio.Task[None]] = set()
        """Receipts that are being saved, to be answered then."""

    def saw(self, sightings: Iterable[Sighting]) -> None:
        """While a source stays of one mind, its first answer and its newest are enough to judge by."""
        for sighting in sightings:
            before = [one for one in self.sightings if one.source == sighting.source]
            if [one.outcome for one in before[-2:]] == [sighting.outcome] * 2:
                self.sightings.remove(before[-1])
            self.sightings.append(sighting)

    @property
    def outpoint(self) -> Outpoint:
        return self.account.outpoint

    @property
    def state(self) -> State:
        return self.account.payee.state

    @property
    def unmined(self) -> tuple[bytes, ...]:
        """The funding, behind what it needs, while no block holds it."""
        return self.saved.funding if self.account.cap is not None else ()

    def made(self) -> Tx | None:
        """The settlement, once it was made."""
        tx = Tx.parse(self.settlement) if self.settlement else None
        return tx if tx and tx.inputs[0].sequence == FINAL else None


class Till:
    """Every channel we earn on. sources: chains to ask, ours first. clock: Unix seconds. of_title: what is on sale."""

    def __init__(
        self,
        sources: Sequence[Chain],
        store: ChannelStore,
        receipts: ReceiptStore,
        ledger: Ledger,
        keys: PayeeKeys,
        policy: Policy,
        config: ChannelConfig,
        clock: Callable[[], int],
        of_title: OfTitle,
    ) -> None:
        self.keys = keys
        self.clock = clock
        self.newest: Header | None = None
        """The chain's tip, as the watchman last heard of it."""
        self.floor = 0
        """Satoshis per 1,000 bytes that miners ask, as the watchman last heard."""
        self.on_opened: Callable[[Earning], None] = lambda _: None
        """Called after each piece that was paid for and let go."""
        self.on_closing: Callable[[Earning], None] = lambda _: None
        """Called before a settlement is sent, at each try."""
        self.book = Book(self._exposure, of_title)
        self.earnings: dict[Outpoint, Earning] = {}
        self._sources = sources
        self._store = store
        self._receipts = receipts
        self._ledger = ledger
        self._policy = policy
        self._config = config
        self._users: dict[Outpoint, tuple[Peer, PayeeSession]] = {}
        self._behind: set[Account] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling: set[Outpoint] = set()
        self._appended = 0
        """The ledger's sequence of our last record."""
        self.disk_failed = False
        """The ledger has refused a record: nothing more is taken."""

    @property
    def now(self) -> int:
        """The later of this machine's clock and the newest block's time."""
        return now_of(self.clock(), self.newest) if self.newest else self.clock()

    @property
    def policy(self) -> Policy:
        """What this node insists on, and never less than what miners do."""
        return replace(self._policy, fee_rate=max(self._policy.fee_rate, min(self.floor, offers.RATE_MOST)))

    # -- coming back --------------------------------------------------------------------------------------------------

    async def load(self, found: Mapping[Outpoint, Told], piece_size: Callable[[Infohash, PieceIndex], int]) -> None:
        """Every channel as it stood. found: what the ledger tells. piece_size: bytes."""
        for saved in await self._store.payees():
            if saved.state in FINAL_STATES:
                continue
            told, cap = found.get(saved.params.outpoint, Told()), self._config.exposure_fresh
            account = restore(saved.params, saved.nonce, saved.payees, saved.state, told, cap, piece_size)
            recall(account, await self._receipts.receipts(account.outpoint))
            self._add(Earning(saved, account, "", self.clock()))

    def _add(self, earning: Earning) -> None:
        self.earnings[earning.outpoint] = earning
        self.book.accounts[earning.outpoint] = earning.account

    # -- what sessions decide -----------------------------------------------------------------------------------------

    def perform(self, peer: Peer, session: PayeeSession, effects: Iterable[Effect]) -> None:
        """In order. What needs waiting goes on in a task of its own; the session holds everything behind it back."""
        for effect in effects:
            match effect:
                case Keep(record):
                    self._append(record)
                case Send(message):
                    if not peer.closed:
                        peer.say(message)
                case CheckFunding():
                    self._spawn(self._check_funding(peer, session, effect))
                case SaveReceipt(saved):
                    answers = self.earnings[saved.outpoint].answers
                    answers.add(answer := self._spawn(self._answer(peer, effect)))
                    answer.add_done_callback(answers.discard)
                case Settle(account, reason):
                    self._spawn(self.settle(self.earnings[account.outpoint], reason))

    def _append(self, record: Record) -> int:
        try:
            self._appended = self._ledger.append(records.encode(record))
            return self._appended
        except StoreError:
            self.disk_failed = True
            raise

    def check_ledger(self) -> None:
        """Raises StoreError once the ledger has failed: from then on nothing is taken, resumed or opened."""
        if self.disk_failed:
            raise StoreError("payments cannot be written down any more: free the disk, then start bct again")

    def opened(self, account: Account, record: Opened) -> None:
        """A piece was opened: the record first, then the bytes."""
        sequence = self._append(record)
        account.recorded(sequence, record.price)
        self._behind.add(account)
        self.on_opened(self.earnings[account.outpoint])

    def synced(self, sequence: int) -> None:
        """The ledger is durable up to here: what waited for it goes on."""
        behind, self._behind = self._behind, set()
        for account in behind:
            account.synced(sequence)
            if account.is_behind:
                self._behind.add(account)
            if account.held:
                account.held = False
                if user := self._users.get(account.outpoint):
                    user[0].serve()

    async def _answer(self, peer: Peer, effect: SaveReceipt) -> None:
        """Countersigns a receipt, once we can show it ourselves."""
        try:
            await self._receipts.put_receipt(effect.saved)
        except StoreError as error:
            log.error("receipt unanswered", channel=str(effect.saved.outpoint), text=str(error))
            return
        if not peer.closed:
            peer.say(effect.answer)
            peer.flush()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- opening ------------------------------------------------------------------------------------------------------

    async def _check_funding(self, peer: Peer, session: PayeeSession, effect: CheckFunding) -> None:
        try:
            found, sightings = await self._examine(effect)
            outcome = exposure.judged(sightings)
            if outcome not in GOOD:
                effects = session.unfunded(_fault(outcome), f"the chain says {outcome.value}")
            else:
                cap = await self._cap(found.outpoint, sightings)
                effects = await self._save(
                    peer, session, session.funded(found.outpoint, found.capacity, cap), found, sightings
                )
        except RemoteProtocolError as error:
            effects = session.unfunded(Fault.FUNDING_REFUSED, str(error))
        except (ChainError, TemporaryError, StoreError) as error:
            effects = session.unfunded(Fault.TRY_LATER, str(error))
        try:
            self.perform(peer, session, effects)
        except StoreError as error:
            log.error("disk refuses", peer=str(peer), text=str(error))
            peer.close()
        self.attach(peer, session)
        peer.serve()

    async def _save(
        self,
        peer: Peer,
        session: PayeeSession,
        effects: list[Effect],
        found: funding.Funding,
        sightings: Sequence[Sighting],
    ) -> list[Effect]:
        """Makes the new channel durable, when there is one to save."""
        match effects:
            case [SaveChannel(account, idle)]:
                pass
            case _:
                return effects
        params = account.payee.params
        saved = SavedPayee(params, account.nonce, account.payee.lines[0], found.raws, self.clock(), idle)
        if not await self._store.add_payee(saved):
            return session.unfunded(Fault.BAD_OPEN, "this offer, or this funding, has opened a channel already")
        earning = Earning(saved, account, _block(peer.connection.remote[0]), self.clock())
        earning.saw(sightings)
        self._add(earning)
        log.info("channel opened", channel=str(account.outpoint), capacity=params.capacity, peer=str(peer))
        return session.saved(account, self.now)

    async def _examine(self, effect: CheckFunding) -> tuple[funding.Funding, list[Sighting]]:
        """What bytes tell, then what the chain says to these very bytes. Raises RemoteProtocolError or ChainError."""
        opening, chain = effect.opening, self._sources[0]
        tip = await chain.tip()
        check_clock(self.clock(), tip, chain.network)
        beef = Beef.parse(opening.funding)
        funding.check_blocks(beef)
        headers = [await chain.header(height) for height in sorted(beef.heights())]
        roots = {header.height: header.merkle_root for header in headers if header}
        found = funding.read(beef, roots, opening.vout, effect.lock, max(opening.fee_rate, self.floor))
        answers = await chain.broadcast(found.raws)
        return found, exposure.heard(answers, _name(chain), self.clock())

    # -- trusting a funding that no block holds ---------------------------------------------------------------------

    async def _is_mined(self, outpoint: Outpoint) -> bool:
        place = await self._sources[0].place(outpoint.txid)
        return place is not None and place.height is not None

    async def _cap(self, outpoint: Outpoint, sightings: Sequence[Sighting]) -> int | None:
        confirmed = await self._is_mined(outpoint)
        config = self._config
        return exposure.cap(sightings, confirmed=confirmed, fresh=config.exposure_fresh, clean=config.exposure_clean)

    def _exposure(self, account: Account) -> int:
        """Satoshis this channel may hold right now: its own cap, and what all unconfirmed ones leave."""
        now = self.clock()
        others = [  # closed ones as well, or a payer would close and begin again; what is lost already is no exposure
            Unconfirmed(e.account.payee.paid, now - e.saved.created, e.block)
            for e in self.earnings.values()
            if e.account.cap and e.state not in FINAL_STATES
        ]
        mine = self.earnings[account.outpoint]
        room = exposure.room(others, age=now - mine.saved.created, block=mine.block)
        return min(account.cap or 0, account.payee.paid + room)

    async def look_again(self, earning: Earning, *, moved: bool = False) -> None:
        """Asks the chain once more about a funding that no block holds yet, or, when it has moved, no longer: then
        nothing that was heard of it before counts. Raises ChainError."""
        account = earning.account
        if account.cap is None:
            if not moved or await self._is_mined(earning.outpoint):
                return
            earning.sightings.clear()
        for source in self._sources:
            answers = await source.broadcast(earning.saved.funding)
            earning.saw(exposure.heard(answers, _name(source), self.clock()))
        cap = await self._cap(earning.outpoint, earning.sightings)
        if cap != account.cap:
            account.cap = cap
            log.info("funding", channel=str(earning.outpoint), cap="none" if cap is None else cap)
            if user := self._users.get(earning.outpoint):
                self.perform(*user, user[1].cap_changed())
                user[0].flush()

    # -- connections that use a channel -----------------------------------------------------------------------------

    def attach(self, peer: Peer, session: PayeeSession) -> None:
        """To be called after each message: which connection serves which channel now."""
        account = session.account
        if account is None:
            return
        before = self._users.get(account.outpoint)
        if before and before[0] is not peer:
            self.perform(before[0], before[1], before[1].moved())
            before[0].flush()
        self._users[account.outpoint] = (peer, session)
        self.earnings[account.outpoint].idle_since = None

    def detach(self, peer: Peer, session: PayeeSession) -> None:
        account = session.account
        session.lost()
        if account and self._users.get(account.outpoint, (None,))[0] is peer:
            del self._users[account.outpoint]
            self.earnings[account.outpoint].idle_since = self.clock()

    # -- settling -----------------------------------------------------------------------------------------------------

    def by_expiry(self) -> list[Earning]:
        """The most urgent first."""
        return sorted(self.earnings.values(), key=lambda earning: earning.account.payee.params.lock.expiry)

    async def tick(self) -> None:
        """Settles what has to be settled by now."""
        now = self.now
        for earning in self.by_expiry():
            if reason := self._reason(earning, now, stopping=False):
                await self.settle(earning, reason)

    def _reason(self, earning: Earning, now: int, *, stopping: bool) -> str | None:
        if earning.state is not State.OPEN:
            return None
        return settle_reason(
            expiry=earning.account.payee.params.lock.expiry,
            now=now,
            idle_since=earning.idle_since,
            idle=earning.saved.idle,
            unmined=earning.account.cap is not None and bool(earning.sightings),  # after a restart: once asked
            below_floor=earning.account.payee.params.fee_rate < self.floor,
            stopping=stopping,
        )

    async def settle(self, earning: Earning, reason: str) -> None:
        """Closes the channel and brings the newest commitment to the chain. What fails is tried again by the
        watchman: the channel stays CLOSING until the chain has seen a settlement."""
        account = earning.account
        if earning.state is State.OPEN:
            account.payee.on(Event.CLOSE)
            self._say_close(earning, reason)
        if earning.state is not State.CLOSING or earning.outpoint in self._settling:
            return
        self._settling.add(earning.outpoint)
        self.on_closing(earning)
        try:
            await self._settle(earning, reason)
        except (ChainError, StoreError) as error:
            log.warning("settlement waits", channel=str(earning.outpoint), text=str(error))
        finally:
            self._settling.discard(earning.outpoint)

    def _say_close(self, earning: Earning, reason: str) -> None:
        """Tells the viewer, if one is connected and did not ask for it itself."""
        code = {"expiry": CloseReason.EXPIRY, "shutdown": CloseReason.SHUTDOWN}.get(reason, CloseReason.IDLE)
        if user := self._users.get(earning.outpoint):
            self.perform(*user, user[1].close(code))
            user[0].flush()

    async def _settle(self, earning: Earning, reason: str) -> None:
        payee = earning.account.payee
        tx = earning.made()
        if payee.can_settle and (tx is None or paid_to_others(tx, payee.params.change) < payee.paid):
            tx, earning.commitment = payee.settlement(self.keys.derive(earning.account.nonce))
            earning.settlement = tx.serialize()
        await self._tried(self._ledger.wait(self._appended), earning)
        await self._tried(self._store.move_payee(earning.outpoint, State.CLOSING, earning.settlement), earning)
        if tx is None:
            return  # nothing was ever signed: the payer's refund is all that can come
        answers = await self._sources[0].broadcast([*earning.unmined, earning.settlement])
        outcome = answers[-1].outcome
        log.info("settlement", channel=str(earning.outpoint), reason=reason, paid=payee.paid, outcome=outcome.value)
        if outcome not in GOOD:
            return
        if can(Role.PAYEE, earning.state, Event.SETTLEMENT_SEEN):
            await self.happened(earning, Event.SETTLEMENT_SEEN, tx)
        await asyncio.gather(*earning.answers, return_exceptions=True)  # after CHANNEL_CLOSED nobody listens
        if user := self._users.pop(earning.outpoint, None):
            self.perform(*user, user[1].settled(tx.txid, earning.commitment))
            user[0].flush()

    @staticmethod
    async def _tried(note: Awaitable[None], earning: Earning) -> None:
        """The money first: where the disk fails, the chain tells after a restart what became of the channel."""
        try:
            await note
        except StoreError as error:
            log.error("settling without a note of it", channel=str(earning.outpoint), text=str(error))

    async def happened(self, earning: Earning, event: Event, tx: Tx | None) -> None:
        """What the chain says about the channel's outpoint. tx: the transaction that spends it, if one does."""
        before = earning.state
        earning.account.payee.on(event)
        if tx:
            earning.settlement = tx.serialize()
        if earning.state is not before:
            await self._store.move_payee(earning.outpoint, earning.state, tx.serialize() if tx else b"")
            txid = txid_hex(tx.txid) if tx else ""
            log.info("earning channel", channel=str(earning.outpoint), what=event.value, txid=txid)

    async def stop(self) -> None:
        """Settles everything that can be, then lets go. Bounded by the chain's own timeouts."""
        for task in list(self._tasks):
            task.cancel()
        for earning in self.by_expiry():
            if self._reason(earning, self.clock(), stopping=True):
                await self.settle(earning, "shutdown")


def _name(source: Chain) -> str:
    return f"{type(source).__name__}@{id(source)}"


def _fault(outcome: Outcome) -> Fault:
    if outcome in (Outcome.CONFLICT, Outcome.PARKED):
        return Fault.FUNDING_CONFLICT
    return Fault.TRY_LATER if outcome is Outcome.UNREACHABLE else Fault.FUNDING_REFUSED


def _block(host: str) -> str:
    """The address block that openings are counted by: /24, or /48 of IPv6."""
    return ":".join(host.split(":")[:3]) if ":" in host else host.rpartition(".")[0]
