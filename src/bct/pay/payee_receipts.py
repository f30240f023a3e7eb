"""The payee's side of a receipt: what it has to be before the payee signs it too.

Who could cheat: the viewer, see `receipts`. What a piece is and cost is taken from our own account, our own copy of the
torrent and the terms we sold it under; nothing of it is the viewer's word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from bct.bitcoin.keys import PrivateKey, verify
from bct.errors import Action, RemoteProtocolError
from bct.pay.account import Account
from bct.pay.messages import Context, Receipt, ReceiptSigned
from bct.pay.receipt_store import SavedReceipt
from bct.pay.receipts import Leaf, Sold, countersigned, unpack_leaves
from bct.title.terms import Terms
from bct.torrent.metainfo import Metainfo
from bct.units import Infohash


class OnSale(NamedTuple):
    """A title that this node sells."""

    metainfo: Metainfo
    terms: Terms


OfTitle = Callable[[Infohash], OnSale | None]
"""None for a title that is not sold here (any more)."""


def countersign(
    account: Account, receipt: Receipt, context: Context, of_title: OfTitle, key: PrivateKey
) -> tuple[SavedReceipt, ReceiptSigned]:
    """The receipt as it is kept, and the answer, for the channel's next epoch or for one that is said again.

    key: the payee's of this channel. Raises RemoteProtocolError, and then nothing has changed.
    """
    if not verify(account.payee.params.lock.payer, context.digest(receipt), receipt.signature):
        raise RemoteProtocolError("bad-signature", "RECEIPT is not signed by the channel's payer", Action.DISCONNECT)
    leaves = unpack_leaves(receipt.leaves)
    terms = tuple(_on_sale(of_title, leaf).terms for leaf in leaves)
    if not account.receipts.has(receipt):
        prices = account.receipts.check(receipt, account.payee.totals, lambda leaf: _look(account, of_title, leaf))
        account.receipts.take(receipt, prices)
    answer = countersigned(receipt)
    answer = replace(answer, signature=key.sign(context.digest(answer)))
    return SavedReceipt(receipt, context, terms, answer.signature), answer


def recall(account: Account, found: Iterable[SavedReceipt]) -> None:
    """What was countersigned before a restart, oldest first."""
    for saved in found:
        pieces = (leaf.piece for leaf in unpack_leaves(saved.receipt.leaves))
        prices = [terms.price_of(piece) for terms, piece in zip(saved.terms, pieces, strict=True)]
        account.receipts.take(saved.receipt, prices)


def _look(account: Account, of_title: OfTitle, leaf: Leaf) -> Sold:
    opened = account.sold(leaf.infohash, leaf.piece)
    if opened is None:
        raise _bad(leaf, "was not sold over this channel")
    line, price = opened
    metainfo, terms = _on_sale(of_title, leaf)
    if (terms.price, terms.payees) != (price, account.payee.lines[line]):
        raise _bad(leaf, "was sold under terms that hold no more")
    return Sold(metainfo.piece_hash(leaf.piece), metainfo.geometry.size(leaf.piece), line, price)


def _on_sale(of_title: OfTitle, leaf: Leaf) -> OnSale:
    found = of_title(leaf.infohash)
    if found is None:
        raise _bad(leaf, "is of a title that is not on sale here")
    return found


def _bad(leaf: Leaf, what: str) -> RemoteProtocolError:
    text = f"piece {leaf.piece} of {leaf.infohash.hex()} {what}"
    return RemoteProtocolError("bad-receipt", text, Action.REFUSE)
