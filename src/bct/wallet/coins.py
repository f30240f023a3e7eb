"""Which coins pay for a transaction, what it costs, and its signatures.

Trust: a payee takes a funding transaction before it is mined only if few unconfirmed ones stand behind it, all of which
pay their fee; so the fee is an upper bound of what the signatures may need, and coins with too much behind them wait.

A payment channel's keys derive from what input 0 spends, so coins are chosen before the lock is written:

    plan = select(wallet.spendable, [Want(capacity, lock_size)], rate)
    payer = keyring.key(channel_payer(plan.anchor, plan.vout(0)))
    tx = sign(plan.build([lock], change_hash), plan.coins, keyring.key)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bct.bitcoin.keys import PrivateKey
from bct.bitcoin.script import p2pkh, p2pkh_unlock
from bct.bitcoin.tx import Tx, TxInput, TxOutput, compact_size, sighash
from bct.errors import FundsError, LocalProtocolError
from bct.units import Outpoint, PubKeyHash, Satoshi, Txid
from bct.wallet.paths import Path

MAX_ANCESTORS = 5
"""Unconfirmed transactions that may stand behind one of ours: what a payee accepts."""
P2PKH_SIZE = 25
_INPUT_SIZE = 148  # outpoint 36, script length 1, signature 1 + 72, public key 1 + 33, sequence 4


@dataclass(frozen=True, slots=True)
class Coin:
    """An unspent P2PKH output of ours. path: of its key. height: of its block; None while no block holds it.
    ancestors: the unconfirmed transactions behind it, its own included."""

    outpoint: Outpoint
    value: Satoshi
    path: Path
    height: int | None
    ancestors: frozenset[Txid] = frozenset()
    reserved: bool = False


@dataclass(frozen=True, slots=True)
class Want:
    """An output to be paid for, whose script need not be known yet. Satoshis and bytes."""

    value: Satoshi
    script_size: int = P2PKH_SIZE

    @property
    def size(self) -> int:
        return 8 + len(compact_size(self.script_size)) + self.script_size


@dataclass(frozen=True, slots=True)
class Plan:
    """The coins of a transaction and where its outputs will stand. change: 0 when there is none."""

    coins: tuple[Coin, ...]
    wants: tuple[Want, ...]
    change: Satoshi
    fee: Satoshi
    order: tuple[int, ...]
    """The want at each place among the outputs; the number after the last want's is the change."""

    @property
    def anchor(self) -> Outpoint:
        """What input 0 spends: the keys of the transaction's payment channels derive from it."""
        return self.coins[0].outpoint

    def vout(self, want: int) -> int:
        """Where the output of a want stands."""
        return self.order.index(want)

    def build(self, scripts: Sequence[bytes], change_hash: PubKeyHash) -> Tx:
        """The unsigned transaction. scripts: one a want, in the wants' order and of the sizes said there."""
        if [len(script) for script in scripts] != [want.script_size for want in self.wants]:
            raise LocalProtocolError("the scripts are not of the sizes that coins were chosen for")
        outputs = [TxOutput(want.value, script) for want, script in zip(self.wants, scripts, strict=True)]
        outputs.append(TxOutput(self.change, p2pkh(change_hash)))
        inputs = tuple(TxInput(coin.outpoint) for coin in self.coins)
        return Tx(inputs, tuple(outputs[place] for place in self.order))


@dataclass(frozen=True, slots=True)
class Stuck:
    """A transaction that no block holds. size: bytes; paid: satoshis that it leaves to the miner."""

    size: int
    paid: int


