"""How much a payment channel locks, and what miners get for it: known before anything is signed.

What is locked and not spent comes back, so it is no cost; but it is gone for hours if the seeder falls silent, so no
more is locked than a play, and the titles that its owner means to watch after it, can use.
"""

from __future__ import annotations

from dataclasses import dataclass

from bct.channel.lock import REFUND_SIZE
from bct.channel.transactions import Lines, distinct_payees, fee_at
from bct.errors import FundsError
from bct.pay.offers import least_capacity
from bct.pay.payer_session import Offered
from bct.units import Payees, Satoshi

FEE_SHARE = 0.25
FEE_MOST = 200
"""Fees above both a quarter of the capacity and 200 sat are refused."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What the missing pieces of a title cost, in satoshis. fees: to miners, for what has to be opened and ended for
    them. locked: in a new payment channel, 0 when the one that is open will do; what of it is not spent comes back.
    opening: fees of one new payment channel, whether or not one is needed."""

    price: int
    pieces: int
    cost: int
    fees: int
    locked: int
    opening: int


def end_fee(rate: int, payees: int) -> int:
    """Of a settlement or a refund, whichever is dearer. rate: satoshis per 1,000 bytes, here and below."""
    return max(fee_at(rate, payees + 2), -(-REFUND_SIZE * rate // 1000))


def line_fee(rate: int, lines: Lines, payees: Payees) -> int:
    """What a line for these creators, beside those that are there, adds to the fee of a channel's end."""
    return end_fee(rate, distinct_payees((*lines, payees))) - end_fee(rate, distinct_payees(lines))


def to_lock(offered: Offered, rate: int, satoshi: int, titles: int = 1) -> Satoshi:
    """The capacity of a channel for so many satoshis. titles: for how many; each may be other creators'."""
    offer, terms = offered.offer, offered.terms
    creators = len(terms.payees.hashes)
    outputs = min(titles * creators + 2, offer.max_outputs)
    least = least_capacity(rate, terms.price, creators)
    return Satoshi(max(satoshi + fee_at(rate, outputs), offer.capacity_min, least))


def check_fees(fees: int, capacity: int) -> None:
    """Raises FundsError."""
    if fees > FEE_SHARE * capacity and fees > FEE_MOST:
        raise FundsError(f"miner fees of {fees} sat for a channel of {capacity} sat are out of proportion")
