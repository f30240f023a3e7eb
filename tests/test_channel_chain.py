"""A payment channel on a real BSV node: what it takes, what it refuses, and who wins in between.

Each story opens a channel of its own, which no block holds yet. The node is this file's, because the stories move its
clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.regtest_node import RegtestNode, find_bitcoind
from bct.bitcoin.chain import Broadcast, Network, Outcome
from bct.bitcoin.keys import ORDER, compact_to_der, sha256d
from bct.bitcoin.script import p2pkh, p2pkh_unlock, push, push_signature
from bct.bitcoin.tx import Tx, TxInput, TxOutput, sighash, sighash_preimage
from bct.channel.lock import Lock, refund
from bct.channel.timing import may_refund
from bct.channel.transactions import Lines, Params, Totals, commitment, fee, settlement
from bct.units import Outpoint, Payees, Satoshi
from tests.channel_attacks import (
    Coin,
    Refund,
    another_signature,
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
    CHANGE,
    FILM,
    HOUR,
    PAYEE,
    PAYER,
    SERIES,
    creators,
    key,
    new_payee,
    new_payer,
    params,
)

pytestmark = pytest.mark.anyio

CAPACITY = 10_000


@dataclass(frozen=True, slots=True)
class World:
    """A chain whose clock can be moved forward, and its miner."""

    chain: ChainNode
    miner: RegtestMiner

    @classmethod
    async def of(cls, node: RegtestNode) -> World:
        chain = ChainNode(Network.REGTEST, node.url, Path(node.cookie_file), node.zmq)
        world = cls(chain, RegtestMiner(chain))
        await world.miner.start()
        return world

    async def open(self, count: int = 1, capacity: int = CAPACITY, rate: int = 100, outputs: int = 8) -> list[Params]:
        """Channels in one funding transaction, which no block holds; they expire in twelve hours."""
        lock = Lock(PAYER.public, PAYEE.public, (await self.chain.tip()).time + 12 * HOUR)
        funding = (await self.miner.pay(lock.script(), capacity, count)).txid
        return [params(capacity, rate, outputs, outpoint=Outpoint(funding, n), lock=lock) for n in range(count)]

    async def send(self, tx: Tx) -> Outcome:
        return (await self.answer(tx)).outcome

    async def answer(self, tx: Tx) -> Broadcast:
        return (await self.chain.broadcast([tx.serialize()]))[0]

    async def refuses(self, attacks: dict[str, Tx]) -> None:
        """Each because of its script, not because of money, coins or time."""
        for what, tx in attacks.items():
            answer = await self.answer(tx)
            assert answer.outcome is Outcome.INVALID, f"{what}: {answer}"
            assert "script-verify" in answer.detail, f"{what}: {answer}"

    async def mined(self, tx: Tx) -> bool:
        await self.miner.mine()
        place = await self.chain.place(tx.txid)
        return place is not None and place.confirmations == 1

    async def parked(self) -> list[str]:
        return list(await self.chain.rpc.call("getrawnonfinalmempool"))

    async def pass_time(self, until: int) -> None:
        """Blocks until the median of their times is `until`."""
        await self.chain.rpc.call("setmocktime", until)
        while (await self.chain.tip()).median_time < until:
            await self.miner.mine()


@pytest.fixture(scope="module")
async def world(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    node = await RegtestNode.start(tmp_path_factory.mktemp("channels"))
    opened = await World.of(node)
    yield opened
    await opened.chain.close()
    await node.stop()


@pytest.fixture
async def channel(world: World) -> Params:
    return (await world.open())[0]


def honest_refund(fixed: Params, fee: int = 100) -> Tx:
    """As bct makes it."""
    value = Satoshi(fixed.capacity - fee)
    return refund(fixed.lock, fixed.outpoint, fixed.capacity, TxOutput(value, p2pkh(CHANGE)), PAYER)


# -- settling ---------------------------------------------------------------------------------------------------------


async def test_a_channel_from_its_opening_to_the_block(world: World, channel: Params) -> None:
    """Both sides' own code: three payments, the settlement, the payer's copy of it, and the money on the chain."""
    now = channel.lock.expiry - 12 * HOUR
    payer, payee = new_payer(channel), new_payee(channel)
    for price in (20, 20, 22):
        payment = payer.pay(0, price, PAYER, now=now)
        payee.accept(payment.line, payment.total, payment.signature, now=now, exposure=1_000)
    tx, ours = payee.settlement(PAYEE)
    assert payer.settlement(ours, PAYER) == tx
    assert await world.send(tx) is Outcome.ACCEPTED
    assert await world.mined(tx)
    assert [o.value for o in tx.outputs] == [37, 25, CAPACITY - 62 - 30]


async def test_a_channel_over_which_nothing_was_paid_is_settled_at_once(world: World, channel: Params) -> None:
    payer, payee = new_payer(channel), new_payee(channel)
    payee.accept_close(payer.totals, payer.sign_close(PAYER))
    tx, _ = payee.settlement(PAYEE)
    assert await world.send(tx) is Outcome.ACCEPTED
    assert await world.mined(tx)


async def test_settlements_with_one_to_sixteen_creators(world: World) -> None:
    opened = await world.open(16, outputs=20)
    sent = []
    for count, fixed in enumerate(opened, start=1):
        line = Payees.of(*((who, 9_000 // count) for who in creators(count)))
        sent.append(settled(fixed, (line,), (3_000,)))
        assert len(sent[-1].outputs) == count + 2
        assert await world.send(sent[-1]) is Outcome.ACCEPTED
    assert await world.mined(sent[0])
    assert all([await world.chain.place(tx.txid) for tx in sent])


async def test_settlements_of_several_lines(world: World) -> None:
    all_lines: list[tuple[Lines, Totals]] = [
        ((FILM, SERIES), (62, 1_001)),
        ((FILM, SERIES, Payees.of((BOB, 1), (ALICE, 9_999))), (1, 1, 1)),
        (tuple(Payees.of((ALICE, share)) for share in range(1, 33)), tuple(range(32))),
        ((FILM,), (CAPACITY - 30,)),
    ]
    for fixed, (lines, totals) in zip(await world.open(len(all_lines)), all_lines, strict=True):
        tx = settled(fixed, lines, totals)
        assert await world.send(tx) is Outcome.ACCEPTED
        assert sum(o.value for o in tx.outputs) == CAPACITY - fee(fixed, lines, totals)
    assert await world.mined(tx)


# -- taking what is not one's own -------------------------------------------------------------------------------------


async def test_nobody_settles_alone_or_otherwise_than_signed(world: World) -> None:
    """THREATS 1, 12, 13, 14: each attack pays 1000 sat/kB, so that nothing but the script stands against it."""
    (channel,) = await world.open(rate=1000)
    await world.refuses(crooked_settlements(channel))
    honest = settled(channel, (FILM,), (600,))
    assert await world.send(honest) is Outcome.ACCEPTED
    assert await world.mined(honest)


async def test_a_viewer_cannot_double_spend_a_channel(world: World, channel: Params) -> None:
    """THREATS 1: the coins are in the channel, so the only other spend is the refund, and that is held back."""
    assert await world.send(honest_refund(channel)) is Outcome.PARKED
    tx = settled(channel, (FILM,), (600,))
    assert await world.send(tx) is Outcome.ACCEPTED
    assert await world.send(honest_refund(channel, fee=5_000)) is Outcome.CONFLICT
    assert await world.mined(tx)


async def test_one_set_of_outputs_does_not_settle_two_channels(world: World) -> None:
    """THREATS 13: two equal channels; a payee puts both into one transaction that pays everybody only once."""
    one, other = await world.open(2)
    lines, totals = (FILM,), (600,)
    both = [settled(fixed, lines, totals) for fixed in (one, other)]
    joined = Tx((both[0].inputs[0], both[1].inputs[0]), both[0].outputs)
    await world.refuses({"two channels, one set of outputs": joined})
    for tx in both:
        assert await world.send(tx) is Outcome.ACCEPTED


async def test_signed_with_anyonecanpay_it_would(world: World) -> None:
    """THREATS 13: what the fixed 41 prevents: signed C1 by both sides, the same transaction pays once for two."""
    channels = await world.open(2)
    outputs = commitment(channels[0], (FILM,), (600,)).outputs
    joined = Tx(tuple(TxInput(fixed.outpoint) for fixed in channels), outputs)
    inputs = []
    for index, fixed in enumerate(channels):
        preimage = sighash_preimage(joined, index, fixed.lock.script(), fixed.capacity)
        digest = sha256d(preimage[:4] + bytes(64) + preimage[68:-4] + b"\xc1\0\0\0")  # no word of the other inputs
        unlock = b"".join(push(compact_to_der(by.sign(digest)) + b"\xc1") for by in (PAYEE, PAYER))
        inputs.append(TxInput(fixed.outpoint, unlock))
    assert await world.send(Tx(tuple(inputs), outputs)) is Outcome.ACCEPTED


async def test_dust_cannot_be_added_to_a_settlement(world: World, channel: Params) -> None:
    """THREATS 13: a further input of the payee's, unmined and unpaid for, would pin the settlement."""
    owner = key("dust")
    dust = Outpoint((await world.miner.pay(p2pkh(owner.hash), 1_000)).txid, 0)
    honest = settled(channel, (FILM,), (600,))
    widened = Tx((*honest.inputs, TxInput(dust)), honest.outputs)
    signature = owner.sign(sighash(widened, 1, p2pkh(owner.hash), Satoshi(1_000)))
    unlock = p2pkh_unlock(signature, owner.public)
    await world.refuses({"dust": Tx((*honest.inputs, TxInput(dust, unlock)), honest.outputs)})
    assert await world.send(honest) is Outcome.ACCEPTED


