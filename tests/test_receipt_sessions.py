"""Receipts between the two sessions: what a viewer lists, what a seeder signs, and what either does when it comes to
nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bct.bitcoin.keys import PrivateKey, verify
from bct.errors import Action, RemoteProtocolError
from bct.pay.account import Verdict
from bct.pay.messages import ChannelError, CloseReason, Fault, PiecePayment, Receipt, ReceiptSigned
from bct.pay.payer_receipts import PayerReceipts
from bct.pay.payer_session import Countersigned, Unsigned
from bct.pay.receipt_store import SavedReceipt
from bct.pay.receipts import EPOCH, Leaf, countersigned, unpack_leaves
from bct.title.terms import Terms
from bct.units import PieceIndex
from tests.channel_parts import FILM, SERIES
from tests.pay_parts import CREATOR, FILM_TERMS, PIECE, Seeder, Viewer, Wire, only, terms, torrent

SEQUEL = terms("sequel", price=5)
SAGA = terms("saga", payees=SERIES)


class Viewing:
    """A viewer that keeps receipts, on whatever connection it is on."""

    def __init__(self, seeder: Seeder | None = None, title: Terms = FILM_TERMS) -> None:
        self.seeder = seeder or Seeder()
        self.wire = Wire(self.seeder, title)
        self.viewer: Viewer = self.wire.open()
        self.viewer.raise_mark()
        self.receipts = PayerReceipts(self.viewer.outpoint)

    def watch(self, *pieces: int) -> None:
        """Buys, gets and checks them."""
        for piece in pieces:
            self.come(self.pay(piece))

    def pay(self, piece: int) -> Leaf:
        """Buys a piece that does not come yet."""
        title = self.wire.terms
        payment = self.wire.payer.pay(title.price, self.wire.now)
        self.wire.say(payment)
        leaf = Leaf(title.infohash, PieceIndex(piece), payment.line, payment.total)
        self.receipts.bought(leaf, title)
        return leaf

    def come(self, leaf: Leaf) -> bool:
        assert self.seeder.ask(self.wire, leaf.piece) is Verdict.SERVE
        piece_hash = torrent(self.wire.terms).piece_hash(leaf.piece)
        return self.receipts.came(leaf.infohash, leaf.piece, piece_hash, PIECE)

    def say(self) -> Receipt:
        """RECEIPT of what has come; the answer waits on the wire."""
        draft = self.receipts.draft(self.viewer.payer.totals)
        assert draft
        receipt = self.wire.payer.receipt(draft.receipt)
        self.receipts.said(receipt, self.wire.context, draft.terms)
        self.wire.say(receipt)
        return receipt

    def hear(self) -> SavedReceipt | None:
        """The answer."""
        (happening,) = self.wire.deliver()
        assert isinstance(happening, Countersigned)
        return self.receipts.signed(happening.answer, self.wire.context, self.viewer.payer.params.lock.payee)

    def refused(self) -> str:
        (happening,) = self.wire.deliver()
        assert isinstance(happening, Unsigned)
        return happening.text

    def come_back(self, title: Terms = FILM_TERMS) -> None:
        """RESUME on another connection; what was not signed is said again."""
        self.wire = Wire(self.seeder, title)
        self.wire.resume(self.viewer)
        if not self.wire.payer.ready:
            self.wire.say(self.wire.payer.add_line())
            self.wire.deliver()
        self.viewer.raise_mark()
        for saved in self.receipts.unsigned():
            again = self.wire.payer.receipt(saved.receipt)
            self.receipts.said(again, self.wire.context, saved.terms)
            self.wire.say(again)

    @property
    def kept(self) -> SavedReceipt:
        """What the seeder keeps last."""
        return list(self.seeder.receipts.values())[-1]


def proves(saved: SavedReceipt, viewing: Viewing) -> bool:
    """Whether both keys of the lock have signed."""
    lock, receipt = viewing.viewer.payer.params.lock, saved.receipt
    answer = countersigned(receipt)
    return verify(lock.payer, saved.context.digest(receipt), receipt.signature) and verify(
        lock.payee, saved.context.digest(answer), saved.countersignature
    )


# -- both sign --------------------------------------------------------------------------------------------------------


def test_what_was_paid_and_came_is_signed_by_both() -> None:
    viewing = Viewing()
    viewing.watch(2, 3, 4)
    receipt = viewing.say()
    assert (receipt.epoch, receipt.pieces, receipt.size, receipt.totals) == (1, 3, 3 * PIECE, (3,))
    saved = viewing.hear()
    assert saved
    assert proves(saved, viewing)
    assert viewing.kept == saved
    assert viewing.receipts.saved == [saved]
    assert saved.terms == (FILM_TERMS,) * 3


def test_an_epoch_is_full_after_64_pieces() -> None:
    viewing = Viewing()
    viewing.watch(*range(2, 65))
    assert viewing.come(viewing.pay(65))
    assert viewing.say().pieces == EPOCH
    assert viewing.hear()
    assert not viewing.come(viewing.pay(66))
    assert (viewing.say().epoch, viewing.receipts.draft((65,))) == (2, None)


def test_what_did_not_come_is_not_listed() -> None:
    """The totals say what was paid, the pieces what it was good for; what comes late is in a later epoch."""
    viewing = Viewing()
    late = viewing.pay(2)
    viewing.watch(3, 4)
    first = viewing.say()
    assert (first.pieces, first.totals) == (2, (3,))
    assert viewing.hear()
    viewing.come(late)
    second = viewing.say()
    assert viewing.hear()
    assert (second.pieces, unpack_leaves(second.leaves)) == (3, (late,))


def test_a_piece_that_was_not_bought_here_is_not_listed() -> None:
    viewing = Viewing()
    assert not viewing.receipts.came(FILM_TERMS.infohash, PieceIndex(7), bytes(20), PIECE)
    viewing.watch(2)
    viewing.receipts.came(FILM_TERMS.infohash, PieceIndex(2), bytes(20), PIECE)
    assert viewing.say().pieces == 1


def test_epochs_go_on_over_connections_titles_and_lines() -> None:
    viewing = Viewing()
    viewing.watch(2, 3)
    viewing.say()
    assert viewing.hear()
    viewing.come_back(SEQUEL)
    viewing.watch(5)
    viewing.come_back(SAGA)
    viewing.watch(6)
    receipt = viewing.say()
    saved = viewing.hear()
    assert saved
    assert proves(saved, viewing)
    assert (receipt.epoch, receipt.pieces, receipt.totals) == (2, 4, (7, 1))
    assert saved.terms == (SEQUEL, SAGA)
    assert [leaf.line for leaf in unpack_leaves(receipt.leaves)] == [0, 1]


def test_just_before_the_close() -> None:
    viewing = Viewing()
    viewing.watch(2)
    viewing.say()
    viewing.wire.say(viewing.wire.payer.close(CloseReason.DONE))
    answer, *_ = viewing.wire.deliver()
    assert isinstance(answer, Countersigned)
    lock = viewing.viewer.payer.params.lock
    assert viewing.receipts.signed(answer.answer, viewing.wire.context, lock.payee)


# -- one signs --------------------------------------------------------------------------------------------------------


def test_an_answer_that_was_lost_is_asked_for_again() -> None:
    """The seeder has the epoch already: it signs it once more, for this connection, and counts nothing twice."""
    viewing = Viewing()
    viewing.watch(2, 3)
    viewing.say()
    before = viewing.kept
    viewing.come_back()
    assert (saved := viewing.hear())
    assert proves(saved, viewing)
    assert viewing.kept == saved != before
    assert len(viewing.seeder.receipts) == 1
    viewing.watch(4)
    viewing.say()
    assert viewing.hear()


def test_what_the_seeder_never_heard_is_said_again_in_order() -> None:
    viewing = Viewing()
    for piece in (2, 3, 4):
        viewing.watch(piece)
        draft = viewing.receipts.draft(viewing.viewer.payer.totals)
        assert draft
        viewing.receipts.said(viewing.wire.payer.receipt(draft.receipt), viewing.wire.context, draft.terms)
    viewing.come_back()
    answers = viewing.wire.deliver()
    payee = viewing.viewer.payer.params.lock.payee
    assert all(
        isinstance(one, Countersigned) and viewing.receipts.signed(one.answer, viewing.wire.context, payee)
        for one in answers
    )
    assert not viewing.receipts.unsigned()
    assert len(answers) == 3


def test_a_seeder_comes_back_with_its_epochs() -> None:
    """THREATS 44: what was in a receipt before a restart is in no other one after it."""
    viewing = Viewing()
    viewing.watch(2, 3)
    first = viewing.say()
    assert viewing.hear()
    viewing.seeder = viewing.seeder.restart()
    viewing.come_back()
    viewing.watch(4)
    viewing.say()
    assert viewing.hear()
    again = replace(first, handle=9, epoch=3, pieces=5, size=5 * PIECE, totals=(3,))
    assert "in an earlier epoch" in refusal(viewing, again)


@pytest.mark.parametrize(
    "damage",
    [
        lambda answer: replace(answer, signature=bytes(64)),
        lambda answer: replace(answer, pieces=answer.pieces + 1),
        lambda answer: replace(answer, epoch=2),
        lambda answer: replace(answer, epoch=0),
        lambda answer: replace(answer, totals=(2,)),
        lambda answer: replace(answer, root=bytes(32)),
    ],
)
def test_an_answer_that_proves_nothing(damage: Callable[[ReceiptSigned], ReceiptSigned]) -> None:
    """THREATS 43: only the payee's signature over what was said here counts, and nothing stops for want of it."""
    viewing = Viewing()
    viewing.watch(2)
    viewing.say()
    (answer,) = viewing.wire.to_viewer
    assert isinstance(answer, ReceiptSigned)
    viewing.wire.to_viewer = [damage(answer)]
    assert viewing.hear() is None
    assert viewing.receipts.unsigned() == viewing.receipts.saved
    viewing.watch(3)
    viewing.say()
    assert viewing.hear()


