"""From twelve words and the chain back to every coin and every open payment channel.

A machine that asks and is answered; it waits for nothing itself:

    search = Search(keyring, Lock.read)
    while search.ask:
        search.answer(<what the chain says to `search.ask`>)
    search.found

It walks the receive, change and payout addresses until `GAP` in a row were never paid. A coin of ours that was spent
may have opened a channel: one that did has an output whose lock names the key that derives from the transaction's first
input and the output's place (`paths`). A channel that was spent has paid its change or its refund to a key that derives
from the same, and that coin is followed in its turn.

Trust: a source can hide coins, or show ones that no block holds; it cannot change an amount or an id, for they are read
from the bytes, and whose a script is follows from the words.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Protocol

from bct.bitcoin.chain import HistoryItem, Spend
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.errors import ChainError, RemoteProtocolError
from bct.units import Outpoint, Satoshi, Txid, txid_hex
from bct.wallet.coins import Coin
from bct.wallet.keyring import Keyring
from bct.wallet.paths import Path, channel_change, channel_payer, channel_refund
from bct.wallet.wallet import BRANCHES, GAP


class ChannelLock(Protocol):
    """What a payment channel's script says: two keys of 33 bytes, and Unix seconds."""

    @property
    def payer(self) -> bytes: ...

    @property
    def payee(self) -> bytes: ...

    @property
    def expiry(self) -> int: ...


type ReadLock = Callable[[bytes], ChannelLock | None]
"""A script → the lock it is; None for any other script."""


@dataclass(frozen=True, slots=True)
class AskHistory:
    """Answered like `Chain.history`."""

    script: bytes


@dataclass(frozen=True, slots=True)
class AskTransaction:
    """Answered like `Chain.transaction`."""

    txid: Txid


@dataclass(frozen=True, slots=True)
class AskSpender:
    """Answered like `Chain.spender`."""

    outpoint: Outpoint


Ask = AskHistory | AskTransaction | AskSpender
Answer = list[HistoryItem] | bytes | Spend | None
type Asking[T] = Generator[Ask, Answer, T]


@dataclass(frozen=True, slots=True)
class FoundChannel:
    """A channel we opened. Its keys: `channel_payer` and the like of (anchor, outpoint.index). expiry: Unix seconds.
    funding: raw, and so is closing: what spent the capacity; empty while nothing has."""

    outpoint: Outpoint
    anchor: Outpoint
    capacity: Satoshi
    payee: bytes
    expiry: int
    height: int | None
    funding: bytes
    closing: bytes = b""


@dataclass(slots=True)
class Recovered:
    """What was found. channels: the open ones. ended: the others, whose change or refund may be among the coins. used:
    for each branch, one more than the highest index that was ever paid."""

    coins: list[Coin] = field(default_factory=list)
    channels: list[FoundChannel] = field(default_factory=list)
    used: dict[Path, int] = field(default_factory=dict)
    ended: list[FoundChannel] = field(default_factory=list)


class Search:
    """Raises WalletLockedError, and ChainError for an answer that cannot be so."""

    def __init__(self, keyring: Keyring, read_lock: ReadLock) -> None:
        self.found = Recovered()
        """Complete once there is nothing to ask."""
        self._keyring = keyring
        self._read_lock = read_lock
        self._coins: dict[Outpoint, Coin] = {}
        self._unfollowed: list[Coin] = []
        self._spenders: set[Txid] = set()
        self._steps = self._run()
        self.ask: Ask | None = next(self._steps)

    def answer(self, answer: Answer) -> None:
        """Goes on to the next question, if there is one."""
        try:
            self.ask = self._steps.send(answer)
        except StopIteration:
            self.ask = None

    def _run(self) -> Asking[None]:
        for branch in BRANCHES:
            yield from self._walk(branch)
        while self._unfollowed:
            yield from self._follow(self._unfollowed.pop())

    def _walk(self, branch: Path) -> Asking[None]:
        index = used = 0
        while index < used + GAP:
            if (yield from self._address((*branch, index))):
                used = index + 1
            index += 1
        self.found.used[branch] = used

    def _address(self, path: Path) -> Asking[bool]:
        """Meets every coin that was ever paid to this key; whether there was one."""
        script = self._script(path)
        history = yield from _history(script)
        for item in history:
            tx = yield from _transaction(item.txid)
            self._meet(tx, item.txid, item.height, {script: path})
        return bool(history)

    def _meet(self, tx: Tx, txid: Txid, height: int | None, ours: dict[bytes, Path]) -> None:
        for vout, output in enumerate(tx.outputs):
            outpoint, path = Outpoint(txid, vout), ours.get(output.script)
            if path and outpoint not in self._coins:
                self._coins[outpoint] = Coin(outpoint, output.value, path, height)
                self._unfollowed.append(self._coins[outpoint])

    def _follow(self, coin: Coin) -> Asking[None]:
        """Keeps the coin if it is there, else looks for channels in what spent it."""
        spend = yield from _spender(coin.outpoint)
        if spend is None:
            self.found.coins.append(coin)
        elif spend.txid not in self._spenders:
            self._spenders.add(spend.txid)
            tx = yield from _spending(coin.outpoint, spend)
            for vout in range(len(tx.outputs)):
                yield from self._channel(tx, vout, spend)

    def _channel(self, funding: Tx, vout: int, spend: Spend) -> Asking[None]:
        """If the output is a channel that we opened: keeps it, and follows what came back of it if it is over."""
        anchor, output = funding.inputs[0].outpoint, funding.outputs[vout]
        lock = self._read_lock(output.script)
        if lock is None or lock.payer != self._keyring.key(channel_payer(anchor, vout)).public:
            return
        outpoint = Outpoint(spend.txid, vout)
        found = FoundChannel(outpoint, anchor, output.value, lock.payee, lock.expiry, spend.height, funding.serialize())
        end = yield from _spender(outpoint)
        if end is None:
            self.found.channels.append(found)
        else:
            closing = yield from _spending(outpoint, end)
            self.found.ended.append(replace(found, closing=closing.serialize()))
            ours = {self._script(path): path for path in (channel_change(anchor, vout), channel_refund(anchor, vout))}
            self._meet(closing, end.txid, end.height, ours)

    def _script(self, path: Path) -> bytes:
        return p2pkh(self._keyring.key(path).hash)


def _history(script: bytes) -> Asking[list[HistoryItem]]:
    answer = yield AskHistory(script)
    assert isinstance(answer, list)
    return answer


def _spender(outpoint: Outpoint) -> Asking[Spend | None]:
    answer = yield AskSpender(outpoint)
    assert answer is None or isinstance(answer, Spend)
    return answer


def _spending(outpoint: Outpoint, spend: Spend) -> Asking[Tx]:
    """The transaction, which must do what the chain says it does."""
    tx = yield from _transaction(spend.txid)
    if all(i.outpoint != outpoint for i in tx.inputs):
        raise ChainError(f"the chain says {txid_hex(spend.txid)} spends {outpoint}, and it does not spend it")
    return tx


def _transaction(txid: Txid) -> Asking[Tx]:
    raw = yield AskTransaction(txid)
    if not isinstance(raw, bytes):
        raise ChainError(f"the chain names transaction {txid_hex(txid)} and does not have it: ask another source")
    try:
        tx = Tx.parse(raw)
    except RemoteProtocolError as error:
        raise ChainError(f"what the chain gives as transaction {txid_hex(txid)} is none: {error}") from error
    if tx.txid != txid:
        raise ChainError(f"asked for transaction {txid_hex(txid)}, the chain gave {txid_hex(tx.txid)}")
    return tx
