"""Difficulty, work and median time: known answers of the node's own tests, and what cannot be."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bct.bitcoin.chain import Network
from bct.bitcoin.headers import RULES, BlockHeader, Link, Rules, bits_of, median_time, next_bits, target_of, work_of
from bct.errors import RemoteProtocolError

MAIN, TEST, REGTEST = (RULES[network] for network in (Network.MAIN, Network.TEST, Network.REGTEST))


class Blocks:
    """Times and difficulties of a chain without blocks, as src/test/pow_tests.cpp of the BSV node piles them up."""

    def __init__(self) -> None:
        self.bits = bits_of(MAIN.limit >> 4)
        self.links = [Link(1_269_211_443, self.bits, work_of(self.bits))]

    def add(self, seconds: int, times: int = 1) -> None:
        """Blocks so many seconds apart, each of the difficulty that the rules asked for before it."""
        for _ in range(times):
            last = self.links[-1]
            self.links.append(Link(last.time + seconds, self.bits, last.work + work_of(self.bits)))
            if len(self.links) >= 2050:
                self.bits = next_bits(self.links, 0, MAIN)


def test_the_difficulty_follows_the_last_day_as_on_the_node() -> None:
    """The figures are those of `cash_difficulty_test`."""
    blocks = Blocks()
    blocks.add(600, 2049)
    steady = blocks.bits
    blocks.add(600, 10)
    blocks.add(6000)
    assert blocks.bits == steady, "a block far in the future is passed over"
    blocks.add(2 * 600 - 6000)
    blocks.add(600, 20)
    blocks.add(550)
    assert blocks.bits == steady
    for seconds, times, bits in (
        (550, 10, 0x1C0FE7B1),
        (10, 20, 0x1C0DB19F),
        (6000, 1, 0x1C0D9222),
        (6000, 93, 0x1C2F13B9),
        (6000, 1, 0x1C2EE9BF),
        (6000, 192, 0x1D00FFFF),
        (6000, 5, 0x1D00FFFF),
    ):
        blocks.add(seconds, times)
        assert blocks.bits == bits, (seconds, times)


def test_on_the_test_network_a_block_after_20_minutes_may_be_easy() -> None:
    blocks = Blocks()
    blocks.add(600, 2060)
    last = blocks.links[-1].time
    hard = next_bits(blocks.links, last + 1200, TEST)
    assert hard == next_bits(blocks.links, last + 1200, MAIN) == blocks.bits
    assert next_bits(blocks.links, last + 1201, TEST) == 0x1D00FFFF
    assert next_bits(blocks.links, last + 1201, MAIN) == hard


def test_regtest_stays_as_easy_as_it_began() -> None:
    assert bits_of(REGTEST.limit) == 0x207FFFFF
    assert next_bits([Link(0, 0x207FFFFF, 2)], 10**9, REGTEST) == 0x207FFFFF


def test_of_three_blocks_at_one_time_the_nodes_order_of_comparing_decides() -> None:
    """A chain whose first and last three blocks have equal times: another choice is another difficulty."""
    same = [Link(1000 + 600 * n, MAIN.limit.bit_length(), 100 * n) for n in range(147)]
    times = (9, 9, 3)
    first = [Link(time, 0, work) for time, work in zip(times, (1 << 40, 1 << 41, 1 << 42), strict=True)]
    last = [Link(10**6 + time, 0, work) for time, work in zip(times, (1 << 50, 1 << 51, 1 << 52), strict=True)]
    bits = next_bits([*first, *same[3:-3], *last], 0, Rules(MAIN.limit, MAIN.pinned))
    work = ((1 << 51) - (1 << 41)) * 600 // (288 * 600)
    assert bits == bits_of(((1 << 256) - work) // work), "the second of the two nines is the middle one"


@pytest.mark.parametrize("bits", [0, 0x01000000, 0x1D80FFFF, 0xFF00FFFF, 0x2200FFFF, 0x00FFFFFF])
def test_what_is_no_target(bits: int) -> None:
    with pytest.raises(RemoteProtocolError, match="is no target"):
        target_of(bits)


@pytest.mark.parametrize(
    ("bits", "target"),
    [(0x1D00FFFF, 0xFFFF << 208), (0x207FFFFF, 0x7FFFFF << 232), (0x01120000, 0x12), (0x05009234, 0x92340000)],
)
def test_targets(bits: int, target: int) -> None:
    assert target_of(bits) == target
    assert bits_of(target) == bits


@given(st.integers(1, (1 << 255) - 1))
def test_a_spelled_target_is_never_easier_than_the_target(target: int) -> None:
    spelled = target_of(bits_of(target))
    assert spelled <= target < spelled + (1 << max(0, target.bit_length() - 15))
    assert bits_of(spelled) == bits_of(target)
    assert work_of(bits_of(target)) >= (1 << 256) // (target + 1)


def test_half_the_target_is_twice_the_work() -> None:
    assert work_of(0x1D00FFFF) == 0x100010001
    for harder, easier in pairwise((0x1C000FFF, 0x1C00FFFF, 0x1D00FFFF)):
        assert work_of(harder) > work_of(easier)


def test_the_median_is_of_eleven_at_most() -> None:
    assert median_time([5]) == 5
    assert median_time([5, 9]) == 9
    assert median_time([100, *range(11)]) == 5


def test_the_first_block_of_mainnet() -> None:
    raw = bytes.fromhex(
        "01000000"
        + "00" * 32
        + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
    )
    header = BlockHeader.parse(raw)
    assert (header.time, header.bits, header.nonce) == (1_231_006_505, 0x1D00FFFF, 2_083_236_893)
    assert header.serialize() == raw


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_any_bytes_are_a_header_or_refused(raw: bytes) -> None:
    if len(raw) == 80:
        assert BlockHeader.parse(raw).serialize() == raw
    else:
        with pytest.raises(RemoteProtocolError, match="a block header has 80 bytes"):
            BlockHeader.parse(raw)
