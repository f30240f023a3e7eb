"""ARC as its description and its errors page have it (bitcoin-sv/arc v1.5.9), in front of a real node in regtest.

What ARC itself checks is checked here (format, sums, fee), everything else is the node's word put into ARC's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bct.backends.chain_node import ChainNode
from bct.backends.node_rpc import RpcRefusalError
from bct.bitcoin import extended
from bct.bitcoin.tx import Tx, TxOutput
from bct.errors import RemoteProtocolError
from bct.units import Txid, txid_from_hex, txid_hex
from tests.switch import Switch

_SCRIPT = "mandatory-script-verify-flag-failed"
_FEE = ("insufficient priority", "mempool min fee")
_TITLES = {
    460: "Not extended format",
    461: "Malformed transaction",
    462: "Invalid inputs",
    463: "Malformed transaction",
    464: "Invalid outputs",
    465: "Fee too low",
}


class _RefusedError(Exception):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass
class ArcService:
    """chain: the node behind it. key: what has to be shown. Its faults are switched with `switch`."""

    chain: ChainNode
    key: str = ""
    given: dict[Txid, Mapping[str, str]] = field(default_factory=dict)
    """Transactions that were taken here, with the headers they came with."""
    plain: int = 0
    """How many came without what they spend."""

    def __post_init__(self) -> None:
        routes = [
            Route("/v1/policy", self._policy),
            Route("/v1/tx/{txid}", self._status),
            Route("/v1/txs", self._submit, methods=["POST"]),
        ]
        self.switch = Switch(Starlette(routes=routes))

    # -- the API ------------------------------------------------------------------------------------------------------

    async def _policy(self, request: Request) -> Response:
        fee = (await self.chain.rpc.call("getsettings"))["minminingtxfee"]
        policy = {
            "maxscriptsizepolicy": 100_000_000,
            "maxtxsigopscountspolicy": 4_294_967_295,
            "maxtxsizepolicy": 100_000_000,
            "miningFee": {"satoshis": int(fee * 10**8), "bytes": 1000},
            "standardFormatSupported": True,
        }
        return JSONResponse({"policy": policy, "timestamp": "2026-01-01T00:00:00Z"})

    async def _status(self, request: Request) -> Response:
        txid = txid_from_hex(request.path_params["txid"])
        if txid not in self.given:
            return JSONResponse(_error(404, "transaction not found", None), 404)
        return JSONResponse(await self._known(txid))

    async def _submit(self, request: Request) -> Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return Response(status_code=401)
        taken, refused = [], []
        for item in json.loads(await request.body()):
            raw = bytes.fromhex(item["rawTx"])
            try:
                tx, spent = await self._read(raw)
            except RemoteProtocolError as error:
                return JSONResponse(_error(400, str(error), None), 400)
            try:
                taken.append(await self._take(tx, spent, request.headers))
            except _RefusedError as error:
                refused.append(_error(error.code, str(error), txid_hex(tx.txid)))
        return JSONResponse([*({"status": 200, "title": "OK"} | one for one in taken), *refused])

    async def call_back(self, txid: Txid) -> int:
        """As when its status has changed; what the receiver answered."""
        told = self.given[txid]
        async with httpx.AsyncClient(trust_env=False) as client:
            shown = {"Authorization": f"Bearer {told['x-callbacktoken']}"}
            answer = await client.post(told["x-callbackurl"], json=await self._known(txid), headers=shown)
        return answer.status_code

    # -- what it checks itself ----------------------------------------------------------------------------------------

    async def _read(self, raw: bytes) -> tuple[Tx, list[TxOutput | None]]:
        if raw[4:10] == extended.MARKER:
            tx, spent = extended.parse(raw)
            return tx, list(spent)
        self.plain += 1
        tx = Tx.parse(raw)
        return tx, [await self._output(i.outpoint.txid, i.outpoint.index) for i in tx.inputs]

    async def _output(self, txid: Txid, index: int) -> TxOutput | None:
        raw = await self.chain.transaction(txid)
        outputs = Tx.parse(raw).outputs if raw else ()
        return outputs[index] if index < len(outputs) else None

    async def _take(self, tx: Tx, spent: list[TxOutput | None], told: Mapping[str, str]) -> dict[str, Any]:
        txid = tx.txid
        if txid not in self.given:
            await self._check(tx, spent)
        found = await self._hand_on(tx, txid)
        self.given[txid] = dict(told)
        return found

    async def _check(self, tx: Tx, spent: list[TxOutput | None]) -> None:
        if None in spent:
            raise _RefusedError(460, "arc error 460: parent transaction not found")
        fee = sum(output.value for output in spent if output) - sum(output.value for output in tx.outputs)
        if fee < 0:
            raise _RefusedError(462, "arc error 462: transaction input total satoshis is less than output total")
        rate = await self.chain.fee_rate()
        if fee * 1000 < len(tx.serialize()) * rate:
            raise _RefusedError(465, f"arc error 465: minimum expected fee is not met, actual fee: {fee}")

    # -- what the node says, in ARC's words ---------------------------------------------------------------------------

    async def _hand_on(self, tx: Tx, txid: Txid) -> dict[str, Any]:
        said = await self.chain.rpc.call("sendrawtransactions", [{"hex": tx.serialize().hex()}])
        for refused in said.get("invalid", ()):
            return await self._refusal(txid, refused)
        return await self._known(txid)

    async def _refusal(self, txid: Txid, refused: Mapping[str, Any]) -> dict[str, Any]:
        reason = str(refused["reject_reason"])
        others = [one["txid"] for one in refused.get("collidedWith", ())]
        if reason.startswith(_SCRIPT):
            raise _RefusedError(461, f"arc error 461: {reason}")
        if any(word in reason for word in _FEE):
            raise _RefusedError(465, f"arc error 465: {reason}")
        if reason == "missing-inputs":
            known = await self._known(txid)
            return known if known["txStatus"] == "MINED" else known | {"txStatus": "SEEN_IN_ORPHAN_MEMPOOL"}
        if others or reason == "txn-mempool-conflict":
            status = {"txStatus": "DOUBLE_SPEND_ATTEMPTED", "competingTxs": others}
        else:
            status = {"txStatus": "REJECTED", "extraInfo": reason}
        return _fields(txid) | status

    async def _known(self, txid: Txid) -> dict[str, Any]:
        try:
            found = await self.chain.rpc.call("getrawtransaction", txid_hex(txid), True)
        except RpcRefusalError:
            return _fields(txid) | {"txStatus": "SENT_TO_NETWORK"}  # parked, or gone
        if "blockhash" not in found:
            return _fields(txid) | {"txStatus": "SEEN_ON_NETWORK"}
        path = await self.chain.merkle_path(txid)
        if path is None:
            return _fields(txid) | {"txStatus": "MINED_IN_STALE_BLOCK"}
        mined = {"blockHash": found["blockhash"], "blockHeight": found["blockheight"], "merklePath": path.hex()}
        return _fields(txid) | mined | {"txStatus": "MINED"}


def _fields(txid: Txid) -> dict[str, Any]:
    return {
        "timestamp": "2026-01-01T00:00:00Z",
        "txid": txid_hex(txid),
        "blockHash": "",
        "blockHeight": 0,
        "merklePath": "",
        "extraInfo": "",
        "competingTxs": None,
    }


def _error(code: int, detail: str, txid: str | None) -> dict[str, Any]:
    return {
        "type": f"https://bitcoin-sv.github.io/arc/#/errors?id=_{code}",
        "title": _TITLES.get(code, "Generic error"),
        "status": code,
        "detail": detail,
        "instance": None,
        "txid": txid,
        "extraInfo": detail,
    }
