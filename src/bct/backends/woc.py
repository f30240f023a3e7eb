"""WhatsOnChain's HTTP API (docs.taal.com, "WhatsOnChain"): an index of the chain, and a broadcaster beside ARC.

Trust: it is asked what only an index can know, which transactions touch a script and what spends an output. It can hide
and be late (its indexes lag behind a broadcast by a minute or more), it cannot invent: bytes must hash to the id that
was asked for; that a spender spends and that a Merkle path leads to a header of ours is checked by `ChainServices`.

Three questions a second are free, more with a key; `Web` keeps to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bct.backends.bundle import Bundle
from bct.backends.verdicts import Verdict, of_woc
from bct.backends.web import TIMEOUT, Answer, Web
from bct.bitcoin import address
from bct.bitcoin.chain import HistoryItem, Network, Outcome
from bct.bitcoin.keys import sha256, sha256d
from bct.bitcoin.script import p2pkh_hash
from bct.errors import ChainError, ConfigError
from bct.units import Outpoint, Txid, txid_hex

_MAX_PAGES = 100
_MOST_ADDRESSES = 20


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
        self._network = network
        self._histories = Bundle(self._of_addresses, _MOST_ADDRESSES)

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
        """The input that spends it, in pool or block, unchecked; None also for an output that it does not know. Raises
        ChainError."""
        answer = await self.web.get(f"/tx/{txid_hex(outpoint.txid)}/{outpoint.index}/spent")
        if answer.status in (400, 404):  # unknown; known and unspent
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

        Addresses that are asked about at the same time go together, twenty in a question.
        """
        pubkey_hash = p2pkh_hash(script)
        short = await self._histories.get(address.encode(pubkey_hash, self._network)) if pubkey_hash else None
        return await self._of_script(script) if short is None else short

    async def _of_addresses(self, addresses: Sequence[str]) -> dict[str, list[HistoryItem] | None]:
        """None where there is more than goes into one answer."""
        answer = await self.web.post("/addresses/history/all", {"addresses": list(addresses)})
        found = answer.good().json()
        listed = found if isinstance(found, list) else []
        by_address = {str(one.get("address")): one for one in listed if isinstance(one, dict)}
        histories: dict[str, list[HistoryItem] | None] = {}
        for one in addresses:
            match by_address.get(one):
                case {"confirmed": dict(mined), "unconfirmed": dict(pool)}:
                    (first, more), (waiting, still_more) = _page(answer, mined), _page(answer, pool)
                    histories[one] = None if more or still_more else _ordered(first, waiting)
                case _:
                    raise answer.refused(f"says nothing about {one}")
        return histories

    async def _of_script(self, script: bytes) -> list[HistoryItem]:
        # The hash is written backwards, as Electrum does; the documentation's text does not say so, its examples do.
        path = f"/script/{sha256(script)[::-1].hex()}"
        pool = await self._pages(f"{path}/unconfirmed/history")  # first: what is mined in between is then seen twice
        return _ordered(await self._pages(f"{path}/confirmed/history"), pool)

    async def _pages(self, path: str) -> list[HistoryItem]:
        items: list[HistoryItem] = []
        token = ""
        for _ in range(_MAX_PAGES):
            answer = await self.web.get(f"{path}?token={quote(token)}" if token else path)
            if answer.status == 404:  # it has never seen the script
                return items
            page, token = _page(answer, answer.good().json())
            items += page
            if not token:
                return items
        raise ChainError(f"{self.name}: the history of one script has more than {_MAX_PAGES} pages")

    async def close(self) -> None:
        await self.web.close()


def _page(answer: Answer, found: Any) -> tuple[list[HistoryItem], str]:
    """Some entries of a history, and the token that asks for more."""
    match found:
        case {"result": list() | None as result, **rest} if not rest.get("error"):
            return [_item(answer, item) for item in result or ()], str(rest.get("nextPageToken") or "")
    raise answer.refused("is no history")


def _item(answer: Answer, item: Any) -> HistoryItem:
    match item:
        case {"tx_hash": str(txid), **rest}:
            height = rest.get("height")
            return HistoryItem(answer.txid(txid), height if isinstance(height, int) and height > 0 else None)
    raise answer.refused("is no history")


def _ordered(mined: Sequence[HistoryItem], pool: Sequence[HistoryItem]) -> list[HistoryItem]:
    """Each once, oldest first."""
    heights = {item.txid: item.height or 0 for item in mined}
    ordered = sorted(heights.items(), key=lambda item: item[1])
    waiting = [HistoryItem(item.txid, None) for item in pool if item.txid not in heights]
    return [*(HistoryItem(txid, height) for txid, height in ordered), *waiting]
