"""WhatsOnChain's HTTP API (docs.taal.com, "WhatsOnChain"): an index of the chain, and a broadcaster beside ARC.

Trust: it is asked what only an index can know, which transactions touch a script and what spends an output. It can hide
and be late (its indexes lag behind a broadcast by a minute or more), it cannot invent: bytes must hash to the id that
was asked for; that a spender spends and that a Merkle path leads to a header of ours is checked by `ChainServices`.

Three questions a second are free, more with a key; `Web` keeps to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bct.backends.verdicts import Verdict, of_woc
from bct.backends.web import TIMEOUT, Answer, Web
from bct.bitcoin.chain import HistoryItem, Network, Outcome
from bct.bitcoin.keys import sha256, sha256d
from bct.errors import ChainError, ConfigError
from bct.units import Outpoint, Txid, txid_hex

_MAX_PAGES = 100


@dataclass(frozen=True, slots=True)
class Branch:
    """A Merkle proof in TSC format: a transaction's place in a block, and its siblings from the bottom up (None: paired
    with itself)."""

    block: bytes
    index: int
    siblings: tuple[bytes | None, ...]


class Woc:
    """One network's WhatsOnChain. `web`: for whoever has other questions to it. Use `close` when done."""

    def __init__(self, url: str, network: Network, key: str = "", rate: float = 3.0, timeout: float = TIMEOUT) -> None:
        """url: up to the network and without it, https://api.whatsonchain.com/v1/bsv. rate: questions a second.
        timeout: seconds for an answer. Raises ConfigError."""
        if rate <= 0:
            raise ConfigError(f"WhatsOnChain is asked a number of questions a second, got {rate}")
        headers = {"woc-api-key": key} if key else {}
        self.web = Web("WhatsOnChain", f"{url.rstrip('/')}/{network.name.lower()}", headers, 1 / rate, timeout)

    @property
    def name(self) -> str:
        return self.web.name

    # -- transactions -------------------------------------------------------------------------------------------------

    async def broadcast(self, raw: bytes) -> Verdict:
        try:
            answer = await self.web.post("/tx/raw", {"txhex": raw.hex()})
        except ChainError as error:
            return Verdict(Outcome.UNREACHABLE, str(error))
        return of_woc(answer.status, answer.text, txid_hex(Txid(sha256d(raw))))

    async def knows(self, txid: Txid) -> bool:
        """Whether it is in a pool or a block. Raises ChainError."""
        answer = await self.web.post("/txs/status", {"txids": [txid_hex(txid)]})
        match answer.good().json():
            case [{"txid": str(named), **rest}] if named == txid_hex(txid):
                return not rest.get("error")
        raise answer.refused("is no status of the transaction that was asked for")

    async def transaction(self, txid: Txid) -> bytes | None:
        """Its bytes, from pool or block. Raises ChainError."""
        answer = await self.web.get(f"/tx/{txid_hex(txid)}/hex")
        if answer.status == 404:
            return None
        raw = answer.good().hex(answer.text.strip())
        if sha256d(raw) != txid:
            raise answer.refused(f"is another transaction than {txid_hex(txid)}")
        return raw

    async def spent(self, outpoint: Outpoint) -> tuple[Txid, int] | None:
        """The input that spends it, in pool or block, unchecked; None also for an output that does not exist. Raises
        ChainError."""
        answer = await self.web.get(f"/tx/{txid_hex(outpoint.txid)}/{outpoint.index}/spent")
        if answer.status == 404:
            return None
        match answer.good().json():
            case {"txid": str(txid), "vin": int(index)} if index >= 0:
                return answer.txid(txid), index
        raise answer.refused("is no spender")

    async def branch(self, txid: Txid) -> Branch | None:
        """What proves it mined, unchecked; None while it is not. Raises ChainError."""
        answer = await self.web.get(f"/tx/{txid_hex(txid)}/proof/tsc")
        if answer.status == 404:
            return None
        found = answer.good().json()
        match found[0] if isinstance(found, list) and found else found:
            case None | []:
                return None
            case {"index": int(index), "target": str(block), "nodes": list(nodes)} if index >= 0 and len(nodes) < 64:
                siblings = tuple(None if node == "*" else answer.txid(str(node)) for node in nodes)
                return Branch(answer.txid(block), index, siblings)
        raise answer.refused("is no Merkle proof")

    async def height_of(self, block: bytes) -> int | None:
        """Where it says that a block is, unchecked; None for one that it does not know. Raises ChainError."""
        answer = await self.web.get(f"/block/{block[::-1].hex()}/header")
        if answer.status == 404:
            return None
        match answer.good().json():
            case {"height": int(height)} if height >= 0:
                return height
        raise answer.refused("is no header")

    # -- scripts ------------------------------------------------------------------------------------------------------

    async def history(self, script: bytes) -> list[HistoryItem]:
        """What pays the script or spends from it, oldest first, then the pool's. Raises ChainError.

        The pool is read first: what is mined in between is then seen twice and not missed.
        """
        # The hash is written backwards, as Electrum does; the documentation's text does not say so, its examples do.
        path = f"/script/{sha256(script)[::-1].hex()}"
        pool = [item.txid async for item in self._pages(f"{path}/unconfirmed/history")]
        mined = {item.txid: item.height async for item in self._pages(f"{path}/confirmed/history")}
        ordered = sorted(mined.items(), key=lambda item: item[1] or 0)
        waiting = [HistoryItem(txid, None) for txid in pool if txid not in mined]
        return [*(HistoryItem(txid, height) for txid, height in ordered), *waiting]

    async def _pages(self, path: str) -> AsyncIterator[HistoryItem]:
        token = ""
        for _ in range(_MAX_PAGES):
            answer = await self.web.get(f"{path}?token={quote(token)}" if token else path)
            if answer.status == 404:  # it has never seen the script
                return
            found = answer.good().json()
            if not isinstance(found, dict) or found.get("error") or not isinstance(found.get("result"), list):
                raise answer.refused("is no history")
            for item in found["result"]:
                yield _item(answer, item)
            token = str(found.get("nextPageToken") or "")
            if not token:
                return
        raise ChainError(f"{self.name}: the history of one script has more than {_MAX_PAGES} pages")

    async def close(self) -> None:
        await self.web.close()


def _item(answer: Answer, item: Any) -> HistoryItem:
    match item:
        case {"tx_hash": str(txid), **rest}:
            height = rest.get("height")
            return HistoryItem(answer.txid(txid), height if isinstance(height, int) and height > 0 else None)
    raise answer.refused("is no history")
