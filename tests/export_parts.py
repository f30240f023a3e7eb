"""An export of receipts to try things on: two payment channels, two titles, every kind of epoch, all of it true."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from hashlib import sha1

from bct.bitcoin.chain import Header, Network
from bct.bitcoin.keys import sha256
from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx, TxInput, TxOutput
from bct.channel.lock import Lock
from bct.channel.transactions import Params
from bct.pay.export import Export, Proven, Shown, make
from bct.pay.messages import Context
from bct.pay.payer_receipts import PayerReceipts
from bct.pay.receipts import Leaf, countersigned
from bct.pay.verify import Blocks
from bct.title.ranges import PieceRange
from bct.title.terms import Terms
from bct.torrent.metainfo import Metainfo, build_info
from bct.units import Outpoint, Payees, PieceIndex, Satoshi, Txid
from tests.channel_parts import CHANGE, EXPIRY, FILM, NOW, SEEDER, SERIES, key, new_payee, new_payer
from tests.test_merkle import tree
from tests.vectors.messages import CONTEXT

CREATOR = key("creator")
PIECE = 16 * 1024
TIP = 110
COUNT = 20
"""Pieces of each torrent; the first two are free, the last one is shorter."""


def torrent(name: str) -> Metainfo:
    hashes = [sha1(b"%s %d" % (name.encode(), piece), usedforsecurity=False).digest() for piece in range(COUNT)]
    return Metainfo.from_info(build_info(name, COUNT * PIECE - 1000, PIECE, hashes))


def terms(metainfo: Metainfo, price: int, payees: Payees, sequence: int = 1) -> Terms:
    free = (PieceRange(PieceIndex(0), 2),)
    return Terms(
        Network.REGTEST, metainfo.infohash, Satoshi(price), payees, free, sequence, NOW - 60, NOW + 86400,
        CREATOR.public,
    ).sign(CREATOR)  # fmt: skip


DUNE, TIDE = torrent("dune.mp4"), torrent("tide.mp4")
OF_DUNE, OF_TIDE = terms(DUNE, 3, FILM), terms(TIDE, 2, SERIES)
TORRENT = {one.infohash: one for one in (DUNE, TIDE)}


class Story:
    """One payment channel from its funding on. lines: whom each pays."""

    def __init__(self, name: str, capacity: int, *lines: Payees) -> None:
        self.payer_key, self.payee_key = key(f"payer of {name}"), key(f"payee of {name}")
        lock = Lock(self.payer_key.public, self.payee_key.public, EXPIRY)
        coin = TxInput(Outpoint(Txid(sha256(name.encode())), 0), b"\x51")
        self.funding = Tx((coin,), (TxOutput(Satoshi(7), p2pkh(CHANGE)), TxOutput(Satoshi(capacity), lock.script())))
        outpoint = Outpoint(self.funding.txid, 1)
        self.params = Params(outpoint, Satoshi(capacity), lock, CHANGE, SEEDER, 100, 8)
        self.payer, self.payee = new_payer(self.params, lines), new_payee(self.params, lines)
        self.receipts = PayerReceipts(outpoint)

    def pay(self, title: Terms) -> int:
        """For one piece; the line's total then."""
        line = self.payer.lines.index(title.payees)
        payment = self.payer.pay(line, title.price, self.payer_key, now=NOW)
        self.payee.accept(line, payment.total, payment.signature, now=NOW, exposure=None)
        return payment.total

    def came(self, title: Terms, piece: int, total: int, piece_hash: bytes = b"") -> None:
        """A piece that is listed in the next epoch, be it true or not."""
        metainfo, index = TORRENT[title.infohash], PieceIndex(piece)
        self.receipts.bought(Leaf(title.infohash, index, self.payer.lines.index(title.payees), total), title)
        true = metainfo.piece_hash(piece) if piece < COUNT else bytes(20)
        self.receipts.came(title.infohash, index, piece_hash or true, metainfo.geometry.size(piece))

    def buy(self, title: Terms, *pieces: int) -> None:
        """Pays for pieces that all come."""
        for piece in pieces:
            self.came(title, piece, self.pay(title))

    def countersign(self, epoch: int) -> None:
        """The payee signs as well."""
        saved = self.receipts.saved[epoch - 1]
        answer = countersigned(saved.receipt)
        answer = replace(answer, signature=self.payee_key.sign(saved.context.digest(answer)))
        assert self.receipts.signed(answer, saved.context, self.payee_key.public)

    def sign(self, context: Context = CONTEXT, *, both: bool = True) -> None:
        """An epoch of what has come since the last one."""
        draft = self.receipts.draft(self.payer.totals)
        assert draft
        unsigned = replace(draft.receipt, handle=7)
        receipt = replace(unsigned, signature=self.payer_key.sign(context.digest(unsigned)))
        self.receipts.said(receipt, context, draft.terms)
        if both:
            self.countersign(receipt.epoch)

    def shown(self, *, settled: bool, mined: bool) -> Shown:
        end = Proven(self.payee.settlement(self.payee_key)[0], b"") if settled else None
        funding = Proven(self.funding, b"")
        if mined:
            funding, end = bury(funding, 101), end and bury(end, 102)
        return Shown(self.params, self.payer.lines[0], self.receipts.saved, funding, end)


def bury(proven: Proven, height: int) -> Proven:
    """With the BUMP of a block of five transactions."""
    row, place = block(proven.tx.txid, height), 2
    _, branches = tree(row)
    return replace(proven, bump=MerklePath.of_branch(height, proven.tx.txid, place, branches[place]).serialize())


def block(txid: Txid, height: int) -> list[Txid]:
    others = [Txid(sha256(b"%d in block %d" % (place, height))) for place in range(4)]
    return [*others[:2], txid, *others[2:]]


def second_connection() -> Context:
    """Of the same two nodes."""
    return replace(CONTEXT, viewer_random=bytes(16), seeder_random=bytes(range(1, 17)))


@cache
def evening() -> Story:
    """Two titles on two lines over two connections; the last epoch has one signature; settled in a block."""
    story = Story("evening", 2_000, FILM, SERIES)
    story.buy(OF_DUNE, 2, 4, 3)
    story.sign()
    story.buy(OF_TIDE, 19, 7)
    story.buy(OF_DUNE, 19)
    story.sign(second_connection())
    story.buy(OF_TIDE, 8, 9)
    story.sign(second_connection(), both=False)
    return story


@cache
def morning() -> Story:
    """One title that is not settled yet, under renewed terms."""
    story = Story("morning", 500, FILM)
    story.buy(terms(DUNE, 5, FILM, sequence=2), 5, 6)
    story.sign()
    return story


def shown() -> list[Shown]:
    return [evening().shown(settled=True, mined=True), morning().shown(settled=False, mined=False)]


def export(*channels: Shown) -> Export:
    infos = {infohash: metainfo.info_bytes for infohash, metainfo in TORRENT.items()}
    return make(Network.REGTEST, channels or shown(), infos)


def blocks() -> Blocks:
    """The headers that have the evening's transactions."""
    story = evening()
    ends = {101: story.funding.txid, 102: story.payee.settlement(story.payee_key)[0].txid}
    headers = {height: header(height, tree(block(txid, height))[0]) for height, txid in ends.items()}
    return Blocks(headers, TIP)


def header(height: int, root: bytes) -> Header:
    return Header(height, sha256(b"block %d" % height), bytes(32), root, NOW, NOW)
