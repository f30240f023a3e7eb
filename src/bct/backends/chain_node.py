"""`Chain` over a BSV node's RPC and ZMQ (seen on 1.0.13; the node needs -txindex=1, and hashblock2 and rawtx2).

Trust: the node is ours and believed about what only a chain can know. What it says about a transaction handed to it is
not taken at its word, since its words are few: silence means accepted or parked, "known" means pooled or parked, and
"missing-inputs" means unknown coins, spent coins, or that the very transaction is mined and its outputs are spent. So
after each broadcast the node is asked where the transaction is and, if nowhere, what became of its coins.

Scripts and spenders the node has no index of: a `ScriptIndex` is brought up to date, block by block and with the pool,
whenever one is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from bct.backends.node_events import node_events
from bct.backends.node_rpc import NOT_FOUND, OUT_OF_RANGE, Call, NodeRpc, RpcRefusalError
from bct.backends.verdicts import REASONS
from bct.bitcoin.chain import Broadcast, ChainEvent, Header, HistoryItem, Network, Outcome, Place, Spend
from bct.bitcoin.index import ScriptIndex
from bct.bitcoin.keys import sha256d
from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.tx import Reader, Tx
from bct.errors import ChainError, RemoteProtocolError
from bct.units import Outpoint, Txid, txid_from_hex, txid_hex

_HEADER_SIZE = 80
_PREVIOUS = slice(4, 36)  # of a block: the hash of the one before
_BREATH = 256  # transactions read before other tasks get their turn: about 20 ms
_BLOCKS = 20  # fetched at a time
_MISSING = "missing-inputs"

TWIN = "the same transaction is being handed in by another door"

# That it is busy with the transaction says nothing of it.
_OUTCOMES = {**REASONS, TWIN: Outcome.UNREACHABLE}


class ChainNode:
    """One BSV node as a source of truth. Use `close` when done."""

    def __init__(self, network: Network, url: str, cookie_file: Path, zmq: str, birthday: int = 0) -> None:
        """url: of the RPC, zmq: address of the notifications. birthday: height of the first block that can matter to
        `history` and `spender`; earlier ones are not scanned."""
        self.rpc = NodeRpc(url, cookie_file)
        self._network = network
        self._zmq = zmq
        self._birthday = birthday
        self._index = ScriptIndex()
        self._indexing = asyncio.Lock()

    @property
    def network(self) -> Network:
        return self._network

    async def broadcast(self, raws: Sequence[bytes]) -> list[Broadcast]:
        # By id, since the node calls a transaction that is twice in one batch a double spend of itself.
        answers: dict[Txid, Broadcast] = {}
        good: dict[Txid, Tx] = {}
        txids = [Txid(sha256d(raw)) for raw in raws]
        for txid, raw in zip(txids, raws, strict=True):
            try:
                good[txid] = Tx.parse(raw)
            except RemoteProtocolError as error:
                answers[txid] = Broadcast(txid, Outcome.INVALID, str(error))
        try:
            answers |= await self._submit(good)
        except ChainError as error:
            answers |= {txid: Broadcast(txid, Outcome.UNREACHABLE, str(error)) for txid in good}
        return [answers[txid] for txid in txids]

    async def _submit(self, txs: dict[Txid, Tx]) -> dict[Txid, Broadcast]:
        if not txs:
            return {}
        said = await self.rpc.call("sendrawtransactions", [{"hex": tx.serialize().hex()} for tx in txs.values()])
        rejected = rejections(said)
        silent = txs.keys() - rejected.keys() - {txid_from_hex(one) for one in said.get("known", ())}
        there = await self._known(txs)
        parked = await self._parked() if txs.keys() - there - rejected.keys() else frozenset()
        answers = {}
        for txid, tx in txs.items():
            if txid in there:
                answers[txid] = Broadcast(txid, Outcome.ACCEPTED if txid in silent else Outcome.KNOWN)
            elif txid in rejected:
                answers[txid] = Broadcast(txid, await self._refusal(tx, rejected[txid]), rejected[txid])
            elif txid in parked:
                answers[txid] = Broadcast(txid, Outcome.PARKED, "not final yet")
            else:
                answers[txid] = Broadcast(txid, Outcome.UNREACHABLE, "taken, and gone again")
        return answers

    async def _known(self, txids: Iterable[Txid]) -> set[Txid]:
        """Those that are in the pool or in a block."""
        asked = list(txids)
        pooled = await self.rpc.batch([("getmempoolentry", txid_hex(txid)) for txid in asked])
        there = {txid for txid, entry in zip(asked, pooled, strict=True) if not isinstance(entry, RpcRefusalError)}
        rest = [txid for txid in asked if txid not in there]
        found = await self.rpc.batch([("getrawtransaction", txid_hex(txid), True) for txid in rest])
        return there | {txid for txid, answer in zip(rest, found, strict=True) if _place(answer) is not None}

    async def _parked(self) -> frozenset[Txid]:
        return frozenset(txid_from_hex(one) for one in await self.rpc.call("getrawnonfinalmempool"))

    async def _refusal(self, tx: Tx, reason: str) -> Outcome:
        """What a rejection of a transaction that is nowhere means."""
        if reason != _MISSING:
            return _OUTCOMES.get(reason, Outcome.INVALID)
        coins = [i.outpoint for i in tx.inputs]
        free = await self.rpc.batch([("gettxout", txid_hex(coin.txid), coin.index, True) for coin in coins])
        gone = [coin for coin, answer in zip(coins, free, strict=True) if answer is None]
        created = await self.rpc.batch([("getrawtransaction", txid_hex(coin.txid), True) for coin in gone])
        if not gone:
            return Outcome.UNREACHABLE  # they have come in since
        spent = (_creates(answer, coin) for coin, answer in zip(gone, created, strict=True))
        return Outcome.CONFLICT if any(spent) else Outcome.INVALID

    async def place(self, txid: Txid) -> Place | None:
        return _place(await self._ask(NOT_FOUND, "getrawtransaction", txid_hex(txid), True))

    async def transaction(self, txid: Txid) -> bytes | None:
        answer = await self._ask(NOT_FOUND, "getrawtransaction", txid_hex(txid), True)
        return None if _place(answer) is None else bytes.fromhex(answer["hex"])

    async def tip(self) -> Header:
        return _header(await self.rpc.call("getblockheader", await self.rpc.call("getbestblockhash")))

    async def header(self, height: int) -> Header | None:
        block_hash = await self._ask(OUT_OF_RANGE, "getblockhash", height)
        return block_hash and _header(await self.rpc.call("getblockheader", block_hash))

    async def history(self, script: bytes) -> list[HistoryItem]:
        async with self._indexing:
            await self._update_index()
            return self._index.history(script)

    async def spender(self, outpoint: Outpoint) -> Spend | None:
        async with self._indexing:
            await self._update_index()
            return self._index.spender(outpoint)

    async def merkle_path(self, txid: Txid) -> bytes | None:
        answer = await self._ask(NOT_FOUND, "getrawtransaction", txid_hex(txid), True)
        place = _place(answer)
        if place is None or place.height is None:
            return None
        block = await self.rpc.call("getblockheader", answer["blockhash"])
        if block["num_tx"] == 1:  # the node says "not found" here
            return MerklePath.of_branch(place.height, txid, 0, ()).serialize()
        proof = await self.rpc.call("getmerkleproof2", answer["blockhash"], txid_hex(txid))
        branch = [None if node == "*" else txid_from_hex(node) for node in proof["nodes"]]
        return MerklePath.of_branch(place.height, txid, proof["index"], branch).serialize()

    async def fee_rate(self) -> int:
        settings = await self.rpc.call("getsettings")
        return int(Decimal(settings["minminingtxfee"]) * 100_000_000)

    def events(self) -> AsyncIterator[ChainEvent]:
        return node_events(self._zmq, self.tip)

    async def close(self) -> None:
        await self.rpc.close()

    async def _ask(self, nothing: int, *call: Any) -> Any:
        """The node's answer; None when it refuses with code `nothing`."""
        try:
            return await self.rpc.call(*call)
        except RpcRefusalError as refusal:
            if refusal.code != nothing:
                raise
            return None

    async def _update_index(self) -> None:
        """Until the best block is the same before and after: then blocks and pool are of one moment."""
        best = await self._best()
        while True:
            if best != self._index.tip:
                self._index.drop_pool()
                await self._follow(best)
            await self._index_pool()
            best = await self._best()
            if best == self._index.tip:
                return

    async def _best(self) -> bytes:
        return txid_from_hex(await self.rpc.call("getbestblockhash"))

    async def _follow(self, best: bytes) -> None:
        """Drops blocks that left the best chain, adds those that joined it."""
        while self._index.tip and await self._height(self._index.tip) is None:
            self._index.drop_block()
        end = await self._height(best)
        if end is None:
            return  # it left while we asked
        start = self._index.height + 1 if self._index.tip else min(self._birthday, end)
        for first in range(start, end + 1, _BLOCKS):
            await self._index_blocks(range(first, min(first + _BLOCKS, end + 1)))

    async def _height(self, block_hash: bytes) -> int | None:
        """Of a block in the best chain; None for any other."""
        header = await self._ask(NOT_FOUND, "getblockheader", block_hash[::-1].hex())
        return header["height"] if header and header["confirmations"] > 0 else None

    async def _index_blocks(self, heights: range) -> None:
        hashes = await self.rpc.all([("getblockhash", height) for height in heights])
        blocks = await self.rpc.all([("getblock", block_hash, 0) for block_hash in hashes])
        for height, block_hash, block in zip(heights, hashes, blocks, strict=True):
            raw = bytes.fromhex(block)
            if self._index.tip not in (None, raw[_PREVIOUS]):
                return  # a reorganisation came between our questions: `_update_index` begins anew
            self._index.add_block(txid_from_hex(block_hash), height, await _transactions(raw))

    async def _index_pool(self) -> None:
        pool = {txid_from_hex(one) for one in await self.rpc.call("getrawmempool")}
        if self._index.pool - pool:
            self._index.drop_pool()
        calls: list[Call] = [("getrawtransaction", txid_hex(txid)) for txid in pool - self._index.pool]
        for raw in await self.rpc.batch(calls):
            if not isinstance(raw, RpcRefusalError):  # gone since
                self._index.add_to_pool(Tx.parse(bytes.fromhex(raw)))


