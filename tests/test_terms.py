"""A creator signs terms; whoever is shown them believes nothing that the creator did not sign."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import ORDER, PrivateKey
from bct.errors import Action, ConfigError, LocalProtocolError, RemoteProtocolError
from bct.title.ranges import PieceRange
from bct.title.terms import MAX_SIZE, Terms, check, decode, encode
from bct.units import BasisPoints, Infohash, Payees, PieceIndex, PubKeyHash, Satoshi, Split

CREATOR = PrivateKey(bytes(31) + b"\x01")
STRANGER = PrivateKey(bytes(31) + b"\x02")
FILM = Infohash(bytes(range(20)))
NOW = 1_800_000_000
DAY = 86_400


def pieces(first: int, count: int) -> PieceRange:
    return PieceRange(PieceIndex(first), count)


def terms(**changes: object) -> Terms:
    plain = Terms(
        network=Network.REGTEST,
        infohash=FILM,
        price=Satoshi(1),
        payees=Payees.of((b"\x11" * 20, 5000), (b"\x22" * 20, 1000)),
        free=(pieces(0, 3), pieces(79, 1)),
        sequence=7,
        valid_from=NOW - DAY,
        valid_until=NOW + DAY,
        creator=CREATOR.public,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


SIGNED = terms().sign(CREATOR)


def reason(shown: Terms, *, creator: bytes = CREATOR.public, now: int = NOW, lowest: int = 0) -> str:
    """The fixed word `check` refuses with, "" when it does not."""
    try:
        check(shown, creator=creator, network=Network.REGTEST, infohash=FILM, now=now, lowest_sequence=lowest)
    except RemoteProtocolError as error:
        return error.reason
    return ""


def test_what_the_creator_signed_is_believed() -> None:
    assert reason(decode(encode(SIGNED))) == ""
    assert reason(SIGNED, lowest=7) == ""


def test_terms_with_another_price_payee_or_range_are_not_the_creators() -> None:
    for changed in (
        replace(SIGNED, price=Satoshi(0)),
        replace(SIGNED, payees=Payees.of((b"\x33" * 20, 5000), (b"\x22" * 20, 1000))),
        replace(SIGNED, payees=Payees.of((b"\x11" * 20, 4999), (b"\x22" * 20, 1000))),
        replace(SIGNED, free=(pieces(0, 80),)),
        replace(SIGNED, sequence=8),
        replace(SIGNED, valid_until=NOW + 2 * DAY),
    ):
        assert reason(changed) == "bad-signature"


def test_every_flipped_bit_of_signed_terms_is_noticed() -> None:
    wire = encode(SIGNED)
    for bit in range(len(wire) * 8):
        flipped = bytearray(wire)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RemoteProtocolError):
            check(decode(bytes(flipped)), creator=CREATOR.public, network=Network.REGTEST, infohash=FILM, now=NOW)


def test_the_second_encoding_of_a_signature_is_refused() -> None:
    r, s = SIGNED.signature[:32], int.from_bytes(SIGNED.signature[32:])
    assert reason(replace(SIGNED, signature=r + (ORDER - s).to_bytes(32))) == "bad-signature"


def test_a_seeders_own_terms_are_refused() -> None:
    own = terms(creator=STRANGER.public).sign(STRANGER)
    assert reason(own) == "wrong-creator"
    assert reason(replace(own, creator=CREATOR.public)) == "bad-signature"


def test_another_networks_or_titles_terms_are_refused() -> None:
    assert reason(terms(network=Network.MAIN).sign(CREATOR)) == "wrong-network"
    assert reason(terms(infohash=Infohash(b"\x09" * 20)).sign(CREATOR)) == "wrong-title"


def test_terms_hold_from_their_first_second_until_before_their_last() -> None:
    assert reason(SIGNED, now=NOW - DAY - 1) == "not-yet-valid"
    assert reason(SIGNED, now=NOW - DAY) == ""
    assert reason(SIGNED, now=NOW + DAY - 1) == ""
    assert reason(SIGNED, now=NOW + DAY) == "expired"


def test_old_terms_that_pay_the_creator_less_are_refused_once_newer_were_seen() -> None:
    cheap = terms(payees=Payees.of((b"\x11" * 20, 1)), sequence=6).sign(CREATOR)
    assert reason(cheap, lowest=6) == ""
    assert reason(cheap, lowest=7) == "old-sequence"


def test_stale_terms_are_refused_without_ending_the_connection() -> None:
    for now, lowest in ((NOW + DAY, 0), (NOW - 2 * DAY, 0), (NOW, 8)):
        with pytest.raises(RemoteProtocolError) as caught:
            check(
                SIGNED, creator=CREATOR.public, network=Network.REGTEST, infohash=FILM, now=now, lowest_sequence=lowest
            )
        assert caught.value.action is Action.REFUSE


def test_what_is_free_and_what_the_rest_costs() -> None:
    # pieces:   0 1 2 3 … 78 79      F F F p … p F
    assert [p for p in range(80) if SIGNED.is_free(p)] == [0, 1, 2, 79]
    assert SIGNED.price_of(PieceIndex(2)) == 0
    assert SIGNED.price_of(PieceIndex(3)) == 1
    three = replace(SIGNED, price=Satoshi(3))
    assert (three.paid_in(pieces(0, 80)), three.total(pieces(0, 80))) == (76, 228)
    assert (three.paid_in(pieces(2, 2)), three.total(pieces(2, 2))) == (1, 3)
    assert three.remaining(pieces(70, 10)) == 27
    gratis = replace(SIGNED, price=Satoshi(0))
    assert gratis.is_free(40)
    assert (gratis.paid_in(pieces(0, 80)), gratis.total(pieces(0, 80))) == (0, 0)


@pytest.mark.parametrize(
    "impossible",
    [
        {"price": 2**32},
        {"price": -1},
        {"sequence": 2**32},
        {"valid_until": NOW - DAY},
        {"valid_until": NOW + 30 * DAY},
        {"infohash": bytes(19)},
        {"creator": bytes(65)},
        {"free": tuple(pieces(2 * i, 1) for i in range(9))},
        {"free": (pieces(3, 1), pieces(0, 1))},
        {"free": (pieces(0, 2), pieces(2, 1))},
        {"free": (pieces(0, 4), pieces(2, 9))},
    ],
)
def test_terms_nobody_could_mean_cannot_be_made(impossible: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        terms(**impossible)


def test_only_signed_terms_travel_and_only_their_creator_signs() -> None:
    with pytest.raises(LocalProtocolError):
        encode(terms())
    with pytest.raises(LocalProtocolError):
        terms().sign(STRANGER)


def test_terms_cut_at_each_byte_or_longer_are_bad_terms() -> None:
    wire = encode(SIGNED)
    assert len(wire) == 197
    for damaged in [wire[:size] for size in range(len(wire))] + [wire + b"\0", bytes(10_000)]:
        with pytest.raises(RemoteProtocolError) as caught:
            decode(damaged)
        assert caught.value.reason == "bad-terms"


def test_the_longest_terms_are_as_long_as_the_limit() -> None:
    payees = Payees.of(*((bytes([i]) * 20, 625) for i in range(16)))
    longest = terms(payees=payees, free=tuple(pieces(2 * i, 1) for i in range(8))).sign(CREATOR)
    assert len(encode(longest)) == MAX_SIZE
    assert decode(encode(longest)) == longest


shares = st.lists(st.integers(1, 625), min_size=1, max_size=16)
gaps = st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 1000)), max_size=8)
u32 = st.integers(0, 2**32 - 1)


@st.composite
def any_terms(draw: st.DrawFn) -> Terms:
    split = Split(tuple(BasisPoints(share) for share in draw(shares)))
    hashes = tuple(PubKeyHash(bytes([i]) * 20) for i in range(len(split.shares)))
    free, at = [], -1
    for gap, count in draw(gaps):
        free.append(pieces(at + gap, count))
        at += gap + count
    start = draw(st.integers(0, 2**32 - 31 * DAY))
    return Terms(
        network=draw(st.sampled_from(Network)),
        infohash=Infohash(draw(st.binary(min_size=20, max_size=20))),
        price=Satoshi(draw(u32)),
        payees=Payees(hashes, split),
        free=tuple(free),
        sequence=draw(u32),
        valid_from=start,
        valid_until=start + draw(st.integers(1, 30 * DAY)),
        creator=CREATOR.public,
    ).sign(CREATOR)


@settings(max_examples=60)
@given(any_terms())
def test_any_terms_come_back_as_they_were_sent(original: Terms) -> None:
    assert decode(encode(original)) == original


@settings(max_examples=200)
@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: encode(SIGNED)[:60] + tail))
def test_whatever_the_bytes_the_only_error_is_a_remote_one(data: bytes) -> None:
    try:
        read = decode(data)
    except RemoteProtocolError:
        return
    assert encode(read) == data
