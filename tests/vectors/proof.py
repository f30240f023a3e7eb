"""Atomic BEEFs (BRC-95) that check, and some that must be refused, for `bct.bitcoin.proof` and its mirrors."""

from __future__ import annotations

from typing import Any

from bct.bitcoin.keys import sha256
from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.proof import Beef
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import FINAL, Tx, TxInput, TxOutput
from bct.errors import RemoteProtocolError
from bct.units import Outpoint, PubKeyHash, Satoshi, Txid, txid_hex

_HEIGHT = 812_345


def _hash(name: str) -> bytes:
    return sha256(name.encode())


def _tx(*coins: Outpoint, pays: tuple[int, ...], locktime: int = 0, sequence: int = FINAL) -> Tx:
    script = p2pkh(PubKeyHash(_hash("payee")[:20]))
    outputs = tuple(TxOutput(Satoshi(value), script) for value in pays)
    return Tx(tuple(TxInput(coin, b"\x51", sequence) for coin in coins), outputs, 1, locktime)


_MINED = _tx(Outpoint(Txid(_hash("coin")), 3), pays=(50_000, 20_000))
_PATH = MerklePath.of_branch(_HEIGHT, _MINED.txid, 2, [None, _hash("left"), None, _hash("right")])
_MIDDLE = _tx(Outpoint(_MINED.txid, 0), pays=(30_000, 19_900), locktime=1_700_000_000, sequence=FINAL - 1)
_PAYMENT = _tx(Outpoint(_MIDDLE.txid, 1), Outpoint(_MINED.txid, 1), pays=(39_000,))
_GREEDY = _tx(Outpoint(_MINED.txid, 1), pays=(20_001,))
_ORPHAN = _tx(Outpoint(Txid(_hash("nowhere")), 0), pays=(1,))


def _beef(*txs: Tx) -> Beef:
    return Beef(txs[-1].txid, txs, {_MINED.txid: _PATH})


def build() -> dict[str, Any]:
    roots = {_HEIGHT: _PATH.root(_MINED.txid)}
    good = {"mined": _beef(_MINED), "one unproven": _beef(_MINED, _MIDDLE), "two": _beef(_MINED, _MIDDLE, _PAYMENT)}
    bad = {
        "pays out more than it has": _beef(_MINED, _GREEDY),
        "source missing": _beef(_MINED, _ORPHAN),
        "unrelated transaction": _beef(_MINED, _MIDDLE, _tx(Outpoint(_MINED.txid, 1), pays=(1,))),
        "child before parent": _beef(_MINED, _PAYMENT, _MIDDLE),
    }
    return {
        "roots": {str(height): root.hex() for height, root in roots.items()},
        "bump": {"hex": _PATH.serialize().hex(), "txid": txid_hex(_MINED.txid)},
        "good": [_good(name, beef, roots) for name, beef in good.items()],
        "refused": [_refused(name, beef, roots) for name, beef in bad.items()],
    }


def _good(name: str, beef: Beef, roots: dict[int, bytes]) -> dict[str, Any]:
    unproven = [
        {"txid": txid_hex(one.txid), "fee": one.fee, "size": one.size, "final": one.final}
        for one in beef.check(roots).unproven
    ]
    return {"name": name, "beef": beef.serialize().hex(), "subject": txid_hex(beef.subject), "unproven": unproven}


def _refused(name: str, beef: Beef, roots: dict[int, bytes]) -> dict[str, Any]:
    try:
        Beef.parse(beef.serialize()).check(roots)
    except RemoteProtocolError as error:
        return {"name": name, "beef": beef.serialize().hex(), "reason": error.reason}
    raise AssertionError(f"{name!r} was to be refused")