async def _transactions(block: bytes) -> list[Tx]:
    """A block's, read with pauses in which other tasks run."""
    reader = Reader(block, _HEADER_SIZE)
    txs = []
    for number in range(reader.count(60)):
        tx, reader.at = Tx.parse_at(block, reader.at)
        txs.append(tx)
        if number % _BREATH == _BREATH - 1:
            await asyncio.sleep(0)
    return txs


def rejections(said: dict[str, Any]) -> dict[Txid, str]:
    """The reason of each refused transaction, out of an answer of sendrawtransactions.

    What comes in twice at one moment the node calls a double spend of itself: that is no conflict, but `TWIN`.
    """
    return {txid_from_hex(one["txid"]): _reason(one) for one in said.get("invalid", ())}


def _reason(refused: dict[str, Any]) -> str:
    others = {one["txid"] for one in refused.get("collidedWith", ())}
    return TWIN if others == {refused["txid"]} else str(refused["reject_reason"])


def _header(answer: Any) -> Header:
    return Header(
        height=answer["height"],
        hash=txid_from_hex(answer["hash"]),
        previous=bytes.fromhex(answer.get("previousblockhash", "00" * 32))[::-1],
        merkle_root=txid_from_hex(answer["merkleroot"]),
        time=answer["time"],
        median_time=answer["mediantime"],
    )


def _place(answer: Any) -> Place | None:
    """Out of a verbose getrawtransaction. One that only a stale block holds is nowhere."""
    if answer is None or isinstance(answer, RpcRefusalError):
        return None
    if "blockhash" not in answer:
        return Place(None, 0)
    confirmations = answer["confirmations"]
    return Place(answer["blockheight"], confirmations) if confirmations > 0 else None


def _creates(answer: Any, coin: Outpoint) -> bool:
    return _place(answer) is not None and coin.index < len(answer["vout"])
