"""What an export of receipts proves to a stranger, and that not one bit of it can be another.

THREATS 43: whoever makes such a file has every key in it, so what is tried here is signed by both sides wherever it
could be.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import msgspec
import pytest

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import PrivateKey
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx, TxOutput, sighash
from bct.channel.transactions import settlement
from bct.errors import RemoteProtocolError
from bct.pay.export import Export, Proven, Settlement, decode, encode, settled
from bct.pay.verify import Blocks, Checked, heights, verify
from bct.title.terms import encode as encode_terms
from bct.units import Payees, Satoshi
from tests.channel_parts import ALICE, BOB, CAROL, FILM, SERIES, key
from tests.export_parts import (
    CREATOR,
    DUNE,
    OF_DUNE,
    TIP,
    Story,
    blocks,
    evening,
    export,
    header,
    terms,
    torrent,
)


@cache
def truth() -> bytes:
    return encode(export())


def check(raw: bytes, headers: Blocks | None) -> tuple[Checked, ...]:
    """All that `bct verify` does."""
    found = decode(raw)
    heights(found)
    return verify(found, headers)


def refused(lie: Export, why: str, headers: Blocks | None = None) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        check(encode(lie), headers or blocks())


def changed(of: Export, **change: Any) -> Export:
    """The first payment channel otherwise."""
    first, *rest = of.channels
    return msgspec.structs.replace(of, channels=(msgspec.structs.replace(first, **change), *rest))


# -- what is proven ---------------------------------------------------------------------------------------------------


def test_what_a_file_proves() -> None:
    first, second = check(truth(), blocks())
    story = evening()
    assert (first.outpoint, first.capacity, first.lock) == (story.params.outpoint, 2_000, story.params.lock)
    assert [(sale.name, sale.pieces, sale.satoshi) for sale in first.agreed.sales] == [
        ("dune.mp4", 4, 12),
        ("tide.mp4", 2, 4),
    ]
    assert {sale.creator for sale in first.agreed.sales} == {CREATOR.public}
    assert (first.agreed.epochs, first.agreed.pieces, first.agreed.satoshi) == (2, 6, 16)
    assert (first.claimed.epochs, first.claimed.pieces, first.claimed.satoshi) == (1, 2, 4)
    assert second.funded is None
    assert second.settled is None
    assert [(sale.name, sale.pieces, sale.satoshi) for sale in second.agreed.sales] == [("dune.mp4", 2, 10)]


def test_where_the_money_went_to_the_satoshi() -> None:
    """12 sat for Dune are 7 to Alice and 5 to the seeder; 8 for Tide are 4 to Bob, 2 to Alice and 2 to the seeder."""
    end = check(truth(), blocks())[0].settled
    assert end
    assert end.creators == ((ALICE, 7 + 2), (BOB, 4))
    assert (end.seeder, end.paid) == (5 + 2, 20)
    assert end.change + end.fee + end.paid == 2_000
    assert end.txid == evening().payee.settlement(evening().payee_key)[0].txid


def test_which_blocks_hold_it() -> None:
    first, _ = check(truth(), blocks())
    assert first.funded
    assert first.settled
    assert first.settled.mined
    assert (first.funded.height, first.funded.confirmations) == (101, TIP - 100)
    assert (first.settled.mined.height, first.settled.mined.confirmations) == (102, TIP - 101)
    assert heights(decode(truth())) == {101, 102}


def test_without_headers_nothing_is_known_to_be_mined() -> None:
    first, _ = check(truth(), None)
    assert first.funded is None
    assert first.settled
    assert first.settled.mined is None


def test_headers_that_end_too_early_or_are_another_chains() -> None:
    few = Blocks({}, 90)
    refused(export(), "block 101 is not among the headers, which end with block 90", few)
    other = Blocks({height: header(height, bytes(32)) for height in (101, 102)}, TIP)
    refused(export(), "not in block 101", other)


# -- nothing can be another -------------------------------------------------------------------------------------------


def stands(at: int, bit: int) -> bool:
    """Whether the file is still taken with this bit flipped."""
    raw = bytearray(truth())
    raw[at] ^= 1 << bit
    try:
        check(bytes(raw), blocks())
    except RemoteProtocolError:
        return False
    return True


def test_a_flipped_bit_is_refused() -> None:
    """Some of them; and a file that is cut, or has something behind it."""
    assert check(truth(), blocks())
    dice, size = Random(44), len(truth())
    assert not [at for at in range(dice.randrange(9), size, 9) if stands(at, dice.randrange(8))]
    for raw in (b"", truth()[:-1], truth() + b"\n", truth() * 2):
        with pytest.raises(RemoteProtocolError):
            check(raw, blocks())


@pytest.mark.long
def test_every_flipped_bit_is_refused() -> None:
    assert not [(at, bit) for at in range(len(truth())) for bit in range(8) if stands(at, bit)]


def values(of: Any) -> list[tuple[Any, ...]]:
    """The path of every value in the file that is no list or object."""
    if isinstance(of, dict):
        return [(name, *path) for name, value in of.items() for path in values(value)]
    if isinstance(of, list):
        return [(place, *path) for place, value in enumerate(of) for path in values(value)]
    return [()]


def test_every_field_counts() -> None:
    """Each number one higher, each string with another last digit, each of what is empty filled: refused."""
    for path in values(msgspec.json.decode(truth())):
        whole = msgspec.json.decode(truth())
        inside: Any = whole
        for step in path[:-1]:
            inside = inside[step]
        inside[path[-1]] = other(inside[path[-1]])
        raw = msgspec.json.encode(whole, order="sorted")
        with pytest.raises(RemoteProtocolError):
            check(raw, blocks())


def other(value: Any) -> Any:
    match value:
        case int():
            return value + 1
        case "" | None:
            return "00"
        case _:
            return value[:-1] + ("1" if value[-1] == "0" else "0")


def test_it_is_spelled_in_one_way() -> None:
    spaced = msgspec.json.format(truth(), indent=1)
    for raw in (spaced, truth().replace(b'"version":1', b'"version":1,"x":1'), truth().replace(b"0a", b"0A")):
        assert raw != truth()
        with pytest.raises(RemoteProtocolError, match=r"export|spelled"):
            decode(raw)
    with pytest.raises(RemoteProtocolError, match="at most"):
        decode(bytes(2**28 + 1))


# -- lies that both sides have signed (THREATS 43, 44) ----------------------------------------------------------------


def told(story: Story) -> Export:
    """The story's own export."""
    return export(story.shown(settled=True, mined=False))