def test_an_answer_of_another_connection() -> None:
    viewing = Viewing()
    viewing.watch(2)
    viewing.say()
    (answer,) = viewing.wire.to_viewer
    assert isinstance(answer, ReceiptSigned)
    viewing.come_back()
    payee = viewing.viewer.payer.params.lock.payee
    assert viewing.receipts.signed(answer, viewing.wire.context, payee) is None


# -- what a seeder does not sign --------------------------------------------------------------------------------------


def refusal(viewing: Viewing, receipt: Receipt, by: PrivateKey | None = None) -> str:
    """What the seeder says to a receipt that is signed anew; the channel goes on."""
    wire, kept = viewing.wire, dict(viewing.seeder.receipts)
    answer: Any = only(wire.say(wire.signed(receipt, by or viewing.viewer.key)))
    assert isinstance(answer, ChannelError)
    assert answer.code == Fault.BAD_RECEIPT
    assert viewing.seeder.receipts == kept
    assert viewing.refused() == answer.text.decode()
    assert wire.payer.ready
    assert isinstance(wire.payer.pay(1, wire.now), PiecePayment)
    return answer.text.decode()


def drafted(viewing: Viewing) -> Receipt:
    draft = viewing.receipts.draft(viewing.viewer.payer.totals)
    assert draft
    return replace(draft.receipt, handle=7)


