"""Offers: what a payee promises before any money is locked, without remembering a thing.

Who could cheat: a stranger who asks for a million offers to fill our memory, or who opens two channels, here and on a
second node, under one payee key. An offer's nonce carries its own proof that we made it, for which torrent and when;
the payee key is derived from it; and the channel store takes a nonce once only.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace

from bct.bitcoin.keys import PrivateKey, is_public_key, verify
from bct.channel.transactions import fee_at
from bct.errors import Action, RemoteProtocolError
from bct.pay.messages import Context, Offer
from bct.title import terms as title_terms
from bct.title.terms import Terms
from bct.units import PubKeyHash

OFFER_SECONDS = 3600
LEAST_PIECES = 8
MAX_OUTPUTS = 20
CAPACITY_END = 1 << 32
IDLE_MIN, IDLE_MAX = 60, 24 * 3600
RATE_MOST = (1 << 16) - 1
"""The highest fee rate that an offer can name, in satoshis per 1,000 bytes."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What this node insists on. fee_rate: satoshis per 1,000 bytes; idle: seconds."""

    payout: PubKeyHash
    fee_rate: int
    fee_rate_cap: int
    max_outputs: int
    idle: int


def new_nonce(secret: bytes, infohash: bytes, now: int, random: bytes) -> bytes:
    """16 bytes: time u32, four random bytes, eight of HMAC-SHA256 over both and the infohash."""
    head = now.to_bytes(4) + random[:4]
    return head + _tag(secret, infohash, head)


def check_nonce(secret: bytes, infohash: bytes, nonce: bytes, now: int) -> None:
    """Raises RemoteProtocolError('bad-nonce') unless we made it for this torrent within the last hour."""
    if not hmac.compare_digest(nonce[8:], _tag(secret, infohash, nonce[:8])):
        raise RemoteProtocolError("bad-nonce", "the offer that this channel names is not ours", Action.REFUSE)
    age = now - int.from_bytes(nonce[:4])
    if not -60 <= age <= OFFER_SECONDS:
        raise RemoteProtocolError("bad-nonce", f"the offer is {age} s old: ask for a new one", Action.REFUSE)


def _tag(secret: bytes, infohash: bytes, head: bytes) -> bytes:
    return hmac.digest(secret, infohash + head, hashlib.sha256)[:8]


def least_capacity(policy_rate: int, price: int, creators: int) -> int:
    """A channel worth less than eight pieces beyond the settlement's fee is not worth two transactions."""
    return LEAST_PIECES * price + fee_at(policy_rate, creators + 2)


def agreed_idle(offered: int, asked: int) -> int:
    """Seconds without a connection after which the payee settles: what the impatient one of the two has said.

    Who waits keeps the other's money away from it, so neither can make the other wait longer than that one offered to.
    """
    return min(offered, asked)


def make_offer(
    policy: Policy, terms: Terms, context: Context, identity: PrivateKey, payee: bytes, nonce: bytes
) -> Offer:
    """The signed offer for one torrent on one connection. payee: the public key derived from the nonce."""
    creators = len(terms.payees.hashes)
    offer = Offer(
        terms=title_terms.encode(terms),
        payee=payee,
        payout=policy.payout,
        fee_rate=policy.fee_rate,
        max_outputs=max(policy.max_outputs, creators + 2),
        capacity_min=least_capacity(policy.fee_rate, terms.price, creators),
        capacity_max=CAPACITY_END - 1,
        idle=policy.idle,
        nonce=nonce,
    )
    return replace(offer, signature=identity.sign(context.digest(offer)))


def check_offer(offer: Offer, terms: Terms, context: Context, fee_rate_cap: int) -> None:
    """The payer's view of an offer: signed by the key of the handshake, and nothing unreasonable in it.

    The least capacity is held to what it is for: a seeder that wants more locked wants the viewer's wallet empty.

    Raises RemoteProtocolError('bad-offer').
    """
    if not verify(context.seeder_key, context.digest(offer), offer.signature):
        raise RemoteProtocolError("bad-offer", "the offer is not signed by the key of the handshake", Action.BAN)
    if not is_public_key(offer.payee):
        raise RemoteProtocolError("bad-offer", "the payee key is no public key")
    if not 1 <= offer.fee_rate <= fee_rate_cap:
        raise RemoteProtocolError("bad-offer", f"a fee of {offer.fee_rate} sat/kB, 1 to {fee_rate_cap} are taken")
    if not 3 <= offer.max_outputs <= MAX_OUTPUTS:
        raise RemoteProtocolError("bad-offer", f"{offer.max_outputs} outputs, 3 to {MAX_OUTPUTS} are taken")
    if not IDLE_MIN <= offer.idle <= IDLE_MAX:
        raise RemoteProtocolError("bad-offer", f"settles after {offer.idle} s idle, {IDLE_MIN} to {IDLE_MAX} are taken")
    most = least_capacity(offer.fee_rate, terms.price, len(terms.payees.hashes))
    if offer.capacity_min > min(most, offer.capacity_max):
        raise RemoteProtocolError("bad-offer", f"at least {offer.capacity_min} sat to be locked, {most} sat would do")
