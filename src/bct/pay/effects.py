"""What a session asks the shell to do, in this order. Sessions decide; the shell does and reports back."""

from __future__ import annotations

from dataclasses import dataclass

from bct.channel.lock import Lock
from bct.pay.account import Account
from bct.pay.messages import ChannelOpen, Message, ReceiptSigned
from bct.pay.receipt_store import SavedReceipt
from bct.pay.records import Record


@dataclass(frozen=True, slots=True)
class Send:
    """Say it on this connection."""

    message: Message


@dataclass(frozen=True, slots=True)
class CheckFunding:
    """Read the funding, hand it to the chain, and answer with `PayeeSession.funded` or `.unfunded`."""

    opening: ChannelOpen
    lock: Lock


@dataclass(frozen=True, slots=True)
class SaveChannel:
    """Make the new channel durable, then call `PayeeSession.saved`. idle: as agreed, see `offers.agreed_idle`."""

    account: Account
    idle: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Append to the ledger before anything said or served after it."""

    record: Record


@dataclass(frozen=True, slots=True)
class SaveReceipt:
    """Make the receipt durable, then say the answer; a settlement that is asked for after it waits for that."""

    saved: SavedReceipt
    answer: ReceiptSigned


@dataclass(frozen=True, slots=True)
class Settle:
    """The channel is CLOSING: save that, broadcast its settlement, then `PayeeSession.settled`."""

    account: Account
    reason: str


Effect = Send | CheckFunding | SaveChannel | Keep | SaveReceipt | Settle
