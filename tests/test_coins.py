"""Which coins pay, what it costs, and that nothing is lost or overpaid on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bct.bitcoin.keys import verify
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx, sighash
from bct.errors import FundsError, LocalProtocolError
from bct.units import PubKeyHash, Satoshi
from bct.wallet.coins import (
    MAX_ANCESTORS,
    Coin,
    Plan,
    Stuck,
    Want,
    fee_for,
    is_economic,
    lift,
    select,
    sign,
    sweep,
)
from bct.wallet.paths import RECEIVE, channel_payer
from tests.vectors.wallet import CHANGE_HASH, KEYRING, LOCK_SIZE, coin

PAY = p2pkh(PubKeyHash(b"payee".ljust(20)))


def want(value: int, script_size: int = 25) -> Want:
    return Want(Satoshi(value), script_size)


def values(plan: Plan) -> list[int]:
    return [c.value for c in plan.coins]


def signed(plan: Plan) -> Tx:
    scripts = [PAY.ljust(w.script_size) for w in plan.wants]
    return sign(plan.build(scripts, CHANGE_HASH), plan.coins, KEYRING.key)


def purse(**sums: int) -> list[Coin]:
    return [coin(name, value) for name, value in sums.items()]


coins_of_any_kind = st.lists(
    st.tuples(st.integers(1, 5000), st.sampled_from((7, 7, None)), st.integers(1, 3)), max_size=12
).map(lambda kinds: [coin(f"coin {n}", *kind) for n, kind in enumerate(kinds)])
rates = st.integers(1, 1000)
wanted = st.lists(st.tuples(st.integers(1, 4000), st.sampled_from((25, LOCK_SIZE))), min_size=1, max_size=4).map(
    lambda outputs: [want(*output) for output in outputs]
)


@given(coins_of_any_kind, wanted, rates, st.data())
def test_a_plan_keeps_every_promise(coins: list[Coin], wants: list[Want], rate: int, data: Any) -> None:
    order = data.draw(st.permutations(range(len(wants) + 1)))
    try:
        plan = select(coins, wants, rate, order)
    except FundsError:
        usable = [c for c in coins if is_economic(c.value, rate) and c.height is not None]
        assume(usable)
        fee = fee_for(10 + 148 * len(usable) + sum(w.size for w in wants), rate)
        assert sum(c.value for c in usable) < sum(w.value for w in wants) + fee
        return
    tx = signed(plan)
    size = len(tx.serialize())
    assert plan.fee == sum(c.value for c in plan.coins) - sum(output.value for output in tx.outputs)
    assert plan.fee >= fee_for(size, rate)
    assert plan.fee <= fee_for(size + 3 * len(plan.coins) + 1, rate) + fee_for(34, rate) + fee_for(148, rate) + 1
    assert all(is_economic(c.value, rate) for c in plan.coins)
    assert len(frozenset().union(*(c.ancestors for c in plan.coins))) <= MAX_ANCESTORS
    assert plan.change == 0 or is_economic(plan.change, rate)
    for number, w in enumerate(wants):
        assert tx.outputs[plan.vout(number)].value == w.value
    assert plan == select(coins[::-1], wants, rate, order)


def test_the_smallest_coin_that_suffices_is_taken() -> None:
    assert values(select(purse(a=500, b=3000, c=1500, d=9000), [want(1000)], 100)) == [1500]


def test_without_one_the_largest_come_first_and_the_last_is_small() -> None:
    assert values(select(purse(a=500, b=3000, c=1500, d=1024), [want(3300)], 100)) == [3000, 500]


def test_a_coin_that_suffices_to_the_satoshi_is_enough() -> None:
    """One input and one output: 10 + 148 + 34 bytes."""
    plan = select(purse(exact=1000 + 20, other=500), [want(1000)], 100)
    assert (values(plan), plan.fee, plan.change) == ([1020], 20, 0)


def test_a_fee_is_exact_however_much_is_sent() -> None:
    assert [fee_for(size, 100) for size in (0, 1, 10, 11, 1_000_000)] == [0, 1, 1, 2, 100_000]


def test_confirmed_coins_come_before_fitting_ones() -> None:
    pending, confirmed = coin("pending", 1100, None), coin("confirmed", 9000)
    assert select([pending, confirmed], [want(1000)], 100).coins == (confirmed,)
    assert set(select([pending, coin("small", 100)], [want(1000)], 100).coins) == {pending}


def test_coins_with_too_much_behind_them_wait_for_a_block() -> None:
    deep, shallow = coin("deep", 5000, None, ancestors=6), coin("shallow", 2000, None, ancestors=5)
    assert select([deep, shallow], [want(1000)], 100).coins == (shallow,)
    with pytest.raises(FundsError, match=r"1000 sat and at least .*, of which 5000 sat wait for a block"):
        select([deep], [want(1000)], 100)
    three = [coin(name, 1000, None, ancestors=2) for name in "abc"]
    with pytest.raises(FundsError):
        select(three, [want(2500)], 100)  # two bring four ancestors, the third would be two more
    assert len(select(three, [want(1500)], 100).coins) == 2


def test_dust_and_reserved_coins_are_left_alone() -> None:
    dust, spare = coin("dust", 15), coin("spare", 16)
    assert select([dust, spare], [want(1)], 1).coins == (dust,)
    assert not is_economic(15, 100)
    assert is_economic(16, 100)
    with pytest.raises(FundsError, match="at least 20 sat of fees are needed; 0 sat can be spent"):
        select([dust], [want(1)], 100)
    reserved = Coin(spare.outpoint, Satoshi(9000), spare.path, 7, reserved=True)
    with pytest.raises(FundsError):
        select([reserved], [want(1)], 100)
    with pytest.raises(FundsError):
        sweep([reserved], 100)


def test_change_too_small_to_spend_goes_to_the_fee() -> None:
    (exact,), (kept,) = purse(a=1000 + 20 + 3 + 15), purse(a=1000 + 20 + 3 + 16)
    assert (select([exact], [want(1000)], 100).change, select([exact], [want(1000)], 100).fee) == (0, 38)
    assert (select([kept], [want(1000)], 100).change, select([kept], [want(1000)], 100).fee) == (16, 23)


def test_a_channels_keys_follow_from_the_plan_before_its_lock_is_written() -> None:
    plan = select(purse(a=2000, b=9000), [want(3000, LOCK_SIZE), want(7000, LOCK_SIZE)], 100, order=[1, 2, 0])
    assert [plan.vout(0), plan.vout(1)] == [2, 0]
    locks = [KEYRING.key(channel_payer(plan.anchor, plan.vout(n))).public.ljust(LOCK_SIZE) for n in range(2)]
    tx = plan.build(locks, CHANGE_HASH)
    assert [output.value for output in tx.outputs] == [7000, plan.change, 3000]
    assert (tx.outputs[2].script, tx.outputs[0].script) == tuple(locks)
    assert tx.outputs[1].script == p2pkh(CHANGE_HASH)
    assert tx.inputs[0].outpoint == plan.anchor


def test_an_order_keeps_its_shape_without_change() -> None:
    plan = select(purse(a=2040), [want(1000), want(1000)], 100, order=[1, 2, 0])
    assert plan.change == 0
    assert plan.order == (1, 0)


def test_what_a_plan_was_not_made_for_is_our_mistake() -> None:
    plan = select(purse(a=9000), [want(1000, LOCK_SIZE)], 100)
    for scripts in ([PAY], [], [bytes(LOCK_SIZE)] * 2):
        with pytest.raises(LocalProtocolError, match="not of the sizes"):
            plan.build(scripts, CHANGE_HASH)
    for order in ([0], [0, 0], [0, 1, 2], [1, 2]):
        with pytest.raises(LocalProtocolError, match="names each once"):
            select(purse(a=9000), [want(1000)], 100, order)


def test_sweeping_takes_everything_dust_too() -> None:
    plan = sweep(purse(a=5, b=1000, c=9), 100)
    tx = signed(plan)
    assert (values(plan), plan.change) == ([1000, 9, 5], 0)
    assert [output.value for output in tx.outputs] == [1014 - plan.fee]
    with pytest.raises(FundsError, match="14 sat, and moving them costs 34 sat"):
        sweep(purse(a=5, c=9), 100)
    with pytest.raises(FundsError, match="20 sat, and moving them costs 20 sat"):
        sweep(purse(a=20), 100)
    assert signed(sweep(purse(a=21), 100)).outputs[0].value == 1


def test_each_input_is_signed_for_its_own_coin() -> None:
    coins = [Coin(c.outpoint, c.value, (*RECEIVE, n), c.height) for n, c in enumerate(purse(a=600, b=700, c=800))]
    plan = select(coins, [want(1900)], 100)
    unsigned, tx = plan.build([PAY], CHANGE_HASH), signed(plan)
    for n, c in enumerate(plan.coins):
        key, script = KEYRING.key(c.path), tx.inputs[n].script
        assert script.endswith(b"\x21" + key.public)
        r, s = der(script[1 : script[0]])
        assert verify(key.public, sighash(unsigned, n, p2pkh(key.hash), c.value), r.to_bytes(32) + s.to_bytes(32))


def der(signature: bytes) -> tuple[int, int]:
    size = signature[3]
    return int.from_bytes(signature[4 : 4 + size]), int.from_bytes(signature[6 + size :])


# -- a child that pays for its parents --------------------------------------------------------------------------------

too_cheap = st.builds(lambda size, rate: Stuck(size, fee_for(size, rate)), st.integers(100, 2000), st.integers(0, 400))


@given(st.integers(1, 20_000), st.lists(too_cheap, min_size=1, max_size=4), rates)
def test_a_child_lifts_all_of_it_to_the_rate_or_is_not_made(value: int, stuck: list[Stuck], rate: int) -> None:
    plan = lift(coin("earned", value, None), stuck, rate)
    paid, size = sum(one.paid for one in stuck), sum(one.size for one in stuck)
    if plan is None:
        child = fee_for(size + 192, rate) - paid
        assert paid >= fee_for(size, rate) or not is_economic(value - child, rate)
        return
    tx = signed(plan)
    assert tx.outputs[0].value == value - plan.fee
    assert is_economic(tx.outputs[0].value, rate), "it brings more than it costs"
    assert (paid + plan.fee) * 1000 >= rate * (size + len(tx.serialize()))


def test_what_a_child_of_a_settlement_costs() -> None:
    """299 bytes that paid 30 sat, and 192 of its own, at 300 sat/kB: 60 + 58."""
    plan = lift(coin("earned", 280, None), [Stuck(299, 30)], 300)
    assert plan
    assert (plan.fee, plan.wants[0].value) == (118, 162)


def test_a_second_child_pays_only_what_the_first_left_open() -> None:
    first = lift(coin("earned", 5_000, None), [Stuck(299, 30)], 300)
    assert first
    family = [Stuck(299, 30), Stuck(192, first.fee)]
    assert lift(coin("left", first.wants[0].value, None), family, 300) is None
    second = lift(coin("left", first.wants[0].value, None), family, 600)
    assert second
    assert second.fee + first.fee + 30 == fee_for(299 + 192, 600) + fee_for(192, 600)
