"""Peers written by hand over real TCP, that keep to the wire and to nothing else: viewers and seeders that cheat.

What a cheating viewer got is counted here, from blocks that arrived, whatever the seeder's books say.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import PrivateKey, sha256
from bct.node.daemon import Node
from bct.node.peer import EXTENSIONS
from bct.node.purse import Spending
from bct.pay import offers
from bct.pay.budget import Budget
from bct.pay.messages import (
    ChannelClosed,
    ChannelOpen,
    ChannelReady,
    Context,
    HaveMap,
    Joiner,
    Message,
    PiecePayment,
    chunked,
)
from bct.pay.payer_session import Offered, PayerSession
from bct.title.link import Peer as Address
from bct.title.link import TorrentLink
from bct.title.terms import Terms
from bct.torrent.bencode import Value
from bct.torrent.connection import Event, ExtensionMessage, PeerConnection, Requests
from bct.torrent.extension import BCT_PAY, ExtendedHandshake
from bct.torrent.geometry import Block, PieceMap
from bct.torrent.metainfo import Metainfo
from bct.torrent.wire import Handshake, Piece
from bct.units import PieceIndex, PubKeyHash

PATIENCE = 5.0


def now() -> int:
    return int(time.time())


def some_pieces(count: int) -> list[PieceIndex]:
    """So many pieces that cost something."""
    return [PieceIndex(index) for index in range(2, 2 + count)]


class Wired:
    """One end of a TCP connection that speaks the peer wire and bct_pay."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        metainfo: Metainfo,
        key: PrivateKey,
        net: int = 0,
    ) -> None:
        self.metainfo = metainfo
        self.key = key
        self.random = secrets.token_bytes(16)
        self.theirs: dict[bytes, Any] = {}
        self.heard: list[Message] = []
        self.over = asyncio.Event()
        self.wire: PeerConnection
        self.net = net
        self._reader = reader
        self._writer = writer
        self._joiner = Joiner()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._read())
        self.flush()

    def flush(self) -> None:
        if not self._writer.is_closing():
            self._writer.writelines(self.wire.data_to_send())

    def raw(self, data: bytes) -> None:
        self._writer.write(data)

    def say(self, *messages: Message) -> None:
        for message in messages:
            for part in chunked(message.encode()):
                self.wire.send_extension(BCT_PAY, part)
        self.flush()

    async def close(self) -> None:
        self._writer.close()
        if self._task:
            await self._task

    async def until(self, what: Callable[[], Any]) -> Any:
        """Waits for news until `what` is true; what it is then. Fails when the connection ends before."""
        async with asyncio.timeout(PATIENCE):
            while not (found := what()):
                assert not self.over.is_set(), "the connection ended"
                self._news.clear()
                await self._news.wait()
            return found

    async def hear[Kind: Message](self, kind: type[Kind], count: int = 1) -> Kind:
        """The `count`-th message of this kind."""

        def there() -> list[Kind]:
            found = [one for one in self.heard if isinstance(one, kind)]
            return found if len(found) >= count else []

        found: list[Kind] = await self.until(there)
        return found[count - 1]

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.over.wait()

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(1 << 18):
                for event in self.wire.receive_data(data):
                    self._on(event)
                self.flush()
                self._news.set()
        except ConnectionError:
            pass
        finally:
            self.over.set()
            self._news.set()

    def _on(self, event: Event) -> None:
        match event:
            case Handshake():
                self.shake_hands()
            case ExtendedHandshake(bct=dict() as theirs):
                self.theirs = theirs
                self.met()
            case ExtensionMessage(name, payload) if name == BCT_PAY:
                if message := self._joiner.receive(payload):
                    self.heard.append(message)
                    self.on_message(message)
            case _:
                self.on_event(event)

    def introduce(self, **change: Any) -> None:
        """Our extended handshake."""
        ours: dict[bytes, Value] = {b"v": 1, b"net": self.net, b"random": self.random, b"id": self.key.public}
        self.wire.send_extended_handshake(replace(ExtendedHandshake(bct=ours), **change))

    def shake_hands(self) -> None:
        self.introduce()

    def met(self) -> None: ...
    def on_message(self, message: Message) -> None: ...
    def on_event(self, event: Event) -> None: ...


