"""The wallet's shell: keeps `wallet.Wallet` in step with the chain, and makes transactions out of its coins.

Who could cheat: two of our own hands, spending one coin twice; so coins are set aside before a transaction is signed
and given back only when it will not be used. Everything else the wallet knows follows from the words and the chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bct.bitcoin.chain import GOOD, Chain
from bct.bitcoin.keys import PrivateKey
from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.proof import Beef
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.errors import ChainError, FundsError, WalletLockedError
from bct.units import Outpoint, PubKeyHash, Satoshi, Txid
from bct.wallet import coins as choosing
from bct.wallet.coins import MAX_ANCESTORS, Stuck, Want
from bct.wallet.keyring import Keyring
from bct.wallet.paths import CHANGE, RECEIVE, Path
from bct.wallet.wallet import Balance, Wallet


@dataclass(frozen=True, slots=True)
class Funded:
    """A signed funding transaction, not yet handed to anyone. beef: it and what proves it (BRC-95)."""

    tx: Tx
    anchor: Outpoint
    vout: int
    fee: Satoshi
    beef: bytes
    coins: tuple[Outpoint, ...]


class NodeWallet:
    """One node's coins."""

    def __init__(self, chain: Chain, keyring: Keyring) -> None:
        self._chain = chain
        self._keyring = keyring
        self._wallet = Wallet()
        self._making = asyncio.Lock()

    @property
    def locked(self) -> bool:
        return self._keyring.locked

    @property
    def balance(self) -> Balance:
        return self._wallet.balance

    def key(self, path: Path) -> PrivateKey:
        """Raises WalletLockedError."""
        return self._keyring.key(path)

    # -- keeping in step ----------------------------------------------------------------------------------------------

    async def sync(self, extra: Iterable[Path] = ()) -> None:
        """Reads what the chain knows of all our addresses. extra: those of payment channels. Raises ChainError."""
        if self.locked:
            return
        await self._read(map(self.watch, extra))
        while paths := self._wallet.unwatched():
            await self._read(map(self.watch, paths))

    async def _read(self, scripts: Iterable[bytes]) -> None:
        histories = await asyncio.gather(*map(self._chain.history, scripts))  # some chains answer many at once
        found = {item.txid: item.height for history in histories for item in history}
        for txid, height in found.items():
            raw = await self._chain.transaction(txid)
            if raw is not None:
                self._wallet.see(Tx.parse(raw), height)

    def watch(self, path: Path) -> bytes:
        """What comes to this address is ours; its script. Deriving a key takes a millisecond."""
        pubkey_hash = self.key(path).hash
        self._wallet.watch(path, pubkey_hash)
        return p2pkh(pubkey_hash)

    def saw(self, tx: Tx, height: int | None = None) -> None:
        """A transaction passed by, from pool or block, ours or anybody's."""
        self._wallet.see(tx, height)
        if not self.locked:
            for path in self._wallet.unwatched():
                self.watch(path)

    def drop(self, tx: Tx) -> None:
        """The transaction will never be mined: its coins, as far as nobody else spent them, are ours again."""
        self._wallet.drop(tx)

    async def new_block(self) -> None:
        """Reads all our addresses again: what was mined, and what no notification told us of. Raises ChainError."""
        if not self.locked:
            await self._read(self._wallet.watched)
            await self.sync()

    # -- using it -----------------------------------------------------------------------------------------------------

    def new_address(self) -> PubKeyHash:
        """A receive address that was not given out before."""
        path = (*RECEIVE, self._wallet.next_index(RECEIVE))
        self.watch(path)
        return self.key(path).hash

    @staticmethod
    def funding_fee(script_size: int, rate: int) -> Satoshi:
        """What a funding transaction with one input, one such output and change costs."""
        size = 10 + 148 + Want(Satoshi(0), script_size).size + Want(Satoshi(0)).size
        return choosing.fee_for(size, rate)

    def affords(self, value: Satoshi, script_size: int, rate: int) -> bool:
        """Whether `fund` would find the coins."""
        try:
            choosing.select(self._wallet.spendable, [Want(value, script_size)], rate)
        except FundsError:
            return False
        return True

    async def fund(
        self, value: Satoshi, script_size: int, rate: int, make_script: Callable[[Outpoint, int], bytes]
    ) -> Funded:
        """A signed transaction with one output of `value` whose script may depend on what input 0 spends and on the
        output's index. Its coins are set aside. Raises FundsError, WalletLockedError, ChainError."""
        async with self._making:
            plan = choosing.select(self._wallet.spendable, [Want(value, script_size)], rate)
            vout = plan.vout(0)
            change = (*CHANGE, self._wallet.next_index(CHANGE))
            self.watch(change)
            unsigned = plan.build([make_script(plan.anchor, vout)], self.key(change).hash)
            tx = choosing.sign(unsigned, plan.coins, self.key)
            beef = await self._prove(tx)
            spent = tuple(coin.outpoint for coin in plan.coins)
            self._wallet.reserve(spent)
        return Funded(tx, plan.anchor, vout, plan.fee, beef.serialize(), spent)

    def release_coins(self, outpoints: Iterable[Outpoint]) -> None:
        """The transaction that was to spend them will not be used."""
        self._wallet.release(outpoints)

    async def send(self, to: PubKeyHash, value: Satoshi | None, rate: int) -> Tx:
        """Pays `value` to an address, or everything when it is None, and hands it to the chain.

        Raises FundsError, WalletLockedError, ChainError.
        """
        if self.locked:
            raise WalletLockedError("the wallet is locked: give its passphrase to spend")
        async with self._making:
            spendable = self._wallet.spendable
            plan = choosing.sweep(spendable, rate) if value is None else choosing.select(spendable, [Want(value)], rate)
            change = (*CHANGE, self._wallet.next_index(CHANGE))
            self.watch(change)
            tx = choosing.sign(plan.build([p2pkh(to)], self.key(change).hash), plan.coins, self.key)
            answer = (await self._chain.broadcast([tx.serialize()]))[0]
            if answer.outcome not in GOOD:
                raise ChainError(f"the chain did not take the payment: {answer.outcome.value} {answer.detail}")
            self.saw(tx)
        return tx

    async def lift(self, txid: Txid, rate: int) -> Tx | None:
        """Pays for a transaction that miners pass over because it pays less than `rate`, with a child that spends what
        it brings us, or what an earlier child left of that. None when that is not ours to do, or not worth it: no coin
        of ours behind it, a chain of `MAX_ANCESTORS` already, a locked wallet, or a child that would cost more than it
        saves. Raises ChainError."""
        async with self._making:
            coins = [c for c in self._wallet.spendable if txid in c.ancestors and len(c.ancestors) < MAX_ANCESTORS]
            coin = max(coins, key=lambda coin: coin.value, default=None)
            if coin is None or self.locked:
                return None
            plan = choosing.lift(coin, await self._stuck(coin.outpoint.txid), rate)
            if plan is None:
                return None
            path = (*CHANGE, self._wallet.next_index(CHANGE))
            self.watch(path)
            to = self.key(path).hash
            tx = choosing.sign(plan.build([p2pkh(to)], to), plan.coins, self.key)
            answer = (await self._chain.broadcast([tx.serialize()]))[0]
            if answer.outcome in GOOD:
                self.saw(tx)
        return tx if answer.outcome in GOOD else None

    async def _stuck(self, txid: Txid) -> list[Stuck]:
        """A transaction and those it needs, as far as no block holds them."""
        found: dict[Txid, Stuck] = {}
        pending = [txid]
        while pending:
            one = pending.pop()
            place, raw = await self._chain.place(one), await self._chain.transaction(one)
            if one in found or place is None or place.height is not None or raw is None:
                continue
            tx = Tx.parse(raw)
            spent = sum([await self._value(i.outpoint) for i in tx.inputs])
            found[one] = Stuck(len(raw), spent - sum(output.value for output in tx.outputs))
            pending += [i.outpoint.txid for i in tx.inputs]
        return list(found.values())

    async def _value(self, outpoint: Outpoint) -> int:
        raw = await self._chain.transaction(outpoint.txid)
        if raw is None:
            raise ChainError("the chain does not know what a transaction in its pool spends: try again later")
        return Tx.parse(raw).outputs[outpoint.index].value

    async def _prove(self, tx: Tx) -> Beef:
        """The transaction with its ancestors down to those that a block holds."""
        sources: dict[Txid, Tx] = {}
        proofs: dict[Txid, MerklePath] = {}
        pending = [i.outpoint.txid for i in tx.inputs]
        while pending:
            txid = pending.pop()
            if txid in sources:
                continue
            raw = await self._chain.transaction(txid)
            if raw is None:
                raise ChainError("the chain does not know a transaction that our coins come from: try again later")
            sources[txid] = Tx.parse(raw)
            path = await self._chain.merkle_path(txid)
            if path is not None:
                proofs[txid] = MerklePath.parse(path)
            else:
                pending += [i.outpoint.txid for i in sources[txid].inputs]
        return Beef.build(tx, sources, proofs)
