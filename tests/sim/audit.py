"""The end of time: everything has expired, everything is buried, and every satoshi must be where it belongs.

Read off the chain alone, but for what was promised: who signed what, who accepted what.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import FINAL, Tx
from bct.channel.lock import REFUND_SIZE, Lock
from bct.channel.state import FINAL_STATES
from bct.channel.store import SavedPayee, SavedPayer
from bct.channel.transactions import Lines, Params, Totals, fee_at, outputs
from bct.units import Outpoint
from bct.wallet.coins import fee_for, is_economic
from tests.sim.chain import SimNode
from tests.sim.host import Host
from tests.sim.witness import Witness, must

UNMINED_MOST = 1_000
"""Satoshis that a payee accepts over a funding that no block holds yet."""


@dataclass(frozen=True, slots=True)
class Locked:
    """A channel that the chain knows, and what ended it."""

    outpoint: Outpoint
    capacity: int
    lock: Lock
    funding: Tx
    end: Tx | None

    @property
    def is_settled(self) -> bool:
        return self.end is not None and self.end.inputs[0].sequence == FINAL

    def back(self, params: Params) -> int:
        """Satoshis that came back to the payer."""
        mine = p2pkh(params.change)
        return sum(o.value for o in self.end.outputs if o.script == mine or not self.is_settled) if self.end else 0


class Audit:
    def __init__(self, node: SimNode, witness: Witness, hosts: list[Host]) -> None:
        self._witness = witness
        self._hosts = hosts
        self._txs = dict(node.mined())
        self._spenders = {i.outpoint: tx for tx in self._txs.values() for i in tx.inputs}
        self.channels = {one.outpoint: one for one in self._locked()}

    def _locked(self) -> Iterator[Locked]:
        for txid, tx in self._txs.items():
            for index, output in enumerate(tx.outputs):
                lock = Lock.read(output.script)
                if lock:
                    outpoint = Outpoint(txid, index)
                    yield Locked(outpoint, output.value, lock, tx, self._spenders.get(outpoint))

    def check(self) -> None:
        for host in self._hosts:
            for payee in host.disk.books.payee.values():
                self._payee(host, payee)
            for payer in host.disk.books.payer.values():
                self._payer(host, payer)
            if host.coins:
                self._wallet(host)

    # -- who earns ----------------------------------------------------------------------------------------------------

    def _payee(self, host: Host, saved: SavedPayee) -> None:
        outpoint = saved.params.outpoint
        earned = self._witness.earnings[host.ip, outpoint]
        paid = sum(earned.totals.values())
        channel = self.channels.get(outpoint)
        must(saved.state in FINAL_STATES or not paid, f"{host}'s channel {outpoint} is {saved.state.value} for ever")
        if channel is None:
            must(paid <= UNMINED_MOST, f"{host} took {paid} sat over {outpoint}, which no block ever held")
        elif paid:
            must(channel.is_settled, f"{host} holds {paid} sat of {outpoint}, and it was not settled")
            lines = (saved.payees, *earned.lines)
            self._settlement(host, channel, saved.params, lines, self._since(outpoint, earned.vector()))

    def _since(self, outpoint: Outpoint, totals: Totals) -> list[Totals]:
        """What was accepted from these totals on: what came later than the disk's last word may count or not."""
        accepted = self._witness.accepted[outpoint]
        return [one for one in accepted if all(a >= b for a, b in zip(one, totals, strict=False))]

    def _settlement(self, host: Host, channel: Locked, params: Params, lines: Lines, allowed: list[Totals]) -> None:
        """Outputs equal the split at one of these totals."""
        assert channel.end
        splits = [outputs(params, lines[: len(totals)], totals) for totals in allowed]
        must(
            channel.end.outputs in splits,
            f"{host}'s channel {channel.outpoint} was settled with {[o.value for o in channel.end.outputs]}, "
            f"{[[o.value for o in split] for split in splits]} were due",
        )

    # -- who spends ---------------------------------------------------------------------------------------------------

    def _payer(self, host: Host, saved: SavedPayer) -> None:
        params = saved.params
        channel = self.channels.get(params.outpoint)
        if channel is None:
            return  # its coins were never spent, which the wallet shows
        refund_fee = fee_for(REFUND_SIZE, params.fee_rate)
        if channel.end is None:
            worth = channel.capacity - refund_fee
            must(not is_economic(worth, params.fee_rate), f"{host}'s {worth} sat in {params.outpoint} never came back")
            return
        must(saved.state in FINAL_STATES, f"{host}'s channel {params.outpoint} is {saved.state.value} for ever")
        if channel.is_settled:
            signed = self._witness.spendings[host.ip, params.outpoint].most
            fee = int(fee_at(params.fee_rate, len(channel.end.outputs) + 1))
        else:
            signed, fee = 0, int(refund_fee)
        back, least = channel.back(params), channel.capacity - signed - fee
        must(back >= least, f"{host} got {back} of {channel.capacity} sat back from {params.outpoint}, {least} are due")

    def _wallet(self, host: Host) -> None:
        """What the wallet says it has is what came in less what the chain says that it paid, to the satoshi."""
        cost = sum(self._cost(saved) for saved in host.disk.books.payer.values())
        balance = host.node.wallet.balance
        said = balance.confirmed + balance.pending + balance.reserved
        must(said == host.coins - cost, f"{host}'s wallet says {said} sat, the chain {host.coins - cost}")
        must(balance.reserved == 0, f"{host} keeps {balance.reserved} sat aside for nothing")
        must(cost <= host.allowed, f"{host} spent {cost} sat of {host.allowed} allowed")

    def _cost(self, saved: SavedPayer) -> int:
        """What a channel has cost its payer: pieces and fees."""
        channel = self.channels.get(saved.params.outpoint)
        if channel is None:
            return 0
        spent = sum(self._value(i.outpoint) for i in channel.funding.inputs)
        funding_fee = spent - sum(o.value for o in channel.funding.outputs)
        return funding_fee + channel.capacity - channel.back(saved.params)

    def _value(self, outpoint: Outpoint) -> int:
        return self._txs[outpoint.txid].outputs[outpoint.index].value
