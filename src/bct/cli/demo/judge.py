"""What the demo claims, and whether it is so: a pure comparison of what was seen from outside with what nodes say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LEAST_PAID_PIECES = 62
MOST_PAYMENT_BYTES = 80
MOST_FEES = 75
"""Satoshis for opening and settling one payment channel of three outputs, at 100 sat per 1,000 bytes."""
BLOCK = 16 * 1024
OTHER_MESSAGES = 200
"""Of an ordinary client, beside one request and one answer a block: handshakes, haves, what it asks anew."""


@dataclass(frozen=True, slots=True)
class Encore:
    """Two short titles over one payment channel. pieces: for sale, bought: of each. chain: by `tools/check_chain.py`;
    its quiet_txs are those of the blocks from the first one's end to the second one's, before the settlement."""

    pieces: tuple[int, int]
    bought: tuple[int, int]
    chain: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that is judged. published: by `bct publish`. ended: the play as the viewer's node closed it. earned,
    spent: the payment channel as seeder and viewer tell it. wallets: satoshis by party, confirmed. chain, wire, plain:
    by the programs under tools/. sha256: of the creator's file and of the stream. frames, seek_frames: pictures of the
    source and through the URL. encore: the second act; everything else is of the first. topped_up: satoshis."""

    published: Mapping[str, Any]
    ended: Mapping[str, Any]
    earned: Mapping[str, Any]
    spent: Mapping[str, Any]
    wallets: Mapping[str, int]
    chain: Mapping[str, Any]
    wire: Mapping[str, Any]
    plain: Mapping[str, Any]
    sha256: tuple[str, str]
    frames: tuple[int, int]
    seek_frames: tuple[int, int]
    encore: Encore
    piece_length: int
    topped_up: int
    first_byte_ms: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What ``--json FILE`` holds, in this order."""

    pieces_total: int
    pieces_free: int
    pieces_paid: int
    satoshi_paid: int
    creator_satoshi: int
    seeder_satoshi: int
    payer_change_satoshi: int
    capacity_satoshi: int
    onchain_fee_satoshi: int
    onchain_txs: int
    funding_txid: str
    settlement_txid: str
    payment_bytes_each: int
    first_byte_ms: int
    elapsed_s: float
    sha256_match: bool
    unpaid_bytes_leaked: int
    chain_matches_ledger: bool
    decoded_frames: int


@dataclass(frozen=True, slots=True)
class Claim:
    """text: what is claimed. wrong: what is the matter, empty when it is so."""

    text: str
    wrong: str


@dataclass(frozen=True, slots=True)
class Verdict:
    figures: Figures
    claims: tuple[Claim, ...]

    @property
    def wrong(self) -> list[str]:
        return [claim.wrong for claim in self.claims if claim.wrong]


def judge(seen: Seen) -> Verdict:
    disagreements = (*seen.chain["wrong"], *_disagreements(seen))
    figures = _figures(seen, not disagreements)
    return Verdict(figures, tuple(_claims(seen, figures, "; ".join(disagreements))))


def _figures(seen: Seen, matches: bool) -> Figures:
    chain, published = seen.chain, seen.published
    return Figures(
        pieces_total=published["pieces"],
        pieces_free=published["pieces"] - published["paid_pieces"],
        pieces_paid=seen.wire["payments"],
        satoshi_paid=chain["satoshi_paid"],
        creator_satoshi=chain["creator_satoshi"],
        seeder_satoshi=chain["seeder_satoshi"],
        payer_change_satoshi=chain["payer_change_satoshi"],
        capacity_satoshi=chain["capacity_satoshi"],
        onchain_fee_satoshi=chain["onchain_fee_satoshi"],
        onchain_txs=chain["onchain_txs"],
        funding_txid=seen.spent["outpoint"].partition(":")[0],
        settlement_txid=seen.spent["txid"],
        payment_bytes_each=max(seen.wire["payment_bytes"], default=0),
        first_byte_ms=seen.first_byte_ms,
        elapsed_s=seen.elapsed_s,
        sha256_match=seen.sha256[0] == seen.sha256[1],
        unpaid_bytes_leaked=seen.plain["leaked_bytes"],
        chain_matches_ledger=matches,
        decoded_frames=seen.frames[1],
    )


def _disagreements(seen: Seen) -> Iterator[str]:
    """Where the chain and somebody's books differ."""
    chain, viewer = seen.chain, seen.topped_up - seen.chain["capacity_satoshi"] - seen.chain["funding_fee_satoshi"]
    for name, books, chains in (
        ("the seeder's ledger has earned", seen.earned["paid"], chain["satoshi_paid"]),
        ("the viewer's ledger has paid", seen.spent["paid"], chain["satoshi_paid"]),
        ("the seeder's channel ended in transaction", seen.earned["txid"], seen.spent["txid"]),
        ("the viewer's channel locked", seen.spent["capacity"], chain["capacity_satoshi"]),
        ("the viewer's channel gave back", seen.spent["change"], chain["payer_change_satoshi"]),
        ("the viewer's channel cost a fee of", seen.spent["fee"], chain["settlement_fee_satoshi"]),
        ("the viewer's play says it spent", seen.ended["spent"], chain["satoshi_paid"]),
        ("the creator's wallet holds", seen.wallets["creator"], chain["creator_satoshi"]),
        ("the seeder's wallet holds", seen.wallets["seeder"], chain["seeder_satoshi"]),
        ("the viewer's wallet holds", seen.wallets["viewer"], viewer + chain["payer_change_satoshi"]),
    ):
        if books != chains:
            yield f"{name} {books}, and the chain says {chains}"