def lied(story: Story, why: str) -> None:
    refused(told(story), why)


def test_a_short_story_is_true() -> None:
    """What the lies below are lies about."""
    story = Story("short", 500, FILM)
    story.buy(OF_DUNE, 2, 3)
    story.sign()
    (one,) = check(encode(told(story)), None)
    assert one.settled
    assert (one.agreed.satoshi, one.settled.paid) == (6, 6)


@pytest.mark.parametrize(("piece", "why"), [(20, "torrent with 20 pieces"), (0, "costs nothing"), (1, "costs nothing")])
def test_a_piece_outside_of_its_torrent_or_free(piece: int, why: str) -> None:
    """THREATS 44."""
    story = Story("outside", 500, FILM)
    story.came(OF_DUNE, piece, story.pay(OF_DUNE))
    story.sign()
    lied(story, why)


def test_a_hash_that_is_not_the_torrents() -> None:
    """THREATS 43: pieces of a file that is not the title's."""
    story = Story("hash", 500, FILM)
    story.came(OF_DUNE, 2, story.pay(OF_DUNE), piece_hash=bytes(20))
    story.sign()
    lied(story, "root")


@pytest.mark.parametrize("totals", [(3, 3), (3, 5), (3, 4)])
def test_one_payment_for_two_pieces(totals: tuple[int, int]) -> None:
    """THREATS 43: two pieces of 3 sat cannot stand closer than that."""
    story = Story("twice", 500, FILM)
    story.pay(OF_DUNE)
    story.pay(OF_DUNE)
    story.came(OF_DUNE, 2, totals[0])
    story.came(OF_DUNE, 3, totals[1])
    story.sign()
    lied(story, "another one at")


def test_a_piece_below_its_price() -> None:
    story = Story("cheap", 500, FILM)
    story.pay(OF_DUNE)
    story.came(OF_DUNE, 2, 2)
    story.sign()
    lied(story, "stands at 2")


def test_a_piece_in_two_epochs() -> None:
    """THREATS 44."""
    story = Story("again", 500, FILM)
    story.buy(OF_DUNE, 2)
    story.sign()
    story.buy(OF_DUNE, 2)
    story.sign()
    lied(story, "in an earlier epoch")


