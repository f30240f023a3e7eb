"""What the chain says about one payment channel, told without bct: standard library, own parser, the node's raw bytes.

    python tools/check_chain.py --rpc http://127.0.0.1:18332 --cookie regtest/.cookie --funding TXID \\
        --settlement TXID --creator ADDRESS --seeder ADDRESS --share 6000 --price 1 --pieces 85 --since 102

Recomputes every satoshi from the two transactions, the outputs that the first one spends, and the blocks after height
`since`; compares them with what so many pieces at that price and share should have come to. For several titles over one
channel, creator, share and pieces are given once for each; --quiet 110:112 counts the transactions in blocks 111 and
112. Prints one JSON object; "wrong" lists what is off, a sentence each, and then the exit code is 1. Nothing the node
says about a transaction is believed but its bytes, and those only under the id that they hash to.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WHOLE = 10_000
LEAST_RATE = 100
"""Satoshis per 1,000 bytes that miners ask."""
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

Ask = Callable[..., Any]


@dataclass(frozen=True)
class Tx:
    """spends: (transaction id, output number, sequence). pays: (satoshis, script)."""

    size: int
    spends: list[tuple[str, int, int]]
    pays: list[tuple[int, bytes]]
    locktime: int


def main() -> None:
    said = arguments()
    found = examine(node(said.rpc, said.cookie), said)
    print(json.dumps(found))
    sys.exit(1 if found["wrong"] else 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Recomputes one payment channel from the chain.")
    for name in ("rpc", "cookie", "funding", "settlement", "seeder"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("price", "since"):
        parser.add_argument(f"--{name}", required=True, type=int)
    parser.add_argument("--creator", required=True, action="append")
    for name in ("share", "pieces"):
        parser.add_argument(f"--{name}", required=True, type=int, action="append")
    parser.add_argument("--quiet", default="0:0")
    return parser.parse_args()


def examine(ask: Ask, said: argparse.Namespace) -> dict[str, Any]:
    """What the channel came to, and what is wrong with it."""
    funding, settlement = fetch(ask, said.funding), fetch(ask, said.settlement)
    spent, vout, sequence = settlement.spends[0]
    capacity, lock = funding.pays[vout] if vout < len(funding.pays) else (0, b"")
    parts = shares(said)
    seeder = p2pkh(said.seeder)
    got = {creator: sum(value for value, script in settlement.pays if script == p2pkh(creator)) for creator in parts}
    creators_got, creators_part = sum(got.values()), sum(parts.values())
    seeder_got = sum(value for value, script in settlement.pays if script == seeder)
    known = {seeder, *map(p2pkh, parts)}
    change = [value for value, script in settlement.pays if script not in known]
    put_in = sum(fetch(ask, txid).pays[index][0] for txid, index, _ in funding.spends)
    funding_fee = put_in - sum(value for value, _ in funding.pays)
    settlement_fee = capacity - sum(value for value, _ in settlement.pays)
    mined = list(mined_since(ask, said.since))
    total = sum(said.pieces) * said.price
    truths = {
        "the settlement spends the funding transaction, and nothing else": len(settlement.spends) == 1
        and spent == said.funding,
        "the settlement is final": sequence == 0xFFFFFFFF and settlement.locktime == 0,
        "the capacity is locked, not simply paid to a key": len(lock) != 25 and capacity > 0,
        **{
            f"the creator {one} has {parts[one]} sat of {total}, not {got[one]}": got[one] == parts[one]
            for one in parts
        },
        f"the seeder has {total - creators_part} sat of {total}, not {seeder_got}": seeder_got == total - creators_part,
        f"one output at most is the viewer's change, not {len(change)}": len(change) <= 1,
        f"the funding fee of {funding_fee} sat pays for {funding.size} bytes": pays_for(funding_fee, funding.size),
        f"the settlement fee of {settlement_fee} sat pays for {settlement.size} bytes": pays_for(
            settlement_fee, settlement.size
        ),
        f"these two transactions were mined after block {said.since} and no other, not {len(mined)}": sorted(mined)
        == sorted((said.funding, said.settlement)),
    }
    return {
        "satoshi_paid": creators_got + seeder_got,
        "creator_satoshi": creators_got,
        "seeder_satoshi": seeder_got,
        "payer_change_satoshi": sum(change),
        "capacity_satoshi": capacity,
        "funding_fee_satoshi": funding_fee,
        "settlement_fee_satoshi": settlement_fee,
        "onchain_fee_satoshi": funding_fee + settlement_fee,
        "onchain_txs": len(mined),
        "quiet_txs": len(list(mined_since(ask, *map(int, said.quiet.split(":"))))),
        "wrong": [f"not so: {truth}" for truth, holds in truths.items() if not holds],
    }


def shares(said: argparse.Namespace) -> dict[str, int]:
    """Satoshis by creator: each title's part is rounded by itself."""
    parts: dict[str, int] = {}
    for creator, share, pieces in zip(said.creator, said.share, said.pieces, strict=True):
        parts[creator] = parts.get(creator, 0) + pieces * said.price * share // WHOLE
    return parts


def pays_for(fee: int, size: int) -> bool:
    return 1000 * fee >= LEAST_RATE * size


def mined_since(ask: Ask, height: int, last: int | None = None) -> Iterator[str]:
    """Every transaction of the blocks above `height`, up to `last`, but those that mint coins."""
    for one in range(height + 1, (ask("getblockcount") if last is None else last) + 1):
        yield from ask("getblock", ask("getblockhash", one))["tx"][1:]


def fetch(ask: Ask, txid: str) -> Tx:
    raw = bytes.fromhex(ask("getrawtransaction", txid))
    if sha256d(raw)[::-1].hex() != txid:
        sys.exit(f"the node sent other bytes than those of transaction {txid}")
    return parse(raw)


def parse(raw: bytes) -> Tx:
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return raw[at - size : at]

    def number(size: int) -> int:
        return int.from_bytes(take(size), "little")

    def count() -> int:
        first = number(1)
        return first if first < 0xFD else number(1 << first - 0xFC)

    number(4)
    spends = [(take(32)[::-1].hex(), number(4), (take(count()), number(4))[1]) for _ in range(count())]
    pays = [(number(8), take(count())) for _ in range(count())]
    tx = Tx(len(raw), spends, pays, number(4))
    if at != len(raw):
        sys.exit(f"a transaction of {len(raw)} bytes was read to byte {at}")
    return tx


def p2pkh(address: str) -> bytes:
    """The script that an address stands for."""
    value = 0
    for character in address:
        value = value * 58 + BASE58.index(character)
    raw = value.to_bytes(25)
    if sha256d(raw[:21])[:4] != raw[21:]:
        sys.exit(f"{address} is mistyped: its checksum does not fit")
    return b"\x76\xa9\x14" + raw[1:21] + b"\x88\xac"


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def node(url: str, cookie: str) -> Ask:
    login = base64.b64encode(Path(cookie).read_bytes().strip()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(method: str, *params: object) -> Any:
        body = json.dumps({"id": 0, "method": method, "params": params}).encode()
        with opener.open(urllib.request.Request(url, body, headers), timeout=30) as answer:
            return json.load(answer)["result"]

    return ask


if __name__ == "__main__":
    main()