def fee_for(size: int, rate: int) -> Satoshi:
    """Of `size` bytes at `rate` satoshis per 1,000, rounded up."""
    return Satoshi(-(-size * rate // 1000))


def is_economic(value: int, rate: int) -> bool:
    """Whether a coin is worth more than its input costs (15 sat at a rate of 100)."""
    return value > fee_for(_INPUT_SIZE, rate)


def select(coins: Iterable[Coin], wants: Sequence[Want], rate: int, order: Sequence[int] | None = None) -> Plan:
    """The fewest coins that pay for the wants at `rate` satoshis per 1,000 bytes, and of those the smallest; confirmed
    ones alone if they suffice. The same coins give the same plan. Reserved and uneconomic ones are left alone, and so
    is change that would be uneconomic: the fee takes it.

    order: of the outputs, as in `Plan.order` with the change counted, for callers who shuffle; else the change is last.
    Raises FundsError.
    """
    usable = [coin for coin in coins if not coin.reserved and is_economic(coin.value, rate)]
    confirmed = [coin for coin in usable if coin.height is not None]
    wanted = sum(want.value for want in wants)

    def fee(inputs: int, change: Sequence[Want] = ()) -> Satoshi:
        return fee_for(_size(inputs, [*wants, *change]), rate)

    chosen = _choose(confirmed, wanted, fee) or _choose(usable, wanted, fee)
    if chosen is None:
        raise _too_little(usable, wanted, fee(1))
    rest = sum(coin.value for coin in chosen) - wanted
    change = rest - fee(len(chosen), [Want(Satoshi(0))])
    if not is_economic(change, rate):
        change = 0
    places = _places(order, len(wants), with_change=change > 0)
    return Plan(tuple(chosen), tuple(wants), Satoshi(change), Satoshi(rest - change), places)


def sweep(coins: Iterable[Coin], rate: int) -> Plan:
    """All coins that are not reserved, dust too, into one P2PKH output: the plan's only want. Raises FundsError."""
    chosen = sorted((coin for coin in coins if not coin.reserved), key=_largest_first)
    total = sum(coin.value for coin in chosen)
    fee = fee_for(_size(len(chosen), [Want(Satoshi(0))]), rate)
    if total <= fee:
        raise FundsError(f"all coins together are {total} sat, and moving them costs {fee} sat")
    return Plan(tuple(chosen), (Want(Satoshi(total - fee)),), Satoshi(0), fee, (0,))


def lift(coin: Coin, stuck: Iterable[Stuck], rate: int) -> Plan | None:
    """A child that pays for its parents: it spends `coin`, an output of what is stuck, into the plan's only want, and
    leaves so much to the miner that all of it together pays `rate`. stuck: the coin's own transaction and those that it
    needs. None when nothing lacks, and when what would be left is not worth having."""
    waiting = list(stuck)
    lacking = fee_for(sum(one.size for one in waiting), rate) - sum(one.paid for one in waiting)
    fee = lacking + fee_for(_size(1, [Want(Satoshi(0))]), rate)
    value = coin.value - fee
    if lacking <= 0 or not is_economic(value, rate):
        return None
    return Plan((coin,), (Want(Satoshi(value)),), Satoshi(0), Satoshi(fee), (0,))


def sign(tx: Tx, coins: Sequence[Coin], key_of: Callable[[Path], PrivateKey]) -> Tx:
    """The transaction with each input unlocked. coins: what the inputs spend, in order."""
    return Tx(tuple(_signed(tx, n, coin, key_of(coin.path)) for n, coin in enumerate(coins)), tx.outputs)


def _signed(tx: Tx, index: int, coin: Coin, key: PrivateKey) -> TxInput:
    signature = key.sign(sighash(tx, index, p2pkh(key.hash), coin.value))
    return TxInput(coin.outpoint, p2pkh_unlock(signature, key.public))


def _size(inputs: int, wants: Sequence[Want]) -> int:
    """An upper bound, in bytes."""
    counts = len(compact_size(inputs)) + len(compact_size(len(wants)))
    return 8 + counts + inputs * _INPUT_SIZE + sum(want.size for want in wants)


def _choose(coins: Iterable[Coin], wanted: int, fee: Callable[[int], Satoshi]) -> list[Coin] | None:
    """Largest first, until one coin can pay the rest; of those that can, the smallest."""
    chosen: list[Coin] = []
    ancestors: frozenset[Txid] = frozenset()
    left = sorted(coins, key=_largest_first)
    while left := [coin for coin in left if len(ancestors | coin.ancestors) <= MAX_ANCESTORS]:
        lacking = wanted + fee(len(chosen) + 1) - sum(coin.value for coin in chosen)
        enough = [coin for coin in left if coin.value >= lacking]
        if enough:
            return [*chosen, enough[-1]]
        chosen.append(left.pop(0))
        ancestors |= chosen[-1].ancestors
    return None


def _largest_first(coin: Coin) -> tuple[int, Outpoint]:
    return -coin.value, coin.outpoint


def _places(order: Sequence[int] | None, wants: int, *, with_change: bool) -> tuple[int, ...]:
    every = range(wants + 1)
    order = every if order is None else order
    if sorted(order) != list(every):
        raise LocalProtocolError(f"an order of {wants} outputs and the change names each once, got {list(order)}")
    return tuple(place for place in order if with_change or place < wants)


def _too_little(usable: Sequence[Coin], wanted: int, fee: int) -> FundsError:
    there = sum(coin.value for coin in usable)
    waiting = sum(coin.value for coin in usable if coin.height is None)
    return FundsError(
        f"{wanted} sat and at least {fee} sat of fees are needed; {there} sat can be spent, "
        f"of which {waiting} sat wait for a block"
    )