def test_more_than_was_settled() -> None:
    """THREATS 43: both have signed for what never went to the chain. Alone, the payer may claim it; it counts for no
    more than that."""
    story = Story("more", 500, FILM)
    story.buy(OF_DUNE, 2)
    story.sign()
    end = Proven(story.payee.settlement(story.payee_key)[0], b"")
    story.buy(OF_DUNE, 3)
    story.sign(both=False)
    before = replace(story.shown(settled=False, mined=False), settlement=end)
    (one,) = check(encode(export(before)), None)
    assert one.settled
    assert (one.settled.paid, one.agreed.satoshi, one.claimed.satoshi) == (3, 3, 3)
    story.countersign(2)
    refused(export(replace(before, receipts=story.receipts.saved)), r"totals \[6\] after \[3\]; \[3\] were paid")


@pytest.mark.parametrize("which", [slice(1, None), slice(0, None, 2), slice(None, None, -1)])
def test_an_epoch_left_out_or_moved(which: slice) -> None:
    """THREATS 44. The last ones may be left out: what they say is then not shown."""
    epochs = export().channels[0].epochs
    refused(changed(export(), epochs=epochs[which]), "where . is due|terms, or a torrent")
    alone = export(evening().shown(settled=True, mined=True))
    assert check(encode(changed(alone, epochs=epochs[:2])), blocks())[0].claimed.epochs == 0


def test_an_epoch_of_another_channel() -> None:
    """THREATS 43."""
    theirs = export().channels[1].epochs
    refused(changed(export(), epochs=theirs), "not signed by the payment channel's payer|lines")


def test_a_channel_twice() -> None:
    """THREATS 43: it would be counted twice."""
    one = export()
    refused(msgspec.structs.replace(one, channels=(*one.channels, one.channels[0])), "or one twice")
    refused(msgspec.structs.replace(one, channels=()), "no payment channel")
    refused(changed(one, epochs=()), "no receipt")


# -- whose title, whose money -----------------------------------------------------------------------------------------


def test_terms_that_their_creator_did_not_sign() -> None:
    forged = replace(OF_DUNE, price=Satoshi(1))
    one = export()
    lie = msgspec.structs.replace(one, terms=(encode_terms(forged).hex(), *one.terms[1:]))
    refused(lie, "not their creator's")


def test_terms_of_another_network() -> None:
    there = replace(OF_DUNE, network=Network.MAIN).sign(CREATOR)
    one = export()
    refused(msgspec.structs.replace(one, terms=(encode_terms(there).hex(), *one.terms[1:])), "terms for MAIN")
    refused(msgspec.structs.replace(one, network="test"), "terms for REGTEST")


def test_a_line_that_pays_somebody_else() -> None:
    """THREATS 43: the split that was settled is the one that the creator signed, or nothing is proven."""
    story = Story("thief", 500, Payees.of((CAROL, 6000)))
    story.buy(replace(OF_DUNE, payees=Payees.of((CAROL, 6000))).sign(CREATOR), 2)
    story.sign()
    one = told(story)
    lie = msgspec.structs.replace(one, terms=(encode_terms(OF_DUNE).hex(),))
    refused(lie, "does not pay whom the terms")


def test_a_torrent_that_is_missing_or_too_much() -> None:
    one = export()
    refused(msgspec.structs.replace(one, torrents=one.torrents[:1]), "is missing")
    more = torrent("another.mp4")
    refused(msgspec.structs.replace(one, torrents=(*one.torrents, more.info_bytes.hex())), "no receipt needs")
    refused(msgspec.structs.replace(one, torrents=(*one.torrents, one.torrents[0])), "a torrent twice")
    unused = encode_terms(terms(DUNE, 9, FILM, 7)).hex()
    refused(msgspec.structs.replace(one, terms=(*one.terms, unused)), "no receipt needs")


def test_payees_of_a_line_that_nothing_hangs_on() -> None:
    story = Story("idle line", 500, FILM, SERIES)
    story.buy(OF_DUNE, 2)
    story.sign()
    one = told(story)
    assert one.channels[0].lines == (FILM.pack().hex(), "")
    assert check(encode(one), None)
    refused(changed(one, lines=(FILM.pack().hex(), SERIES.pack().hex())), "payees are needed for the lines .0. and")
    refused(changed(one, lines=("", "")), "payees are needed")
    refused(changed(one, lines=(FILM.pack().hex(),)), "totals for another number")


def end_of(story: Story, tx: Tx, *totals: int) -> Export:
    """The story with another settlement."""
    return changed(told(story), settlement=Settlement("", tx.serialize().hex(), totals))


