"""vectors/wallet.json: from words to keys, and from coins to a signed transaction.

Bytes are hex, an outpoint is ``txid:index``, money is satoshis, a rate satoshis per 1,000 bytes.
"""

from __future__ import annotations

from typing import Any

from bct.bitcoin.keys import sha256
from bct.bitcoin.script import p2pkh
from bct.units import Outpoint, PubKeyHash, Satoshi, Txid
from bct.wallet.coins import Coin, Plan, Want, select, sign
from bct.wallet.keyring import Keyring
from bct.wallet.paths import (
    CHANGE,
    CREATOR,
    IDENTITY,
    PAYOUT,
    RECEIVE,
    Path,
    channel_change,
    channel_payer,
    channel_refund,
    payee,
    show,
)

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
ANCHOR = Outpoint(Txid(bytes(range(32))), 258)
NONCE = bytes(range(16))
CHANGE_HASH = PubKeyHash(bytes(range(20)))
LOCK_SIZE = 212

KEYRING = Keyring.of_words(WORDS)


def coin(name: str, value: int, height: int | None = 100, ancestors: int = 1) -> Coin:
    """A coin of the wallet's first receive key; unconfirmed without a height, then with some ancestors of its own."""
    behind = frozenset(Txid(sha256(f"{name}{n}".encode())) for n in range(ancestors)) if height is None else frozenset()
    return Coin(Outpoint(Txid(sha256(name.encode())), 1), Satoshi(value), (*RECEIVE, 0), height, behind)


def build() -> dict[str, Any]:
    return {
        "words": WORDS,
        "keys": [_key(name, path) for name, path in _paths().items()],
        "channel": {"anchor": str(ANCHOR), "vout": 3},
        "nonce": NONCE.hex(),
        "selections": [_selection(*case) for case in _cases()],
        "signed": _signed(),
    }


def _paths() -> dict[str, Path]:
    return {
        "receive 0": (*RECEIVE, 0),
        "receive 1": (*RECEIVE, 1),
        "change 0": (*CHANGE, 0),
        "payout 0": (*PAYOUT, 0),
        "creator 0": (*CREATOR, 0),
        "channel payer": channel_payer(ANCHOR, 3),
        "channel change": channel_change(ANCHOR, 3),
        "channel refund": channel_refund(ANCHOR, 3),
        "payee": payee(NONCE),
        "identity": IDENTITY,
    }


def _key(name: str, path: Path) -> dict[str, str]:
    key = KEYRING.key(path)
    return {"name": name, "path": show(path), "public": key.public.hex(), "hash": key.hash.hex()}


def _cases() -> list[tuple[str, list[Coin], list[Want], int]]:
    thousand = [Want(Satoshi(1000))]
    a, b, c, d = coin("a", 500), coin("b", 1500), coin("c", 3000), coin("d", 1024)
    return [
        ("the smallest coin that suffices", [a, b, c], thousand, 100),
        ("no change below what it costs to spend", [c, d], thousand, 100),
        ("largest first, then the smallest that suffices", [a, b, c, d], [Want(Satoshi(4200))], 100),
        ("a confirmed coin before a better one that is not", [coin("e", 1100, None), c], thousand, 100),
        ("an unconfirmed one when there is no other way", [coin("e", 1100, None), a], thousand, 100),
        ("two channels at 1,000 sat/kB", [b, c, d], [Want(Satoshi(1500), LOCK_SIZE)] * 2, 1000),
    ]


def _selection(name: str, coins: list[Coin], wants: list[Want], rate: int) -> dict[str, Any]:
    plan = select(coins, wants, rate)
    return {
        "name": name,
        "coins": [_coin(c) for c in coins],
        "wants": [{"value": want.value, "script_size": want.script_size} for want in wants],
        "rate": rate,
        "chosen": [str(c.outpoint) for c in plan.coins],
        "change": plan.change,
        "fee": plan.fee,
    }


def _coin(c: Coin) -> dict[str, Any]:
    ancestors = sorted(txid.hex() for txid in c.ancestors)
    return {"outpoint": str(c.outpoint), "value": c.value, "height": c.height, "ancestors": ancestors}


def _signed() -> dict[str, Any]:
    coins = [coin("a", 500), coin("b", 1500)]
    plan: Plan = select(coins, [Want(Satoshi(1800))], 100, order=[1, 0])
    tx = sign(plan.build([p2pkh(CHANGE_HASH)], CHANGE_HASH), plan.coins, KEYRING.key)
    return {
        "coins": [_coin(c) for c in plan.coins],
        "key": "receive 0",
        "want": 1800,
        "order": list(plan.order),
        "hash": CHANGE_HASH.hex(),
        "raw": tx.serialize().hex(),
    }
