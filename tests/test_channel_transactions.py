"""What a commitment contains: every satoshi is somebody's, nobody is shorted, the fee always suffices.

Both sides compute this alone from the totals, so it is held here for whole ranges of them, not for examples only.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.script import p2pkh_hash
from bct.bitcoin.tx import FINAL, TxInput, sighash
from bct.channel.transactions import (
    MAX_LINES,
    Commitments,
    Lines,
    Params,
    Totals,
    commitment,
    fee,
    fee_at,
    fits,
    outputs,
    payouts,
    settlement,
    takes,
)
from bct.errors import ConfigError
from bct.units import BasisPoints, Payees, Split
from tests.channel_parts import (
    ALICE,
    BOB,
    CAROL,
    CHANGE,
    FILM,
    PAYEE,
    PAYER,
    SEEDER,
    creators,
    key,
    params,
    splits,
    standings,
    vectors,
)

LONGEST_SIGNATURE = (2**255 + 1).to_bytes(32) + (2**254).to_bytes(32)
"""71 bytes of DER: r with its high bit set, s as long as a low one gets."""


# -- the split --------------------------------------------------------------------------------------------------------


def test_62_sat_at_60_percent() -> None:
    assert FILM.split.of(62) == ([37], 25)


@given(splits(), st.integers(0, 2**32))
def test_a_split_gives_away_exactly_the_total(split: Split, total: int) -> None:
    shares, rest = split.of(total)
    assert sum(shares) + rest == total
    assert all(share >= 0 for share in shares)
    assert rest >= 0


@given(splits(), st.integers(0, 2**32), st.integers(1, 40))
def test_the_newest_commitment_is_never_worse_for_the_seeder(split: Split, total: int, steps: int) -> None:
    """THREATS 56: with shares rounded one by one a seeder would settle an older commitment, and the creators lose."""
    rests = [split.of(total + step)[1] for step in range(steps + 1)]
    assert all(before <= after for before, after in pairwise(rests))


def test_shares_rounded_one_by_one_would_have_been_worse() -> None:
    """THREATS 56, the smallest case: the seeder would have 2 of 2 sat, but 1 of 3. Running sums give it 1 and 1."""
    thirds = Split((BasisPoints(3334),) * 2)
    assert [total - 2 * (total * 3334 // 10_000) for total in (2, 3)] == [2, 1]
    assert [thirds.of(total)[1] for total in (2, 3)] == [1, 1]


@given(splits(), st.integers(0, 2**32))
def test_each_creator_gets_its_share_to_within_one_satoshi(split: Split, total: int) -> None:
    for share, points in zip(split.of(total)[0], split.shares, strict=True):
        assert abs(share - total * points / 10_000) < 1


@pytest.mark.parametrize("shares", [(), (0,), (10_001,), (-1, 5000), (5000, 5001), (1,) * 17])
def test_shares_that_cannot_be(shares: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError):
        Split(tuple(BasisPoints(s) for s in shares))


def test_a_line_names_each_creator_once() -> None:
    with pytest.raises(ConfigError):
        Payees.of((ALICE, 1000), (ALICE, 2000))


# -- outputs ----------------------------------------------------------------------------------------------------------


def paid_to(fixed: Params, lines: Lines, totals: Totals) -> list[tuple[bytes | None, int]]:
    return [(p2pkh_hash(o.script), o.value) for o in outputs(fixed, lines, totals)]


@given(standings())
def test_every_satoshi_of_the_capacity_is_paid_out_or_is_the_fee(standing: tuple[Params, Lines, Totals]) -> None:
    fixed, _, _ = standing
    made = outputs(*standing)
    assert sum(o.value for o in made) + fee(*standing) == fixed.capacity
    assert all(o.value > 0 for o in made)


@given(standings())
def test_each_creator_has_one_output_with_all_its_lines_shares(standing: tuple[Params, Lines, Totals]) -> None:
    _, lines, totals = standing
    owed: dict[bytes, int] = {}
    for payees, total in zip(lines, totals, strict=True):
        for who, share in zip(payees.hashes, payees.split.of(total)[0], strict=True):
            owed[who] = owed.get(who, 0) + share
    paid = [(who, amount) for who, amount in payouts(*standing) if who != SEEDER]
    assert paid == [(who, amount) for who, amount in owed.items() if amount]


def test_equal_hashes_merge_at_the_first_place() -> None:
    """Alice has no satoshi on the first line, yet her place is there: the order must not hang on amounts."""
    lines = (Payees.of((ALICE, 1), (BOB, 5000)), Payees.of((CAROL, 1000), (ALICE, 5000)))
    assert paid_to(params(), lines, (10, 100)) == [(ALICE, 50), (BOB, 5), (CAROL, 10), (SEEDER, 45), (CHANGE, 9_853)]


def test_creators_first_then_the_seeder_then_change() -> None:
    assert paid_to(params(), (FILM,), (62,)) == [(ALICE, 37), (SEEDER, 25), (CHANGE, 9_908)]


def test_nothing_paid_leaves_only_change() -> None:
    assert paid_to(params(), (FILM,), (0,)) == [(CHANGE, 10_000 - fee_at(100, 1))]


def test_a_seeder_whose_film_gives_all_to_the_creators_has_no_output() -> None:
    assert paid_to(params(), (Payees.of((ALICE, 10_000)),), (62,)) == [(ALICE, 62), (CHANGE, 9_911)]


def test_the_last_satoshi_can_be_spent_and_then_there_is_no_change() -> None:
    fixed = params()
    total = fixed.capacity - fee_at(100, 3)
    assert paid_to(fixed, (FILM,), (total,)) == [(ALICE, total * 6 // 10), (SEEDER, total - total * 6 // 10)]
    assert fits(fixed, (FILM,), (total,))
    assert not fits(fixed, (FILM,), (total + 1,))


def test_a_seeder_who_is_the_creator_too_has_two_outputs() -> None:
    """Merging them would let one side's choice of hash change the other side's fee."""
    lines = (Payees.of((SEEDER, 5000), (CHANGE, 1000)),)
    assert paid_to(params(), lines, (100,)) == [(SEEDER, 50), (CHANGE, 10), (SEEDER, 40), (CHANGE, 9_866)]


@given(standings(), vectors())
def test_a_new_line_changes_nothing_until_it_is_paid(standing: tuple[Params, Lines, Totals], line: Payees) -> None:
    """So a signature from before the line was added still settles."""
    fixed, lines, totals = standing
    assert outputs(fixed, (*lines, line), (*totals, 0)) == outputs(*standing)


@given(standings())
def test_capacity_less_the_largest_fee_can_always_be_spent(standing: tuple[Params, Lines, Totals]) -> None:
    assert fits(*standing)


# -- the fee ----------------------------------------------------------------------------------------------------------


@given(standings())
def test_the_fee_suffices_for_the_settlement_with_the_longest_signatures(
    standing: tuple[Params, Lines, Totals],
) -> None:
    """THREATS 51: whatever the lines, the totals and the two signatures' lengths, the agreed rate is met."""
    fixed, _, _ = standing
    signed = settlement(commitment(*standing), LONGEST_SIGNATURE, LONGEST_SIGNATURE)
    assert len(signed.inputs[0].script) == 2 * (1 + 72)
    assert fee(*standing) * 1000 >= len(signed.serialize()) * fixed.fee_rate


