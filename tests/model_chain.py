"""A chain in memory, for stories that a real one takes too long for: blocks of any hour, forks, a pool that forgets.

It keeps the promises of every `Chain` (tests/conformance), and judges scripts with bsv-sdk's interpreter. Coins come
out of nowhere, by `pay`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low

from bsv.script.script import Script
from bsv.script.spend import Spend as Judge
from bsv.transaction import Transaction

from bct.bitcoin.chain import Broadcast, ChainEvent, Header, HistoryItem, Network, Outcome, Place, Seen, Spend, Tip
from bct.bitcoin.index import ScriptIndex
from bct.bitcoin.keys import sha256d
from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.tx import FINAL, Tx, TxInput, TxOutput
from bct.errors import ChainError, RemoteProtocolError
from bct.units import Outpoint, Satoshi, Txid

START = 1_700_000_000
FEE_RATE = 100
_NOWHERE = Outpoint(Txid(bytes(32)), 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Block:
    header: Header
    txs: dict[Txid, Tx]


class ModelChain:
    """A `Chain`, and the world that mines on it. now: of the next block, Unix seconds."""

    network = Network.REGTEST

    def __init__(self, now: int = START) -> None:
        self.now = now
        self.answers = True
        """Whether it can be reached."""
        self._blocks: list[Block] = []
        self._pool: dict[Txid, Tx] = {}
        self._parked: dict[Txid, Tx] = {}
        self._made = 0
        self._index = ScriptIndex()
        self._listeners: set[asyncio.Queue[ChainEvent]] = set()
        self._add_block()

    # -- the world ----------------------------------------------------------------------------------------------------

    async def mine(self, blocks: int = 1) -> list[bytes]:
        return [self._add_block().hash for _ in range(blocks)]

    async def pay(self, script: bytes, satoshi: int, count: int = 1) -> Tx:
        """A transaction in the pool that pays out of nothing."""
        tx = Tx((self._new_coin(),), (TxOutput(Satoshi(satoshi), script),) * count)
        self._take(tx)
        return tx

    def fork(self, depth: int, forgotten: Iterable[Txid] = ()) -> None:
        """The newest blocks are none any more. Their transactions are in the pool again, but for the forgotten ones."""
        left, self._blocks = self._blocks[-depth:], self._blocks[:-depth]
        for _ in left:
            self._index.drop_block()
        for block in left:
            self._pool |= dict(list(block.txs.items())[1:])
        for txid in forgotten:
            self.forget(txid)
        self._index_pool()

    def forget(self, txid: Txid) -> None:
        """The pool loses it."""
        self._pool.pop(txid, None)
        self._index_pool()

    def _add_block(self) -> Header:
        height = len(self._blocks)
        coinbase = Tx((self._new_coin(),), (TxOutput(Satoshi(1), b"\x51"),))
        self._take_up_parked()
        txs = {coinbase.txid: coinbase} | self._pool
        root = _rows(list(txs))[-1][0]
        previous = self._blocks[-1].header if self._blocks else None
        self.now = max(self.now, previous.time + 1 if previous else 0)
        times = [block.header.time for block in self._blocks[-10:]] + [self.now]
        before = previous.hash if previous else bytes(32)
        digest = sha256d(before + root + self.now.to_bytes(8) + height.to_bytes(8))
        header = Header(height, digest, before, root, self.now, median_low(times))
        self._blocks.append(Block(header, txs))
        self._pool.clear()
        self._index.drop_pool()
        self._index.add_block(header.hash, height, txs.values())
        self._tell(Tip(header))
        return header

    def _new_coin(self) -> TxInput:
        """An input that spends nothing, unlike every other one."""
        self._made += 1
        return TxInput(_NOWHERE, self._made.to_bytes(8))

    def _take_up_parked(self) -> None:
        ready = [tx for tx in self._parked.values() if self._is_final(tx)]
        for tx in ready:
            del self._parked[tx.txid]
            if self._judge(tx) is Outcome.ACCEPTED:
                self._take(tx)

    def _take(self, tx: Tx) -> None:
        self._pool[tx.txid] = tx
        self._index.add_to_pool(tx)
        self._tell(Seen(tx.txid, tx.serialize()))

    def _index_pool(self) -> None:
        self._index.drop_pool()
        for tx in self._pool.values():
            self._index.add_to_pool(tx)

    def _tell(self, event: ChainEvent) -> None:
        for listener in self._listeners:
            listener.put_nowait(event)

    # -- Chain --------------------------------------------------------------------------------------------------------

    async def broadcast(self, raws: Sequence[bytes]) -> list[Broadcast]:
        if not self.answers:
            return [Broadcast(Txid(sha256d(raw)), Outcome.UNREACHABLE, "it is away") for raw in raws]
        answers = {raw: self._hear(raw) for raw in dict.fromkeys(raws)}
        return [answers[raw] for raw in raws]

    def _hear(self, raw: bytes) -> Broadcast:
        txid = Txid(sha256d(raw))
        try:
            tx = Tx.parse(raw)
        except RemoteProtocolError as error:
            return Broadcast(txid, Outcome.INVALID, str(error))
        outcome = Outcome.KNOWN if self._find(txid) else self._judge(tx)
        if outcome is Outcome.ACCEPTED:
            self._take(tx)
        elif outcome is Outcome.PARKED:
            self._parked[txid] = tx
        return Broadcast(txid, outcome)

    def _judge(self, tx: Tx) -> Outcome:
        coins = [self._coin(i.outpoint) for i in tx.inputs]
        spenders = {self._index.spender(i.outpoint) for i in tx.inputs} - {None}
        if spenders:
            return Outcome.CONFLICT
        fee = sum(coin.value for coin in coins if coin) - sum(o.value for o in tx.outputs)
        if not all(coins) or fee * 1000 < FEE_RATE * len(tx.serialize()):
            return Outcome.INVALID
        if not all(_opens(tx, index, coin) for index, coin in enumerate(coins) if coin):
            return Outcome.INVALID
        parked = {i.outpoint for other in self._parked.values() for i in other.inputs if other != tx}
        if parked & {i.outpoint for i in tx.inputs}:
            return Outcome.CONFLICT
        return Outcome.ACCEPTED if self._is_final(tx) else Outcome.PARKED

    def _is_final(self, tx: Tx) -> bool:
        final = all(i.sequence == FINAL for i in tx.inputs)
        return final or tx.locktime < self._blocks[-1].header.median_time

    def _coin(self, outpoint: Outpoint) -> TxOutput | None:
        found = self._find(outpoint.txid)
        outputs = found[0].outputs if found else ()
        return outputs[outpoint.index] if outpoint.index < len(outputs) else None

    def _find(self, txid: Txid) -> tuple[Tx, Block | None] | None:
        if txid in self._pool:
            return self._pool[txid], None
        return next(((block.txs[txid], block) for block in self._blocks if txid in block.txs), None)

    async def place(self, txid: Txid) -> Place | None:
        self._reach()
        found = self._find(txid)
        if found is None or found[1] is None:
            return found and Place(None, 0)
        height = found[1].header.height
        return Place(height, len(self._blocks) - height)

    async def transaction(self, txid: Txid) -> bytes | None:
        self._reach()
        found = self._find(txid)
        return found and found[0].serialize()

    async def tip(self) -> Header:
        self._reach()
        return self._blocks[-1].header

    async def header(self, height: int) -> Header | None:
        self._reach()
        return self._blocks[height].header if height < len(self._blocks) else None

    async def history(self, script: bytes) -> list[HistoryItem]:
        self._reach()
        return self._index.history(script)

    async def spender(self, outpoint: Outpoint) -> Spend | None:
        self._reach()
        return self._index.spender(outpoint)

    async def merkle_path(self, txid: Txid) -> bytes | None:
        self._reach()
        found = self._find(txid)
        if found is None or found[1] is None:
            return None
        txids = list(found[1].txs)
        index = place = txids.index(txid)
        branch: list[bytes | None] = []
        for row in _rows(txids)[:-1]:
            branch.append(row[place ^ 1] if place ^ 1 < len(row) else None)
            place >>= 1
        return MerklePath.of_branch(found[1].header.height, txid, index, branch).serialize()

    async def fee_rate(self) -> int:
        self._reach()
        return FEE_RATE

    async def events(self) -> AsyncIterator[ChainEvent]:
        queue: asyncio.Queue[ChainEvent] = asyncio.Queue()
        queue.put_nowait(Tip(self._blocks[-1].header))
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    async def close(self) -> None: ...

    def _reach(self) -> None:
        if not self.answers:
            raise ChainError("it is away")


def _rows(txids: Sequence[bytes]) -> list[list[bytes]]:
    """The Merkle tree, from the ids up to the root; the last one of an odd row is paired with itself."""
    rows = [list(txids)]
    while len(rows[-1]) > 1:
        row = rows[-1] + rows[-1][-1:] * (len(rows[-1]) % 2)
        rows.append([sha256d(row[n] + row[n + 1]) for n in range(0, len(row), 2)])
    return rows


def _opens(tx: Tx, index: int, coin: TxOutput) -> bool:
    """The verdict of bsv-sdk's interpreter."""
    read = Transaction.from_hex(tx.serialize().hex())
    spent = read.inputs[index]
    judge = Judge(
        {
            "sourceTXID": spent.source_txid,
            "sourceOutputIndex": spent.source_output_index,
            "sourceSatoshis": coin.value,
            "lockingScript": Script(coin.script.hex()),
            "transactionVersion": read.version,
            "otherInputs": [i for i in read.inputs if i is not spent],
            "outputs": read.outputs,
            "inputIndex": index,
            "unlockingScript": spent.unlocking_script,
            "inputSequence": spent.sequence,
            "lockTime": read.locktime,
        }
    )
    try:
        return bool(judge.validate())
    except Exception:  # its own kinds, and whatever its arithmetic raises
        return False
