"""`Chain` over services on the internet: ARC, WhatsOnChain, and our own block headers.

Who is believed about what:

* **Which blocks there are: nobody.** `Headers` keeps the chain with the most work, each header checked.
* **That a transaction is mined: nobody.** It is mined when a Merkle path, whoever shows it, leads from its id to the
  root in one of these headers; a height is said of nothing else, but for the wallet's list (below).
* **A transaction's bytes, what it spends and pays: nobody.** Bytes hash to the id they were asked for; a spender is
  looked at and spends.
* **That a transaction is in a pool: either of the two,** ARC or WhatsOnChain. Both are handed it, with the id computed
  by us, and what each of them said goes to the caller (`Broadcast.said`), who may want two.
* **That it is in conflict, or can never be mined: either of the two, at once** as to the conflict; a bare no counts
  when neither says yes (`verdicts.together`).
* **That an output is not spent, that a script has no more history: WhatsOnChain alone.** It can hide and be late. Who
  waits for a spend therefore asks again and again and keeps two hours of margin. Its lateness after a broadcast of ours
  is bridged for `LAG` seconds by what ARC says.
* **Heights in `history`: WhatsOnChain's word.** The wallet's balance rests on them and nothing else does: a coin is
  proven when it is spent.
* **The fee: ARC,** up to `HIGHEST_FEE`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from bct.backends.arc import Arc, ArcStatus
from bct.backends.headers import Headers
from bct.backends.news import News, polled_events
from bct.backends.proofs import Proofs
from bct.backends.recent import Recent
from bct.backends.verdicts import Verdict, together
from bct.backends.woc import Woc
from bct.bitcoin import extended
from bct.bitcoin.chain import GOOD, Broadcast, ChainEvent, Header, HistoryItem, Network, Outcome, Place, Seen, Spend
from bct.bitcoin.keys import sha256d
from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.proof import is_final
from bct.bitcoin.tx import Tx, TxOutput
from bct.errors import ChainError, RemoteProtocolError
from bct.units import Outpoint, Txid, txid_hex

LAG = 120.0
"""Seconds in which WhatsOnChain may not know yet what was handed to it."""
POLL = 15.0
HIGHEST_FEE = 10_000
"""Satoshis per 1,000 bytes: a hundred times what miners ask. A refund or payment never costs more."""
_KEPT = 2_000
_LARGEST_KEPT = 100_000
_EXPIRY_MIN = 500_000_000  # lock times below are heights


class ChainServices:
    """The services of one network. Use `close` when done."""

    def __init__(self, network: Network, arc: Arc, woc: Woc, headers: Headers, news: News, poll: float = POLL) -> None:
        """poll: seconds between two looks for a new block."""
        self._network = network
        self._arc = arc
        self._woc = woc
        self._headers = headers
        self._news = news
        self._poll = poll
        self._raws: Recent[Txid, bytes] = Recent(_KEPT)
        """Bytes of what a pool or a block has, or had."""
        self._proofs = Proofs(woc, headers)
        self._handed: Recent[Outpoint, tuple[float, Txid, int]] = Recent(_KEPT)
        """What we handed in lately spends these: when, and by which input."""

    @property
    def network(self) -> Network:
        return self._network

    # -- handing in ---------------------------------------------------------------------------------------------------

    async def broadcast(self, raws: Sequence[bytes]) -> list[Broadcast]:
        # By id: what comes twice is handed in once.
        answers: dict[Txid, Broadcast] = {}
        txs: dict[Txid, Tx] = {}
        txids = [Txid(sha256d(raw)) for raw in raws]
        for txid, raw in zip(txids, raws, strict=True):
            try:
                txs[txid] = Tx.parse(raw)
            except RemoteProtocolError as error:
                answers[txid] = Broadcast(txid, Outcome.INVALID, str(error))
        if txs:
            answers |= await self._hand_in(txs)
        return [answers[txid] for txid in txids]

    async def _hand_in(self, txs: Mapping[Txid, Tx]) -> dict[Txid, Broadcast]:
        final = await self._final(txs)
        by_arc = await self._arc.submit(await self._extended(final))
        # One after the other: a node that meets a transaction by two doors at once calls it a double spend of itself.
        by_woc = {txid: await self._woc.broadcast(tx.serialize()) for txid, tx in final.items()}
        answers = {}
        for txid, tx in txs.items():
            if txid not in final:
                answers[txid] = Broadcast(txid, Outcome.PARKED, "not final yet")
                continue
            arc, woc = by_arc[txid], by_woc[txid]
            if (arc.unclear or woc.unclear) and together((arc, woc)).outcome not in GOOD:
                woc = together((woc, await self._look_at_coins(tx, txid)))
            whole = together((arc, woc))
            said = ((self._arc.name, arc.outcome), (self._woc.name, woc.outcome))
            answers[txid] = Broadcast(txid, self._note(txid, tx, whole.outcome), whole.detail, said)
        return answers

    async def _final(self, txs: Mapping[Txid, Tx]) -> dict[Txid, Tx]:
        """Those that can be mined in the next block. The others a node would park, and not every service says so."""
        waiting = {txid for txid, tx in txs.items() if not is_final(tx)}
        if not waiting:
            return dict(txs)
        try:
            tip = await self._headers.sync()
        except ChainError:
            return dict(txs)
        return {txid: tx for txid, tx in txs.items() if txid not in waiting or _is_due(tx.locktime, tip)}

    async def _extended(self, txs: Mapping[Txid, Tx]) -> dict[Txid, bytes]:
        """In extended format, which ARC wants; as they are where a parent is not to be had."""
        raws = {}
        for txid, tx in txs.items():
            spent = [await self._output(i.outpoint, txs) for i in tx.inputs]
            there = [output for output in spent if output]
            raws[txid] = extended.serialize(tx, there) if len(there) == len(spent) else tx.serialize()
        return raws

    async def _output(self, outpoint: Outpoint, others: Mapping[Txid, Tx]) -> TxOutput | None:
        parent = others.get(outpoint.txid)
        if parent is None:
            try:
                raw = await self.transaction(outpoint.txid)
            except ChainError:
                return None
            parent = Tx.parse(raw) if raw else None
        return parent.outputs[outpoint.index] if parent and outpoint.index < len(parent.outputs) else None

    async def _look_at_coins(self, tx: Tx, txid: Txid) -> Verdict:
        """What WhatsOnChain's index makes of a transaction that somebody lacks coins for."""
        try:
            for spent in tx.inputs:
                if spend := await self.spender(spent.outpoint):
                    return Verdict(
                        Outcome.KNOWN if spend.txid == txid else Outcome.CONFLICT, f"{spent.outpoint} is spent"
                    )
                if await self._output(spent.outpoint, {}) is None:
                    return Verdict(Outcome.INVALID, f"there is no {spent.outpoint}")
        except ChainError as error:
            return Verdict(Outcome.UNREACHABLE, str(error))
        return Verdict(Outcome.UNREACHABLE, "its coins have come in by now")

    def _note(self, txid: Txid, tx: Tx, outcome: Outcome) -> Outcome:
        """Remembers what is good. A second time it is known, which ARC does not tell."""
        if outcome not in GOOD:
            return outcome
        known = txid in self._raws
        self._keep(txid, tx.serialize())
        now = asyncio.get_running_loop().time()
        for index, spent in enumerate(tx.inputs):
            self._handed[spent.outpoint] = (now, txid, index)
        self._news.seen(Seen(txid, tx.serialize()))
        return Outcome.KNOWN if known else outcome

    # -- asking about a transaction -----------------------------------------------------------------------------------

    async def place(self, txid: Txid) -> Place | None:
        status = None
        path = await self._proofs.kept(txid)
        if path is None:
            status = await self._status(txid)
            path = await self._proofs.find(txid, status.path if status else b"")
        if path:
            tip = await self._headers.sync()
            return Place(path.height, tip.height - path.height + 1)
        pooled = (status is not None and status.verdict.outcome in GOOD) or await self._woc.knows(txid)
        return Place(None, 0) if pooled else None

    async def transaction(self, txid: Txid) -> bytes | None:
        if kept := self._raws.get(txid):
            return kept
        raw = await self._woc.transaction(txid)
        if raw is not None:
            self._keep(txid, raw)
        return raw

    def _keep(self, txid: Txid, raw: bytes) -> None:
        if len(raw) <= _LARGEST_KEPT:
            self._raws[txid] = raw

    async def merkle_path(self, txid: Txid) -> bytes | None:
        path = await self._proof(txid)
        return path.serialize() if path else None

    async def _proof(self, txid: Txid) -> MerklePath | None:
        """None while it is not mined."""
        if kept := await self._proofs.kept(txid):
            return kept
        status = await self._status(txid)
        return await self._proofs.find(txid, status.path if status else b"")

    async def _status(self, txid: Txid) -> ArcStatus | None:
        """What ARC knows, which is only what it was given; None also when it cannot be asked."""
        try:
            return await self._arc.status(txid)
        except ChainError:
            return None

    # -- asking an index ----------------------------------------------------------------------------------------------

    async def history(self, script: bytes) -> list[HistoryItem]:
        return await self._woc.history(script)

    async def spender(self, outpoint: Outpoint) -> Spend | None:
        found = await self._woc.spent(outpoint)
        if found is None:
            found = await self._just_handed_in(outpoint)
        if found is None:
            return None
        txid, index = found
        raw = await self.transaction(txid)
        inputs = Tx.parse(raw).inputs if raw else ()
        if not any(i.outpoint == outpoint for i in inputs[index : index + 1]):
            raise ChainError(f"{self._woc.name} names {txid_hex(txid)} as the spender of {outpoint}, which it is not")
        path = await self._proof(txid)
        return Spend(txid, index, path.height if path else None)

    async def _just_handed_in(self, outpoint: Outpoint) -> tuple[Txid, int] | None:
        """What we handed in a moment ago, and ARC has: the index is late."""
        when, txid, index = self._handed.get(outpoint) or (-LAG, Txid(b""), 0)
        if asyncio.get_running_loop().time() - when >= LAG:
            return None
        status = await self._status(txid)
        return (txid, index) if status and status.verdict.outcome in GOOD else None

    # -- the chain ----------------------------------------------------------------------------------------------------

    async def tip(self) -> Header:
        return await self._headers.sync()

    async def header(self, height: int) -> Header | None:
        return await self._headers.header(height)

    async def fee_rate(self) -> int:
        rate = await self._arc.fee_rate()
        if rate > HIGHEST_FEE:
            raise ChainError(f"{self._arc.name} asks for {rate} sat/kB, more than {HIGHEST_FEE} are not believed")
        return rate

    def events(self) -> AsyncIterator[ChainEvent]:
        return polled_events(self._news, self.tip, self._poll)

    async def close(self) -> None:
        await self._arc.close()
        await self._woc.close()


def _is_due(locktime: int, tip: Header) -> bool:
    """Whether a lock time is over in the block after `tip`."""
    return locktime < tip.median_time if locktime >= _EXPIRY_MIN else locktime <= tip.height
