"""What the wallet holds, as a rule over the transactions it is shown.

Trust: a transaction is believed to be where the caller says it is; which of its outputs are ours, and what they are
worth, is read from its bytes alone. Everything here follows from the words and the chain, so nothing of it is lost that
was not written down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.errors import LocalProtocolError
from bct.units import Outpoint, PubKeyHash, Satoshi, Txid
from bct.wallet.coins import Coin
from bct.wallet.paths import CHANGE, PAYOUT, RECEIVE, Path

GAP = 20
"""Addresses in a row without a payment after which a recovery stops looking (BIP 44)."""
BRANCHES = (RECEIVE, CHANGE, PAYOUT)
"""Where coins may come in at the next index; a payment channel's own addresses are watched one by one."""


@dataclass(frozen=True, slots=True)
class Balance:
    """In satoshis; the three add up. pending: in no block yet. reserved: set aside for a transaction being made."""

    confirmed: Satoshi
    pending: Satoshi
    reserved: Satoshi


@dataclass(frozen=True, slots=True)
class Moved:
    """What a transaction did to the wallet when it was first shown."""

    gained: tuple[Coin, ...] = ()
    spent: tuple[Coin, ...] = ()


class Wallet:
    """Show it each transaction of ours, parents before children: when it is first seen, and when it is mined. Those of
    strangers may be shown as well."""

    def __init__(self) -> None:
        self._coins: dict[Outpoint, Coin] = {}
        self._spent: dict[Outpoint, Coin] = {}
        self._spenders: dict[Outpoint, Txid] = {}
        self._heights: dict[Txid, int | None] = {}
        self._parents: dict[Txid, list[Txid]] = {}
        self._paths: dict[bytes, Path] = {}
        self._watched = dict.fromkeys(BRANCHES, 0)
        self._used = dict.fromkeys(BRANCHES, 0)  # one more than the highest index that was ever paid
        self._next = dict.fromkeys(BRANCHES, 0)

    # -- addresses ----------------------------------------------------------------------------------------------------

    def unwatched(self) -> list[Path]:
        """Keys whose hashes the wallet should be told with `watch`: some at the start, more as addresses are used."""
        return [
            (*branch, index) for branch in BRANCHES for index in range(self._watched[branch], self._used[branch] + GAP)
        ]

    def watch(self, path: Path, pubkey_hash: PubKeyHash) -> None:
        """From now on outputs to this key are ours."""
        self._paths[p2pkh(pubkey_hash)] = path
        branch, index = path[:-1], path[-1]
        if branch in self._watched:
            self._watched[branch] = max(self._watched[branch], index + 1)

    @property
    def watched(self) -> list[bytes]:
        """Every script whose outputs are ours."""
        return list(self._paths)

    def next_index(self, branch: Path) -> int:
        """Of the next address to give out. New each time, but never `GAP` ahead of the last one that was paid, for a
        recovery would not find it: then it starts again at the first that was not."""
        used, index = self._used[branch], self._next[branch]
        if not used <= index < used + GAP:
            index = used
        self._next[branch] = index + 1
        return index

    # -- transactions -------------------------------------------------------------------------------------------------

    def see(self, tx: Tx, height: int | None) -> Moved:
        """The transaction is in the block at `height`, or in none (yet, or again after a reorganisation). One that is
        no business of ours leaves no trace."""
        txid = tx.txid
        spent = [i.outpoint for i in tx.inputs if i.outpoint in self._coins]
        gained = self._new_coins(tx, txid)
        if not spent and not gained and txid not in self._heights:
            return Moved()
        self._heights[txid] = height
        self._parents[txid] = [i.outpoint.txid for i in tx.inputs]
        self._spent |= {outpoint: self._coins.pop(outpoint) for outpoint in spent}
        self._spenders |= dict.fromkeys(spent, txid)
        self._coins |= {coin.outpoint: coin for coin in gained}
        return Moved(tuple(map(self._placed, gained)), tuple(self._placed(self._spent[outpoint]) for outpoint in spent))

    def drop(self, tx: Tx) -> None:
        """The transaction will never be mined: what it paid us is gone, and what it spent, unless another transaction
        did, is ours again."""
        txid = tx.txid
        for index in range(len(tx.outputs)):
            self._coins.pop(Outpoint(txid, index), None)
        for outpoint in [i.outpoint for i in tx.inputs if self._spenders.get(i.outpoint) == txid]:
            del self._spenders[outpoint]
            self._coins[outpoint] = replace(self._spent.pop(outpoint), reserved=False)

    def _new_coins(self, tx: Tx, txid: Txid) -> list[Coin]:
        """What it pays us, where that is not known yet, or known and spent."""
        found = []
        for index, output in enumerate(tx.outputs):
            outpoint = Outpoint(txid, index)
            path = self._paths.get(output.script)
            if path is None or outpoint in self._coins or outpoint in self._spent:
                continue
            self._mark_used(path)
            found.append(Coin(outpoint, output.value, path, None))
        return found

    def _mark_used(self, path: Path) -> None:
        branch, index = path[:-1], path[-1]
        if branch in self._used:
            self._used[branch] = max(self._used[branch], index + 1)

    def _placed(self, coin: Coin) -> Coin:
        """The coin with its height, and the unconfirmed transactions behind it."""
        txid = coin.outpoint.txid
        ancestors: set[Txid] = set()
        left = [txid]
        while left:
            parent = left.pop()
            if parent not in ancestors and self._heights.get(parent, 0) is None:  # a stranger's count as confirmed
                ancestors.add(parent)
                left += self._parents[parent]
        return replace(coin, height=self._heights[txid], ancestors=frozenset(ancestors))

    # -- money --------------------------------------------------------------------------------------------------------

    def reserve(self, outpoints: Iterable[Outpoint]) -> None:
        """Sets coins aside for a transaction until it is seen, or `release`d. Raises LocalProtocolError for a coin
        that is not there or set aside already: two transactions would spend it."""
        outpoints = list(outpoints)
        for outpoint in outpoints:
            coin = self._coins.get(outpoint)
            if coin is None or coin.reserved:
                raise LocalProtocolError(f"{outpoint} is {'reserved already' if coin else 'no coin of ours'}")
        for outpoint in outpoints:
            self._coins[outpoint] = replace(self._coins[outpoint], reserved=True)

    def release(self, outpoints: Iterable[Outpoint]) -> None:
        """Gives reserved coins back; those that were spent meanwhile stay spent."""
        for outpoint in outpoints:
            if coin := self._coins.get(outpoint):
                self._coins[outpoint] = replace(coin, reserved=False)

    @property
    def spendable(self) -> list[Coin]:
        """Every coin that is not set aside, for `coins.select`."""
        return [self._placed(coin) for coin in self._coins.values() if not coin.reserved]

    @property
    def balance(self) -> Balance:
        sums = {"confirmed": 0, "pending": 0, "reserved": 0}
        for coin in self._coins.values():
            mined = self._heights[coin.outpoint.txid] is not None
            sums["reserved" if coin.reserved else "confirmed" if mined else "pending"] += coin.value
        return Balance(**{name: Satoshi(value) for name, value in sums.items()})
