"""Receipts: the tree over an epoch's pieces, and the rules that the seeder and every later reader hold them to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.keys import verify
from bct.errors import Action, RemoteProtocolError
from bct.pay.messages import Receipt
from bct.pay.receipts import (
    EPOCH,
    Leaf,
    Served,
    Sold,
    climb,
    content,
    countersigned,
    merkle_proof,
    merkle_root,
    unpack_leaves,
)
from bct.units import Infohash, Outpoint, PieceIndex
from tests.channel_parts import FUNDING, PAYER
from tests.vectors.messages import CONTEXT
from tests.vectors.receipts import EPOCHS, FILM, FIRST, PAID, PRICE, SECOND, SIZE, epoch, leaves, sold

DIGESTS = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70)
ANY_LEAF = st.builds(
    Leaf,
    st.binary(min_size=20, max_size=20).map(Infohash),
    st.integers(0, 2**32 - 1).map(PieceIndex),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
)


# -- the tree ---------------------------------------------------------------------------------------------------------


def parent(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def test_a_tree_by_hand() -> None:
    """An odd node is taken up as it is: hashed with itself, two lists of pieces would have one root."""
    a, b, c, d, e = (bytes((n,)) * 32 for n in range(5))
    assert merkle_root([a]) == a
    assert merkle_root([a, b]) == parent(a, b)
    assert merkle_root([a, b, c]) == parent(parent(a, b), c)
    assert merkle_root([a, b, c, d, e]) == parent(parent(parent(a, b), parent(c, d)), e)
    assert merkle_root([a, b, c]) != merkle_root([a, b, c, c])


@given(DIGESTS, st.data())
def test_a_proof_leads_from_each_leaf_to_the_root(row: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(row) - 1))
    proof = merkle_proof(row, index)
    assert climb(row[index], proof) == merkle_root(row)
    assert len(proof) <= 7


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=2, max_size=20, unique=True), st.data())
def test_a_proof_of_another_leaf_or_a_damaged_one_leads_elsewhere(row: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(row) - 1))
    proof, root = merkle_proof(row, index), merkle_root(row)
    assert climb(bytes(32), proof) != root or bytes(32) in row
    at = data.draw(st.integers(0, len(proof) - 1))
    step = proof[at]
    for damaged in (
        replace(step, left=not step.left),
        replace(step, sibling=bytes((step.sibling[0] ^ 1,)) + step.sibling[1:]),
    ):
        assert climb(row[index], [*proof[:at], damaged, *proof[at + 1 :]]) != root


def test_an_inner_node_is_no_leaf() -> None:
    """Leaves and nodes are hashed apart: a pair cannot be shown as a piece."""
    first, second = (leaf.digest(sold(leaf).hash) for leaf in FIRST[:2])
    assert merkle_root([first, second]) == parent(first, second)
    assert (
        FIRST[0].digest(bytes(20)) == sha256(b"\0" + FIRST[0].pack()[:24] + bytes(20) + FIRST[0].pack()[24:]).digest()
    )


@given(st.lists(ANY_LEAF, min_size=1, max_size=5))
def test_leaves_there_and_back(listed: list[Leaf]) -> None:
    assert unpack_leaves(b"".join(leaf.pack() for leaf in listed)) == tuple(listed)


@pytest.mark.parametrize("size", [0, 1, 28, 30, 57])
def test_leaves_that_are_cut(size: int) -> None:
    """THREATS 23."""
    with pytest.raises(RemoteProtocolError, match="29 bytes"):
        unpack_leaves(bytes(size))


# -- a seeder's book --------------------------------------------------------------------------------------------------


def book(*taken: Receipt) -> Served:
    served = Served(FUNDING)
    for receipt in taken:
        served.take(receipt, served.check(receipt, PAID, sold))
    return served


def refused(served: Served, receipt: Receipt, why: str, look: Callable[[Leaf], Sold] = sold) -> None:
    """Nothing has changed by it: what is right is taken afterwards."""
    before = served.last
    with pytest.raises(RemoteProtocolError, match=why) as error:
        served.check(receipt, PAID, look)
    assert error.value.action is Action.REFUSE
    assert served.last == before


def test_epochs_follow_each_other() -> None:
    served = book(*EPOCHS)
    assert (served.last.epoch, served.last.pieces, served.last.size) == (2, 70, 70 * SIZE)
    assert served.last.totals == PAID


def test_an_epoch_is_known_again_whatever_connection_it_is_said_on() -> None:
    served = book(*EPOCHS)
    assert served.has(replace(EPOCHS[0], handle=99, signature=bytes(64)))
    assert not served.has(replace(EPOCHS[0], root=bytes(32)))
    assert not served.has(epoch(3, leaves(FILM, 68)[67:], PAID, 70))
    assert not served.has(replace(EPOCHS[0], epoch=0))


def test_a_receipt_of_another_channel() -> None:
    """THREATS 43: it would count for two of them."""
    other = Outpoint(FUNDING.txid, FUNDING.index + 1)
    refused(book(), replace(EPOCHS[0], outpoint=other.pack()), "a receipt of channel")
    assert not book(EPOCHS[0]).has(replace(EPOCHS[0], outpoint=other.pack()))


def test_epochs_rise_by_one() -> None:
    """THREATS 44: an epoch said twice would count its pieces twice, one left out would hide what it said."""
    refused(book(), EPOCHS[1], "epoch 2 where 1 is due")
    refused(book(*EPOCHS), EPOCHS[1], "epoch 2 where 3 is due")
    refused(book(*EPOCHS), EPOCHS[0], "epoch 1 where 3 is due")


def test_a_piece_that_was_not_sold() -> None:
    """THREATS 43, 44: what the seeder did not open, or what is outside of the torrent, is its `look`'s to refuse."""

    def look(leaf: Leaf) -> Sold:
        if leaf.piece >= 60:
            raise RemoteProtocolError("bad-receipt", "there is no such piece", Action.REFUSE)
        return sold(leaf)

    refused(book(), EPOCHS[0], "no such piece", look)


