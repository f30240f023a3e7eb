"""A seeder and viewers without sockets, disk or chain: the real sessions, joined by hand, with a clock that stands.

`Seeder` does what the payee's shell does with effects, at once and in memory; it can be held back at the two places
where a real one waits (the chain's word about a funding, the ledger's sync) and it can crash and come back from its
records. `Wire` is one connection between a viewer and it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import PrivateKey, sha256
from bct.bitcoin.tx import Tx
from bct.channel.lock import Lock
from bct.channel.payer import Payer
from bct.channel.state import Event, State
from bct.channel.transactions import Params
from bct.pay import offers, records
from bct.pay.account import Account, Verdict, restore
from bct.pay.effects import CheckFunding, Effect, Keep, SaveChannel, SaveReceipt, Send, Settle
from bct.pay.messages import Context, Message, decode
from bct.pay.payee_receipts import OnSale, recall
from bct.pay.payee_session import Book, PayeeKeys, PayeeSession
from bct.pay.payer_session import Happening, PayerSession
from bct.pay.receipt_store import SavedReceipt
from bct.pay.records import Record
from bct.pay.replay import Told
from bct.title.ranges import PieceRange
from bct.title.terms import Terms
from bct.torrent.geometry import Geometry
from bct.torrent.metainfo import Metainfo
from bct.units import Infohash, Outpoint, Payees, PieceIndex, PubKeyHash, Satoshi, Txid
from tests.channel_parts import EXPIRY, FILM, NOW, SEEDER, key, someone

CREATOR = key("creator")
IDENTITY = key("node")
POLICY = offers.Policy(SEEDER, fee_rate=100, fee_rate_cap=1000, max_outputs=8, idle=900)
PIECE = 256 * 1024
"""Bytes of a piece."""
CAPACITY = 1_000


def terms(name: str = "film", price: int = 1, payees: Payees = FILM, sequence: int = 1) -> Terms:
    """Two free pieces, the others for `price`."""
    return Terms(
        network=Network.REGTEST,
        infohash=Infohash(sha256(name.encode())[:20]),
        price=Satoshi(price),
        payees=payees,
        free=(PieceRange(PieceIndex(0), 2),),
        sequence=sequence,
        valid_from=NOW - 60,
        valid_until=NOW + 86400,
        creator=CREATOR.public,
    ).sign(CREATOR)


FILM_TERMS = terms()


def torrent(terms: Terms) -> Metainfo:
    """One of 100 pieces, whose hashes are as made up as its infohash."""
    hashes = b"".join(sha256(b"%d" % piece)[:20] for piece in range(100))
    return Metainfo(b"", terms.infohash, "film.mp4", Geometry(100 * PIECE, PIECE), hashes, ())


class Seeder:
    """Every channel of one payee. cap: what a new channel is good for; exposure: what all of them are."""

    def __init__(self, cap: int | None = None) -> None:
        self.cap = cap
        self.exposure = 10_000
        self.keys = PayeeKeys(IDENTITY, b"a secret", lambda nonce: PrivateKey(sha256(b"payee" + nonce)))
        self.titles: dict[Infohash, OnSale] = {}
        self.book = Book(lambda account: self.exposure, self.titles.get)
        self.ledger: list[Record] = []
        self.receipts: dict[tuple[Outpoint, int], SavedReceipt] = {}
        self.synced = True
        self.chain_answers = True
        self.saved: dict[Outpoint, tuple[Params, bytes, Payees]] = {}
        self.idle: dict[Outpoint, int] = {}
        self.settled: dict[Outpoint, Tx] = {}
        self._numbers = iter(range(1, 1 << 30))

    def number(self) -> int:
        return next(self._numbers)

    def random(self, size: int) -> bytes:
        return self.number().to_bytes(size)

    def perform(self, wire: Wire, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    wire.to_viewer.append(carried(message))
                case Keep(record):
                    self.ledger.append(record)
                case CheckFunding() if self.chain_answers:
                    self.funded(wire, effect)
                case CheckFunding():
                    wire.unanswered = effect
                case SaveChannel(account, idle):
                    self.save(wire, account, idle)
                case SaveReceipt(saved, answer):
                    self.receipts[saved.outpoint, saved.receipt.epoch] = saved
                    wire.to_viewer.append(answer)
                case Settle(account, _):
                    self.settle(wire, account)

    def funded(self, wire: Wire, effect: CheckFunding) -> None:
        """The chain has found the funding good. In these tests its bytes are the outpoint and the capacity."""
        opening = effect.opening
        assert effect.lock == Lock(opening.payer, self.keys.derive(opening.nonce).public, opening.expiry)
        outpoint = Outpoint.unpack(effect.opening.funding[:36])
        capacity = Satoshi(int.from_bytes(effect.opening.funding[36:]))
        self.perform(wire, wire.payee.funded(outpoint, capacity, self.cap))

    def save(self, wire: Wire, account: Account, idle: int) -> None:
        taken = {nonce for _, nonce, _ in self.saved.values()}
        assert account.nonce not in taken, "the store refuses a nonce that was used; see `Till`"
        params = account.payee.params
        self.saved[params.outpoint] = (params, account.nonce, account.payee.lines[0])
        self.idle[params.outpoint] = idle
        self.perform(wire, wire.payee.saved(account, wire.now))

    def settle(self, wire: Wire, account: Account) -> None:
        tx, ours = account.payee.settlement(self.keys.derive(account.nonce))
        self.settled[account.outpoint] = tx
        account.payee.on(Event.SETTLEMENT_SEEN)
        self.perform(wire, wire.payee.settled(tx.txid, ours))

    def ask(self, wire: Wire, piece: int, length: int = PIECE, size: int = PIECE) -> Verdict:
        """One request, as the gate answers it."""
        verdict, record = wire.payee.ask(PieceIndex(piece), size, length)
        if verdict is Verdict.SERVE:
            wire.served += length if not wire.terms.is_free(piece) else 0
        if record:
            self.ledger.append(record)
            account = wire.payee.account
            assert account
            if not self.synced:
                account.recorded(len(self.ledger), record.price)
        return verdict

    def restart(self, lost: int = 0) -> Seeder:
        """The node after a crash, without the newest `lost` records."""
        again = Seeder(self.cap)
        again.ledger = [records.decode(records.encode(one)) for one in self.ledger[: len(self.ledger) - lost]]
        again.saved, again.settled, again._numbers = dict(self.saved), dict(self.settled), self._numbers
        again.receipts = dict(self.receipts)
        again.titles.update(self.titles)
        for outpoint, (params, nonce, first) in self.saved.items():
            state = State.SETTLED if outpoint in self.settled else State.OPEN
            found = [one for one in again.ledger if one.outpoint == outpoint]
            account = restore(params, nonce, first, state, Told.of(found), self.cap, lambda *_: PIECE)
            recall(account, (saved for (of, _), saved in sorted(self.receipts.items()) if of == outpoint))
            again.book.accounts[outpoint] = account
        return again


@dataclass
class Wire:
    """One connection: both sessions, and what is on its way to the viewer."""

    seeder: Seeder
    terms: Terms = FILM_TERMS
    lowest: int = 0
    now: int = NOW
    to_viewer: list[Message] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)
    """Everything the viewer has said."""
    happened: list[Happening] = field(default_factory=list)
    served: int = 0
    """Bytes of paid pieces that the gate let go."""
    unanswered: CheckFunding | None = None

    def __post_init__(self) -> None:
        number = self.seeder.number()
        viewer = key(f"viewer {number}")
        theirs, ours = sha256(b"viewer's random %d" % number), sha256(b"seeder's random %d" % number)
        self.context = Context(Network.REGTEST, theirs[:16], ours[:16], viewer.public, IDENTITY.public)
        self.seeder.titles[self.terms.infohash] = OnSale(torrent(self.terms), self.terms)
        self.payee = PayeeSession(self.context, self.terms, self.seeder.keys, POLICY, self.seeder.book)
        self.payer = PayerSession(self.context, CREATOR.public, self.terms.infohash, self.lowest, 1000)
        self.seeder.perform(self, self.payee.offer(self.now, self.seeder.random))

    # -- carrying -----------------------------------------------------------------------------------------------------

    def say(self, *messages: Message) -> list[Message]:
        """From the viewer to the seeder; what the seeder answers, not yet delivered."""
        before = len(self.to_viewer)
        for message in messages:
            self.said.append(message)
            self.seeder.perform(self, self.payee.receive(carried(message), self.now, self.seeder.random))
        return self.to_viewer[before:]

    def deliver(self) -> list[Happening]:
        """Brings the viewer everything the seeder has said; what happened."""
        before = len(self.happened)
        while self.to_viewer:
            if happening := self.payer.receive(self.to_viewer.pop(0), self.now):
                self.happened.append(happening)
        return self.happened[before:]

    # -- the viewer's usual moves -------------------------------------------------------------------------------------

    def fund(self, capacity: int = CAPACITY, expiry: int = EXPIRY) -> Viewer:
        """Accepts the offer and prepares a channel for it."""
        self.deliver()
        assert self.payer.offered
        offer = self.payer.offered.offer
        name = f"payer {self.seeder.number()}"
        outpoint = Outpoint(Txid(sha256(name.encode())), 0)
        params = Params(
            outpoint, Satoshi(capacity), Lock(key(name).public, offer.payee, expiry), someone(f"change of {name}"),
            PubKeyHash(offer.payout), offer.fee_rate, offer.max_outputs,
        )  # fmt: skip
        payer = Payer(params, (self.terms.payees,), reserved=(capacity,))
        return Viewer(payer, key(name))

    def opening(self, viewer: Viewer, handle: int = 7) -> Any:
        params = viewer.payer.params
        funding = params.outpoint.pack() + params.capacity.to_bytes(8)
        return self.payer.open(viewer.payer, viewer.key, handle, 0, funding, 900)

    def open(self, capacity: int = CAPACITY, handle: int = 7) -> Viewer:
        """A channel from OPEN to READY."""
        viewer = self.fund(capacity)
        self.say(self.opening(viewer, handle))
        self.deliver()
        return viewer

    def resume(self, viewer: Viewer, handle: int = 9) -> list[Happening]:
        self.deliver()
        self.say(self.payer.resume(viewer.payer, viewer.key, handle))
        return self.deliver()

    def pay(self, price: int = 1) -> list[Message]:
        return self.say(self.payer.pay(price, self.now))

    def buy(self, piece: int, price: int = 1) -> Verdict:
        """Pays for a piece and asks for it."""
        self.pay(price)
        return self.seeder.ask(self, piece)

    def signed(self, message: Any, by: PrivateKey) -> Any:
        """The message signed for this connection."""
        return replace(message, signature=by.sign(self.context.digest(message)))


@dataclass
class Viewer:
    """The spending side of one channel, which outlives its connections."""

    payer: Payer
    key: PrivateKey

    @property
    def outpoint(self) -> Outpoint:
        return self.payer.params.outpoint

    def raise_mark(self) -> None:
        """Marks that never stand in the way."""
        capacity = self.payer.params.capacity
        for line in range(len(self.payer.lines)):
            self.payer.reserve(line, capacity, capacity)


def carried(message: Message) -> Message:
    """As it arrives: through its bytes."""
    arrived = decode(message.encode())
    assert arrived
    return arrived


def only(messages: list[Message]) -> Any:
    """The single message of a list."""
    (message,) = messages
    return message
