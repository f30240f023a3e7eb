"""What is shown to others, and what services say: receipts, settlements for a watchman, answers about the chain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache

from bct.backends import arc, verdicts, web, woc
from bct.backends.arc import Arc
from bct.backends.web import Answer, Web
from bct.backends.woc import Woc
from bct.bitcoin.chain import Network
from bct.bitcoin.script import p2pkh
from bct.channel import watched
from bct.errors import ChainError, RemoteProtocolError
from bct.pay import export, verify
from bct.units import Outpoint, Txid
from tests import export_parts, test_watched
from tests.channel_parts import CHANGE
from tests.fuzz.target import Target, respelled, vector

_TXID = Txid(bytes(range(32)))
_HEX = _TXID[::-1].hex()
_RAW = bytes.fromhex(vector("channel")["spends"][0]["tx"])


def _export(raw: bytes) -> None:
    with suppress(RemoteProtocolError):
        _shown(respelled(raw))
    _shown(raw)


def _shown(raw: bytes) -> None:
    shown = export.decode(raw)
    assert export.encode(shown) == raw
    with suppress(RemoteProtocolError):
        verify.heights(shown)
        assert verify.verify(shown, None)


def _watched(raw: bytes) -> None:
    given = watched.decode(raw)
    assert watched.decode(watched.encode(given)) == given
    checked = watched.check(given)
    assert 0 <= checked.paid <= checked.capacity


class _Saying(Web):
    """A service that says the same whatever it is asked."""

    def __init__(self, status: int, body: bytes) -> None:
        self.name = "the service"
        self._answer = Answer(self.name, status, body)

    async def get(self, path: str, limit: int = 0) -> Answer:
        return self._answer

    async def post(self, path: str, body: object, headers: object = None) -> Answer:
        return self._answer


def _woc(raw: bytes) -> None:
    """First byte: the question, and the status of the answer."""
    service = _woc_service()
    service.web = _Saying((200, 400, 404, 500)[(raw or b"\0")[0] % 4], raw[1:])
    _ask(
        (raw or b"\0")[0] >> 2,
        lambda: service.knows(_TXID),
        lambda: service.transaction(_TXID),
        lambda: service.spent(Outpoint(_TXID, 0)),
        lambda: service.branch(_TXID),
        lambda: service.height_of(_TXID),
        lambda: service.history(p2pkh(CHANGE)),
        lambda: service.history(b"\x51"),
        lambda: service.broadcast(_RAW),
    )


def _arc(raw: bytes) -> None:
    service = _arc_service()
    service._web = _Saying((200, 400, 404, 500)[(raw or b"\0")[0] % 4], raw[1:])
    _ask(
        (raw or b"\0")[0] >> 2,
        lambda: service.submit({_TXID: _RAW}),
        lambda: service.submit({_TXID: _RAW, Txid(bytes(32)): _RAW}),
        lambda: service.status(_TXID),
        service.fee_rate,
    )


def _ask(number: int, *questions: Callable[[], Awaitable[object]]) -> None:
    async def ask() -> None:
        await questions[number % len(questions)]()

    _loop().run(ask())


@cache
def _loop() -> asyncio.Runner:
    return asyncio.Runner()


@cache
def _woc_service() -> Woc:
    return Woc("http://127.0.0.1", Network.REGTEST)


@cache
def _arc_service() -> Arc:
    return Arc("http://127.0.0.1")


def _said(question: int, body: object) -> bytes:
    return bytes((question << 2,)) + json.dumps(body).encode()


def _woc_answers() -> list[bytes]:
    item = {"tx_hash": _HEX, "height": 7}
    page = {"result": [item], "error": ""}
    return [
        _said(0, [{"txid": _HEX}]),
        _said(2, {"txid": _HEX, "vin": 1}),
        _said(3, [{"index": 1, "target": _HEX, "nodes": ["*", _HEX]}]),
        _said(4, {"height": 7}),
        _said(6, page),
        _said(7, _HEX),
    ]


def _arc_answers() -> list[bytes]:
    mined = {"txid": _HEX, "txStatus": "MINED", "merklePath": "00"}
    wrong = {"status": 463, "title": "Malformed transaction", "detail": "no", "extraInfo": "bad-txns", "txid": None}
    fee = {"policy": {"miningFee": {"satoshis": 1, "bytes": 1000}}}
    return [_said(0, [mined]), _said(0, wrong), _said(1, [wrong, mined]), _said(2, mined), _said(3, fee)]


def _watched_packages() -> list[bytes]:
    return [watched.encode(test_watched.watched()), watched.encode(test_watched.watched(lines=(40,)))]


TARGETS: dict[str, Target] = {
    "receipt-export": Target(
        _export,
        lambda: [export.encode(export_parts.export(*export_parts.shown()))],
        (export, verify),
        reasons=frozenset(("bad-export",)),
        mutations=300,
    ),
    "watchman-package": Target(
        _watched, _watched_packages, (watched,), reasons=frozenset(("bad-watch", "bad-tx")), mutations=500
    ),
    "whatsonchain": Target(_woc, _woc_answers, (woc, web, verdicts), refusals=(ChainError,), mutations=300),
    "arc": Target(_arc, _arc_answers, (arc, web, verdicts), refusals=(ChainError,), mutations=300),
}
