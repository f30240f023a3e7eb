"""ARC, a transaction processor's HTTP API (bitcoin-sv/arc, pkg/api/arc.yaml of v1.5.9): transactions are handed to it,
and it is asked what became of them.

Trust: what it says about a transaction counts for that transaction only if it names its id, which we computed; whatever
it leaves out is not learned. Its Merkle paths are checked by the caller against our own headers, its fee is bounded by
the caller. It may well lose or hold back what it was given: another broadcaster gets the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bct.backends.verdicts import Verdict, of_arc
from bct.backends.web import TIMEOUT, Answer, Web
from bct.bitcoin.chain import Outcome
from bct.errors import ChainError
from bct.units import Txid, txid_hex

_WAIT_SECONDS = 5
"""How long ARC holds its answer back for a node's word."""


@dataclass(frozen=True, slots=True)
class Callback:
    """Where ARC may tell us that something happened, and what it has to show there."""

    url: str
    token: str


@dataclass(frozen=True, slots=True)
class ArcStatus:
    """What ARC knows of a transaction. path: the BUMP (BRC-74) it shows, unchecked; empty while it is not mined."""

    verdict: Verdict
    path: bytes


class Arc:
    """One ARC. Use `close` when done."""

    def __init__(self, url: str, key: str = "", callback: Callback | None = None, timeout: float = TIMEOUT) -> None:
        """key: of its owner, if it wants one. timeout: seconds for an answer. Raises ConfigError."""
        self._web = Web("ARC", url, {"Authorization": f"Bearer {key}"} if key else {}, timeout=timeout)
        self._headers = {"X-WaitFor": "SEEN_ON_NETWORK", "X-MaxTimeout": str(_WAIT_SECONDS)}
        if callback:
            self._headers |= {
                "X-CallbackUrl": callback.url,
                "X-CallbackToken": callback.token,
                "X-FullStatusUpdates": "true",
            }

    @property
    def name(self) -> str:
        return self._web.name

    async def submit(self, raws: Mapping[Txid, bytes]) -> dict[Txid, Verdict]:
        """One word about each. raws: in extended format if possible, parents before children."""
        if not raws:
            return {}
        try:
            body = [{"rawTx": raw.hex()} for raw in raws.values()]
            return verdicts(await self._web.post("/v1/txs", body, self._headers), list(raws))
        except ChainError as error:
            return dict.fromkeys(raws, Verdict(Outcome.UNREACHABLE, str(error)))

    async def status(self, txid: Txid) -> ArcStatus | None:
        """None when it was never given this transaction. Raises ChainError."""
        answer = await self._web.get(f"/v1/tx/{txid_hex(txid)}")
        if answer.status == 404:
            return None
        item = answer.json()
        if answer.status != 200 or not isinstance(item, dict) or item.get("txid") != txid_hex(txid):
            raise answer.refused("is no status of the transaction that was asked for")
        return ArcStatus(of_arc(item, txid_hex(txid)), _path(item))

    async def fee_rate(self) -> int:
        """Satoshis per 1,000 bytes, rounded up. Raises ChainError."""
        answer = await self._web.get("/v1/policy")
        found = answer.json()
        match found:
            case {"policy": {"miningFee": {"satoshis": int(satoshis), "bytes": int(size)}}} if size > 0 <= satoshis:
                return -(-satoshis * 1000 // size)
        raise answer.refused("names no mining fee")

    async def close(self) -> None:
        await self._web.close()


def verdicts(answer: Answer, txids: Sequence[Txid]) -> dict[Txid, Verdict]:
    """What an answer to /v1/txs says about each of these. ARC names those it took before those it refused, whatever
    order they came in, so they are found by their ids; only of a lone one it may speak without. Raises ChainError.

    The description has a list under "transactions", its examples and the program have the list alone: both are read.
    """
    found = answer.json()
    if isinstance(found, dict):
        found = found.get("transactions", [found])
    items = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    by_id = {item["txid"]: item for item in items if isinstance(item.get("txid"), str)}
    rest = _unnamed(items, alone=len(txids) == 1)
    return {txid: of_arc(by_id.get(txid_hex(txid), rest), txid_hex(txid)) for txid in txids}


def _unnamed(items: Sequence[Mapping[str, Any]], *, alone: bool) -> Mapping[str, Any]:
    """What ARC says about a transaction whose id is nowhere: nothing, unless it was the only one it was given."""
    if alone and len(items) == 1 and not items[0].get("txid"):
        return items[0]
    said = "; ".join(str(item.get("detail") or item.get("title")) for item in items if not item.get("txid"))
    return {"title": "ARC does not speak of it", "detail": said}


def _path(item: Mapping[str, Any]) -> bytes:
    try:
        return bytes.fromhex(str(item.get("merklePath") or ""))
    except ValueError:
        return b""
