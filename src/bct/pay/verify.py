"""What an export of receipts proves, to somebody who has nothing else but block headers.

Who could cheat: whoever made the file, with as many keys of his own as he likes. So, of each payment channel: its lock
stands in its funding; each epoch is signed by the keys of the lock, lists pieces whose hashes are their torrents', at
the price and for the payees that the torrent's creator signed, and passes the rules that a seeder holds it to
(`receipts.Served`); the settlement spends the lock, is signed by both, and pays its totals out in the creators' shares,
to the satoshi; no epoch that both have signed says more than was settled; both transactions are in blocks whose headers
are at hand. What nothing hangs on is refused, so that nothing in the file was not checked.

Who signed, and whether anything was sent or watched, is in no file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from bct.bitcoin.chain import Header, Network
from bct.bitcoin.keys import verify as is_signed
from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.script import p2pkh_hash
from bct.bitcoin.tx import Tx
from bct.channel import watched
from bct.channel.lock import Lock
from bct.channel.transactions import Params, payouts
from bct.channel.watched import Watched
from bct.errors import ConfigError
from bct.pay.export import Channel, Epoch, Export, Settlement, Transaction, bad
from bct.pay.messages import Receipt
from bct.pay.receipts import Leaf, Served, Sold, countersigned, unpack_leaves
from bct.title import terms as title_terms
from bct.title.terms import Terms
from bct.torrent.metainfo import Metainfo
from bct.units import Infohash, Outpoint, Payees, PubKeyHash, Txid

_NOBODY = PubKeyHash(bytes(20))


@dataclass(frozen=True, slots=True)
class Blocks:
    """Headers by height, those that `heights` asks for, and the height of the newest there is."""

    headers: Mapping[int, Header]
    tip: int


@dataclass(frozen=True, slots=True)
class Mined:
    """The block that holds a transaction, and how many there are from that one on."""

    height: int
    hash: bytes
    confirmations: int


@dataclass(frozen=True, slots=True)
class Sale:
    """Pieces of one torrent. creator: the key that signed its terms. satoshi: the price of all these pieces."""

    infohash: Infohash
    name: str
    creator: bytes
    pieces: int
    satoshi: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Some epochs together."""

    epochs: int
    sales: tuple[Sale, ...]

    @property
    def pieces(self) -> int:
        return sum(sale.pieces for sale in self.sales)

    @property
    def satoshi(self) -> int:
        return sum(sale.satoshi for sale in self.sales)


@dataclass(frozen=True, slots=True)
class Settled:
    """Where the capacity went, in satoshis. mined: None when no block of the headers at hand is known to hold it."""

    txid: Txid
    creators: tuple[tuple[PubKeyHash, int], ...]
    seeder: int
    change: int
    fee: int
    mined: Mined | None

    @property
    def paid(self) -> int:
        return self.seeder + sum(amount for _, amount in self.creators)


@dataclass(frozen=True, slots=True)
class Checked:
    """One payment channel. agreed: what both sides signed; claimed: what the payer alone did."""

    outpoint: Outpoint
    capacity: int
    lock: Lock
    funded: Mined | None
    agreed: Tally
    claimed: Tally
    settled: Settled | None


def heights(shown: Export) -> set[int]:
    """The blocks whose headers `verify` needs. Raises RemoteProtocolError."""
    both = (one for channel in shown.channels for one in (channel.funding, channel.settlement) if one)
    return {_path(one).height for one in both if one.bump}


def verify(shown: Export, blocks: Blocks | None) -> tuple[Checked, ...]:
    """All that the file says, once it was found true. blocks: None when there are no headers to look at.

    Raises RemoteProtocolError with the first thing that is not so.
    """
    network = Network[shown.network.upper()]
    titles = _Titles(network, shown)
    checked = tuple(_check_channel(channel, network, titles, blocks) for channel in shown.channels)
    if len({one.outpoint for one in checked}) < max(1, len(checked)):
        raise bad("it shows no payment channel, or one twice")
    titles.check_used()
    return checked


# -- what was sold ----------------------------------------------------------------------------------------------------


