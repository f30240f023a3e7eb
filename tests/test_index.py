"""The script index: whatever comes and goes, it says what the chain it was given says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.chain import HistoryItem, Spend
from bct.bitcoin.index import ScriptIndex
from bct.bitcoin.keys import sha256
from bct.bitcoin.tx import Tx, TxInput, TxOutput
from bct.units import Outpoint, Satoshi, Txid

ALICE, BOB = b"\x51", b"\x52"
NOTHING = Outpoint(Txid(bytes(32)), 0xFFFFFFFF)


def tx(*spent: Outpoint, to: bytes = ALICE, outputs: int = 1) -> Tx:
    return Tx(tuple(TxInput(one) for one in spent), (TxOutput(Satoshi(1_000), to),) * outputs)


def coin(name: str) -> Outpoint:
    return Outpoint(Txid(sha256(name.encode())), 0)


def out(one: Tx, index: int = 0) -> Outpoint:
    return Outpoint(one.txid, index)


def test_a_payment_goes_from_pool_to_block() -> None:
    index, paid = ScriptIndex(), tx(coin("a"))
    index.add_to_pool(paid)
    assert index.history(ALICE) == [HistoryItem(paid.txid, None)]
    assert index.spender(coin("a")) == Spend(paid.txid, 0, None)
    index.drop_pool()
    index.add_block(b"h1", 5, [paid])
    assert index.history(ALICE) == [HistoryItem(paid.txid, 5)]
    assert index.spender(coin("a")) == Spend(paid.txid, 0, 5)
    assert (index.tip, index.height) == (b"h1", 5)


def test_a_block_that_left_takes_its_transactions_along() -> None:
    index, first, second = ScriptIndex(), tx(coin("a")), tx(coin("b"))
    index.add_block(b"h1", 5, [first])
    index.add_block(b"h2", 6, [second])
    index.drop_block()
    assert index.history(ALICE) == [HistoryItem(first.txid, 5)]
    assert index.spender(coin("b")) is None
    index.drop_block()
    assert index.history(ALICE) == []
    assert (index.tip, index.height) == (None, -1)


def test_who_spends_from_a_script_is_in_its_history_once() -> None:
    index = ScriptIndex()
    paid = tx(coin("a"), outputs=2)
    away = tx(coin("x"), out(paid, 0), out(paid, 1), to=BOB)
    index.add_block(b"h1", 5, [paid])
    index.add_block(b"h2", 6, [away])
    assert index.history(ALICE) == [HistoryItem(paid.txid, 5), HistoryItem(away.txid, 6)]
    assert index.history(BOB) == [HistoryItem(away.txid, 6)]
    assert index.spender(out(paid, 1)) == Spend(away.txid, 2, 6)


def test_a_child_may_come_before_its_parent() -> None:
    """The pool has no order."""
    index, parent = ScriptIndex(), tx(coin("a"))
    child = tx(out(parent), to=BOB)
    index.add_to_pool(child)
    index.add_to_pool(parent)
    assert {item.txid for item in index.history(ALICE)} == {parent.txid, child.txid}


def test_the_pool_comes_last_and_blocks_in_their_order() -> None:
    index, old, same, new, waiting = ScriptIndex(), *(tx(coin(name)) for name in "abcd")
    index.add_to_pool(waiting)
    index.add_block(b"h1", 5, [old, same])
    index.add_block(b"h2", 6, [new])
    assert [item.txid for item in index.history(ALICE)] == [old.txid, same.txid, new.txid, waiting.txid]


def test_no_coinbase_spends_anything() -> None:
    index = ScriptIndex()
    index.add_block(b"h1", 1, [tx(NOTHING)])
    assert index.spender(NOTHING) is None


@given(st.lists(st.booleans(), max_size=12))
def test_after_any_reorganisations_it_equals_one_that_saw_the_last_chain_only(moves: list[bool]) -> None:
    """True: a block that spends the newest output, False: the newest block leaves."""
    index, chain = ScriptIndex(), [tx(coin("root"))]
    for number, grows in enumerate(moves):
        if grows:
            chain.append(tx(out(chain[-1]), coin(f"fee {number}")))
            index.add_block(chain[-1].txid, len(chain), [chain[-1]])
        elif len(chain) > 1:
            chain.pop()
            index.drop_block()
    fresh = ScriptIndex()
    for height, one in enumerate(chain[1:], start=2):
        fresh.add_block(one.txid, height, [one])
    assert index.history(ALICE) == fresh.history(ALICE)
    assert [index.spender(out(one)) for one in chain] == [fresh.spender(out(one)) for one in chain]
