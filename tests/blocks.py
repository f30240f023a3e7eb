"""Blocks made by hand on a regtest chain: which transactions are in them, and in which branch, is the test's choice."""

from __future__ import annotations

import struct
from itertools import count

from bct.backends.chain_node import ChainNode
from bct.bitcoin.keys import sha256d
from bct.bitcoin.script import push
from bct.bitcoin.tx import Tx, TxInput, TxOutput
from bct.units import Outpoint, Satoshi, Txid

_ANYBODY = b"\x51"
_EASY = 0x207FFFFF
"""The difficulty of every regtest block: about two tries."""
_different = count()


async def mine_only(chain: ChainNode, *txs: Tx) -> bytes:
    """A block on the best one with these transactions, parents first, and no others of the pool. Its hash, as in
    `Header.hash`."""
    tip = await chain.tip()
    coinbase = _coinbase(tip.height + 1)
    every = (coinbase, *txs)
    root = _root([tx.txid for tx in every])
    header = _worked(struct.pack("<I", 0x20000000) + tip.hash + root + struct.pack("<II", tip.time + 1, _EASY))
    raw = header + bytes((len(every),)) + b"".join(tx.serialize() for tx in every)
    refusal = await chain.rpc.call("submitblock", raw.hex())
    assert refusal is None, f"the node refused a block made by hand: {refusal}"
    return sha256d(header)


async def take_back(chain: ChainNode, blocks: int = 1) -> None:
    """The newest blocks leave the best chain for good; what was in them waits in the pool again. The next block has to
    be made by hand: the node would make the same one again."""
    height = (await chain.tip()).height - blocks + 1
    await chain.rpc.call("invalidateblock", await chain.rpc.call("getblockhash", height))


def _coinbase(height: int) -> Tx:
    script = push(height.to_bytes(3, "little")) + push(b"a test's block %d" % next(_different))
    nothing = Outpoint(Txid(bytes(32)), 0xFFFFFFFF)
    return Tx((TxInput(nothing, script),), (TxOutput(Satoshi(0), _ANYBODY),))


def _root(row: list[Txid]) -> bytes:
    while len(row) > 1:
        if len(row) % 2:
            row.append(row[-1])
        row = [Txid(sha256d(a + b)) for a, b in zip(row[::2], row[1::2], strict=True)]
    return row[0]


def _worked(head: bytes) -> bytes:
    for nonce in count():
        header = head + struct.pack("<I", nonce)
        if sha256d(header)[31] < 0x7F:
            return header
    raise AssertionError
