"""Receipts of every payment channel, ours to earn on and ours to spend on, an epoch a row."""

from __future__ import annotations

import msgspec
from sqlalchemy import CheckConstraint, Column, Integer, LargeBinary, Row, Table, select
from sqlalchemy.dialects import sqlite

from bct.backends.tables import METADATA, Run
from bct.bitcoin.chain import Network
from bct.errors import StoreError
from bct.pay import messages
from bct.pay.messages import Context, Receipt
from bct.pay.receipt_store import SavedReceipt
from bct.title import terms
from bct.units import Outpoint

RECEIPTS = Table(
    "receipts",
    METADATA,
    Column("outpoint", LargeBinary, CheckConstraint("length(outpoint) = 36"), primary_key=True, nullable=False),
    Column("epoch", Integer, CheckConstraint("epoch BETWEEN 1 AND 4294967295"), primary_key=True, nullable=False),
    Column("receipt", LargeBinary, nullable=False),  # the message as it was said
    Column("context", LargeBinary, nullable=False),  # of that connection: `_Context`
    Column("terms", LargeBinary, nullable=False),  # `_Terms`
    Column("countersignature", LargeBinary, CheckConstraint("length(countersignature) IN (0, 64)"), nullable=False),
    sqlite_strict=True,
)

_Context = tuple[int, bytes, bytes, bytes, bytes]
"""The fields of a `Context` in order, as a MessagePack array."""
_Terms = tuple[tuple[bytes, ...], bytes]
"""Each different one as it travels, and a byte a leaf: which of them. As a MessagePack array."""


class ReceiptTable:
    """A `ReceiptStore`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def put_receipt(self, saved: SavedReceipt) -> None:
        """See `ReceiptStore`."""
        row = {
            "receipt": saved.receipt.encode(),
            "context": _pack_context(saved.context),
            "terms": _pack_terms(saved.terms),
            "countersignature": saved.countersignature,
        }
        new = sqlite.insert(RECEIPTS).values(outpoint=saved.outpoint.pack(), epoch=saved.receipt.epoch, **row)
        await self._run(lambda db: db.execute(new.on_conflict_do_update(set_=row)))

    async def receipts(self, outpoint: Outpoint) -> list[SavedReceipt]:
        """See `ReceiptStore`."""
        query = select(RECEIPTS).where(RECEIPTS.c.outpoint == outpoint.pack()).order_by(RECEIPTS.c.epoch)
        rows = await self._run(lambda db: db.execute(query).all())
        return [_saved(row) for row in rows]


def _saved(row: Row[tuple[object, ...]]) -> SavedReceipt:
    receipt = messages.decode(row.receipt)
    if not isinstance(receipt, Receipt):
        raise StoreError(f"epoch {row.epoch} of a channel is no receipt: made by a newer bct?")
    network, *rest = msgspec.msgpack.decode(row.context, type=_Context)
    raws, each = msgspec.msgpack.decode(row.terms, type=_Terms)
    known = [terms.decode(raw) for raw in raws]
    context = Context(Network(network), *rest)
    return SavedReceipt(receipt, context, tuple(known[i] for i in each), row.countersignature)


def _pack_context(context: Context) -> bytes:
    parts = context.viewer_random, context.seeder_random, context.viewer_key, context.seeder_key
    return msgspec.msgpack.encode((context.network.value, *parts))


def _pack_terms(each: tuple[terms.Terms, ...]) -> bytes:
    places = {one: at for at, one in enumerate(dict.fromkeys(each))}
    return msgspec.msgpack.encode(([terms.encode(one) for one in places], bytes(places[one] for one in each)))
