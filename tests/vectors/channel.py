"""vectors/channel.json: everything two implementations must agree on to share a payment channel.

Bytes are hex, an outpoint is ``txid:index`` as people write it, money is satoshis, times are Unix seconds. `spends`
lists transactions that do and do not open the lock, for any script interpreter to judge.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

from bct.bitcoin.keys import PrivateKey, compact_to_der, sha256, sha256d
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx, TxOutput, sighash, sighash_preimage
from bct.channel.lock import EXPIRY_END, EXPIRY_MIN, Lock, refund
from bct.channel.state import FINAL_STATES, TABLE, Role, State
from bct.channel.transactions import Lines, Params, Totals, commitment, fee, fee_at, fits, settlement
from bct.units import BasisPoints, Payees, Satoshi, Split, txid_hex
from tests.channel_attacks import (
    SCRIPT_CODE,
    Coin,
    Refund,
    crooked_refunds,
    crooked_settlements,
    early_refunds,
    refunds_with_company,
    settled,
    signatures,
)
from tests.channel_parts import (
    ALICE,
    BOB,
    CAROL,
    CHANGE,
    EXPIRY,
    FILM,
    FUNDING,
    LOCK,
    PAYEE,
    PAYER,
    SEEDER,
    SERIES,
    creators,
    key,
    params,
)

Json = dict[str, Any]


def build() -> Json:
    return {
        "keys": {"payer": key_pair(PAYER), "payee": key_pair(PAYEE)},
        "signatures": [signature_vector(key(name), digest) for name, digest in digests()],
        "locks": [lock_vector(expiry) for expiry in (EXPIRY_MIN, EXPIRY, EXPIRY_END - 1)],
        "not_locks": not_locks(),
        "splits": [split_vector(shares) for shares in SHARES],
        "fees": [
            {"rate": rate, "outputs": n, "fee": fee_at(rate, n)} for rate in (1, 100, 999, 1000) for n in (1, 3, 20)
        ],
        "commitments": [commitment_vector(name, *case) for name, case in COMMITMENTS.items()],
        "refunds": refunds(),
        "states": {
            role.value: [[state.value, event.value, to.value] for (state, event), to in TABLE[role].items()]
            for role in Role
        },
        "spends": spends(),
    }


def key_pair(secret: PrivateKey) -> Json:
    return {"secret": secret.secret.hex(), "public": secret.public.hex(), "hash": secret.hash.hex()}


# -- signatures -------------------------------------------------------------------------------------------------------


def digests() -> list[tuple[str, bytes]]:
    """Two ordinary ones, and one whose r begins with a zero byte: its DER is shorter."""
    short = next(d for d in map(numbered, count()) if key("alice").sign(d)[0] == 0)
    return [("alice", numbered(0)), ("bob", numbered(0)), ("alice", short)]


def numbered(n: int) -> bytes:
    return sha256(n.to_bytes(4))


def signature_vector(secret: PrivateKey, digest: bytes) -> Json:
    compact = secret.sign(digest)
    return {
        "secret": secret.secret.hex(),
        "digest": digest.hex(),
        "compact": compact.hex(),
        "der": compact_to_der(compact).hex(),
    }


# -- locks and splits -------------------------------------------------------------------------------------------------


def lock_vector(expiry: int) -> Json:
    lock = replace(LOCK, expiry=expiry)
    return lock_json(lock) | {"script": lock.script().hex()}


def lock_json(lock: Lock) -> Json:
    return {"payer": lock.payer.hex(), "payee": lock.payee.hex(), "expiry": lock.expiry}


def not_locks() -> list[Json]:
    """Scripts that come near the lock and must not be taken for one."""
    script = LOCK.script()
    no_point = b"\x02" + b"\xff" * 32
    named = {
        "empty": b"",
        "one byte short": script[:-1],
        "one byte long": script + b"\0",
        "CHECKSIGVERIFY left out": script[:34] + b"\x61" + script[35:],
        "FFFFFFFF for the sequence": script.replace(bytes.fromhex("feffffff"), b"\xff" * 4),
        "greater where greater or equal belongs": script.replace(b"\xa2\x69\xaa", b"\xa0\x69\xaa"),
        "a payer key that is no point": replace(LOCK, payer=no_point).script(),
        "a payee key that is no point": replace(LOCK, payee=no_point).script(),
        "an expiry one second below the least": replace(LOCK, expiry=EXPIRY_MIN - 1).script(),
        "an expiry that needs five bytes": replace(LOCK, expiry=EXPIRY_END).script(),
        "a negative expiry": script.replace(EXPIRY.to_bytes(4, "little"), (EXPIRY | 1 << 31).to_bytes(4, "little")),
    }
    return [{"what": what, "script": raw.hex()} for what, raw in named.items()]


SHARES = (
    (6000,),
    (10_000,),
    (1,),
    (3334, 3334),
    (2500, 2500, 2500, 2500),
    (1, 1, 1),
    (5000, 2500, 1, 2499),
    (625,) * 16,
)


def split_vector(shares: tuple[int, ...]) -> Json:
    split = Split(tuple(BasisPoints(s) for s in shares))
    cases = []
    for total in (0, 1, 2, 3, 7, 62, 63, 9_999, 10_001, 2**32 - 1):
        parts, rest = split.of(total)
        cases.append({"total": total, "creators": parts, "seeder": rest})
    return {"shares": shares, "cases": cases}


# -- commitments ------------------------------------------------------------------------------------------------------

_MANY = creators(18)
_ZERO_FIRST = (Payees.of((ALICE, 1), (BOB, 5000)), Payees.of((CAROL, 1000), (ALICE, 5000)))

COMMITMENTS: dict[str, tuple[Params, Lines, Totals]] = {
    "nothing paid: only change": (params(), (FILM,), (0,)),
    "one satoshi: the seeder's": (params(), (FILM,), (1,)),
    "62 sat at 6000": (params(), (FILM,), (62,)),
    "all shares to the creators: no seeder": (params(), (Payees.of((ALICE, 4000), (BOB, 6000)),), (101,)),
    "the last satoshi: no change": (params(), (FILM,), (10_000 - fee_at(100, 3),)),
    "two lines with a creator in common": (params(), (FILM, SERIES), (62, 1_001)),
    "a creator without a satoshi on the first line keeps her place": (params(), _ZERO_FIRST, (10, 100)),
    "a line at total 0 adds nothing": (params(), (FILM, SERIES), (62, 0)),
    "seeder and viewer who are creators too are not merged": (
        params(),
        (Payees.of((SEEDER, 5000), (CHANGE, 1000)),),
        (100,),
    ),
    "18 creators on two lines, 20 outputs, 1000 sat/kB, the largest capacity": (
        params(2**32 - 1, 1000, 20),
        (Payees.of(*((who, 600) for who in _MANY[:16])), Payees.of(*((who, 1) for who in _MANY[10:]))),
        (3_000_000_001, 999_999_999),
    ),
    "a fee rate of 1 sat/kB is rounded up": (params(rate=1), (FILM,), (5_000,)),
}


def commitment_vector(name: str, fixed: Params, lines: Lines, totals: Totals) -> Json:
    assert fits(fixed, lines, totals)
    unsigned = commitment(fixed, lines, totals)
    payee, payer = signatures(fixed, lines, totals)
    signed = settlement(unsigned, payee, payer)
    return {
        "what": name,
        "outpoint": str(fixed.outpoint),
        "capacity": fixed.capacity,
        "lock": lock_json(fixed.lock),
        "change": fixed.change.hex(),
        "payout": fixed.payout.hex(),
        "fee_rate": fixed.fee_rate,
        "lines": [
            [[who.hex(), share] for who, share in zip(line.hashes, line.split.shares, strict=True)] for line in lines
        ],
        "totals": totals,
        "fee": fee(fixed, lines, totals),
        "outputs": [[o.value, o.script.hex()] for o in unsigned.outputs],
        "unsigned": unsigned.serialize().hex(),
        "sighash": sighash(unsigned, 0, fixed.lock.script(), fixed.capacity).hex(),
        "payer_signature": payer.hex(),
        "payee_signature": payee.hex(),
        "settlement": signed.serialize().hex(),
        "txid": txid_hex(signed.txid),
    }


# -- refunds ----------------------------------------------------------------------------------------------------------


def refunds() -> list[Json]:
    """The first refund for each number of seconds, 0 to 4, that the lock time has to be stepped up."""
    found: dict[int, Json] = {}
    value = 10_000
    while len(found) < 5:
        value -= 1
        tx = refund(LOCK, FUNDING, params().capacity, TxOutput(Satoshi(value), p2pkh(CHANGE)), PAYER)
        steps = tx.locktime - EXPIRY
        if steps < 5:
            found.setdefault(steps, refund_vector(tx))
    return [found[steps] for steps in sorted(found)]


def refund_vector(tx: Tx) -> Json:
    preimage = sighash_preimage(tx, 0, SCRIPT_CODE, params().capacity)
    return {
        "outpoint": str(FUNDING),
        "capacity": params().capacity,
        "lock": lock_json(LOCK),
        "value": tx.outputs[0].value,
        "to": CHANGE.hex(),
        "lock_time": tx.locktime,
        "preimage": preimage.hex(),
        "preimage_hash": sha256d(preimage).hex(),
        "tx": tx.serialize().hex(),
    }


# -- what opens the lock and what does not ----------------------------------------------------------------------------


def spends() -> list[Json]:
    fixed = params()
    coin = Coin(replace(FUNDING, index=7), Satoshi(5_000), key("coin"))
    twin = params(outpoint=replace(FUNDING, index=2))
    good = {
        "a settlement": settled(fixed, (FILM,), (62,)),
        "a settlement at totals 0": settled(fixed, (FILM,), (0,)),
        "a settlement of two lines": settled(fixed, (FILM, SERIES), (62, 1_001)),
        "a refund at the expiry": Refund().of(fixed),
        "a refund later": Refund(locktime=EXPIRY + 86_400).of(fixed),
        "a refund at the last lock time there is": Refund(locktime=2**32 - 1).of(fixed),
    }
    bad = (
        early_refunds(fixed) | refunds_with_company(fixed, coin, twin) | crooked_refunds(fixed)
    ) | crooked_settlements(fixed)
    return [spend_vector(what, True, tx) for what, tx in good.items()] + [
        spend_vector(what, False, tx) for what, tx in bad.items()
    ]


def spend_vector(what: str, valid: bool, tx: Tx) -> Json:
    return {
        "what": what,
        "valid": valid,
        "tx": tx.serialize().hex(),
        "input": [i.outpoint for i in tx.inputs].index(FUNDING),
        "script": LOCK.script().hex(),
        "satoshis": params().capacity,
    }


# -- the table of states, drawn ---------------------------------------------------------------------------------------


def documents() -> dict[str, str]:
    return {"docs/CHANNEL-STATES.md": PAGE.format(*(diagram(role) for role in (Role.PAYER, Role.PAYEE)))}


PAGE = """# The states of a payment channel

Drawn from the table in `bct.channel.state` by `python -m tests.make_vectors`; a test holds the two together. A pair of
state and event that has no arrow here is a bug, and raises `LocalProtocolError` without changing anything.

## The payer, who spends

{}
## The payee, who earns

{}"""


def diagram(role: Role) -> str:
    """Mermaid. Events that lead from one state to the same other one share an arrow."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, event), to in TABLE[role].items():
        arrows.setdefault((state, to), []).append(event.value)
    lines = [f"    [*] --> {State.OPENING.value}"]
    lines += [f"    {a.value} --> {b.value}: {' / '.join(events)}" for (a, b), events in arrows.items()]
    lines += [f"    {state.value} --> [*]" for state in State if state in FINAL_STATES]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])