class CheatingViewer(Wired):
    """Buys over a real channel, and asks for whatever the test says."""

    creator: bytes
    session: PayerSession
    spending: Spending
    got: Counter[int]
    """Bytes of each piece that arrived."""

    @classmethod
    async def call(cls, seeder: Node, metainfo: Metainfo, creator: bytes, net: int = 0) -> CheatingViewer:
        reader, writer = await asyncio.open_connection("127.0.0.1", seeder.hub.port)
        self = cls(reader, writer, metainfo, PrivateKey(secrets.token_bytes(32)), net)
        self.wire = PeerConnection(
            secrets.token_bytes(20), metainfo.infohash, metainfo.geometry, extensions=EXTENSIONS, queue_limit=100_000
        )
        self.creator = creator
        self.got = Counter()
        self.start()
        return self

    def met(self) -> None:
        context = Context(Network.REGTEST, self.random, self.theirs[b"random"], self.key.public, self.theirs[b"id"])
        self.session = PayerSession(context, self.creator, self.metainfo.infohash, 0, 1000)
        self.wire.set_interested(True)

    def on_message(self, message: Message) -> None:
        if not isinstance(message, HaveMap):
            self.session.receive(message, now())

    def on_event(self, event: Event) -> None:
        if isinstance(event, Piece):
            self.got[event.index] += len(event.data)

    async def offered(self) -> Offered:
        found: Offered = await self.until(lambda: hasattr(self, "session") and self.session.offered)
        return found

    async def open(self, purse_of: Node, remaining: int = 100) -> Spending:
        """A channel, paid by `purse_of`'s wallet, up to READY."""
        offered = await self.offered()
        message, self.spending = await purse_of.purse.engage(
            self.session, offered, ("127.0.0.1", 0), some_pieces(remaining), Budget(None)
        )
        self.spending.payer.reserve(0, 1, remaining)
        self.say(message)
        await self.until(lambda: self.session.ready)
        return self.spending

    def pay(self, price: int = 1) -> PiecePayment:
        """Signs, says and gives back one payment."""
        payment = self.session.pay(price, now())
        self.say(payment)
        return payment

    def ask(self, *pieces: int, length: int = 16 * 1024) -> None:
        """Every block of these pieces."""
        for piece in pieces:
            size = self.metainfo.geometry.size(piece)
            self.wire.request(Block(piece, at, min(length, size - at)) for at in range(0, size, length))
        self.flush()

    async def answered(self) -> None:
        """Everything asked for was sent or rejected."""
        await self.until(lambda: not self.wire.requested)


@dataclass
class Behaviour:
    """What a cheating seeder does. blocks: what it makes of a block's true bytes; None: nothing is sent. rejects: it
    says no to each request. answers: what it says to CHANNEL_OPEN."""

    blocks: Callable[[bytes], bytes] | None = None
    rejects: bool = False
    answers: Callable[[ChannelOpen], list[Message]] = lambda opening: [ChannelReady(opening.handle, 1_000_000)]


class Stall:
    """A cheating seeder's stand: an address that offers a title under any terms, and behaves as told."""

    def __init__(self, metainfo: Metainfo, film: bytes, terms: Terms, behaviour: Behaviour) -> None:
        self.metainfo, self.film, self.terms, self.behaviour = metainfo, film, terms, behaviour
        self.customers: list[CheatingSeeder] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Stall:
        self._server = await asyncio.start_server(self._met, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server
        self._server.close()
        for customer in self.customers:
            await customer.close()

    def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        customer = CheatingSeeder(reader, writer, self.metainfo, PrivateKey(secrets.token_bytes(32)))
        customer.stall = self
        customer.wire = PeerConnection(secrets.token_bytes(20), extensions=EXTENSIONS, queue_limit=100_000)
        self.customers.append(customer)
        customer.start()

    @property
    def address(self) -> Address:
        assert self._server
        return Address("127.0.0.1", self._server.sockets[0].getsockname()[1])

    def link(self, creator: bytes) -> TorrentLink:
        return TorrentLink(self.metainfo.infohash, creator, "film", (self.address,))

    def heard[Kind: Message](self, kind: type[Kind]) -> list[Kind]:
        """All messages of this kind, from every customer."""
        return [one for customer in self.customers for one in customer.heard if isinstance(one, kind)]


class CheatingSeeder(Wired):
    """One connection of a stall."""

    stall: Stall

    def shake_hands(self) -> None:
        self.wire.accept(self.metainfo.infohash, self.metainfo.geometry)
        self.introduce()
        self.wire.send_have_none()
        self.wire.unchoke()

    def met(self) -> None:
        self.context = Context(
            Network.REGTEST, self.theirs[b"random"], self.random, self.theirs[b"id"], self.key.public
        )
        self.say(HaveMap(PieceMap(self.metainfo.geometry.count, full=True).to_bytes()))
        self.offer()

    def offer(self) -> None:
        policy = offers.Policy(PubKeyHash(self.key.hash), 100, 1000, 8, 900)
        nonce = secrets.token_bytes(16)
        payee = PrivateKey(sha256(nonce))
        self.say(offers.make_offer(policy, self.stall.terms, self.context, self.key, payee.public, nonce))

    def on_message(self, message: Message) -> None:
        if isinstance(message, ChannelOpen):
            self.say(*self.stall.behaviour.answers(message))
        elif message.TYPE == 0x01:
            self.offer()

    def on_event(self, event: Event) -> None:
        if not isinstance(event, Requests):
            return
        for block in event.blocks:
            if self.stall.behaviour.rejects:
                self.wire.reject(block)
            elif make := self.stall.behaviour.blocks:
                start = self.metainfo.geometry.offset(block.piece) + block.begin
                self.wire.send_block(block.piece, block.begin, make(self.stall.film[start : start + block.length]))
        self.flush()


def takes_and_closes(opening: ChannelOpen) -> list[Message]:
    """Ready, and at once 'settled'."""
    return [ChannelReady(opening.handle, 1_000_000), ChannelClosed(opening.handle, bytes(32), bytes(64))]
