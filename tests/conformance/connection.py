"""What every `Connection` must do: one story a function, each given a way to open pairs of connected ends.

A transport's test runs `STORIES` over the real thing. The ends come unstarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from bct.errors import BctError
from bct.torrent.transport import Connection

type OpenPair = Callable[[], Awaitable[tuple[Connection, Connection]]]

PATIENCE = 10.0


class Ear:
    """A receiver that keeps everything, and wakes whoever waits for something."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.times_drained = 0
        self.endings: list[BctError | None] = []
        self.on_received: Callable[[], None] = lambda: None
        self._happened = asyncio.Event()

    def received(self, data: memoryview) -> None:
        assert not self.endings
        self.heard += data
        self._happened.set()
        self.on_received()

    def drained(self) -> None:
        assert not self.endings
        self.times_drained += 1
        self._happened.set()

    def lost(self, error: BctError | None) -> None:
        self.endings.append(error)
        self._happened.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not is_so():
                self._happened.clear()
                await self._happened.wait()

    async def until_heard(self, size: int) -> bytes:
        await self.until(lambda: len(self.heard) >= size)
        return bytes(self.heard)


async def started(open_pair: OpenPair) -> tuple[Connection, Connection, Ear, Ear]:
    here, there = await open_pair()
    ear, far = Ear(), Ear()
    here.start(ear)
    there.start(far)
    return here, there, ear, far


async def everything_outstanding_has_arrived(open_pair: OpenPair) -> None:
    """Another pair's round trip takes longer than what is on its way needs."""
    here, there, ear, far = await started(open_pair)
    for _ in range(2):
        here.send([b"there"])
        await far.until_heard(1)
        there.send([b"back"])
        await ear.until_heard(1)
        ear.heard.clear()
        far.heard.clear()
    here.close()
    await far.until(lambda: bool(far.endings))


async def bytes_arrive_in_order_both_ways(open_pair: OpenPair) -> None:
    here, there, ear, far = await started(open_pair)
    content, dice = Random(1).randbytes(6_000_000), Random(2)
    rest = memoryview(content)
    while rest:
        parts = []
        for _ in range(dice.randint(1, 100)):
            size = dice.choice([1, 13, 4096, 16_384, 300_000])
            parts.append(rest[:size])
            rest = rest[size:]
        here.send(parts)
        there.send(parts)
    assert await ear.until_heard(len(content)) == content
    assert await far.until_heard(len(content)) == content


async def nothing_leaves_before_the_turn_is_over(open_pair: OpenPair) -> None:
    here, _, _, far = await started(open_pair)
    for n in range(100):
        here.send([b"%03d" % n, memoryview(b".")])
        assert here.buffered == 4 * (n + 1)
    assert (await far.until_heard(400))[-4:] == b"099."
    assert here.buffered == 0


async def what_was_said_before_start_is_not_lost(open_pair: OpenPair) -> None:
    here, there = await open_pair()
    here.start(Ear())
    here.send([b"early"])
    await everything_outstanding_has_arrived(open_pair)
    far = Ear()
    there.start(far)
    assert await far.until_heard(5) == b"early"


async def one_who_does_not_read_is_seen_in_buffered(open_pair: OpenPair) -> None:
    here, there, ear, far = await started(open_pair)
    there.pause()
    chunk, said = bytes(256 * 1024), 0
    while here.buffered <= 4 * here.LOW_WATER:
        here.send([chunk])
        said += len(chunk)
        await asyncio.sleep(0)
    assert ear.times_drained == 0
    there.resume()
    await ear.until(lambda: ear.times_drained == 1)
    assert here.buffered <= here.LOW_WATER
    await far.until_heard(said)
    assert ear.times_drained == 1


async def drained_comes_only_after_much_was_said(open_pair: OpenPair) -> None:
    here, _, ear, far = await started(open_pair)
    for size in range(1, 100):
        here.send([bytes(size)])
        await far.until_heard(1)
    assert ear.times_drained == 0


async def a_paused_reader_hears_nothing(open_pair: OpenPair) -> None:
    here, there, _, far = await started(open_pair)
    there.pause()
    here.send([b"wait"])
    await everything_outstanding_has_arrived(open_pair)
    assert not far.heard
    there.resume()
    assert await far.until_heard(4) == b"wait"


async def closing_delivers_what_was_said_and_ends_both(open_pair: OpenPair) -> None:
    here, there, ear, far = await started(open_pair)
    here.send([b"last ", b"words"])
    here.close()
    here.close()
    assert not ear.endings, "lost comes in a later turn"
    await ear.until(lambda: bool(ear.endings))
    await far.until(lambda: bool(far.endings))
    assert far.heard == b"last words"
    there.close()
    await everything_outstanding_has_arrived(open_pair)
    assert ear.endings == far.endings == [None]


async def after_the_end_nothing_happens(open_pair: OpenPair) -> None:
    here, there, ear, far = await started(open_pair)
    there.send([b"too late"])
    here.close()
    here.send([b"more"])
    here.pause()
    here.resume()
    await far.until(lambda: bool(far.endings))
    await everything_outstanding_has_arrived(open_pair)
    assert (bytes(ear.heard), bytes(far.heard), here.buffered) == (b"", b"", 0)


async def closing_while_receiving_ends_it_there(open_pair: OpenPair) -> None:
    here, there, _, far = await started(open_pair)
    far.on_received = there.close
    here.send([bytes(5_000_000)])
    await far.until(lambda: bool(far.endings))
    assert 0 < len(far.heard) < 5_000_000


STORIES = (
    bytes_arrive_in_order_both_ways,
    nothing_leaves_before_the_turn_is_over,
    what_was_said_before_start_is_not_lost,
    one_who_does_not_read_is_seen_in_buffered,
    drained_comes_only_after_much_was_said,
    a_paused_reader_hears_nothing,
    closing_delivers_what_was_said_and_ends_both,
    after_the_end_nothing_happens,
    closing_while_receiving_ends_it_there,
)
