"""Who watches a simulated world and takes no node's word for it.

What left a machine is read off the wire, what was signed off the payers, what was accepted off the ledgers as they are
written. `Audit` then looks for every satoshi on the chain.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from bct.channel.transactions import Totals
from bct.pay import records
from bct.pay.account import TIMES_SERVED, unsynced_risk
from bct.pay.records import Bought, Lined, Opened, Paid, Record
from bct.title.terms import Terms
from bct.torrent.metainfo import Metainfo
from bct.torrent.wire import HANDSHAKE_SIZE, Piece
from bct.units import Infohash, Outpoint, Payees, PieceIndex
from tests.sim.host import Host
from tests.sim.net import End

EXPOSED = 20
"""Satoshis that a viewer has paid ahead of delivery, unless one piece costs more."""


class WrongError(AssertionError):
    """Something is so that must never be so."""


def must(so: bool, text: str) -> None:
    if not so:
        raise WrongError(text)


@dataclass(frozen=True, slots=True)
class Wares:
    """A title on sale."""

    metainfo: Metainfo
    terms: Terms

    def size(self, piece: PieceIndex) -> int:
        return self.metainfo.geometry.size(piece)


class Stream:
    """What one end of a wire has said."""

    def __init__(self) -> None:
        self.infohash: Infohash | None = None
        self._rest = bytearray()

    def blocks(self, data: bytes) -> Iterator[tuple[PieceIndex, int]]:
        """Piece and length of each block that has left whole with these bytes."""
        self._rest += data
        if self.infohash is None:
            if len(self._rest) < HANDSHAKE_SIZE:
                return
            self.infohash = Infohash(bytes(self._rest[28:48]))
            del self._rest[:HANDSHAKE_SIZE]
        while len(self._rest) >= 4 and len(self._rest) >= 4 + (length := int.from_bytes(self._rest[:4])):
            if length > 9 and self._rest[4] == Piece.ID:
                yield PieceIndex(int.from_bytes(self._rest[5:9])), length - 9
            del self._rest[: 4 + length]


@dataclass
class Earned:
    """What a payee has accepted over one channel, since its disk was last read."""

    lines: list[Payees] = field(default_factory=list)
    """But for the first."""
    totals: Counter[int] = field(default_factory=Counter)
    opened: Counter[int] = field(default_factory=Counter)
    unsure: list[Opened] = field(default_factory=list)
    """What has left and is not on disk."""

    def vector(self) -> Totals:
        return tuple(self.totals[line] for line in range(len(self.lines) + 1))


@dataclass
class Spent:
    """What a payer has signed over one channel. most: satoshis of the highest totals. bought, owed: pieces that its log
    knows, and those of them that have not come; each with its price."""

    most: int = 0
    bought: dict[tuple[Infohash, PieceIndex], int] = field(default_factory=dict)
    owed: dict[tuple[Infohash, PieceIndex], int] = field(default_factory=dict)


class Witness:
    """An `Observer` of machines, and a tap on the network."""

    def __init__(self) -> None:
        self.wares: dict[Infohash, Wares] = {}
        self.hosts: dict[str, Host] = {}
        """Honest ones, by address."""
        self.earnings: defaultdict[tuple[str, Outpoint], Earned] = defaultdict(Earned)
        """By payee's address and channel."""
        self.accepted: defaultdict[Outpoint, list[Totals]] = defaultdict(list)
        """Every vector of totals that an honest payee ever accepted."""
        self.spendings: defaultdict[tuple[str, Outpoint], Spent] = defaultdict(Spent)
        """By payer's address and channel: honest and other ones."""
        self.taken: defaultdict[tuple[str, str], Counter[tuple[Infohash, PieceIndex]]] = defaultdict(Counter)
        """Bytes of pieces that cost something, by seller's and taker's address."""
        self._forgiven: Counter[str] = Counter()
        """Satoshis a seller has lost in crashes, as it may."""
        self._calls: Counter[tuple[str, str]] = Counter()
        self._streams: dict[End, Stream] = {}

    # -- payees -------------------------------------------------------------------------------------------------------

    def earned(self, host: Host, record: Record) -> None:
        earned = self.earnings[host.ip, record.outpoint]
        match record:
            case Paid(outpoint, line, total):
                must(total > earned.totals[line], f"{host} took {total} after {earned.totals[line]} on {outpoint}")
                self._count(earned, record)
                self.accepted[outpoint].append(earned.vector())
                self._is_counted(outpoint, sum(earned.totals.values()))
            case Opened(outpoint, line, _, piece, price):
                self._count(earned, record)
                earned.unsure.append(record)
                must(
                    earned.opened[line] <= earned.totals[line],
                    f"{host} opened piece {piece} for {price} sat that nobody had paid on {outpoint}",
                )
            case Lined():
                self._count(earned, record)

    @staticmethod
    def _count(earned: Earned, record: Record) -> None:
        match record:
            case Paid(_, line, total):
                earned.totals[line] = total
            case Opened(_, line, _, _, price):
                earned.opened[line] += price
            case Lined(_, _, payees):
                earned.lines.append(payees)

    def synced(self, host: Host, sequence: int) -> None:
        """All that this payee has written down so far is on its disk."""
        for (ip, _), earned in self.earnings.items():
            if ip == host.ip:
                earned.unsure.clear()

    def _is_counted(self, outpoint: Outpoint, paid: int) -> None:
        """Whatever crashed, a payer counts as spent what its payee holds."""
        for (ip, one), spent in self.spendings.items():
            if one != outpoint:
                continue
            must(spent.most >= paid, f"a payee holds {paid} sat on {outpoint}, of which {spent.most} were signed")
            host = self.hosts.get(ip)
            spending = host.node.purse.spendings.get(outpoint) if host and host.started else None
            if spending:
                must(spending.payer.spent >= paid, f"{host} counts {spending.payer.spent} sat of {paid} as spent")

    # -- payers -------------------------------------------------------------------------------------------------------

    def spent(self, host: Host, record: Record) -> None:
        if not isinstance(record, Bought):
            return
        outpoint, price, key = record.outpoint, record.price, (record.infohash, record.piece)
        spending = host.node.purse.spendings[outpoint]
        self.signs(host.ip, outpoint, spending.payer.paid)
        spent = self.spendings[host.ip, outpoint]
        store = host.node.hub.swarms[record.infohash].store
        must(
            store is not None and record.piece not in store.pieces, f"{host} bought piece {record.piece}, which it had"
        )
        must(key not in spent.bought, f"{host} bought piece {record.piece} twice on {outpoint}")
        spent.bought[key] = spent.owed[key] = price
        owed, calls = sum(spent.owed.values()), self._calls[host.ip, spending.saved.host]
        must(owed <= max(price, EXPOSED) * calls, f"{host} paid {owed} sat ahead of delivery, in {calls} calls")

    def signs(self, ip: str, outpoint: Outpoint, paid: int) -> None:
        """A payer's signature over totals of so many satoshis exists."""
        spent = self.spendings[ip, outpoint]
        spent.most = max(spent.most, paid)

    def kept(self, host: Host, infohash: Infohash, piece: PieceIndex) -> None:
        for (ip, _), spent in self.spendings.items():
            if ip == host.ip:
                spent.owed.pop((infohash, piece), None)

    # -- machines come and go -----------------------------------------------------------------------------------------

    def crashed(self, host: Host) -> None:
        """What it still knows is what is on its disk."""
        for (ip, outpoint), earned in list(self.earnings.items()):
            if ip == host.ip:
                self._forgive(host, outpoint, earned)
                del self.earnings[ip, outpoint]
        for payload in host.disk.earned:
            record = records.decode(payload)
            self._count(self.earnings[host.ip, record.outpoint], record)
        for (ip, _), spent in self.spendings.items():
            if ip == host.ip:
                spent.bought.clear()
                spent.owed.clear()
        for payload in host.disk.spent:
            if isinstance(bought := records.decode(payload), Bought):
                self.spendings[host.ip, bought.outpoint].bought[bought.infohash, bought.piece] = bought.price

    def _forgive(self, host: Host, outpoint: Outpoint, earned: Earned) -> None:
        at_risk = sum(one.price for one in earned.unsure)
        if at_risk:
            most = unsynced_risk(max(one.price for one in earned.unsure))
            must(at_risk <= most, f"{host} had served {at_risk} sat ahead of its disk on {outpoint}, at most {most}")
            self._forgiven[host.ip] += at_risk

    # -- the wire -----------------------------------------------------------------------------------------------------

    def left(self, end: End, data: bytes) -> None:
        """A tap: bytes leave an end."""
        if end not in self._streams:
            self._streams[end] = Stream()
            if end is end.wire.caller:
                self._calls[end.ip, end.remote[0]] += 1
        if end.ip not in self.hosts:
            return
        stream = self._streams[end]
        for piece, size in stream.blocks(data):
            wares = self.wares.get(stream.infohash) if stream.infohash else None
            if wares and not wares.terms.is_free(piece):
                self.taken[end.ip, end.remote[0]][wares.metainfo.infohash, piece] += size
                self._is_paid(end.ip, end.remote[0])

    def _is_paid(self, seller: str, taker: str) -> None:
        taken = self.taken[seller, taker]
        worth = sum(self.wares[infohash].terms.price_of(piece) for infohash, piece in taken)
        channels = [spent for (ip, _), spent in self.spendings.items() if ip == taker]
        signed = sum(spent.most for spent in channels) + self._forgiven[seller]
        must(
            worth <= signed, f"{self.hosts[seller]} gave {taker} pieces for {worth} sat, of which {signed} were signed"
        )
        lives = (1 + self.hosts[seller].crashes) * len(channels)
        for (infohash, piece), size in taken.items():
            most = TIMES_SERVED * lives * self.wares[infohash].size(piece)
            must(size <= most, f"{self.hosts[seller]} gave {taker} {size} bytes of piece {piece}, at most {most}")