def signed(story: Story, tx: Tx, payee: PrivateKey | None = None) -> Tx:
    """The transaction with both signatures of the channel."""
    digest = sighash(tx, 0, story.params.lock.script(), story.params.capacity)
    return settlement(tx, (payee or story.payee_key).sign(digest), story.payer_key.sign(digest))


@pytest.fixture
def story() -> Story:
    """10 sat of a line that gives Alice 60 %."""
    made = Story("settled", 500, FILM)
    made.buy(replace(OF_DUNE, price=Satoshi(5)).sign(CREATOR), 2, 3)
    made.sign()
    return made


def test_a_settlement_that_pays_the_creator_less(story: Story) -> None:
    """THREATS 43: signed by both; the totals they name make 6 sat for Alice."""
    true, _ = story.payee.settlement(story.payee_key)
    alice, seeder, change = true.outputs
    assert (alice.value, seeder.value) == (6, 4)
    for outputs in (
        (replace(alice, value=Satoshi(5)), replace(seeder, value=Satoshi(5)), change),
        (replace(alice, script=p2pkh(CAROL)), seeder, change),
        (seeder, alice, change),
        (seeder, change),
        (alice, seeder, change, TxOutput(Satoshi(1), p2pkh(CAROL))),
        (alice,),
    ):
        lie = signed(story, replace(true, outputs=outputs))
        refused(end_of(story, lie, 10), "the settlement")
    refused(end_of(story, true, 11), "does not pay what the totals")
    refused(end_of(story, true, 0), "payees are needed|outputs|were paid")


def test_where_seeder_and_change_go_is_their_own_business(story: Story) -> None:
    true, _ = story.payee.settlement(story.payee_key)
    alice, seeder, change = true.outputs
    moved = replace(true, outputs=(alice, replace(seeder, script=p2pkh(BOB)), replace(change, value=Satoshi(1))))
    (one,) = check(encode(end_of(story, signed(story, moved), 10)), None)
    assert one.settled
    assert (one.settled.creators, one.settled.seeder, one.settled.change) == (((ALICE, 6),), 4, 1)


def test_a_settlement_that_one_side_did_not_sign(story: Story) -> None:
    true, _ = story.payee.settlement(story.payee_key)
    refused(end_of(story, signed(story, true, key("somebody")), 10), "not signed by the channel's payee")


def test_a_settlement_of_another_channel(story: Story) -> None:
    theirs, _ = evening().payee.settlement(evening().payee_key)
    refused(end_of(story, theirs, 10), "does not spend the funding")


def test_a_funding_without_a_payment_channel(story: Story) -> None:
    one = told(story)
    refused(changed(one, vout=0), "is no payment channel")
    refused(changed(one, vout=2), "is no payment channel")


def test_a_merkle_path_for_more_than_one_transaction() -> None:
    """Each fact once: a second mark in it would be a bit that nothing hangs on."""
    one = export()
    raw = bytearray.fromhex(one.channels[0].funding.bump)
    at = raw.index(b"\x00", 3)  # the flags of a node that is no transaction
    raw[at] = 2
    funding = msgspec.structs.replace(one.channels[0].funding, bump=raw.hex())
    refused(changed(one, funding=funding), "not of one transaction|offset|Merkle")


# -- which totals a settlement pays -----------------------------------------------------------------------------------


def test_a_settlement_explained(story: Story) -> None:
    """By the last receipt, by what was paid after it, or by what had not reached the payee."""
    tx, _ = story.payee.settlement(story.payee_key)
    for last in ((10,), (7,), (12,)):
        assert settled(story.params, {0: FILM}, last, tx) == (10,)
    assert settled(story.params, {}, (10,), tx) is None
    assert settled(story.params, {0: SERIES}, (10,), tx) is None


def test_a_settlement_over_two_lines_explained() -> None:
    story = evening()
    tx, _ = story.payee.settlement(story.payee_key)
    both = {0: FILM, 1: SERIES}
    for last in ((12, 8), (12, 5), (9, 8), (30, 8)):
        assert settled(story.params, both, last, tx) == (12, 8)
    assert settled(story.params, both, (11, 7), tx) is None, "more than one line has moved"


def test_a_settlement_that_cannot_be_explained_is_not_shown(story: Story) -> None:
    before = story.shown(settled=True, mined=False)
    other, _ = evening().payee.settlement(evening().payee_key)
    one = export(replace(before, settlement=Proven(other, b"")))
    assert one.channels[0].settlement is None
    assert check(encode(one), None)[0].settled is None
