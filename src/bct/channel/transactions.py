"""What a payment channel's transactions contain: a pure function of the totals, the same bytes on both sides.

Only totals and one signature travel; the receiver rebuilds the whole transaction and parses none. Nothing here is
chosen by a peer at payment time: not an output, not the fee, not the order.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from bct.bitcoin.keys import sha256d
from bct.bitcoin.script import SIGHASH_ALL_FORKID, p2pkh
from bct.bitcoin.tx import FINAL, Tx, TxInput, TxOutput, compact_size
from bct.channel.lock import Lock, settlement_unlock
from bct.errors import LocalProtocolError
from bct.units import Outpoint, Payees, PubKeyHash, Satoshi

_COMMITMENT_BASE = 197  # bytes of a settlement without outputs, both signatures at their longest
_OUTPUT = 34  # bytes of one P2PKH output
_VALUE = struct.Struct("<Q")

MAX_LINES = 32
"""Each payment is rebuilt over all lines: with more of them that work would outweigh checking the signature."""


@dataclass(frozen=True, slots=True)
class Params:
    """What is fixed for a payment channel's whole life.

    fee_rate: satoshis per 1,000 bytes. max_outputs: most outputs a commitment may have, change included.
    """

    outpoint: Outpoint
    capacity: Satoshi
    lock: Lock
    change: PubKeyHash
    payout: PubKeyHash
    fee_rate: int
    max_outputs: int


Lines = tuple[Payees, ...]
Totals = tuple[int, ...]


def distinct_payees(lines: Sequence[Payees]) -> int:
    return len({h for line in lines for h in line.hashes})


def takes(params: Params, lines: Lines) -> bool:
    """Whether a channel may have these lines: not too many, and every creator can have an output."""
    return len(lines) <= MAX_LINES and distinct_payees(lines) + 2 <= params.max_outputs


def fee_at(rate: int, outputs: int) -> Satoshi:
    """Upper bound for a commitment with so many outputs (change always counted), rounded up.

    It does not depend on how long the two signatures turn out, so both sides know it before signing; as an upper
    bound it always meets the rate that was agreed.
    """
    return Satoshi(-(-(_COMMITMENT_BASE + _OUTPUT * outputs) * rate // 1000))


def payouts(params: Params, lines: Lines, totals: Totals) -> list[tuple[PubKeyHash, int]]:
    """(hash, satoshis) before change: creators merged by hash in line order, then the seeder; zeros left out."""
    if len(lines) == 1:  # nearly every payment's case, and nothing to merge in it
        shares, seeder = lines[0].split.of(totals[0])
        paid = [(payee, share) for payee, share in zip(lines[0].hashes, shares, strict=True) if share]
        return [*paid, (params.payout, seeder)] if seeder else paid
    creators: dict[PubKeyHash, int] = {}
    seeder = 0
    for payees, total in zip(lines, totals, strict=True):
        shares, rest = payees.split.of(total)
        for payee, share in zip(payees.hashes, shares, strict=True):
            creators[payee] = creators.get(payee, 0) + share
        seeder += rest
    paid = [(payee, amount) for payee, amount in creators.items() if amount]
    return [*paid, (params.payout, seeder)] if seeder else paid


def fee(params: Params, lines: Lines, totals: Totals) -> Satoshi:
    """The fee of the commitment at these totals."""
    return fee_at(params.fee_rate, len(payouts(params, lines, totals)) + 1)


def outputs(params: Params, lines: Lines, totals: Totals) -> tuple[TxOutput, ...]:
    """Every output of the commitment at these totals; the caller has checked that they fit the capacity."""
    paid = payouts(params, lines, totals)
    change = params.capacity - fee_at(params.fee_rate, len(paid) + 1) - sum(totals)
    everyone = [*paid, (params.change, change)] if change else paid
    return tuple(TxOutput(Satoshi(amount), p2pkh(payee)) for payee, amount in everyone)


def fits(params: Params, lines: Lines, totals: Totals) -> bool:
    """Whether a commitment at these totals exists: sum of totals <= capacity - fee."""
    return sum(totals) + fee(params, lines, totals) <= params.capacity


def commitment(params: Params, lines: Lines, totals: Totals) -> Tx:
    """The transaction both sides sign, still without signatures: sequence FFFFFFFF, lock time 0, one input."""
    return Tx((TxInput(params.outpoint, sequence=FINAL),), outputs(params, lines, totals))


def settlement(unsigned: Tx, payee_signature: bytes, payer_signature: bytes) -> Tx:
    """The commitment with both signatures: ready for the chain."""
    unlock = settlement_unlock(payee_signature, payer_signature)
    return Tx((TxInput(unsigned.inputs[0].outpoint, unlock, FINAL),), unsigned.outputs)


class Commitments:
    """Digests of one channel's commitments, from a template: all but the hash of the outputs stays the same.

    This is the hot path of every payment. Equal to `sighash(commitment(...))` for all totals; a test holds the two
    together.
    """

    __slots__ = ("_head", "_scripts", "_tail", "lines", "params")

    def __init__(self, params: Params, lines: Lines) -> None:
        self.params = params
        self.lines = lines
        everyone = {params.payout, params.change}.union(*(line.hashes for line in lines))
        self._scripts = {payee: b"\x19" + p2pkh(payee) for payee in everyone}
        script = params.lock.script()
        outpoint = params.outpoint.pack()
        self._head = hashlib.sha256(
            b"".join(
                (
                    struct.pack("<I", 1),
                    sha256d(outpoint),
                    sha256d(struct.pack("<I", FINAL)),
                    outpoint,
                    compact_size(len(script)) + script,
                    struct.pack("<Q", params.capacity),
                    struct.pack("<I", FINAL),
                )
            )
        )
        self._tail = struct.pack("<II", 0, SIGHASH_ALL_FORKID)

    def digest(self, totals: Totals) -> bytes:
        """32 bytes to sign. The totals must fit the capacity (`fits`)."""
        digest = self.digest_if_fits(totals)
        if digest is None:
            raise LocalProtocolError(f"no commitment of {self.params.capacity} sat exists at totals {list(totals)}")
        return digest

    def digest_if_fits(self, totals: Totals) -> bytes | None:
        """32 bytes to sign; None where no commitment exists at these totals."""
        paid = payouts(self.params, self.lines, totals)
        change = self.params.capacity - fee_at(self.params.fee_rate, len(paid) + 1) - sum(totals)
        if change < 0:
            return None
        if change:
            paid.append((self.params.change, change))
        scripts = self._scripts
        serialized = b"".join([_VALUE.pack(amount) + scripts[payee] for payee, amount in paid])
        preimage = self._head.copy()
        preimage.update(sha256d(serialized) + self._tail)
        return hashlib.sha256(preimage.digest()).digest()
