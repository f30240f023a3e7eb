"""The file in which receipts are shown to others: all that proves them, and nothing else.

JSON in exactly one spelling (`encode`): keys sorted, no blanks, bytes in lower-case hex. Nothing stands in it that does
not follow from a signature, a hash or the chain, so that `verify` can refuse any bit that is another. A fact is there
once: the payment channel's keys, expiry and capacity are in the funding transaction, a piece's hash in its torrent's
info dictionary, who is paid in the terms that the creator signed.

Who could cheat: whoever made the file. `decode` checks its shape only; what it says is for `verify`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from bct.bitcoin.chain import Network
from bct.bitcoin.tx import Tx, TxOutput
from bct.channel.transactions import Params, Totals, outputs
from bct.channel.watched import paid_to_others
from bct.errors import RemoteProtocolError
from bct.pay.messages import LEAVES_MAX, TOTALS_MAX, Context, Receipt
from bct.pay.receipt_store import SavedReceipt
from bct.pay.receipts import Leaf, unpack_leaves
from bct.title import terms as title_terms
from bct.title.terms import Terms
from bct.units import Infohash, Outpoint, Payees, PieceIndex

MAX_SIZE = 1 << 28
"""Bytes; ten thousand pieces take about two megabytes."""

Hex = Annotated[str, Meta(pattern=r"^([0-9a-f]{2})*\Z")]
Random = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Key = Annotated[str, Meta(pattern=r"^0[23][0-9a-f]{64}\Z")]
Signature = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
U8 = Annotated[int, Meta(ge=0, lt=2**8)]
U32 = Annotated[int, Meta(ge=0, lt=2**32)]
U53 = Annotated[int, Meta(ge=0, lt=2**53)]
Each = Annotated[tuple[U32, ...], Meta(min_length=1, max_length=TOTALS_MAX)]
"""A total for each line."""


class _Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """What is not known is refused."""


class Transaction(_Strict, frozen=True):
    """bump: the Merkle path to its block (BRC-74); empty while no block holds it."""

    bump: Hex
    raw: Hex


class Settlement(Transaction, frozen=True):
    """totals: what it pays on each line."""

    totals: Each


class Epoch(_Strict, frozen=True):
    """One receipt, and the connection that its signatures are of. leaves: number of the terms, line, piece, total.
    payee_signature: null while the payee has not signed."""

    epoch: U32
    handle: U32
    leaves: Annotated[tuple[tuple[U32, U8, U32, U32], ...], Meta(max_length=LEAVES_MAX)]
    payee_signature: Signature | None
    payer_signature: Signature
    pieces: U32
    root: Digest
    seeder_key: Key
    seeder_random: Random
    size: U53
    totals: Each
    viewer_key: Key
    viewer_random: Random

    def context(self, network: Network) -> Context:
        fields = self.viewer_random, self.seeder_random, self.viewer_key, self.seeder_key
        return Context(network, *map(bytes.fromhex, fields))

    def receipt(self, outpoint: Outpoint, terms: Sequence[Terms]) -> Receipt:
        """As it was said. Raises IndexError when a leaf names terms that are not there."""
        leaves = (Leaf(terms[n].infohash, PieceIndex(piece), line, total) for n, line, piece, total in self.leaves)
        return Receipt(
            self.handle,
            outpoint.pack(),
            self.epoch,
            self.pieces,
            self.size,
            bytes.fromhex(self.root),
            self.totals,
            bytes.fromhex(self.payer_signature),
            b"".join(leaf.pack() for leaf in leaves),
        )


class Channel(_Strict, frozen=True):
    """One payment channel: output `vout` of its funding. lines: whom each pays, as terms write it; empty for one on
    which nothing was paid."""

    epochs: tuple[Epoch, ...]
    funding: Transaction
    lines: tuple[Hex, ...]
    settlement: Settlement | None
    vout: U32


class Export(_Strict, frozen=True):
    """terms: as they travel. torrents: info dictionaries. version: of this format."""

    channels: tuple[Channel, ...]
    network: Annotated[str, Meta(pattern=r"^(regtest|test|main)\Z")]
    terms: tuple[Hex, ...]
    torrents: tuple[Hex, ...]
    version: Annotated[int, Meta(ge=1, le=1)] = 1


def encode(export: Export) -> bytes:
    return msgspec.json.encode(export, order="sorted")


def decode(raw: bytes) -> Export:
    """Raises RemoteProtocolError('bad-export')."""
    if len(raw) > MAX_SIZE:
        raise bad(f"it has {len(raw)} bytes, at most {MAX_SIZE} are read")
    try:
        export = msgspec.json.decode(raw, type=Export)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"it is not an export of receipts: {error}") from None
    if encode(export) != raw:
        raise bad("it is not spelled as bct spells it: it has been changed")
    return export


def bad(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-export", text)


# -- making one -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proven:
    """A transaction and its BUMP, which is empty while no block holds it."""

    tx: Tx
    bump: bytes


@dataclass(frozen=True, slots=True)
class Shown:
    """What is known of a payment channel with one receipt at least, oldest first. first: the payees of line 0."""

    params: Params
    first: Payees
    receipts: Sequence[SavedReceipt]
    funding: Proven
    settlement: Proven | None


def make(network: Network, channels: Sequence[Shown], infos: Mapping[Infohash, bytes]) -> Export:
    """infos: the info dictionary of each torrent in the receipts."""
    used = dict.fromkeys(terms for one in channels for saved in one.receipts for terms in saved.terms)
    places = {terms: place for place, terms in enumerate(used)}
    return Export(
        channels=tuple(_channel(one, places) for one in channels),
        network=network.name.lower(),
        terms=tuple(title_terms.encode(terms).hex() for terms in used),
        torrents=tuple(infos[infohash].hex() for infohash in dict.fromkeys(terms.infohash for terms in used)),
    )


def _channel(shown: Shown, places: Mapping[Terms, int]) -> Channel:
    named = {leaf.line: terms.payees for saved in shown.receipts for leaf, terms in _leaves(saved)}
    known, last = {0: shown.first} | named, shown.receipts[-1].receipt.totals
    end = shown.settlement
    totals = settled(shown.params, known, last, end.tx) if end else None
    paid = {line for line, total in enumerate(totals or ()) if total}
    return Channel(
        epochs=tuple(_epoch(saved, places) for saved in shown.receipts),
        funding=Transaction(shown.funding.bump.hex(), shown.funding.tx.serialize().hex()),
        lines=tuple(known[n].pack().hex() if n in paid or n in named else "" for n in range(len(last))),
        settlement=Settlement(end.bump.hex(), end.tx.serialize().hex(), totals) if end and totals else None,
        vout=shown.params.outpoint.index,
    )


def _epoch(saved: SavedReceipt, places: Mapping[Terms, int]) -> Epoch:
    receipt, context = saved.receipt, saved.context
    return Epoch(
        epoch=receipt.epoch,
        handle=receipt.handle,
        leaves=tuple((places[terms], leaf.line, leaf.piece, leaf.total) for leaf, terms in _leaves(saved)),
        payee_signature=saved.countersignature.hex() or None,
        payer_signature=receipt.signature.hex(),
        pieces=receipt.pieces,
        root=receipt.root.hex(),
        seeder_key=context.seeder_key.hex(),
        seeder_random=context.seeder_random.hex(),
        size=receipt.size,
        totals=receipt.totals,
        viewer_key=context.viewer_key.hex(),
        viewer_random=context.viewer_random.hex(),
    )


def _leaves(saved: SavedReceipt) -> Iterator[tuple[Leaf, Terms]]:
    return zip(unpack_leaves(saved.receipt.leaves), saved.terms, strict=True)


def settled(params: Params, lines: Mapping[int, Payees], last: Totals, settlement: Tx) -> Totals | None:
    """What a settlement pays on each line: what the last receipt says, but for what was paid after it on one line, or
    did not reach the payee. None when that does not explain it: then it cannot be shown."""
    more = paid_to_others(settlement, params.change) - sum(last)
    for line in range(len(last)):
        totals = (*last[:line], last[line] + more, *last[line + 1 :])
        if _outputs(params, lines, totals) == settlement.outputs:
            return totals
    return None


def _outputs(params: Params, lines: Mapping[int, Payees], totals: Totals) -> tuple[TxOutput, ...] | None:
    """As both sides build them; lines without a payment add none. None for totals that cannot be."""
    paid = [line for line, total in enumerate(totals) if total]
    if min(totals) < 0 or not set(paid) <= set(lines):
        return None
    return outputs(params, tuple(lines[line] for line in paid), tuple(totals[line] for line in paid))
