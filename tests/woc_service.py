"""WhatsOnChain as docs.taal.com describes it, and a Block Headers Service, in front of a real node in regtest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from bct.backends.chain_node import ChainNode
from bct.backends.node_rpc import RpcRefusalError
from bct.bitcoin import address
from bct.bitcoin.chain import HistoryItem, Network
from bct.bitcoin.headers import SIZE
from bct.bitcoin.keys import sha256
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Reader, Tx
from bct.units import Outpoint, Txid, txid_from_hex, txid_hex
from tests.switch import Switch

_PAGE, _SHORT = 3, 6
"""Entries of a history in one answer, and of one among many: few, so that tests turn pages."""
_FILE = 100
"""Headers in a file."""


@dataclass
class WocService:
    """chain: the node behind it. blind: ids of transactions that it does not know of. Its faults are switched with
    `switch`."""

    chain: ChainNode
    blind: set[Txid] = field(default_factory=set)
    scripts: dict[str, bytes] = field(default_factory=dict)
    scanned: int = -1

    def __post_init__(self) -> None:
        routes = [
            Route("/tx/raw", self._broadcast, methods=["POST"]),
            Route("/txs/status", self._statuses, methods=["POST"]),
            Route("/tx/{txid}/hex", self._hex),
            Route("/tx/{txid}/{vout:int}/spent", self._spent),
            Route("/tx/{txid}/proof/tsc", self._proof),
            Route("/addresses/history/all", self._histories, methods=["POST"]),
            Route("/script/{hash}/confirmed/history", self._mined_history),
            Route("/script/{hash}/unconfirmed/history", self._pool_history),
            Route("/block/headers", self._newest),
            Route("/block/headers/latest", self._latest),
            Route("/block/headers/resources", self._resources),
            Route("/block/headers/{file}", self._file),
            Route("/block/{block}/header", self._header),
        ]
        self.switch = Switch(Starlette(routes=[Mount("/v1/bsv/regtest", routes=routes)]))

    # -- transactions -------------------------------------------------------------------------------------------------

    async def _broadcast(self, request: Request) -> Response:
        raw = (await request.json())["txhex"]
        try:
            return JSONResponse(await self.chain.rpc.call("sendrawtransaction", raw))
        except RpcRefusalError as error:
            return PlainTextResponse(f"unexpected response code 500: {error.message}", 400)

    async def _found(self, txid: Txid) -> Any:
        if txid in self.blind:
            return None
        try:
            found = await self.chain.rpc.call("getrawtransaction", txid_hex(txid), True)
        except RpcRefusalError:
            return None
        return found if found.get("confirmations", 0) >= 0 else None

    async def _statuses(self, request: Request) -> Response:
        answer = []
        for txid in (await request.json())["txids"]:
            found = await self._found(txid_from_hex(txid))
            names = ("blockhash", "blockheight", "blocktime", "confirmations")
            known = {name: found[name] for name in names if name in found} if found else {"error": "unknown"}
            answer.append({"txid": txid} | known)
        return JSONResponse(answer)

    async def _hex(self, request: Request) -> Response:
        found = await self._found(txid_from_hex(request.path_params["txid"]))
        return PlainTextResponse(found["hex"]) if found else PlainTextResponse("Not Found", 404)

    async def _spent(self, request: Request) -> Response:
        outpoint = Outpoint(txid_from_hex(request.path_params["txid"]), request.path_params["vout"])
        found = await self._found(outpoint.txid)
        if not found or outpoint.index >= len(found["vout"]):
            return PlainTextResponse("Bad Request", 400)
        spend = await self.chain.spender(outpoint)
        if spend is None or spend.txid in self.blind:
            return PlainTextResponse("Not Found", 404)
        status = "unconfirmed" if spend.height is None else "confirmed"
        return JSONResponse({"txid": txid_hex(spend.txid), "vin": spend.input_index, "status": status})

    async def _proof(self, request: Request) -> Response:
        txid = request.path_params["txid"]
        found = await self._found(txid_from_hex(txid))
        if not found or "blockhash" not in found:
            return PlainTextResponse("Not Found", 404)
        block = await self.chain.rpc.call("getblockheader", found["blockhash"])
        proof = {"index": 0, "nodes": []}  # which the node itself does not answer for a block of one
        if block["num_tx"] > 1:
            proof = await self.chain.rpc.call("getmerkleproof2", found["blockhash"], txid)
        shown = {"index": proof["index"], "txOrId": txid, "target": found["blockhash"], "nodes": proof["nodes"]}
        return JSONResponse([shown])

    # -- scripts ------------------------------------------------------------------------------------------------------

    async def _histories(self, request: Request) -> Response:
        answer = []
        for given in (await request.json())["addresses"]:
            script = p2pkh(address.decode(given, Network.REGTEST))
            items = await self.chain.history(script)
            mined, pool = _shown([i for i in items if i.height]), _shown([i for i in items if not i.height])
            parts = {"confirmed": _part(mined[:_SHORT], len(mined) > _SHORT), "unconfirmed": _part(pool, more=False)}
            answer.append({"address": given, "script": sha256(script)[::-1].hex()} | parts)
        return JSONResponse(answer)

    async def _mined_history(self, request: Request) -> Response:
        found = [item for item in await self._history(request) if item.height is not None]
        start = int(request.query_params.get("token", "0"))
        more = {"nextPageToken": str(start + _PAGE)} if start + _PAGE < len(found) else {}
        return _listed(request, _shown(found[start : start + _PAGE]), more)

    async def _pool_history(self, request: Request) -> Response:
        return _listed(request, _shown([item for item in await self._history(request) if item.height is None]), {})

    async def _history(self, request: Request) -> list[HistoryItem]:
        await self._scan()
        script = self.scripts.get(request.path_params["hash"])
        return await self.chain.history(script) if script is not None else []

    async def _scan(self) -> None:
        """Every script there is, by its hash."""
        tip = await self.chain.tip()
        for height in range(self.scanned + 1, tip.height + 1):
            block_hash = await self.chain.rpc.call("getblockhash", height)
            reader = Reader(bytes.fromhex(await self.chain.rpc.call("getblock", block_hash, 0)), SIZE)
            for _ in range(reader.count(60)):
                tx, reader.at = Tx.parse_at(reader.raw, reader.at)
                self._note(tx)
        self.scanned = tip.height
        for txid in await self.chain.rpc.call("getrawmempool"):
            if raw := await self.chain.transaction(txid_from_hex(txid)):
                self._note(Tx.parse(raw))

    def _note(self, tx: Tx) -> None:
        self.scripts |= {sha256(output.script)[::-1].hex(): output.script for output in tx.outputs}

    # -- headers ------------------------------------------------------------------------------------------------------

    async def _newest(self, request: Request) -> Response:
        height = await self.chain.rpc.call("getblockcount")
        heights = range(height, max(-1, height - 10), -1)
        return JSONResponse([await self._shown(one) for one in heights])

    async def _shown(self, height: int) -> Any:
        found = await self.chain.rpc.call("getblockheader", await self.chain.rpc.call("getblockhash", height))
        return {name: float(value) if name == "difficulty" else value for name, value in found.items()}

    async def _latest(self, request: Request) -> Response:
        height = await self.chain.rpc.call("getblockcount")
        default = height % _FILE + 1
        wanted = min(int(request.query_params.get("count", default)), height + 1)
        return await self._bytes(range(height + 1 - wanted, height + 1))

    async def _resources(self, request: Request) -> Response:
        height = await self.chain.rpc.call("getblockcount")
        ends = range(_FILE, height + 1, _FILE)  # the first file holds one more: 0_100, 101_200, …
        names = [f"{end - _FILE + (end > _FILE)}_{end}_headers.bin" for end in ends]
        return JSONResponse({"files": [f"https://elsewhere.example/headers/{name}" for name in (*names, "latest")]})

    async def _file(self, request: Request) -> Response:
        first, last, _ = request.path_params["file"].split("_")
        return await self._bytes(range(int(first), int(last) + 1))

    async def _bytes(self, heights: range) -> Response:
        hashes = await self.chain.rpc.all([("getblockhash", height) for height in heights])
        raws = await self.chain.rpc.all([("getblockheader", one, False) for one in hashes])
        return Response(bytes.fromhex("".join(raws)), media_type="application/octet-stream")

    async def _header(self, request: Request) -> Response:
        try:
            found = await self.chain.rpc.call("getblockheader", request.path_params["block"])
        except RpcRefusalError:
            return PlainTextResponse("Not Found", 404)
        return JSONResponse({"height": found["height"], "hash": found["hash"]})


def _shown(items: Sequence[HistoryItem]) -> list[dict[str, Any]]:
    return [{"tx_hash": txid_hex(item.txid)} | ({"height": item.height} if item.height else {}) for item in items]


def _part(result: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    return {"result": result or None, "error": ""} | ({"nextPageToken": "0"} if more else {})


def _listed(request: Request, result: list[Any], more: dict[str, str]) -> Response:
    return JSONResponse({"script": request.path_params["hash"], "result": result, "error": ""} | more)


@dataclass
class HeadersService:
    """A Block Headers Service (docs/swagger.yaml of bitcoin-sv/block-headers-service)."""

    chain: ChainNode
    key: str = ""

    def __post_init__(self) -> None:
        routes = [
            Route("/api/v1/chain/tip/longest", self._tip),
            Route("/api/v1/chain/header/byHeight", self._headers),
        ]
        self.switch = Switch(Starlette(routes=routes))

    async def _tip(self, request: Request) -> Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return JSONResponse({"code": "ErrUnauthorized"}, 401)
        height = await self.chain.rpc.call("getblockcount")
        (header,) = await self._shown(range(height, height + 1))
        return JSONResponse({"header": header, "state": "LONGEST_CHAIN", "chainWork": "2", "height": height})

    async def _headers(self, request: Request) -> Response:
        first, wanted = int(request.query_params["height"]), int(request.query_params.get("count", 1))
        end = min(first + wanted, 1 + await self.chain.rpc.call("getblockcount"))
        return JSONResponse(await self._shown(range(first, end)))

    async def _shown(self, heights: range) -> list[dict[str, Any]]:
        hashes = await self.chain.rpc.all([("getblockhash", height) for height in heights])
        found = await self.chain.rpc.all([("getblockheader", one) for one in hashes])
        return [
            {
                "hash": one["hash"],
                "version": one["version"],
                "prevBlockHash": one.get("previousblockhash", "00" * 32),
                "merkleRoot": one["merkleroot"],
                "creationTimestamp": one["time"],
                "difficultyTarget": int(one["bits"], 16),
                "nonce": one["nonce"],
                "work": "2",
            }
            for one in found
        ]