class _Titles:
    """The terms of the file, each signed, and its torrents."""

    def __init__(self, network: Network, shown: Export) -> None:
        self.terms = [_read_terms(raw, network) for raw in shown.terms]
        torrents = [Metainfo.from_info(bytes.fromhex(raw)) for raw in shown.torrents]
        self._torrents = {one.infohash: one for one in torrents}
        self._used: set[int] = set()
        if len(self._torrents) < len(torrents):
            raise bad("it holds a torrent twice")

    def name(self, infohash: Infohash) -> str:
        return self._torrents[infohash].name

    def sold(self, number: int, leaf: Leaf, payees: Payees | None) -> Sold:
        """A piece that was sold under the terms of this number. payees: whom the leaf's line pays."""
        self._used.add(number)
        terms, metainfo = self.terms[number], self._torrents.get(leaf.infohash)
        if metainfo is None:
            raise bad(f"the torrent {leaf.infohash.hex()} is missing")
        piece = metainfo.geometry.check_piece(leaf.piece)
        if terms.payees != payees:
            raise bad(f"line {leaf.line} does not pay whom the terms of {leaf.infohash.hex()} name")
        if terms.is_free(piece):
            raise bad(f"piece {piece} of {leaf.infohash.hex()} costs nothing under its terms")
        return Sold(metainfo.piece_hash(piece), metainfo.geometry.size(piece), leaf.line, terms.price)

    def check_apart(self, numbers: Set[int]) -> None:
        """An epoch sells no torrent under two terms: which of them a piece was sold under is not in its leaf."""
        if len({self.terms[number].infohash for number in numbers}) < len(numbers):
            raise bad("an epoch sells one torrent under two terms")

    def check_used(self) -> None:
        """What no receipt needs is not checked by any, either."""
        titles = {self.terms[number].infohash for number in self._used}
        if len(self._used) < len(self.terms) or titles != self._torrents.keys():
            raise bad("it holds terms, or a torrent, that no receipt needs")


def _read_terms(raw: str, network: Network) -> Terms:
    terms = title_terms.decode(bytes.fromhex(raw))
    title_terms.check(
        terms, creator=terms.creator, network=network, infohash=terms.infohash, now=terms.valid_from
    )  # fmt: skip
    return terms


# -- one payment channel ----------------------------------------------------------------------------------------------


def _check_channel(shown: Channel, network: Network, titles: _Titles, blocks: Blocks | None) -> Checked:
    funding = Tx.parse(bytes.fromhex(shown.funding.raw))
    outpoint = Outpoint(funding.txid, shown.vout)
    lock = Lock.read(funding.outputs[shown.vout].script) if shown.vout < len(funding.outputs) else None
    if lock is None:
        raise bad(f"{outpoint} is no payment channel")
    lines = [_read_line(raw) for raw in shown.lines]
    _check_lines(shown, lines)
    agreed, claimed = _check_epochs(shown, network, outpoint, lock, lines, titles)
    capacity = funding.outputs[shown.vout].value
    funded = _check_block(shown.funding, funding.txid, blocks)
    settled = _check_settlement(shown.settlement, funding, outpoint, lines, blocks) if shown.settlement else None
    return Checked(outpoint, capacity, lock, funded, agreed, claimed, settled)


def _read_line(raw: str) -> Payees | None:
    try:
        return Payees.unpack(bytes.fromhex(raw)) if raw else None
    except ConfigError as error:
        raise bad(f"a line pays nobody: {error}") from None


def _check_lines(shown: Channel, lines: Sequence[Payees | None]) -> None:
    """Payees are given where something depends on them, a leaf or an output, and nowhere else."""
    settled = shown.settlement.totals if shown.settlement else ()
    needed = {line for epoch in shown.epochs for _, line, _, _ in epoch.leaves}
    needed |= {line for line, total in enumerate(settled) if total}
    if needed != {line for line, payees in enumerate(lines) if payees}:
        raise bad(f"payees are needed for the lines {sorted(needed)} and no others")
    if {len(lines)} != {len(totals) for totals in (settled, *(epoch.totals for epoch in shown.epochs[-1:])) if totals}:
        raise bad(f"{len(lines)} lines, and totals for another number of them, or no receipt at all")


def _check_epochs(
    shown: Channel, network: Network, outpoint: Outpoint, lock: Lock, lines: Sequence[Payees | None], titles: _Titles
) -> tuple[Tally, Tally]:
    """What both have signed, and what the payer alone has."""
    served = Served(outpoint)
    agreed, claimed = _Count(titles), _Count(titles)
    for epoch in shown.epochs:
        receipt = _read_receipt(epoch, network, outpoint, lock, titles)
        both = epoch.payee_signature is not None
        totals = shown.settlement.totals if both and shown.settlement else receipt.totals
        leaves = unpack_leaves(receipt.leaves)
        numbers = [number for number, *_ in epoch.leaves]
        titles.check_apart(set(numbers))
        sold = {leaf: titles.sold(n, leaf, lines[leaf.line]) for n, leaf in zip(numbers, leaves, strict=True)}
        prices = served.check(receipt, totals, sold.__getitem__)
        served.take(receipt, prices)
        (agreed if both else claimed).add(zip(numbers, prices, strict=True))
    return agreed.tally(), claimed.tally()


