"""The lock's bytes, and two script interpreters that are not ours judging what opens it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from bsv.script.script import Script
from bsv.script.spend import Spend
from bsv.transaction import Transaction
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.keys import sha256d, verify
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import TxOutput, sighash, sighash_preimage
from bct.channel.lock import EXPIRY_END, EXPIRY_MIN, REFUND_SEQUENCE, REFUND_SIZE, Lock, refund
from bct.units import Satoshi
from tests.channel_attacks import SCRIPT_CODE, WORKS
from tests.channel_parts import CHANGE, EXPIRY, FUNDING, LOCK, PAYEE, PAYER, key, params
from tests.make_vectors import ROOT

VECTORS: dict[str, Any] = json.loads((ROOT / "vectors/channel.json").read_text(encoding="utf-8"))


def honest(case: dict[str, Any], what: str, tx: str) -> dict[str, Any]:
    """A vector's finished transaction as one more that must open the lock."""
    return {
        "what": what,
        "valid": True,
        "tx": tx,
        "input": 0,
        "script": LOCK.script().hex(),
        "satoshis": case["capacity"],
    }


SPENDS: list[dict[str, Any]] = [
    *VECTORS["spends"],
    *(honest(case, case["what"], case["settlement"]) for case in VECTORS["commitments"]),
    *(honest(case, f"a refund at {case['lock_time']}", case["tx"]) for case in VECTORS["refunds"]),
]


# -- reading ----------------------------------------------------------------------------------------------------------


@given(st.integers(EXPIRY_MIN, EXPIRY_END - 1))
def test_a_lock_is_212_bytes_and_reads_back(expiry: int) -> None:
    lock = Lock(PAYER.public, PAYEE.public, expiry)
    assert len(lock.script()) == 212
    assert Lock.read(lock.script()) == lock


def test_no_other_byte_string_is_taken_for_a_lock() -> None:
    """THREATS 5: whatever byte a viewer changes, it is no lock, or another one with other keys or another expiry."""
    script = LOCK.script()
    for at in range(len(script)):
        for bit in range(8):
            other = bytearray(script)
            other[at] ^= 1 << bit
            read = Lock.read(bytes(other))
            assert read is None or (read != LOCK and read.script() == bytes(other))
        assert Lock.read(script[:at]) is None


def test_only_keys_and_expiry_may_differ_between_two_locks() -> None:
    """THREATS 5: nothing else in the script is free."""
    script = LOCK.script()
    free = {at for at in range(len(script)) if Lock.read(bytes((*script[:at], script[at] ^ 1, *script[at + 1 :])))}
    payer, payee = script.index(PAYER.public), script.index(PAYEE.public)
    expiry = script.index(EXPIRY.to_bytes(4, "little"))
    assert free <= {*range(payer, payer + 33), *range(payee, payee + 33), *range(expiry, expiry + 4)}


@pytest.mark.parametrize("case", VECTORS["not_locks"], ids=lambda case: case["what"])
def test_what_comes_near_a_lock_is_none(case: dict[str, str]) -> None:
    assert Lock.read(bytes.fromhex(case["script"])) is None


# -- the refund -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.integers(EXPIRY_MIN, EXPIRY_END - 1))
def test_a_refund_is_what_the_lock_asks_for(value: int, expiry: int) -> None:
    lock = replace(LOCK, expiry=expiry)
    capacity = params().capacity
    tx = refund(lock, FUNDING, capacity, TxOutput(Satoshi(value), p2pkh(CHANGE)), PAYER)
    assert [(i.outpoint, i.sequence) for i in tx.inputs] == [(FUNDING, REFUND_SEQUENCE)]
    assert tx.version == 1
    assert len(tx.serialize()) <= REFUND_SIZE == 320
    preimages = [
        sha256d(sighash_preimage(replace(tx, locktime=time), 0, SCRIPT_CODE, capacity))[0] in WORKS
        for time in range(expiry, tx.locktime + 1)
    ]
    assert preimages == [False] * (tx.locktime - expiry) + [True], "the first lock time that works"


@pytest.mark.parametrize("first", [0x01, 0x7E])
def test_the_first_and_the_last_byte_that_work_are_used(first: int) -> None:
    """The script adds one to it: 00 would be no minimal number, 7f would turn negative."""
    capacity, output = params().capacity, TxOutput(Satoshi(9_900), p2pkh(CHANGE))
    unsigned = refund(LOCK, FUNDING, capacity, output, PAYER)

    def works(time: int) -> bool:
        return sha256d(sighash_preimage(replace(unsigned, locktime=time), 0, SCRIPT_CODE, capacity))[0] == first

    expiry = next(time for time in count(EXPIRY_MIN) if works(time))
    assert refund(replace(LOCK, expiry=expiry), FUNDING, capacity, output, PAYER).locktime == expiry


def test_a_refund_is_signed_over_the_whole_lock() -> None:
    capacity = params().capacity
    tx = refund(LOCK, FUNDING, capacity, TxOutput(Satoshi(9_900), p2pkh(CHANGE)), PAYER)
    der = tx.inputs[0].script[161 + 1 : -1]
    r, s = int.from_bytes(der[4 : 4 + der[3]]), int.from_bytes(der[6 + der[3] :])
    digest = sighash(tx, 0, LOCK.script(), capacity)
    assert verify(PAYER.public, digest, r.to_bytes(32) + s.to_bytes(32))
    assert not verify(key("stranger").public, digest, r.to_bytes(32) + s.to_bytes(32))


# -- other interpreters -----------------------------------------------------------------------------------------------


def test_the_typescript_sdk_opens_the_lock_for_the_valid_and_for_no_other() -> None:
    """THREATS 4, 6, 12, 13, 14: every transaction of the vectors, judged by @bsv/sdk's interpreter."""
    script = Path(__file__).parent / "js" / "spend.mjs"
    answer = subprocess.run(
        ["node", script], input=json.dumps(SPENDS), capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    verdicts = dict(zip((case["what"] for case in SPENDS), json.loads(answer.stdout), strict=True))
    assert {what for what, wrong in verdicts.items() if not wrong} == valid_spends()


def test_the_python_sdk_agrees() -> None:
    assert {case["what"] for case in SPENDS if opens(case)} == valid_spends()


def valid_spends() -> set[str]:
    return {case["what"] for case in SPENDS if case["valid"]}


def opens(case: dict[str, Any]) -> bool:
    """The verdict of bsv-sdk's interpreter."""
    tx = Transaction.from_hex(case["tx"])
    spent = tx.inputs[case["input"]]
    spend = Spend(
        {
            "sourceTXID": spent.source_txid,
            "sourceOutputIndex": spent.source_output_index,
            "sourceSatoshis": case["satoshis"],
            "lockingScript": Script(case["script"]),
            "transactionVersion": tx.version,
            "otherInputs": [i for i in tx.inputs if i is not spent],
            "outputs": tx.outputs,
            "inputIndex": case["input"],
            "unlockingScript": spent.unlocking_script,
            "inputSequence": spent.sequence,
            "lockTime": tx.locktime,
        }
    )
    try:
        return bool(spend.validate())
    except Exception:
        return False