def _claims(seen: Seen, figures: Figures, disagreements: str) -> Iterator[Claim]:
    paid, wire, plain = seen.published["paid_pieces"], seen.wire, seen.plain
    yield _claim(
        f"at least {LEAST_PAID_PIECES} pieces were for sale",
        paid >= LEAST_PAID_PIECES,
        f"only {paid} pieces were for sale",
    )
    yield _claim(
        "each of them was bought once",
        figures.pieces_paid == seen.ended["bought"] == paid,
        f"{figures.pieces_paid} payments passed for {paid} pieces, and the viewer says {seen.ended['bought']}",
    )
    yield _claim(
        f"a payment is at most {MOST_PAYMENT_BYTES} bytes on the wire",
        0 < figures.payment_bytes_each <= MOST_PAYMENT_BYTES,
        f"a payment is {figures.payment_bytes_each} bytes",
    )
    yield _claim(
        "no paid byte passed before its payment",
        wire["unpaid_bytes"] <= 0 < wire["paid_bytes"],
        f"{wire['unpaid_bytes']} bytes of {wire['paid_bytes']} passed before they were paid for",
    )
    yield _claim("the chain, both ledgers and three wallets agree", not disagreements, disagreements)
    locked = figures.satoshi_paid + figures.payer_change_satoshi + seen.chain["settlement_fee_satoshi"]
    yield _claim(
        "what was locked = what was paid + what came back + the settlement's fee",
        figures.capacity_satoshi == locked,
        f"{figures.capacity_satoshi} sat were locked, and {locked} are accounted for",
    )
    yield _claim(
        f"opening and settling cost at most {MOST_FEES} sat to miners",
        figures.onchain_fee_satoshi <= MOST_FEES,
        f"miners got {figures.onchain_fee_satoshi} sat",
    )
    yield _claim("the stream is the creator's file, byte for byte", figures.sha256_match, "the stream has other bytes")
    yield _claim(
        "a player that jumps to the middle sees the source's pictures there",
        seen.seek_frames[0] == seen.seek_frames[1] > 0,
        f"after a jump {seen.seek_frames[1]} pictures of {seen.seek_frames[0]} came",
    )
    yield _claim(
        "a player sees all pictures of the source",
        figures.decoded_frames == seen.frames[0] > 0,
        f"{figures.decoded_frames} pictures were decoded of {seen.frames[0]}",
    )
    yield _claim(
        "an ordinary client gets the free pieces",
        plain["free_pieces"] == figures.pieces_free,
        f"an ordinary client got {plain['free_pieces']} of {figures.pieces_free} free pieces",
    )
    yield _claim(
        "and not one byte more",
        figures.unpaid_bytes_leaked == 0,
        f"unpaid bytes leaked: {figures.unpaid_bytes_leaked} beyond the free pieces reached a client that pays nothing",
    )
    most = OTHER_MESSAGES + 2 * figures.pieces_free * seen.piece_length // BLOCK
    yield _claim(
        "and does not ask in vain",
        plain["messages"] <= most,
        f"an ordinary client and the seeder exchanged {plain['messages']} messages, and {most} would have done",
    )

    encore = seen.encore
    yield _claim(
        "a second title over an open payment channel put 0 transactions on the chain",
        encore.chain["quiet_txs"] == 0 and encore.bought == encore.pieces,
        f"a second title over an open payment channel put {encore.chain['quiet_txs']} transactions on the chain; "
        f"{encore.bought} pieces were bought of {encore.pieces}",
    )
    yield _claim(
        "one funding and one settlement paid the creators of both titles",
        not encore.chain["wrong"],
        "two titles over one payment channel: " + "; ".join(encore.chain["wrong"]),
    )


def _claim(text: str, good: bool, wrong: str) -> Claim:
    return Claim(text, "" if good else wrong)
