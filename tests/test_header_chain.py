"""The headers we keep: what joins, what replaces, and what a lying service cannot make us take."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bct.bitcoin.header_chain import DEEPEST, HeaderChain
from bct.bitcoin.headers import BlockHeader, bits_of, hash_of
from bct.errors import RemoteProtocolError
from tests.header_parts import EASY, LONG_AGO, begun, mined, row, rules_of

TRUNK = row(40)
HARDER = bits_of(EASY >> 6)


def refused(chain: HeaderChain, first: int, raws: Sequence[bytes], why: str) -> None:
    """`extend` says why, and nothing has changed."""
    before = (chain.base, chain.raw(chain.base))
    with pytest.raises(RemoteProtocolError, match=why) as caught:
        chain.extend(first, raws)
    assert caught.value.reason == "bad-header"
    assert (chain.base, chain.raw(chain.base)) == before


def tip(chain: HeaderChain) -> bytes:
    header = chain.header(chain.height)
    assert header
    return header.hash


def test_headers_follow_one_another() -> None:
    chain = begun(TRUNK[:1])
    assert chain.extend(1, TRUNK[1:20])
    assert chain.extend(10, TRUNK[10:]), "some of them were known"
    assert not chain.extend(10, TRUNK[10:]), "all of them are"
    assert not chain.extend(35, TRUNK[35:38]), "a service that is behind"
    assert (chain.height, tip(chain)) == (39, hash_of(TRUNK[-1]))


def test_a_header_says_where_it_stands_and_its_median_time_is_our_own() -> None:
    chain = begun(TRUNK)
    header = chain.header(25)
    assert header
    assert (header.height, header.hash, header.previous) == (25, hash_of(TRUNK[25]), hash_of(TRUNK[24]))
    assert (header.time, header.median_time) == (LONG_AGO + 25 * 600, LONG_AGO + 20 * 600)
    first = chain.header(0)
    assert first
    assert (first.median_time, first.previous) == (LONG_AGO, bytes(32))
    assert chain.header(40) is None
    assert [chain.height_of(hash_of(raw)) for raw in TRUNK] == list(range(40))
    assert chain.height_of(bytes(32)) is None
    assert chain.height_of(BlockHeader.parse(TRUNK[7]).merkle_root) is None


def test_the_branch_with_more_work_wins_and_the_first_of_two_equal_ones_stays() -> None:
    chain = begun(TRUNK)
    other = row(10, TRUNK[:30], salt=1)
    assert not chain.extend(30, other), "as long as ours"
    assert tip(chain) == hash_of(TRUNK[-1])
    assert chain.extend(30, row(11, TRUNK[:30], salt=1))
    assert chain.height == 40
    assert not chain.extend(30, TRUNK[30:]), "the old one has less work now"


def test_a_shorter_branch_with_more_work_wins() -> None:
    """By work, not by length: an attacker who mines many easy blocks gains nothing."""
    start = row(160, bits=HARDER)
    rules = rules_of(start, retargets=True)
    slow, fast = row(40, start, rules=rules, spacing=900, salt=1), row(36, start, rules=rules, spacing=60, salt=2)
    chain = begun([*start, *slow], 150, retargets=True)
    assert chain.extend(160, fast)
    assert chain.height == 195
    assert not chain.extend(160, slow)
    assert tip(chain) == hash_of(fast[-1])


def test_a_branch_deeper_than_a_person_would_believe_is_not_followed() -> None:
    trunk = row(DEEPEST + 10)
    chain = begun(trunk)
    refused(chain, 9, row(DEEPEST + 50, trunk[:9], salt=1), f"leaves ours {DEEPEST + 1} blocks down, at most {DEEPEST}")
    assert chain.extend(10, row(DEEPEST + 50, trunk[:10], salt=1))


def test_nothing_replaces_the_pinned_block_or_what_is_below() -> None:
    chain = begun(TRUNK, 20)
    refused(chain, 20, row(50, TRUNK[:20], salt=1), "a branch leaves ours at 20, below the pinned block 20")
    assert chain.extend(21, row(50, TRUNK[:21], salt=1))


def forged(raw: bytes, **change: int | bytes) -> bytes:
    """With other fields, and the work done anew."""
    header = BlockHeader.parse(raw)
    fields = {name: getattr(header, name) for name in header.__slots__} | change
    return mined(BlockHeader(**fields))


def without_work(raw: bytes) -> bytes:
    """The same header with a nonce that does not meet its target."""
    header = BlockHeader.parse(raw)
    fields = {name: getattr(header, name) for name in header.__slots__[:-1]}
    return next(
        bad
        for bad in (BlockHeader(**fields, nonce=nonce).serialize() for nonce in range(1000))
        if hash_of(bad)[31] >= 0x80
    )


def test_headers_that_cannot_be() -> None:
    chain = begun(TRUNK[:30])
    good = TRUNK[30]
    refused(chain, 30, [without_work(good)], "header 30 does not have the work that it claims")
    refused(chain, 30, [forged(good, bits=bits_of(EASY >> 1))], "the rules ask for 207fffff")
    refused(chain, 30, [forged(good, time=LONG_AGO + 24 * 600)], "has a time that was over")
    assert chain.extend(30, [forged(good, time=LONG_AGO + 24 * 600 + 1)])
    chain = begun(TRUNK[:30])
    refused(chain, 30, [good, TRUNK[32]], "header 31 does not name the one before it")
    refused(chain, 30, [good[:79]], "80 bytes")
    refused(chain, 30, [good, b""], "80 bytes")
    refused(chain, 31, [TRUNK[31]], "do not join ours, which end at 29")
    refused(chain, 29, row(3, TRUNK[:25], salt=3), "do not join ours")


def test_the_difficulty_is_not_the_services_to_choose() -> None:
    start = row(160, bits=HARDER)
    chain = begun(start, 150, retargets=True)
    fast = row(30, start, rules=chain.rules, spacing=60)
    assert BlockHeader.parse(fast[-1]).bits != HARDER, "a faster chain is a harder one"
    refused(chain, 160, [*fast[:-1], forged(fast[-1], bits=HARDER)], "the rules ask for")
    refused(chain, 160, row(1, start, bits=bits_of(EASY)), "the rules ask for")
    assert chain.extend(160, fast)


def test_it_begins_at_the_pinned_block_and_nowhere_else() -> None:
    chain = HeaderChain(rules_of(TRUNK, 20))
    for raws, why in (
        (TRUNK[:20], "do not hold the pinned block 20"),
        (row(40, salt=5), "pinned is"),
        ([*TRUNK[:10], *TRUNK[11:]], "in a row are not"),
        ([*TRUNK[:10], b"short", *TRUNK[11:]], "80 bytes"),
        ([*TRUNK[:30], TRUNK[31]], "header 30 does not name"),
    ):
        with pytest.raises(RemoteProtocolError, match=why):
            HeaderChain(rules_of(TRUNK, 20)).begin(0, raws)
    with pytest.raises(RemoteProtocolError, match="do not hold the pinned block"):
        chain.begin(1, TRUNK[1:])
    chain.begin(0, TRUNK)
    assert chain.height == 39


def test_what_lies_below_is_known_by_the_hashes_that_lead_there() -> None:
    trunk = row(200)
    chain = HeaderChain(rules_of(trunk, 190))
    chain.begin(43, trunk[43:])
    assert (chain.base, chain.covers(52), chain.covers(53)) == (43, False, True)
    for raws in (trunk[20:42], row(23, trunk[:20], salt=1), [*trunk[20:30], *trunk[31:43]], [b"", trunk[42]]):
        with pytest.raises(RemoteProtocolError):
            chain.extend_down(raws)
    chain.extend_down(trunk[20:43])
    chain.extend_down(trunk[:20])
    assert chain.base == 0
    assert chain.covers(0)
    assert chain.header(33) == begun(trunk).header(33)
    assert chain.raw(0) == b"".join(trunk)


def test_what_was_kept_comes_back_and_what_was_torn_does_not() -> None:
    chain = begun(TRUNK, 20)
    again = HeaderChain(chain.rules, 0, chain.raw(0))
    assert (again.height, tip(again)) == (39, tip(chain))
    for raw in (chain.raw(0)[:-1], chain.raw(0)[:800], chain.raw(0)[80:], bytes(4000)):
        with pytest.raises(RemoteProtocolError):
            HeaderChain(chain.rules, 0, raw)


@given(st.integers(0, 2**32), st.integers(0, 41), st.integers(0, 6))
@settings(max_examples=60)
def test_any_damage_is_refused(seed: int, first: int, count: int) -> None:
    """Whatever a service shows, the only error is RemoteProtocolError, and what we hold is a chain."""
    dice = Random(seed)
    raws = [bytearray(raw) for raw in (TRUNK + row(2, TRUNK))[first : first + count]]
    for raw in raws:
        if dice.random() < 0.5:
            raw[dice.randrange(80)] ^= 1 << dice.randrange(8)
    chain = begun(TRUNK[:30])
    with suppress(RemoteProtocolError):
        chain.extend(first, [bytes(raw) for raw in raws])
    assert HeaderChain(chain.rules, 0, chain.raw(0)).height == chain.height