async def test_a_settlement_cannot_be_swollen(world: World) -> None:
    """THREATS 14: 400,000 bytes in the place of a signature, paid for."""
    (channel,) = await world.open(capacity=1_000_000)
    lines, totals = (FILM,), (600,)
    _, payer = signatures(channel, lines, totals)
    poor = replace(channel, capacity=Satoshi(900_000))
    fat = b"\x4e" + (400_000).to_bytes(4, "little") + bytes(400_000)
    swollen = Tx((TxInput(channel.outpoint, fat + push_signature(payer)),), commitment(poor, lines, totals).outputs)
    assert await world.send(swollen) is Outcome.INVALID
    assert await world.send(settled(channel, lines, totals)) is Outcome.ACCEPTED


async def test_a_fundings_id_cannot_be_changed_on_the_way(world: World) -> None:
    """THREATS 14: the funding's own signatures; were its id changed, the commitments would spend nothing."""
    owner = key("viewer's coin")
    coin = Outpoint((await world.miner.pay(p2pkh(owner.hash), 20_000)).txid, 0)
    lock = Lock(PAYER.public, PAYEE.public, (await world.chain.tip()).time + 12 * HOUR)
    unsigned = Tx(
        (TxInput(coin),), (TxOutput(Satoshi(CAPACITY), lock.script()), TxOutput(Satoshi(9_900), p2pkh(CHANGE)))
    )
    signature = owner.sign(sighash(unsigned, 0, p2pkh(owner.hash), Satoshi(20_000)))
    high = signature[:32] + (ORDER - int.from_bytes(signature[32:])).to_bytes(32)
    honest = p2pkh_unlock(signature, owner.public)

    def unlocked(script: bytes) -> Tx:
        return replace(unsigned, inputs=(TxInput(coin, script),))

    await world.refuses(
        {
            "high s": unlocked(p2pkh_unlock(high, owner.public)),
            "an extra push": unlocked(push(b"more") + honest),
            "a fat push": unlocked(b"\x4c" + honest),
        }
    )
    assert await world.send(unlocked(honest)) is Outcome.ACCEPTED


