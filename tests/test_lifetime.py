"""How long a payment channel is opened for: as long as the film still runs, and some; a longer film takes several."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.channel.state import State
from bct.node.purse import Spending
from tests.nodes import running_node
from tests.stage import FREE_PIECES, fund, publish, watch

pytestmark = pytest.mark.anyio

HOUR = 3600
PIECES = 24
PIECE = 64 * 1024
PAID = PIECES - len(FREE_PIECES)


def index(hours: int) -> bytes:
    """The index of a film that shows each of its 24 pieces for a 24th of so many hours (ISO/IEC 14496-12, 8.16.3)."""
    size = 40 + 12 * PIECES
    head = struct.pack(">I4sBxxxIIQQHH", size, b"sidx", 1, 1, 1, 0, 0, 0, PIECES)
    ends = [*(PIECE * n for n in range(1, PIECES)), PIECES * PIECE - 1000]
    starts = [size, *ends[:-1]]
    parts = (struct.pack(">III", end - at, hours * HOUR // PIECES, 0) for at, end in zip(starts, ends, strict=True))
    return head + b"".join(parts)


@dataclass
class Clock:
    """The machine's, set forward by so many seconds."""

    ahead: int = 0

    def __call__(self) -> float:
        return time.time() + self.ahead


def lives(spending: Spending, now: float) -> int:
    """Hours from now to the expiry, to the nearest."""
    return round((spending.payer.params.lock.expiry - now) / HOUR)


@pytest.mark.parametrize(
    ("film", "begins", "lifetime"),
    [
        (2, 0, 12),  # what is asked for anyway
        (24, 0, 22 + 5),  # the first two of its 24 pieces cost nothing
        (24, 12, 12 + 5),
        (100, 0, 72),  # as long as any
    ],
)
async def test_a_channel_is_opened_for_what_the_film_still_runs_and_five_hours(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, film: int, begins: int, lifetime: int
) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", PIECES, front=index(film))
        play = await viewer.play(title.link, None)
        await watch(play, 0, PIECE)
        assert not viewer.purse.spendings, "the index is free"
        start = begins * PIECE
        assert await watch(play, start) == title.film[start:]
        (spending,) = viewer.purse.spendings.values()
        assert lives(spending, time.time()) == lifetime


async def test_a_film_too_long_for_any_channel_is_watched_over_two(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner
) -> None:
    """A hundred hours: two hours before its expiry the first channel makes way, and no piece is paid for twice."""
    clock = Clock()
    async with (
        running_node(tmp_path / "seeder", chain, unix=clock) as seeder,
        running_node(tmp_path / "viewer", chain, unix=clock) as viewer,
    ):
        await fund(viewer, miner)
        title = await publish(seeder, tmp_path / "seeder", PIECES, front=index(100))
        play = await viewer.play(title.link, None)
        assert await watch(play, 0, PIECE) == title.film[:PIECE]
        reading = play.read(PIECE, play.length)
        seen = [bytes(await anext(reading)) for _ in range(16)]
        (first,) = viewer.purse.spendings.values()
        assert lives(first, clock()) == 72
        half = first.payer.paid
        assert 0 < half < PAID
        clock.ahead = 71 * HOUR
        seen += [bytes(part) async for part in reading]
        assert b"".join(seen) == title.film[PIECE:]
        first, second = sorted(viewer.purse.spendings.values(), key=lambda one: one.payer.params.lock.expiry)
        assert (first.payer.paid, second.payer.paid) == (half, PAID - half)
        assert first.payer.state is State.SETTLED
        assert lives(second, clock()) == round(100 * 7 / 24) + 5  # seven pieces of 24 were left