def _read_receipt(epoch: Epoch, network: Network, outpoint: Outpoint, lock: Lock, titles: _Titles) -> Receipt:
    """The receipt, signed by the payer, and by the payee if the file says so."""
    try:
        receipt = epoch.receipt(outpoint, titles.terms)
    except IndexError:
        raise bad(f"epoch {epoch.epoch} names terms that are not there") from None
    context = epoch.context(network)
    if not is_signed(lock.payer, context.digest(receipt), receipt.signature):
        raise bad(f"epoch {epoch.epoch} is not signed by the payment channel's payer")
    if epoch.payee_signature is not None:
        answer = context.digest(countersigned(receipt))
        if not is_signed(lock.payee, answer, bytes.fromhex(epoch.payee_signature)):
            raise bad(f"epoch {epoch.epoch} is not signed by the payment channel's payee")
    return receipt


class _Count:
    """Sales by terms."""

    def __init__(self, titles: _Titles) -> None:
        self._titles = titles
        self._epochs = 0
        self._prices: defaultdict[tuple[Infohash, bytes], list[int]] = defaultdict(list)

    def add(self, sold: Iterable[tuple[int, int]]) -> None:
        """An epoch's pieces: number of the terms, price."""
        self._epochs += 1
        for number, price in sold:
            terms = self._titles.terms[number]
            self._prices[terms.infohash, terms.creator].append(price)

    def tally(self) -> Tally:
        sales = (
            Sale(infohash, self._titles.name(infohash), creator, len(prices), sum(prices))
            for (infohash, creator), prices in self._prices.items()
        )
        return Tally(self._epochs, tuple(sales))


# -- the chain --------------------------------------------------------------------------------------------------------


def _check_settlement(
    shown: Settlement, funding: Tx, outpoint: Outpoint, lines: Sequence[Payees | None], blocks: Blocks | None
) -> Settled:
    """It spends the lock, is signed by both its keys, and pays the totals out as the lines say."""
    read = watched.check(Watched((funding.serialize(),), bytes.fromhex(shown.raw), _NOBODY))
    tx = read.settlement
    if read.outpoint != outpoint:
        raise bad(f"the settlement spends {read.outpoint}, not {outpoint}")
    paid = [(payees, total) for payees, total in zip(lines, shown.totals, strict=True) if payees and total]
    vectors, totals = tuple(payees for payees, _ in paid), tuple(total for _, total in paid)
    params = Params(outpoint, read.capacity, read.lock, _NOBODY, _NOBODY, 0, 0)
    count = len(payouts(params, vectors, totals))
    hashes = [p2pkh_hash(output.script) or _NOBODY for output in tx.outputs]
    if len(hashes) not in (count, count + 1):
        raise bad(f"the settlement has {len(hashes)} outputs, its totals make {count} and the change")
    # Where seeder and change go is for the two of them to say, and both have signed it.
    params = replace(params, payout=hashes[count - 1] if count else _NOBODY)
    due = payouts(params, vectors, totals)
    if due != [(payee, output.value) for payee, output in zip(hashes, tx.outputs[:count], strict=False)]:
        raise bad(f"the settlement does not pay what the totals {list(shown.totals)} come to")
    seeder = sum(payees.split.of(total)[1] for payees, total in paid)
    return Settled(
        txid=tx.txid,
        creators=tuple(due[:-1] if seeder else due),
        seeder=seeder,
        change=sum(output.value for output in tx.outputs[count:]),
        fee=read.capacity - sum(output.value for output in tx.outputs),
        mined=_check_block(shown, tx.txid, blocks),
    )


def _check_block(shown: Transaction, txid: Txid, blocks: Blocks | None) -> Mined | None:
    """The block that the file says holds it. (Neither transaction is short enough to be a node of a Merkle tree.)"""
    if not shown.bump:
        return None
    path = _path(shown)
    root = path.root(txid)
    if [leaf.hash for level in path.levels for leaf in level if leaf.is_txid] != [txid]:
        raise bad(f"a Merkle path of block {path.height} is not of one transaction")
    if blocks is None:
        return None
    header = blocks.headers.get(path.height)
    if header is None:
        raise bad(f"block {path.height} is not among the headers, which end with block {blocks.tip}: bring newer ones")
    if header.merkle_root != root:
        raise bad(f"a transaction is not in block {path.height}, as it says")
    return Mined(path.height, header.hash, blocks.tip - path.height + 1)


def _path(shown: Transaction) -> MerklePath:
    return MerklePath.parse(bytes.fromhex(shown.bump))
