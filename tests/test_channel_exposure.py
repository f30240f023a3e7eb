"""How much is accepted over a funding that no block holds yet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.chain import Broadcast, Outcome
from bct.channel.exposure import (
    FRESH_BLOCK,
    FRESH_SECONDS,
    FRESH_TOTAL,
    OLDER_TOTAL,
    Sighting,
    Unconfirmed,
    cap,
    heard,
    is_clean,
    is_conflict,
    judged,
    room,
)
from bct.units import Txid

FRESH, CLEAN = 1_000, 100_000
T0 = 1_800_000_000


def seen(*answers: tuple[str, int, Outcome]) -> list[Sighting]:
    """(source, seconds since the first look, what it said)."""
    return [Sighting(source, T0 + after, outcome) for source, after, outcome in answers]


TWO_TWICE = seen(
    ("own node", 0, Outcome.ACCEPTED),
    ("other node", 1, Outcome.KNOWN),
    ("own node", 30, Outcome.KNOWN),
    ("other node", 31, Outcome.KNOWN),
)


def test_two_sources_twice_thirty_seconds_apart_are_clean() -> None:
    """THREATS 58."""
    assert is_clean(TWO_TWICE)
    assert is_clean(reversed(TWO_TWICE))


@pytest.mark.parametrize("missing", range(4))
def test_three_of_the_four_answers_are_not_clean(missing: int) -> None:
    """THREATS 58: one source may look where the conflict is not parked; one moment may be too early."""
    assert not is_clean(TWO_TWICE[:missing] + TWO_TWICE[missing + 1 :])


def test_a_second_look_too_soon_does_not_count() -> None:
    soon = seen(("a", 0, Outcome.KNOWN), ("b", 0, Outcome.KNOWN), ("a", 29, Outcome.KNOWN), ("b", 30, Outcome.KNOWN))
    assert not is_clean(soon)


def test_one_source_asked_four_times_is_one_source() -> None:
    assert not is_clean(seen(*(("a", after, Outcome.KNOWN) for after in (0, 30, 60, 90))))


def test_a_source_that_does_not_answer_proves_nothing() -> None:
    silent = [Sighting(s.source, s.at, Outcome.UNREACHABLE) for s in TWO_TWICE[2:]]
    assert not is_clean(TWO_TWICE[:2] + silent)
    assert not is_conflict(silent)


def test_a_source_that_was_away_for_a_moment_is_heard_again() -> None:
    assert is_clean([*TWO_TWICE[:2], *seen(("own node", 10, Outcome.UNREACHABLE)), *TWO_TWICE[2:]])


@pytest.mark.parametrize("word", [Outcome.CONFLICT, Outcome.PARKED, Outcome.INVALID])
@pytest.mark.parametrize("position", range(5))
def test_one_word_of_conflict_is_believed_however_many_say_otherwise(word: Outcome, position: int) -> None:
    """THREATS 58: bad-txn-update is all one ever sees of a parked conflict. Nothing is accepted until a block comes."""
    sightings = [*TWO_TWICE[:position], Sighting("own node", T0 + 60, word), *TWO_TWICE[position:]]
    assert cap(sightings, confirmed=False, fresh=FRESH, clean=CLEAN) == 0
    assert cap(sightings, confirmed=True, fresh=FRESH, clean=CLEAN) is None


def test_the_cap_rises_with_what_is_known() -> None:
    assert cap([], confirmed=False, fresh=FRESH, clean=CLEAN) == FRESH
    assert cap(TWO_TWICE[:2], confirmed=False, fresh=FRESH, clean=CLEAN) == FRESH
    assert cap(TWO_TWICE, confirmed=False, fresh=FRESH, clean=CLEAN) == CLEAN
    assert cap([], confirmed=True, fresh=FRESH, clean=CLEAN) is None


def test_the_sums_of_the_protocol_page() -> None:
    assert (FRESH_SECONDS, FRESH_TOTAL, FRESH_BLOCK, OLDER_TOTAL) == (30, 10_000, 2_000, 100_000)


# -- over all channels ------------------------------------------------------------------------------------------------


def young(paid: int, block: str) -> Unconfirmed:
    return Unconfirmed(paid, 0, block)


def test_one_address_block_cannot_use_up_what_is_there_for_everybody() -> None:
    """THREATS 57: ten channels from one block, each up to its cap; a viewer from elsewhere still has room."""
    attackers: list[Unconfirmed] = []
    for _ in range(10):
        paid = min(FRESH, room(attackers, age=0, block="192.0.2"))
        attackers.append(young(paid, "192.0.2"))
    assert sum(a.paid for a in attackers) == FRESH_BLOCK
    assert room(attackers, age=0, block="192.0.2") == 0
    assert room(attackers, age=0, block="198.51.100") == FRESH_BLOCK


def test_what_an_address_block_holds_for_longer_does_not_count_against_its_newcomers() -> None:
    older = [Unconfirmed(50_000, FRESH_SECONDS, "192.0.2")]
    assert room(older, age=0, block="192.0.2") == FRESH_BLOCK


def test_many_address_blocks_share_one_sum() -> None:
    """THREATS 57: what is lost when all of them cheat."""
    everyone: list[Unconfirmed] = []
    for number in range(20):
        block = f"2001:db8:{number:x}"
        everyone.append(young(room(everyone, age=0, block=block), block))
    assert sum(c.paid for c in everyone) == FRESH_TOTAL


def test_channels_past_thirty_seconds_have_a_sum_of_their_own() -> None:
    """THREATS 57: a flood of new openings does not stop those who are watching already."""
    flood = [young(FRESH_BLOCK, f"block {i}") for i in range(5)]
    assert room(flood, age=FRESH_SECONDS - 1, block="honest") == 0
    assert room(flood, age=FRESH_SECONDS, block="honest") == OLDER_TOTAL
    older = [Unconfirmed(OLDER_TOTAL - 7, FRESH_SECONDS, "honest")]
    assert room(flood + older, age=600, block="honest") == 7
    assert room([*older, *older], age=600, block="honest") == 0


@given(
    st.lists(st.builds(Unconfirmed, st.integers(0, 50_000), st.integers(0, 100), st.sampled_from("abc"))),
    st.integers(0, 100),
    st.sampled_from("abc"),
)
def test_what_the_room_allows_never_passes_the_sums(channels: list[Unconfirmed], age: int, block: str) -> None:
    more = room(channels, age=age, block=block)
    assert more >= 0
    if more:
        after = [*channels, Unconfirmed(more, age, block)]
        fresh = [c for c in after if c.age < FRESH_SECONDS]
        if age < FRESH_SECONDS:
            assert sum(c.paid for c in fresh) <= FRESH_TOTAL
            assert sum(c.paid for c in fresh if c.block == block) <= FRESH_BLOCK
        else:
            assert sum(c.paid for c in after if c.age >= FRESH_SECONDS) <= OLDER_TOTAL


# -- what a chain answers, as sightings --------------------------------------------------------------------------------

ACCEPTED, KNOWN, PARKED, CONFLICT, INVALID, UNREACHABLE = Outcome


def said(*words: Outcome) -> Broadcast:
    """What sources a, b, … answered about one transaction."""
    return Broadcast(Txid(bytes(32)), words[0], said=tuple(zip("abc", words, strict=False)))


def test_each_source_behind_one_chain_is_heard_for_itself() -> None:
    assert heard([said(ACCEPTED, KNOWN)], "chain", T0) == seen(("a", 0, ACCEPTED), ("b", 0, KNOWN))
    assert heard([Broadcast(Txid(bytes(32)), KNOWN)], "chain", T0) == seen(("chain", 0, KNOWN))
    assert heard([], "chain", T0) == seen(("chain", 0, KNOWN)), "every part of it is in a block"


def test_a_package_is_as_good_as_its_worst_part() -> None:
    package = [said(ACCEPTED, ACCEPTED), said(CONFLICT, KNOWN), said(ACCEPTED, UNREACHABLE)]
    assert heard(package, "chain", T0) == seen(("a", 0, CONFLICT), ("b", 0, UNREACHABLE))


def test_two_behind_one_chain_twice_are_clean_and_one_of_them_is_not() -> None:
    """THREATS 58: an index that answers for a broadcaster is no second source."""
    for second, clean in ((KNOWN, True), (UNREACHABLE, False)):
        looks = [said(ACCEPTED, second)], [said(KNOWN, second)]
        sightings = [
            one for after, look in zip((0, 30), looks, strict=True) for one in heard(look, "chain", T0 + after)
        ]
        assert is_clean(sightings) is clean


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ((ACCEPTED, UNREACHABLE), ACCEPTED),
        ((UNREACHABLE, KNOWN), KNOWN),
        ((UNREACHABLE, UNREACHABLE), UNREACHABLE),
        ((ACCEPTED, INVALID), INVALID),
        ((CONFLICT, ACCEPTED), CONFLICT),
        ((KNOWN, PARKED), PARKED),
        ((UNREACHABLE, CONFLICT), CONFLICT),
    ],
)
def test_one_yes_opens_a_channel_and_one_no_does_not(words: tuple[Outcome, ...], outcome: Outcome) -> None:
    """THREATS 35: broadcasters that disagree."""
    assert judged(heard([said(*words)], "chain", T0)) is outcome