async def test_a_script_other_than_p2pkh_could_make_a_settlement_unrelayable(world: World, channel: Params) -> None:
    """THREATS 5: why an OPEN carries hashes and no scripts. A change output to a script hash is refused for ever."""
    lines, totals = (FILM,), (600,)
    unsigned = commitment(channel, lines, totals)
    p2sh = bytes.fromhex("a914") + CHANGE + b"\x87"
    crooked = replace(unsigned, outputs=(*unsigned.outputs[:-1], TxOutput(unsigned.outputs[-1].value, p2sh)))
    digest = sighash(crooked, 0, channel.lock.script(), channel.capacity)
    tx = settlement(crooked, PAYEE.sign(digest), PAYER.sign(digest))
    assert (await world.answer(tx)).outcome is Outcome.INVALID
    assert await world.send(settled(channel, lines, totals)) is Outcome.ACCEPTED


async def test_only_one_commitment_can_be_settled(world: World, channel: Params) -> None:
    """THREATS 32: the seeder sends an older one and then the newest: the first stays, so it must be the newest."""
    older, newest = (settled(channel, (FILM,), (total,)) for total in (100, 600))
    assert await world.send(older) is Outcome.ACCEPTED
    assert await world.send(newest) is Outcome.CONFLICT
    assert await world.mined(older)
    assert await world.send(newest) is Outcome.CONFLICT


