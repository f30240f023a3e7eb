"""Which key is for what: the tree of derivation paths (BIP 32) below the twelve words.

    m/44'/236'/0'/0/i    receive: addresses given to people who send coins
    m/44'/236'/0'/1/i    change of the wallet's own transactions
    m/44'/236'/0'/2/i    payout: what this node earns as payee
    m/44'/236'/0'/3/i    creator: one key a profile, signs its terms
    m/236'/0'/w'/x'/y'/z'/r'    a payment channel we spend on; r 0: payer key, 1: its change, 2: its refund
    m/236'/1'/w'/x'/y'/z'       a payment channel we earn on: the payee key of one offer
    m/236'/2'            identity: what the node signs offers with

The first four are as any wallet of BIP 44 derives them, so that the coins can be found with another program. 236 is
Bitcoin SV (SLIP 44). w, x, y, z are the first 16 bytes of SHA-256, four big-endian numbers without their highest bit.
For a channel we spend on they come from the outpoint that input 0 of the funding transaction spends (36 bytes) and the
index of the channel's output (4 bytes, little-endian like the outpoint's own): both can be read off the chain, so the
words and the chain alone bring the channel back. For one we earn on they come from the offer's nonce (16 bytes).

Trust: below 236' every step is hardened, so a key that leaks says nothing about its siblings or its parent. The payee
branch and the identity are kept in clear, for a locked node must still settle what it is owed. Who steals that branch
cannot turn a settlement to himself, for the payer's signature fixes its outputs, and payouts go to keys that are not in
it; he gains only where he is the payer as well, and then only what that channel had not settled yet. Who steals the
identity can make offers in this node's name, on which he earns and nobody loses. (The hash of the first payout key
stands in clear too, so that a locked node can make offers; a hash spends nothing.)
"""

from __future__ import annotations

import struct

from bct.bitcoin.hd import HARDENED
from bct.bitcoin.keys import sha256
from bct.units import Outpoint

type Path = tuple[int, ...]
"""Steps from the root; hardened ones are index + HARDENED."""

_ACCOUNT: Path = (44 + HARDENED, 236 + HARDENED, HARDENED)
RECEIVE: Path = (*_ACCOUNT, 0)
CHANGE: Path = (*_ACCOUNT, 1)
PAYOUT: Path = (*_ACCOUNT, 2)
CREATOR: Path = (*_ACCOUNT, 3)
PAYEE: Path = (236 + HARDENED, 1 + HARDENED)
IDENTITY: Path = (236 + HARDENED, 2 + HARDENED)

_CHANNELS: Path = (236 + HARDENED, HARDENED)


def channel_payer(anchor: Outpoint, vout: int) -> Path:
    """The key that locks a channel's output. anchor: what input 0 of its funding transaction spends."""
    return (*_channel(anchor, vout), HARDENED)


def channel_change(anchor: Outpoint, vout: int) -> Path:
    """Where a channel's settlement returns what was not spent."""
    return (*_channel(anchor, vout), 1 + HARDENED)


def channel_refund(anchor: Outpoint, vout: int) -> Path:
    """Where a channel's refund goes."""
    return (*_channel(anchor, vout), 2 + HARDENED)


def payee(nonce: bytes) -> Path:
    """The payee key of the offer with this nonce of 16 bytes."""
    return (*PAYEE, *_words(nonce))


def show(path: Path) -> str:
    """As people write it: m/44'/236'/0'/0/7."""
    return "/".join(("m", *(f"{step % HARDENED}'" if step >= HARDENED else str(step) for step in path)))


def _channel(anchor: Outpoint, vout: int) -> Path:
    return (*_CHANNELS, *_words(anchor.pack() + struct.pack("<I", vout)))


def _words(data: bytes) -> Path:
    return tuple(word | HARDENED for word in struct.unpack(">4I", sha256(data)[:16]))
