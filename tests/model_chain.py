"""A chain in memory, for stories that a real one takes too long for: blocks of any hour, forks, a pool that forgets.

It keeps the promises of every `Chain` (tests/conformance), and judges scripts with bsv-sdk's interpreter. Coins come
out of nowhere, by `pay`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
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
        self.floor = FEE_RATE
        """Satoshis per 1,000 bytes below which it takes and mines nothing."""
        self._blocks: list[Block] = []
        self._places: dict[Txid, Block] = {}
        self._pool: dict[Txid, Tx] = {}
        self._parked: dict[Txid, Tx] = {}
        self._made = 0
        self._index = ScriptIndex()
        self._listeners: dict[asyncio.Queue[ChainEvent], None] = {}
        self._add_block()

    # -- the world ----------------------------------------------------------------------------------------------------

    async def mine(self, blocks: int = 1) -> list[bytes]:
        return [self._add_block().hash for _ in range(blocks)]

    async def pay(self, script: bytes, satoshi: int, count: int = 1) -> Tx:
        """A transaction in the pool that pays out of nothing."""
        tx = Tx((self._new_coin(),), (TxOutput(Satoshi(satoshi), script),) * count)
        self.take(tx)
        return tx

    def fork(self, depth: int, forgotten: Iterable[Txid] = ()) -> None:
        """The newest blocks are none any more. Their transactions are in the pool again, but for the forgotten ones."""
        keep = len(self._blocks) - depth
        left, self._blocks = self._blocks[keep:], self._blocks[:keep]
        waiting, self._pool = self._pool, {}
        self._index.drop_pool()
        for block in left:
            self._index.drop_block()
            for txid in block.txs:
                del self._places[txid]
            self._pool |= dict(list(block.txs.items())[1:])
        self._pool |= waiting
        for txid in forgotten:
            self.forget(txid)
        self._index_pool()

    def follow(self, other: ModelChain) -> None:
        """Takes over the other's blocks, as a node does that hears of a longer chain; its pool stays its own."""
        pairs = zip(self._blocks, other._blocks, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0].header.hash == pair[1].header.hash, pairs))
        self.fork(len(self._blocks) - same)
        self.now, self._made = max(self.now, other.now), max(self._made, other._made)
        for block in other._blocks[len(self._blocks) :]:
            new = [tx for txid, tx in list(block.txs.items())[1:] if txid not in self._pool]
            self._connect(block)
            for tx in new:
                self._tell(Seen(tx.txid, tx.serialize()))

    def forget(self, txid: Txid) -> None:
        """The pool loses it."""
        self._pool.pop(txid, None)
        self._index_pool()

    def _add_block(self) -> Header:
        height = len(self._blocks)
        coinbase = Tx((self._new_coin(),), (TxOutput(Satoshi(1), b"\x51"),))
        self._take_up_parked()
        txs = {coinbase.txid: coinbase} | self._worth_mining()
        root = _rows(list(txs))[-1][0]
        previous = self._blocks[-1].header if self._blocks else None
        self.now = max(self.now, previous.time + 1 if previous else 0)
        times = [block.header.time for block in self._blocks[-10:]] + [self.now]
        before = previous.hash if previous else bytes(32)
        digest = sha256d(before + root + self.now.to_bytes(8) + height.to_bytes(8))
        header = Header(height, digest, before, root, self.now, median_low(times))
        self._connect(Block(header, txs))
        return header

    def _worth_mining(self) -> dict[Txid, Tx]:
        """What of the pool pays the floor, with all it builds on."""
        taken: dict[Txid, Tx] = {}
        for txid, tx in self._pool.items():
            parents = {i.outpoint.txid for i in tx.inputs} & self._pool.keys()
            if parents <= taken.keys() and self._pays(tx):
                taken[txid] = tx
        return taken

    def _pays(self, tx: Tx) -> bool:
        coins = [self._coin(i.outpoint) for i in tx.inputs]
        if not all(coins):
            return True  # out of nowhere, by `pay`
        fee = sum(coin.value for coin in coins if coin) - sum(o.value for o in tx.outputs)
        return fee * 1000 >= self.floor * len(tx.serialize())

    def _connect(self, block: Block) -> None:
        """The next block; what of the pool it holds, or contradicts, is there no more."""
        self._blocks.append(block)
        self._places |= dict.fromkeys(block.txs, block)
        spent = {i.outpoint for tx in block.txs.values() for i in tx.inputs}
        waiting, self._pool = self._pool, {}
        gone: set[Txid] = set()
        for txid, tx in waiting.items():
            if txid in block.txs:
                continue
            if any(i.outpoint in spent or i.outpoint.txid in gone for i in tx.inputs):
                gone.add(txid)
            else:
                self._pool[txid] = tx
        self._parked = {
            txid: tx for txid, tx in self._parked.items() if not any(i.outpoint in spent for i in tx.inputs)
        }
        self._index.drop_pool()
        self._index.add_block(block.header.hash, block.header.height, block.txs.values())
        self._index_pool()
        self._tell(Tip(block.header))

    def _new_coin(self) -> TxInput:
        """An input that spends nothing, unlike every other one."""
        self._made += 1
        return TxInput(_NOWHERE, self._made.to_bytes(8))

    def _take_up_parked(self) -> None:
        ready = [tx for tx in self._parked.values() if self._is_final(tx)]
        for tx in ready:
            del self._parked[tx.txid]
            if self._judge(tx) is Outcome.ACCEPTED:
                self.take(tx)

    def take(self, tx: Tx) -> None:
        """It is in the pool, unjudged."""
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
        answers = {raw: self.hear(raw) for raw in dict.fromkeys(raws)}
        return [answers[raw] for raw in raws]

    def hear(self, raw: bytes) -> Broadcast:
        """One transaction, from anybody."""
        txid = Txid(sha256d(raw))
        try:
            tx = Tx.parse(raw)
        except RemoteProtocolError as error:
            return Broadcast(txid, Outcome.INVALID, str(error))
        outcome = Outcome.KNOWN if self._find(txid) else self._judge(tx)
        if outcome in (Outcome.ACCEPTED, Outcome.PARKED):
            for older in self._in_the_way(tx):
                del self._parked[older.txid]
        if outcome is Outcome.ACCEPTED:
            self.take(tx)
        elif outcome is Outcome.PARKED:
            self._parked[txid] = tx
        return Broadcast(txid, outcome)

    def _judge(self, tx: Tx) -> Outcome:
        coins = [self._coin(i.outpoint) for i in tx.inputs]
        spenders = {self._index.spender(i.outpoint) for i in tx.inputs} - {None}
        if spenders:
            return Outcome.CONFLICT
        if not all(coins) or not self._pays(tx):
            return Outcome.INVALID
        if not all(_opens(tx, index, coin) for index, coin in enumerate(coins) if coin):
            return Outcome.INVALID
        if not all(_replaces(tx, older) for older in self._in_the_way(tx)):
            return Outcome.CONFLICT
        return Outcome.ACCEPTED if self._is_final(tx) else Outcome.PARKED

    def _in_the_way(self, tx: Tx) -> list[Tx]:
        """Parked ones that spend a coin of this one."""
        coins = {i.outpoint for i in tx.inputs}
        return [one for one in self._parked.values() if one != tx and coins & {i.outpoint for i in one.inputs}]

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
        block = self._places.get(txid)
        return (block.txs[txid], block) if block else None

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
        return self.floor

    async def events(self) -> AsyncIterator[ChainEvent]:
        queue: asyncio.Queue[ChainEvent] = asyncio.Queue()
        queue.put_nowait(Tip(self._blocks[-1].header))
        self._listeners[queue] = None
        try:
            while True:
                yield await queue.get()
        finally:
            del self._listeners[queue]

    async def close(self) -> None: ...

    def _reach(self) -> None:
        if not self.answers:
            raise ChainError("it is away")


def _replaces(tx: Tx, parked: Tx) -> bool:
    """Whether the node lets it take a parked one's place: the same coins, a higher sequence and none lower."""
    if [i.outpoint for i in tx.inputs] != [i.outpoint for i in parked.inputs]:
        return False
    pairs = [(i.sequence, j.sequence) for i, j in zip(tx.inputs, parked.inputs, strict=True)]
    return all(new >= old for new, old in pairs) and any(new > old for new, old in pairs)


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