async def test_a_second_signature_would_give_the_settlement_another_id(world: World, channel: Params) -> None:
    """THREATS 14: why the payee keeps the first signature: the same money under another id is a double spend."""
    lines, totals = (FILM,), (600,)
    unsigned = commitment(channel, lines, totals)
    payee, payer = signatures(channel, lines, totals)
    digest = sighash(unsigned, 0, channel.lock.script(), channel.capacity)
    other = settlement(unsigned, payee, another_signature(PAYER, digest))
    assert await world.send(settlement(unsigned, payee, payer)) is Outcome.ACCEPTED
    assert await world.send(other) is Outcome.CONFLICT


# -- the refund -------------------------------------------------------------------------------------------------------


async def test_no_refund_before_the_expiry_and_no_crooked_one_after_it(world: World) -> None:
    """THREATS 4: the script refuses it today, and when its time has come."""
    channel, twin = await world.open(2)
    await world.refuses(early_refunds(channel) | crooked_refunds(channel))
    assert await world.parked() == []
    await world.pass_time(channel.lock.expiry + 100)
    owner = key("company")
    coin = Coin(Outpoint((await world.miner.pay(p2pkh(owner.hash), 5_000)).txid, 0), Satoshi(5_000), owner)
    await world.refuses(early_refunds(channel) | crooked_refunds(channel) | refunds_with_company(channel, coin, twin))
    assert await world.send(honest_refund(channel)) is Outcome.ACCEPTED


async def test_a_refund_parked_early_does_not_stop_the_settlement(world: World, channel: Params) -> None:
    """THREATS 6: the node evicts it, for the settlement is final and the refund is not."""
    assert await world.send(Refund().of(channel)) is Outcome.PARKED
    assert len(await world.parked()) == 1
    tx = settled(channel, (FILM,), (600,))
    assert await world.send(tx) is Outcome.ACCEPTED
    assert await world.parked() == []
    assert await world.mined(tx)


async def test_no_refund_with_a_second_input_can_be_parked(world: World) -> None:
    """THREATS 6: parked so, the node would refuse every settlement with bad-txn-update. The script refuses it first."""
    channel, twin = await world.open(2)
    owner = key("company")
    coin = Coin(Outpoint((await world.miner.pay(p2pkh(owner.hash), 5_000)).txid, 0), Satoshi(5_000), owner)
    await world.refuses(refunds_with_company(channel, coin, twin))
    assert await world.parked() == []
    for fixed in (channel, twin):
        assert await world.send(settled(fixed, (FILM,), (600,))) is Outcome.ACCEPTED


async def replaced(world: World, channel: Params, times: int) -> None:
    """Parks a refund, tries to replace it so often, then settles."""
    assert await world.send(honest_refund(channel)) is Outcome.PARKED
    tries = [honest_refund(channel, fee=100 + number).serialize() for number in range(1, times + 1)]
    answers = await world.chain.broadcast(tries)
    assert {answer.outcome for answer in answers} == {Outcome.CONFLICT}
    tx = settled(channel, (FILM,), (600,))
    assert await world.send(tx) is Outcome.ACCEPTED
    assert await world.mined(tx)


async def test_a_hundred_replacements_of_a_parked_refund(world: World, channel: Params) -> None:
    """THREATS 6: with one sequence only there is nothing to count up, so each further refund is refused at once."""
    await replaced(world, channel, 100)


@pytest.mark.long
async def test_eight_thousand_replacements_of_a_parked_refund(world: World) -> None:
    """THREATS 6: enough to use up the node's limit on replacements, if they were any."""
    (channel,) = await world.open()
    await replaced(world, channel, 8_000)


async def test_the_payee_is_gone_and_the_money_comes_back(world: World) -> None:
    """THREATS 8: while median time stands at its lock time a refund is only parked; a second later it is mined."""
    channel, twin = await world.open(2)
    tx = honest_refund(channel, fee=32)
    await world.pass_time(tx.locktime)
    assert not may_refund(tx.locktime, (await world.chain.tip()).median_time)
    assert await world.send(Refund(locktime=tx.locktime).of(twin)) is Outcome.PARKED
    await world.pass_time(tx.locktime + 1)
    assert may_refund(tx.locktime, (await world.chain.tip()).median_time)
    assert await world.send(tx) is Outcome.ACCEPTED
    assert await world.mined(tx)
    assert [o.value for o in tx.outputs] == [CAPACITY - 32]


async def test_a_settlement_two_hours_before_the_expiry_is_in_time(world: World, channel: Params) -> None:
    """THREATS 7: at T - 2 h the refund is not final yet, however it is sent."""
    await world.pass_time(channel.lock.expiry - 2 * HOUR)
    assert await world.send(honest_refund(channel)) is Outcome.PARKED
    tx = settled(channel, (FILM,), (600,))
    assert await world.send(tx) is Outcome.ACCEPTED
    assert await world.mined(tx)


