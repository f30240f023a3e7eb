"""What a watchman without keys holds of a payment channel: its newest settlement, signed by both sides.

Who could cheat: whoever hands it over, with a settlement that the lock would not let through, one of another channel,
outputs that nobody relays, or an older one, so that the newer is forgotten. Everything is read from the transactions
themselves: the funding's output names both keys and the expiry, the signatures bind the outputs, and what those pay to
others than the payer only rises from one payment to the next. Whether the funding was ever mined only the chain knows.
What stops whoever holds an older one from sending it early is nothing: it is given to those who are trusted with that.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from bct.bitcoin.keys import verify
from bct.bitcoin.script import p2pkh, p2pkh_hash
from bct.bitcoin.tx import FINAL, Tx, sighash
from bct.channel.lock import Lock, read_settlement_unlock
from bct.channel.timing import LIFETIME_MAX, SETTLE_BEFORE
from bct.errors import Action, RemoteProtocolError
from bct.units import Outpoint, PubKeyHash, Satoshi

MAX_FUNDING = 6
"""Transactions: the channel's own, and the unconfirmed ones below it that a payee accepts."""
MAX_OUTPUTS = 20
AFTER_THE_PAYEE = 15 * 60
FORGOTTEN = 7 * 24 * 3600
"""Seconds after its expiry for which a channel is watched whose end the chain never shows."""


@dataclass(frozen=True, slots=True)
class Watched:
    """As it travels. funding: raw, parents first, the channel's own last. settlement: raw. change: where the payer's
    change goes."""

    funding: tuple[bytes, ...]
    settlement: bytes
    change: PubKeyHash


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON of it, all of it hex."""

    funding: list[str]
    settlement: str
    change: str


def encode(watched: Watched) -> bytes:
    funding = [raw.hex() for raw in watched.funding]
    return msgspec.json.encode(_Said(funding, watched.settlement.hex(), watched.change.hex()))


def decode(raw: bytes) -> Watched:
    """Inverse of `encode`. Raises RemoteProtocolError('bad-watch')."""
    try:
        said = msgspec.json.decode(raw, type=_Said)
        funding = tuple(bytes.fromhex(one) for one in said.funding)
        return Watched(funding, bytes.fromhex(said.settlement), PubKeyHash(bytes.fromhex(said.change)))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _bad(f"it cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class Checked:
    """What was read out of it. paid: satoshis to everybody but the payer."""

    watched: Watched
    outpoint: Outpoint
    capacity: Satoshi
    lock: Lock
    settlement: Tx
    paid: int

    @property
    def due(self) -> int:
        """When it is brought to the chain: a quarter of an hour after the payee would have done it by itself, with
        newer totals than these."""
        return self.lock.expiry - SETTLE_BEFORE + AFTER_THE_PAYEE


def check(watched: Watched) -> Checked:
    """In this order: shape → funding and lock → amounts → both signatures. Raises RemoteProtocolError('bad-watch')."""
    if not 1 <= len(watched.funding) <= MAX_FUNDING or len(watched.change) != 20:
        text = f"{len(watched.funding)} funding transactions and {len(watched.change)} bytes for the change"
        raise _bad(f"{text}; 1 to {MAX_FUNDING}, and the hash of a key, are taken")
    funding = [Tx.parse(raw) for raw in watched.funding][-1]
    settlement = Tx.parse(watched.settlement)
    _check_shape(settlement)
    spent = settlement.inputs[0]
    if spent.outpoint.txid != funding.txid or spent.outpoint.index >= len(funding.outputs):
        raise _bad("the settlement does not spend the funding that came with it")
    locked = funding.outputs[spent.outpoint.index]
    lock = Lock.read(locked.script)
    if lock is None:
        raise _bad("the settlement spends no payment channel's lock")
    if sum(output.value for output in settlement.outputs) > locked.value:
        raise _bad(f"the settlement pays out more than the {locked.value} sat that are locked")
    _check_signatures(settlement, lock, locked.value)
    return Checked(watched, spent.outpoint, locked.value, lock, settlement, paid_to_others(settlement, watched.change))


def _check_shape(settlement: Tx) -> None:
    """As both sides build it: nothing in it that a node would not relay."""
    if settlement.version != 1 or settlement.locktime != 0:
        raise _bad("a settlement has version 1 and no lock time")
    if len(settlement.inputs) != 1 or settlement.inputs[0].sequence != FINAL:
        raise _bad("a settlement has one input, with the last sequence")
    if not 1 <= len(settlement.outputs) <= MAX_OUTPUTS:
        raise _bad(f"a settlement has 1 to {MAX_OUTPUTS} outputs, got {len(settlement.outputs)}")
    if any(p2pkh_hash(output.script) is None for output in settlement.outputs):
        raise _bad("every output of a settlement pays to the hash of a key")


def _check_signatures(settlement: Tx, lock: Lock, capacity: Satoshi) -> None:
    signatures = read_settlement_unlock(settlement.inputs[0].script)
    if signatures is None:
        raise _bad("the settlement is not unlocked by two signatures and nothing else")
    digest = sighash(settlement, 0, lock.script(), capacity)
    for who, key, signature in zip(("payee", "payer"), (lock.payee, lock.payer), signatures, strict=True):
        if not verify(key, digest, signature):
            raise _bad(f"the settlement is not signed by the channel's {who}")


def check_time(checked: Checked, now: int) -> None:
    """No channel is watched longer than one can live. Raises RemoteProtocolError('bad-watch')."""
    left = checked.lock.expiry - now
    if not -FORGOTTEN < left <= LIFETIME_MAX + SETTLE_BEFORE:
        raise _bad(f"the channel expires in {left} s; none that lives is further off than {LIFETIME_MAX} s")


def is_newer(new: Checked, old: Checked) -> bool:
    """Whether more was paid when `new` was signed than when `old` was. Both are of one channel; where its change goes
    is what was said first, or an old one could be dressed up as new."""
    return paid_to_others(new.settlement, old.watched.change) > old.paid


def paid_to_others(settlement: Tx, change: PubKeyHash) -> int:
    """Satoshis to everybody but the payer, whose change goes to `change`."""
    return sum(output.value for output in settlement.outputs if output.script != p2pkh(change))


def _bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-watch", text, Action.REFUSE)
