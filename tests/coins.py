"""Coins for tests on a chain: each with a key of its own, and the transactions that spend them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from bct.bitcoin.keys import PrivateKey, sha256
from bct.bitcoin.script import p2pkh, p2pkh_unlock
from bct.bitcoin.tx import FINAL, Tx, TxInput, TxOutput, sighash
from bct.units import Outpoint, Satoshi

_numbers = count()


class World(Protocol):
    """Who mines and has money: the rest of the world, as a test needs it."""

    async def mine(self, blocks: int = 1) -> list[bytes]: ...

    async def pay(self, script: bytes, satoshi: int, count: int = 1) -> Tx: ...


def new_key() -> PrivateKey:
    return PrivateKey(sha256(b"a test's key %d" % next(_numbers)))


@dataclass(frozen=True)
class Coin:
    outpoint: Outpoint
    value: int
    key: PrivateKey = field(repr=False)

    @property
    def script(self) -> bytes:
        return p2pkh(self.key.hash)


async def some_coins(world: World, count: int = 1, value: int = 10_000) -> list[Coin]:
    """Unconfirmed coins of one new key, in one transaction."""
    key = new_key()
    tx = await world.pay(p2pkh(key.hash), value, count)
    return coins_of(tx, key)


def coins_of(tx: Tx, key: PrivateKey) -> list[Coin]:
    script, txid = p2pkh(key.hash), tx.txid
    return [Coin(Outpoint(txid, n), o.value, key) for n, o in enumerate(tx.outputs) if o.script == script]


def spend(
    *coins: Coin, fee: int = 200, script: bytes | None = None, sequence: int = FINAL, locktime: int = 0, parts: int = 1
) -> Tx:
    """All of these coins in `parts` equal outputs to `script`, by default the first coin's own; signed."""
    value = (sum(coin.value for coin in coins) - fee) // parts
    outputs = (TxOutput(Satoshi(value), script or coins[0].script),) * parts
    tx = Tx(tuple(TxInput(coin.outpoint, b"", sequence) for coin in coins), outputs, 1, locktime)
    return Tx(tuple(_signed(tx, index, coin) for index, coin in enumerate(coins)), outputs, 1, locktime)


def _signed(tx: Tx, index: int, coin: Coin) -> TxInput:
    signature = coin.key.sign(sighash(tx, index, coin.script, Satoshi(coin.value)))
    return TxInput(coin.outpoint, p2pkh_unlock(signature, coin.key.public), tx.inputs[index].sequence)
