"""What the chain says about a payment channel's outpoint, and what that means for the channel.

Who could cheat: nobody here; but the chain takes things back. So nothing is concluded from what was heard earlier: each
look asks again, and what is asked for is final only once it is `DEEP`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bct.bitcoin.chain import Chain
from bct.bitcoin.tx import FINAL, Tx
from bct.channel.state import Event, State
from bct.units import Outpoint

DEEP = 100
"""Blocks on top of a transaction after which no reorganisation is expected to take it back."""
_STATE = {Event.SETTLEMENT_SEEN: State.SETTLED, Event.REFUND_SEEN: State.REFUNDED}


@dataclass(frozen=True, slots=True)
class Sight:
    """What spends an outpoint now: nothing when `tx` is None. height: of its block; None while no block holds it."""

    tx: Tx | None
    height: int | None

    @property
    def waits(self) -> bool:
        """There is a spend, and it waits for a block."""
        return self.tx is not None and self.height is None

    def meaning(self, state: State, tip: int) -> Event | None:
        """What it means for a channel in this state; None when nothing. tip: height of the best block."""
        if self.tx is None:
            return Event.UNSEEN if state in _STATE.values() else None
        event = Event.SETTLEMENT_SEEN if self.tx.inputs[0].sequence == FINAL else Event.REFUND_SEEN
        deep = self.height is not None and tip - self.height >= DEEP
        return Event.BURIED if deep and state is _STATE[event] else event


UNSPENT = Sight(None, None)


async def look_at(chain: Chain, outpoint: Outpoint) -> Sight | None:
    """None while the chain is of two minds: it names a spender that it does not have. Raises ChainError."""
    spend = await chain.spender(outpoint)
    if spend is None:
        return UNSPENT
    raw = await chain.transaction(spend.txid)
    return None if raw is None else Sight(Tx.parse(raw), spend.height)


async def is_lost(chain: Chain, funding: Sequence[bytes], tip: int) -> bool:
    """Whether the last of these transactions can never be mined: a coin that they need was spent by another one, so
    deep that no reorganisation brings it back. funding: raw, parents first. Raises ChainError."""
    txs = {tx.txid: tx for tx in map(Tx.parse, funding)}
    if await chain.place(next(reversed(txs))) is not None:
        return False
    for outpoint in [i.outpoint for tx in txs.values() for i in tx.inputs if i.outpoint.txid not in txs]:
        spend = await chain.spender(outpoint)
        if spend and spend.txid not in txs and spend.height is not None and tip - spend.height >= DEEP:
            return True
    return False