async def test_after_the_expiry_whoever_comes_first_has_it(world: World) -> None:
    """THREATS 7: so a payee that overslept still sends, and a payer that was asleep loses nothing but time."""
    early_payer, early_payee = await world.open(2)
    await world.pass_time(early_payer.lock.expiry + 100)
    assert await world.send(honest_refund(early_payer)) is Outcome.ACCEPTED
    assert await world.send(settled(early_payer, (FILM,), (600,))) is Outcome.CONFLICT
    assert await world.send(settled(early_payee, (FILM,), (600,))) is Outcome.ACCEPTED
    assert await world.send(honest_refund(early_payee)) is Outcome.CONFLICT


# -- fees -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def dear_chain(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChainNode]:
    """A chain whose miners ask 1000 sat/kB, ten times as much as the others: an option's last value counts."""
    home = tmp_path_factory.mktemp("dear")
    program, floor = home / "bitcoind", "0.00001000"
    options = f"-minminingtxfee={floor} -mindebugrejectionfee={floor}"
    program.write_text(f'#!/bin/sh\nexec "{find_bitcoind()}" "$@" {options}\n')
    program.chmod(0o755)
    node = await RegtestNode.start(home, str(program))
    chain = ChainNode(Network.REGTEST, node.url, Path(node.cookie_file), node.zmq)
    yield chain
    await chain.close()
    await node.stop()


async def test_twenty_outputs_at_a_thousand_satoshis_a_kilobyte(dear_chain: ChainNode) -> None:
    """THREATS 51: eighteen creators on two lines, the seeder and the change, where miners want every satoshi of it."""
    lines = (Payees.of(*((who, 600) for who in creators(16))), Payees.of(*((who, 500) for who in creators(18)[10:])))
    totals = (40_000, 30_000)
    opened = await open_dear(dear_chain, 9)
    assert await dear_chain.fee_rate() == 1000
    for fixed in opened[:-1]:
        tx = settled(fixed, lines, totals)
        assert len(tx.outputs) == 20
        assert await outcome(dear_chain, tx) is Outcome.ACCEPTED
    await mine_to(dear_chain, p2pkh(BOB), 1)
    place = await dear_chain.place(tx.txid)
    assert place is not None
    assert place.confirmations == 1
    cheap = settled(replace(opened[-1], fee_rate=950), lines, totals)
    answer = (await dear_chain.broadcast([cheap.serialize()]))[0]
    assert (answer.outcome, answer.detail) == (Outcome.INVALID, "mempool min fee not met")


async def open_dear(chain: ChainNode, count: int) -> list[Params]:
    """Channels of 100,000 sat at 1000 sat/kB, funded out of a first block's reward."""
    script = p2pkh(PAYER.hash)
    block = await mine_to(chain, script, 101)
    reward = Tx.parse(bytes.fromhex(await chain.rpc.call("getrawtransaction", block["tx"][0])))
    lock = Lock(PAYER.public, PAYEE.public, block["time"] + 12 * HOUR)
    outputs = (TxOutput(Satoshi(100_000), lock.script()),) * count
    rest = reward.outputs[0].value - 100_000 * count - 250 * (count + 1)
    funding = Tx((TxInput(Outpoint(reward.txid, 0)),), (*outputs, TxOutput(Satoshi(rest), p2pkh(CHANGE))))
    signature = PAYER.sign(sighash(funding, 0, script, reward.outputs[0].value))
    funding = replace(funding, inputs=(replace(funding.inputs[0], script=p2pkh_unlock(signature, PAYER.public)),))
    assert await outcome(chain, funding) is Outcome.ACCEPTED
    return [params(100_000, 1000, 20, outpoint=Outpoint(funding.txid, n), lock=lock) for n in range(count)]


async def mine_to(chain: ChainNode, script: bytes, blocks: int) -> dict[str, Any]:
    """The first of the new blocks, as the node describes it."""
    address = (await chain.rpc.call("decodescript", script.hex()))["addresses"][0]
    hashes = await chain.rpc.call("generatetoaddress", blocks, address)
    return dict(await chain.rpc.call("getblock", hashes[0]))


async def outcome(chain: ChainNode, tx: Tx) -> Outcome:
    return (await chain.broadcast([tx.serialize()]))[0].outcome
