"""A payment channel to try things on: the same keys, money and times in every test."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from bct.bitcoin.keys import PrivateKey, sha256
from bct.channel.lock import Lock
from bct.channel.payee import Payee
from bct.channel.payer import Payer
from bct.channel.state import Event
from bct.channel.transactions import Lines, Params, Totals, distinct_payees, fee_at
from bct.units import BasisPoints, Outpoint, Payees, PubKeyHash, Satoshi, Split, Txid

HOUR = 3600
NOW = 1_800_000_000
EXPIRY = NOW + 12 * HOUR


def key(name: str) -> PrivateKey:
    return PrivateKey(sha256(name.encode()))


def someone(name: str) -> PubKeyHash:
    """The hash of a key that belongs to `name`."""
    return key(name).hash


PAYER = key("payer")
PAYEE = key("payee")
CHANGE = someone("change")
SEEDER = someone("seeder")
ALICE, BOB, CAROL = someone("alice"), someone("bob"), someone("carol")
FUNDING = Outpoint(Txid(sha256(b"funding")), 1)
LOCK = Lock(PAYER.public, PAYEE.public, EXPIRY)

FILM = Payees.of((ALICE, 6000))
SERIES = Payees.of((BOB, 5000), (ALICE, 2500))


def params(
    capacity: int = 10_000, rate: int = 100, max_outputs: int = 8, *, outpoint: Outpoint = FUNDING, lock: Lock = LOCK
) -> Params:
    return Params(outpoint, Satoshi(capacity), lock, CHANGE, SEEDER, rate, max_outputs)


def new_payer(fixed: Params | None = None, lines: Lines = (FILM,)) -> Payer:
    """Agreed with the payee, and with a mark that never stands in the way."""
    fixed = fixed or params()
    payer = Payer(fixed, lines, reserved=(fixed.capacity,) * len(lines))
    payer.on(Event.AGREED)
    return payer


def new_payee(fixed: Params | None = None, lines: Lines = (FILM,)) -> Payee:
    payee = Payee(fixed or params(), lines)
    payee.on(Event.AGREED)
    return payee


def creators(count: int) -> tuple[PubKeyHash, ...]:
    return tuple(someone(f"creator {i}") for i in range(count))


@st.composite
def splits(draw: st.DrawFn) -> Split:
    """1 to 16 shares of at least 1 basis point, at most 10,000 together: cuts through a bar of 10,000 points."""
    cuts = draw(st.sets(st.integers(1, 10_000), min_size=1, max_size=16))
    edges = [0, *sorted(cuts)]
    return Split(tuple(BasisPoints(b - a) for a, b in pairwise(edges)))


@st.composite
def vectors(draw: st.DrawFn, people: tuple[PubKeyHash, ...] = creators(18)) -> Payees:
    """A line's creators, out of 18 who appear on several lines."""
    split = draw(splits())
    hashes = draw(st.permutations(people))[: len(split.shares)]
    return Payees(tuple(hashes), split)


@st.composite
def standings(draw: st.DrawFn) -> tuple[Params, Lines, Totals]:
    """A channel with one to four lines, and totals that fit it: small, large, and up to the last satoshi."""
    lines = tuple(draw(st.lists(vectors(), min_size=1, max_size=4)))
    fixed = params(draw(st.integers(1_000, 2**32 - 1)), draw(st.integers(1, 1000)), 20)
    left = max(0, fixed.capacity - fee_at(fixed.fee_rate, distinct_payees(lines) + 2))
    totals = []
    for _ in lines:
        total = draw(st.one_of(st.integers(0, min(left, 50)), st.integers(0, left), st.just(left)))
        totals.append(total)
        left -= total
    return fixed, lines, tuple(totals)
