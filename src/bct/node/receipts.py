"""A viewer's receipts on the wire: said when an epoch is full and before a channel is closed, kept, answered or not.

Who could cheat: the seeder, by not signing, or signing something else. Nothing waits for it and nothing stops: the
receipt is kept with our own signature alone, and said again when the channel is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bct.errors import StoreError
from bct.node.purse import Purse, Spending
from bct.node.seat import Seat
from bct.node.swarm import Swarm
from bct.pay.messages import PiecePayment, Receipt, ReceiptSigned
from bct.pay.payer_session import PayerSession
from bct.pay.receipt_store import SavedReceipt
from bct.pay.receipts import Leaf
from bct.title.terms import Terms
from bct.units import PieceIndex

log = structlog.get_logger()


class Receipts:
    """Those of one play. spawn: does something in the background."""

    def __init__(self, swarm: Swarm, purse: Purse, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._swarm = swarm
        self._purse = purse
        self._spawn = spawn

    def bought(self, spending: Spending, piece: PieceIndex, payment: PiecePayment, terms: Terms) -> None:
        """The payment for the piece was signed, under these terms."""
        leaf = Leaf(self._swarm.infohash, piece, payment.line, payment.total)
        spending.receipts.bought(leaf, terms)

    def came(self, seat: Seat, piece: PieceIndex) -> None:
        """The piece has come from there, and is true."""
        metainfo, spending = self._swarm.metainfo, seat.spending
        if metainfo is None or spending is None:
            return
        piece_hash, size = metainfo.piece_hash(piece), metainfo.geometry.size(piece)
        if spending.receipts.came(metainfo.infohash, piece, piece_hash, size):
            self.say(seat)

    def say(self, seat: Seat) -> None:
        """A receipt for what has come since the last one; leaves with the next flush."""
        session, spending = seat.session, seat.spending
        if session is None or spending is None:
            return
        while draft := spending.receipts.draft(spending.payer.totals):
            self._say(seat, session, spending, draft.receipt, draft.terms)

    def say_again(self, seat: Seat) -> None:
        """The channel is resumed: what the seeder has not signed is said once more."""
        session, spending = seat.session, seat.spending
        if session is None or spending is None:
            return
        for saved in spending.receipts.unsigned():
            self._say(seat, session, spending, saved.receipt, saved.terms)

    def _say(
        self, seat: Seat, session: PayerSession, spending: Spending, receipt: Receipt, terms: tuple[Terms, ...]
    ) -> None:
        signed = session.receipt(receipt)
        seat.peer.say(signed)
        self._spawn(self._keep(spending.receipts.said(signed, session.context, terms)))

    def answered(self, seat: Seat, answer: ReceiptSigned) -> None:
        """The seeder says that it signs."""
        session, spending = seat.session, seat.spending
        if session is None or spending is None:
            return
        saved = spending.receipts.signed(answer, session.context, spending.payer.params.lock.payee)
        if saved:
            self._spawn(self._keep(saved))
        else:
            log.warning("receipt answered in vain", peer=str(seat.peer), epoch=answer.epoch)

    async def _keep(self, saved: SavedReceipt) -> None:
        """The film goes on without it."""
        try:
            await self._purse.keep(saved)
        except StoreError as error:
            log.error("receipt not kept", channel=str(saved.outpoint), epoch=saved.receipt.epoch, text=str(error))
