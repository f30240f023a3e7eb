"""The rest of the world, for a regtest chain: it mines blocks and has coins to give.

Its key is known to everyone, and it refuses to work on any other network.
"""

from __future__ import annotations

import asyncio

from bct.backends.chain_node import ChainNode
from bct.backends.node_rpc import NodeRpc
from bct.bitcoin.chain import GOOD
from bct.bitcoin.keys import PrivateKey, sha256
from bct.bitcoin.script import p2pkh, p2pkh_unlock
from bct.bitcoin.tx import Tx, TxInput, TxOutput, sighash
from bct.errors import ChainError, ConfigError, FundsError
from bct.units import Outpoint, Satoshi, txid_hex

_KEY = PrivateKey(sha256(b"bct regtest miner"))
_SCRIPT = p2pkh(_KEY.hash)
_FEE_RATE = 500  # sat per 1,000 bytes: well above the floor
_INPUT_SIZE, _OUTPUT_SIZE = 148, 34
_MATURITY = 100
_NOTHING = bytes(32)  # what a coinbase claims to spend


class RegtestMiner:
    """The miner and its purse, over one node. One at a time a node: two would spend the same coins."""

    def __init__(self, chain: ChainNode) -> None:
        self._chain = chain
        self._rpc: NodeRpc = chain.rpc
        self._coins: dict[Outpoint, Satoshi] = {}
        self._paying = asyncio.Lock()

    async def start(self) -> None:
        """Finds its coins, and mines the first ones. Raises ConfigError on any network but regtest."""
        network = (await self._rpc.call("getblockchaininfo"))["chain"]
        if network != "regtest":
            raise ConfigError(f"coins are given away on regtest only, this node runs on {network!r}")
        await self._find_coins()
        if not self._coins:
            await self.mine(_MATURITY + 1)
            await self._find_coins()

    async def mine(self, blocks: int = 1) -> list[bytes]:
        """The hashes of the new blocks, in the order of `Header.hash`."""
        address = (await self._rpc.call("decodescript", _SCRIPT.hex()))["addresses"][0]
        mined = await self._rpc.call("generatetoaddress", blocks, address)
        return [bytes.fromhex(one)[::-1] for one in mined]

    async def pay(self, script: bytes, satoshi: int, count: int = 1) -> Tx:
        """Pays `count` outputs of `satoshi` each to `script`, unconfirmed. Raises FundsError, ChainError."""
        outputs = (TxOutput(Satoshi(satoshi), script),) * count
        async with self._paying:
            try:
                return await self._pay(outputs)
            except (ChainError, FundsError):
                await self._find_coins()  # blocks have ripened since, or a reorganisation took some
                return await self._pay(outputs)

    async def _pay(self, outputs: tuple[TxOutput, ...]) -> Tx:
        tx = self._fund(outputs)
        (answer,) = await self._chain.broadcast([tx.serialize()])
        if answer.outcome not in GOOD:
            raise ChainError(f"the miner's payment was answered {answer.outcome.value}: {answer.detail}")
        for spent in tx.inputs:
            del self._coins[spent.outpoint]
        self._coins[Outpoint(tx.txid, len(outputs))] = tx.outputs[-1].value
        return tx

    async def height(self) -> int:
        return (await self._chain.tip()).height

    async def mine_waiting(self) -> None:
        """Mines a block if a transaction waits for one."""
        if await self._rpc.call("getrawmempool"):
            await self.mine()

    def _fund(self, outputs: tuple[TxOutput, ...]) -> Tx:
        size = 20 + sum(len(o.serialize()) for o in outputs) + _OUTPUT_SIZE
        needed, chosen, got = sum(o.value for o in outputs), [], 0
        for coin in sorted(self._coins, key=self._coins.__getitem__, reverse=True):
            chosen.append(coin)
            got += self._coins[coin]
            change = got - needed - (size + _INPUT_SIZE * len(chosen)) * _FEE_RATE // 1000
            if change > 0:
                tx = Tx(tuple(TxInput(one) for one in chosen), (*outputs, TxOutput(Satoshi(change), _SCRIPT)))
                return self._sign(tx)
        raise FundsError(f"the miner holds {got} sat and was asked for {needed}: mine some blocks")

    def _sign(self, tx: Tx) -> Tx:
        digests = [sighash(tx, n, _SCRIPT, self._coins[i.outpoint]) for n, i in enumerate(tx.inputs)]
        scripts = [p2pkh_unlock(_KEY.sign(digest), _KEY.public) for digest in digests]
        signed = (TxInput(i.outpoint, script) for i, script in zip(tx.inputs, scripts, strict=True))
        return Tx(tuple(signed), tx.outputs)

    async def _find_coins(self) -> None:
        """What pays our script and is not spent by what else touches it; of coinbases the ripe ones."""
        history = await self._chain.history(_SCRIPT)
        ripe = await self.height() - _MATURITY
        raws = await self._rpc.all([("getrawtransaction", txid_hex(item.txid)) for item in history])
        txs = [Tx.parse(bytes.fromhex(raw)) for raw in raws]
        spent = {i.outpoint for tx in txs for i in tx.inputs}
        ours: dict[Outpoint, Satoshi] = {}
        for item, tx in zip(history, txs, strict=True):
            if tx.inputs[0].outpoint.txid != _NOTHING or (item.height is not None and item.height <= ripe):
                ours |= {Outpoint(item.txid, n): o.value for n, o in enumerate(tx.outputs) if o.script == _SCRIPT}
        self._coins = {coin: value for coin, value in ours.items() if coin not in spent}
