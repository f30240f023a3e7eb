"""The funding transaction that CHANNEL_OPEN brings: what can be known of it before the chain is asked.

Who could cheat: the payer, with a lock that differs in one byte, an output that is not there, ancestors that are
invented, too many, not final, or pay too little to be mined, so that the settlement could not be either. The lock is
rebuilt and compared whole; the ancestry is checked down to our own headers (`bitcoin.proof`); the chain then runs the
scripts (`Chain.broadcast`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bct.bitcoin.proof import Ancestry, Beef
from bct.channel.lock import Lock
from bct.errors import Action, RemoteProtocolError
from bct.units import Outpoint, Satoshi, txid_hex

MAX_BLOCKS = 100
"""Blocks that the proofs of one funding may name: each is a question to the chain."""


@dataclass(frozen=True, slots=True)
class Funding:
    """A funding that is in order as far as bytes can tell. raws: it, behind those of its ancestors that no block holds
    yet, parents first."""

    outpoint: Outpoint
    capacity: Satoshi
    raws: tuple[bytes, ...]


def check_blocks(beef: Beef) -> None:
    """To be called before the headers are fetched. Raises RemoteProtocolError with action REFUSE."""
    if len(beef.heights()) > MAX_BLOCKS:
        raise _refuse(f"the funding's proofs name {len(beef.heights())} blocks, at most {MAX_BLOCKS} are looked up")


def read(beef: Beef, roots: Mapping[int, bytes], vout: int, lock: Lock, rate: int) -> Funding:
    """roots: the Merkle roots of our headers at `beef.heights()`. rate: satoshis per 1,000 bytes.

    Raises RemoteProtocolError with action REFUSE.
    """
    try:
        ancestry = beef.check(roots)
    except RemoteProtocolError as error:
        raise _refuse(str(error)) from error
    subject = ancestry.subject
    if subject.version != 1:
        raise _refuse(f"a funding transaction has version 1, got {subject.version}")
    if vout >= len(subject.outputs) or subject.outputs[vout].script != lock.script():
        raise _refuse(f"output {vout} is not the lock of this channel")
    _check_minable(ancestry, rate)
    needed = {subject.txid, *(one.txid for one in ancestry.unproven)}
    raws = tuple(tx.serialize() for tx in beef.transactions if tx.txid in needed)
    return Funding(Outpoint(subject.txid, vout), subject.outputs[vout].value, raws)


def _check_minable(ancestry: Ancestry, rate: int) -> None:
    for one in ancestry.unproven:
        if not one.final:
            raise _refuse(f"{txid_hex(one.txid)} is not final: it could be replaced")
        if not one.pays(rate):
            raise _refuse(f"{txid_hex(one.txid)} pays {one.fee} sat for {one.size} bytes, less than {rate} sat/kB")


def _refuse(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-funding", text, Action.REFUSE)
