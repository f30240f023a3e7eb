"""What pays which script and who spends what, brought forward transaction by transaction.

Holds only what it is given; whether that is the best chain is the business of whoever feeds it. Order does not matter:
a child may be added before its parent. About 500 bytes of memory a transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from bct.bitcoin.chain import HistoryItem, Spend
from bct.bitcoin.tx import Tx
from bct.units import Outpoint, Txid

_POOL = 1 << 62
"""Stands for the height of what is not mined: sorts last."""
_NOTHING = Txid(bytes(32))
"""The transaction that a coinbase claims to spend."""


@dataclass(frozen=True, slots=True)
class _Entry:
    tx: Tx
    height: int
    order: int

    def mined_at(self) -> int | None:
        return None if self.height == _POOL else self.height


@dataclass(frozen=True, slots=True)
class _Block:
    hash: bytes
    height: int
    txids: tuple[Txid, ...]


class ScriptIndex:
    """Blocks as a stack, and the pool beside it. No two transactions in it may spend the same coin."""

    __slots__ = ("_added", "_blocks", "_entries", "_paid", "_spends", "pool")

    def __init__(self) -> None:
        self._entries: dict[Txid, _Entry] = {}
        self._paid: defaultdict[bytes, set[Outpoint]] = defaultdict(set)
        self._spends: dict[Outpoint, tuple[Txid, int]] = {}
        self._blocks: list[_Block] = []
        self._added = 0
        self.pool: set[Txid] = set()

    @property
    def tip(self) -> bytes | None:
        """Hash of the newest block given."""
        return self._blocks[-1].hash if self._blocks else None

    @property
    def height(self) -> int:
        """Of the newest block given; -1 before the first."""
        return self._blocks[-1].height if self._blocks else -1

    def add_block(self, block_hash: bytes, height: int, txs: Iterable[Tx]) -> None:
        """The next block; `drop_pool` comes first, for what was in the pool may be in it, or be contradicted by it."""
        self._blocks.append(_Block(block_hash, height, tuple(self._add(tx, height) for tx in txs)))

    def drop_block(self) -> None:
        """Forgets the newest block and its transactions."""
        for txid in self._blocks.pop().txids:
            self._remove(txid)

    def add_to_pool(self, tx: Tx) -> None:
        self.pool.add(self._add(tx, _POOL))

    def drop_pool(self) -> None:
        for txid in self.pool:
            self._remove(txid)
        self.pool.clear()

    def _add(self, tx: Tx, height: int) -> Txid:
        txid = tx.txid
        self._added += 1
        self._entries[txid] = _Entry(tx, height, self._added)
        for index, output in enumerate(tx.outputs):
            self._paid[output.script].add(Outpoint(txid, index))
        for index, spent in enumerate(tx.inputs):
            if spent.outpoint.txid != _NOTHING:
                self._spends[spent.outpoint] = (txid, index)
        return txid

    def _remove(self, txid: Txid) -> None:
        tx = self._entries.pop(txid).tx
        for index, output in enumerate(tx.outputs):
            self._paid[output.script].discard(Outpoint(txid, index))
            if not self._paid[output.script]:
                del self._paid[output.script]
        for spent in tx.inputs:
            self._spends.pop(spent.outpoint, None)

    def history(self, script: bytes) -> list[HistoryItem]:
        """Each transaction that pays `script` or spends from it, oldest first, the pool's last."""
        paid = self._paid.get(script, set())
        touching = {o.txid for o in paid} | {self._spends[o][0] for o in paid if o in self._spends}
        entries = {txid: self._entries[txid] for txid in touching}
        ordered = sorted(entries, key=lambda txid: (entries[txid].height, entries[txid].order))
        return [HistoryItem(txid, entries[txid].mined_at()) for txid in ordered]

    def spender(self, outpoint: Outpoint) -> Spend | None:
        found = self._spends.get(outpoint)
        return found and Spend(*found, self._entries[found[0]].mined_at())