def test_a_piece_twice_in_one_epoch() -> None:
    """THREATS 44."""
    first, second = leaves(FILM, 2)
    refused(book(), epoch(1, [first, replace(second, piece=first.piece)], PAID), "listed twice")


def test_a_piece_in_two_epochs() -> None:
    """THREATS 44."""
    again = replace(FIRST[5], total=198)
    refused(book(EPOCHS[0]), epoch(2, [again], PAID, EPOCH), "in an earlier epoch")


def test_one_payment_for_two_pieces() -> None:
    """THREATS 43: each price is claimed once, within an epoch and over all of them."""
    first, second = leaves(FILM, 2)
    for total in (first.total, first.total + 1, first.total + PRICE - 1):
        refused(book(), epoch(1, [first, replace(second, total=total)], PAID), "another one at")
    late = leaves(FILM, 65)[64]
    refused(book(EPOCHS[0]), epoch(2, [replace(late, total=100)], PAID, EPOCH), "another one at")


def test_pieces_may_come_in_any_order_and_leave_gaps() -> None:
    """What was paid for and never came is in no receipt; what came late is in a later one."""
    bought = leaves(FILM, 6)
    served = book(epoch(1, [bought[3], bought[1]], (12,)), epoch(2, [bought[5], bought[0]], (18,), 2))
    assert served.last.pieces == 4


def test_a_piece_paid_below_its_price() -> None:
    """THREATS 43."""
    refused(book(), epoch(1, [replace(FIRST[0], total=PRICE - 1)], PAID), "stands at 2")


def test_a_piece_on_another_line() -> None:
    refused(book(), epoch(1, [replace(FIRST[0], line=1)], PAID), "sold on line 0, not on line 1")


def test_a_total_above_what_the_receipt_says() -> None:
    refused(book(), epoch(1, [FIRST[0]], (2, 9)), "at 3 sat of line 0; the totals are")
    refused(book(), epoch(1, [SECOND[0]], (204,)), "at 3 sat of line 1")


@pytest.mark.parametrize("totals", [(205, 9), (204, 10), (204, 9, 1), (194, 9)])
def test_totals_that_nobody_paid_and_totals_that_fall(totals: tuple[int, ...]) -> None:
    """THREATS 43: no more than the payee has a signature for, no less than the epoch before said."""
    refused(book(EPOCHS[0]), epoch(2, SECOND, totals, EPOCH), "were paid")


def test_totals_may_leave_out_lines_that_came_later() -> None:
    assert book(epoch(1, FIRST, (204,))).last.totals == (204,)


@pytest.mark.parametrize("change", [{"pieces": 65}, {"pieces": 63}, {"size": 64 * SIZE - 1}, {"size": 0}])
def test_pieces_and_bytes_are_counted_over_all_epochs(change: Any) -> None:
    refused(book(), replace(EPOCHS[0], **change), "so far where 64 of")
    assert book(*EPOCHS).last.size == 70 * SIZE


def test_a_root_over_other_leaves() -> None:
    """THREATS 43: the root is under both signatures; the leaves behind them are worth what it says."""
    refused(book(), replace(EPOCHS[0], root=bytes(32)), "root")
    swapped = b"".join(leaf.pack() for leaf in reversed(FIRST))
    refused(book(), replace(EPOCHS[0], leaves=swapped), "root")
    refused(book(), EPOCHS[0], "root", lambda leaf: replace(sold(leaf), hash=bytes(20)))


def test_what_is_signed_does_not_hold_the_leaves() -> None:
    """One piece is shown by its leaf, its proof and the receipt alone."""
    receipt = EPOCHS[0]
    shown = replace(receipt, leaves=b"")
    assert verify(PAYER.public, CONTEXT.digest(shown), receipt.signature)
    row = [leaf.digest(sold(leaf).hash) for leaf in FIRST]
    assert climb(row[40], merkle_proof(row, 40)) == shown.root


def test_the_answer_says_what_the_receipt_says() -> None:
    answer = countersigned(EPOCHS[0])
    assert content(answer) == content(EPOCHS[0])
    assert answer.handle == EPOCHS[0].handle