def test_a_piece_that_was_never_opened() -> None:
    """THREATS 43: paid for and not asked for, or asked for and refused: it was not served."""
    viewing = Viewing()
    leaf = viewing.pay(2)
    viewing.receipts.came(leaf.infohash, leaf.piece, torrent(FILM_TERMS).piece_hash(2), PIECE)
    assert "was not sold over this channel" in refusal(viewing, drafted(viewing))


@pytest.mark.parametrize("piece", [0, 99, 100, 2**32 - 1])
def test_a_piece_that_is_free_or_outside_of_the_torrent(piece: int) -> None:
    """THREATS 44."""
    viewing = Viewing()
    leaf = viewing.pay(2)
    viewing.receipts.bought(replace(leaf, piece=PieceIndex(piece)), FILM_TERMS)
    viewing.receipts.came(leaf.infohash, PieceIndex(piece), bytes(20), PIECE)
    assert "was not sold over this channel" in refusal(viewing, drafted(viewing))


def test_a_piece_of_another_channel() -> None:
    """THREATS 43: sold to this viewer's neighbour."""
    viewing = Viewing()
    neighbour = Viewing(viewing.seeder)
    neighbour.watch(9)
    leaf = viewing.pay(2)
    viewing.receipts.bought(replace(leaf, piece=PieceIndex(9)), FILM_TERMS)
    viewing.receipts.came(leaf.infohash, PieceIndex(9), torrent(FILM_TERMS).piece_hash(9), PIECE)
    assert "was not sold over this channel" in refusal(viewing, drafted(viewing))


def test_a_hash_that_is_not_the_torrents() -> None:
    """THREATS 43: the seeder reckons with its own copy's hashes."""
    viewing = Viewing()
    leaf = viewing.pay(2)
    viewing.seeder.ask(viewing.wire, 2)
    viewing.receipts.came(leaf.infohash, leaf.piece, bytes(20), PIECE)
    assert "root" in refusal(viewing, drafted(viewing))


def test_a_title_that_is_not_on_sale_any_more() -> None:
    viewing = Viewing()
    viewing.watch(2)
    viewing.seeder.titles.clear()
    assert "not on sale here" in refusal(viewing, drafted(viewing))


@pytest.mark.parametrize("newer", [terms(price=2, sequence=2), terms(payees=SERIES, sequence=2)])
def test_a_piece_sold_under_terms_that_hold_no_more(newer: Terms) -> None:
    """A seeder can show only the terms it has, and signs for what was sold under others no more. Renewed terms with the
    same price and payees are no others."""
    viewing = Viewing()
    viewing.watch(2)
    name = FILM_TERMS.infohash
    viewing.seeder.titles[name] = viewing.seeder.titles[name]._replace(terms=newer)
    assert "hold no more" in refusal(viewing, drafted(viewing))
    viewing.seeder.titles[name] = viewing.seeder.titles[name]._replace(terms=terms(payees=FILM, sequence=3))
    viewing.watch(3)
    viewing.say()
    assert viewing.hear()


def test_a_receipt_of_nobody() -> None:
    """THREATS 24: signed by another key than the payer's, or for another connection, it ends this one."""
    viewing = Viewing()
    viewing.watch(2)
    receipt = drafted(viewing)
    for bad in (
        viewing.wire.signed(receipt, CREATOR),
        replace(receipt, signature=viewing.viewer.key.sign(Wire(viewing.seeder).context.digest(receipt))),
    ):
        with pytest.raises(RemoteProtocolError, match="not signed") as error:
            viewing.wire.say(bad)
        assert error.value.action is Action.DISCONNECT


def test_a_receipt_for_a_channel_that_is_not_here() -> None:
    viewing = Viewing()
    viewing.watch(2)
    answer: Any = only(viewing.wire.say(replace(drafted(viewing), handle=8)))
    assert (answer.code, answer.handle) == (Fault.BAD_RECEIPT, 8)
    assert viewing.wire.deliver() == []
