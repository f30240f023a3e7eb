"""The payer's side: what was bought over one payment channel and came, and the receipts that say so.

Who could cheat: the payee, with an answer that is not its signature, or speaks of something else; such an answer is as
good as none. And we ourselves, by listing what did not come: a piece is listed when its hash has been checked, over the
channel that paid for it, and once. What was bought before a restart, and not in a receipt by then, is in none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from bct.bitcoin.keys import verify
from bct.channel.transactions import Totals
from bct.pay.messages import Context, Receipt, ReceiptSigned
from bct.pay.receipt_store import SavedReceipt
from bct.pay.receipts import EPOCH, Leaf, countersigned, merkle_root
from bct.title.terms import Terms
from bct.units import Infohash, Outpoint, PieceIndex


@dataclass(frozen=True, slots=True)
class Draft:
    """A receipt without handle and signature, and the terms of each leaf."""

    receipt: Receipt
    terms: tuple[Terms, ...]


class _Came(NamedTuple):
    leaf: Leaf
    terms: Terms
    digest: bytes
    size: int


class PayerReceipts:
    """One payment channel's. saved: its epochs so far, oldest first."""

    def __init__(self, outpoint: Outpoint, saved: Iterable[SavedReceipt] = ()) -> None:
        self.saved = list(saved)
        self._outpoint = outpoint
        self._bought: dict[tuple[Infohash, PieceIndex], tuple[Leaf, Terms]] = {}
        self._came: list[_Came] = []

    def bought(self, leaf: Leaf, terms: Terms) -> None:
        """A payment for the piece was signed, under these terms."""
        self._bought[leaf.infohash, leaf.piece] = leaf, terms

    def came(self, infohash: Infohash, piece: PieceIndex, piece_hash: bytes, size: int) -> bool:
        """A piece of `size` bytes has come over the channel and matches its hash; whether an epoch is full."""
        found = self._bought.pop((infohash, piece), None)
        if found is not None:
            leaf, terms = found
            self._came.append(_Came(leaf, terms, leaf.digest(piece_hash), size))
        return len(self._came) >= EPOCH

    def draft(self, totals: Totals) -> Draft | None:
        """The next epoch, of what came since the last; None when nothing did. totals: what was signed."""
        count = self._ripe()
        came, self._came = self._came[:count], self._came[count:]
        if not came:
            return None
        last = self.saved[-1].receipt if self.saved else None
        receipt = Receipt(
            handle=0,
            outpoint=self._outpoint.pack(),
            epoch=len(self.saved) + 1,
            pieces=len(came) + (last.pieces if last else 0),
            size=sum(one.size for one in came) + (last.size if last else 0),
            root=merkle_root([one.digest for one in came]),
            totals=totals,
            signature=bytes(64),
            leaves=b"".join(one.leaf.pack() for one in came),
        )
        return Draft(receipt, tuple(one.terms for one in came))

    def _ripe(self) -> int:
        """How many pieces of those that came are of the next epoch: up to 64, no torrent under two terms."""
        terms: dict[Infohash, Terms] = {}
        for count, one in enumerate(self._came[:EPOCH]):
            if terms.setdefault(one.leaf.infohash, one.terms) != one.terms:
                return count
        return min(EPOCH, len(self._came))

    def said(self, receipt: Receipt, context: Context, terms: tuple[Terms, ...]) -> SavedReceipt:
        """The receipt was signed for this connection, for the first time or anew; how it is to be kept."""
        saved = SavedReceipt(receipt, context, terms)
        self._put(saved)
        return saved

    def unsigned(self) -> list[SavedReceipt]:
        """What the payee has not signed, oldest first."""
        return [saved for saved in self.saved if not saved.countersignature]

    def signed(self, answer: ReceiptSigned, context: Context, payee: bytes) -> SavedReceipt | None:
        """The answer of the payee, whose key this is, on this connection; how the receipt is to be kept. None when it
        proves nothing."""
        asked = replace(answer, signature=bytes(64))
        saved = next((one for one in self.saved if countersigned(one.receipt) == asked), None)
        if saved is None or saved.context != context or not verify(payee, context.digest(answer), answer.signature):
            return None
        saved = replace(saved, countersignature=answer.signature)
        self._put(saved)
        return saved

    def _put(self, saved: SavedReceipt) -> None:
        at = saved.receipt.epoch - 1
        self.saved[at : at + 1] = [saved]