@given(standings())
def test_the_fee_suffices_for_the_settlement_as_it_is_really_signed(standing: tuple[Params, Lines, Totals]) -> None:
    """THREATS 51, and it wastes little: a few bytes of signature, and change where there is none."""
    fixed, _, _ = standing
    digest = Commitments(*standing[:2]).digest(standing[2])
    signed = settlement(commitment(*standing), PAYEE.sign(digest), PAYER.sign(digest))
    size = len(signed.serialize())
    assert fee(*standing) * 1000 >= size * fixed.fee_rate
    assert fee(*standing) * 1000 < (size + 34 + 16) * fixed.fee_rate + 1000


def test_fees_in_figures() -> None:
    assert [fee_at(100, n) for n in (1, 2, 3, 20)] == [24, 27, 30, 88]
    assert fee_at(1000, 20) == 877
    assert fee_at(1, 3) == 1, "rounded up"


# -- the transaction itself -------------------------------------------------------------------------------------------


@given(standings())
def test_the_template_gives_the_digest_of_the_whole_transaction(standing: tuple[Params, Lines, Totals]) -> None:
    fixed, lines, totals = standing
    whole = sighash(commitment(*standing), 0, fixed.lock.script(), fixed.capacity)
    assert Commitments(fixed, lines).digest(totals) == whole


def test_a_commitment_is_final_and_spends_the_channel_only() -> None:
    tx = commitment(params(), (FILM,), (62,))
    assert (tx.version, tx.locktime) == (1, 0)
    assert tx.inputs == (TxInput(params().outpoint, b"", FINAL),)


def test_max_outputs_counts_each_creator_once() -> None:
    """THREATS 51: eight outputs are six creators, the seeder and the change."""
    six = creators(6)
    lines = tuple(Payees.of((one, 1000), (other, 1000)) for one, other in pairwise(six))
    assert takes(params(max_outputs=8), lines)
    assert not takes(params(max_outputs=8), (*lines, Payees.of((key("the seventh").hash, 1))))


def test_a_channel_has_at_most_32_lines() -> None:
    """Else a viewer could make each of its payments cost us milliseconds, at 80 bytes each."""
    lines = tuple(Payees.of((ALICE, points)) for points in range(1, MAX_LINES + 2))
    assert takes(params(), lines[:MAX_LINES])
    assert MAX_LINES == 32
    assert not takes(params(), lines)
