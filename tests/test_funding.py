"""What the bytes of a funding tell before the chain is asked: each lie of a payer's, refused without a question."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bct.bitcoin.merkle import MerklePath
from bct.bitcoin.proof import Beef
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx, TxInput, TxOutput
from bct.errors import Action, RemoteProtocolError
from bct.pay import funding
from bct.units import Outpoint, Satoshi, Txid
from tests.channel_parts import LOCK, key
from tests.coins import Coin, spend

ROOTS_AT = 100
OWNER = key("owner")


def mined(value: int = 10_000, number: int = 0) -> Tx:
    """A transaction that is a block of its own."""
    return Tx((TxInput(Outpoint(Txid(bytes(32)), number)),), (TxOutput(Satoshi(value), p2pkh(OWNER.hash)),))


def proof(tx: Tx, height: int = ROOTS_AT) -> MerklePath:
    return MerklePath.of_branch(height, tx.txid, 0, ())


def coin(tx: Tx) -> Coin:
    return Coin(Outpoint(tx.txid, 0), tx.outputs[0].value, OWNER)


def pays_lock(parent: Tx, fee: int = 200, **change: object) -> Tx:
    tx = spend(coin(parent), fee=fee, script=LOCK.script())
    return replace(tx, **change) if change else tx  # type: ignore[arg-type]


def read(subject: Tx, *parents: Tx, vout: int = 0, rate: int = 100) -> funding.Funding:
    """Behind the last parent, which a block holds."""
    root = parents[-1]
    beef = Beef.build(subject, {one.txid: one for one in parents}, {root.txid: proof(root)})
    return funding.read(Beef.parse(beef.serialize()), {ROOTS_AT: root.txid}, vout, LOCK, rate)


def refused(subject: Tx, *parents: Tx, vout: int = 0, rate: int = 100) -> str:
    with pytest.raises(RemoteProtocolError) as error:
        read(subject, *parents, vout=vout, rate=rate)
    assert (error.value.reason, error.value.action) == ("bad-funding", Action.REFUSE)
    return str(error.value)


def chain_of(length: int, fee: int = 200) -> list[Tx]:
    """Unmined transactions, the newest first, down to a mined one."""
    txs = [mined(1_000_000)]
    for _ in range(length):
        txs.insert(0, spend(coin(txs[0]), fee=fee))
    return txs


def test_a_funding_in_order() -> None:
    root = mined()
    subject = pays_lock(root)
    found = read(subject, root)
    assert (found.outpoint, found.capacity) == (Outpoint(subject.txid, 0), 9_800)
    assert found.raws == (subject.serialize(),)


def test_unmined_parents_go_to_the_chain_first() -> None:
    *waiting, root = chain_of(2)
    subject = pays_lock(waiting[0])
    found = read(subject, *waiting, root)
    assert found.raws == tuple(one.serialize() for one in (*reversed(waiting), subject))


def test_a_mined_funding_is_kept_alone() -> None:
    """Its block may be lost."""
    root = mined()
    subject = pays_lock(root)
    beef = Beef.build(subject, {}, {subject.txid: proof(subject)})
    assert funding.read(beef, {ROOTS_AT: subject.txid}, 0, LOCK, 100).raws == (subject.serialize(),)


@pytest.mark.parametrize("at", range(len(LOCK.script())))
def test_a_lock_that_differs_in_one_byte(at: int) -> None:
    """THREATS 5."""
    script = bytearray(LOCK.script())
    script[at] ^= 1
    root = mined()
    subject = replace(pays_lock(root), outputs=(TxOutput(Satoshi(9_800), bytes(script)),))
    assert refused(subject, root) == "output 0 is not the lock of this channel"


@pytest.mark.parametrize("vout", [1, 2**32 - 1])
def test_an_output_that_is_not_there(vout: int) -> None:
    """THREATS 5."""
    root = mined()
    assert f"output {vout}" in refused(pays_lock(root), root, vout=vout)


@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_another_version(version: int) -> None:
    """THREATS 14: newer versions may be malleable."""
    root = mined()
    assert "version 1" in refused(pays_lock(root, version=version), root)


def test_ancestors_that_are_invented() -> None:
    """THREATS 3: the Merkle root is our own header's, and every input is spent out of what is there."""
    root, subject = mined(), pays_lock(mined())
    beef = Beef.build(subject, {root.txid: root}, {root.txid: proof(root)})
    for roots in ({}, {ROOTS_AT: bytes(32)}, {ROOTS_AT - 1: root.txid}):
        with pytest.raises(RemoteProtocolError, match="not in our block"):
            funding.read(beef, roots, 0, LOCK, 100)


def test_more_paid_out_than_in() -> None:
    """THREATS 3."""
    root = mined(100)
    assert "pays out" in refused(replace(pays_lock(mined()), inputs=(TxInput(Outpoint(root.txid, 0)),)), root)


def test_more_than_five_unmined_ancestors() -> None:
    """THREATS 2."""
    five = chain_of(5)
    assert read(pays_lock(five[0]), *five)
    six = chain_of(6)
    assert "at most 5 below" in refused(pays_lock(six[0]), *six)


def test_an_ancestor_without_a_fee() -> None:
    """THREATS 2: then nothing above it would ever be mined, our settlement included."""
    *waiting, root = chain_of(1, fee=0)
    assert "pays 0 sat" in refused(pays_lock(waiting[0]), *waiting, root)


def test_a_fee_below_the_agreed_rate() -> None:
    """THREATS 2, 51."""
    root = mined()
    subject = pays_lock(root, fee=200)
    assert read(subject, root, rate=500)
    assert "less than 600 sat/kB" in refused(subject, root, rate=600)


def test_a_funding_that_waits_for_a_lock_time() -> None:
    """THREATS 2: it could be replaced as long as it is not final."""
    root = mined()
    waiting = spend(coin(root), script=LOCK.script(), sequence=0, locktime=500)
    assert "not final" in refused(waiting, root)
    assert read(spend(coin(root), script=LOCK.script(), locktime=500), root), "final by its sequence"


def test_a_proof_that_names_too_many_blocks() -> None:
    """THREATS 22: each block is a question to the chain."""
    roots = [mined(1000, number) for number in range(funding.MAX_BLOCKS + 1)]
    subject = spend(*map(coin, roots), script=LOCK.script(), fee=5000)
    proofs = {one.txid: proof(one, 100 + n) for n, one in enumerate(roots)}
    with pytest.raises(RemoteProtocolError, match="name 101 blocks, at most 100"):
        funding.check_blocks(Beef.build(subject, {one.txid: one for one in roots}, proofs))
    del proofs[roots[0].txid]
    funding.check_blocks(Beef(subject.txid, (), proofs))
