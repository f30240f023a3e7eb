"""What happens on a chain that says nothing by itself: it is polled, and sooner when there is a hint.

Trust: a hint (a callback of ARC) is a reason to look and nothing else; nothing in it is read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from bct.bitcoin.chain import ChainEvent, Header, Seen, Tip
from bct.errors import ChainError

_KEPT = 1_000
"""Transactions kept for a slow listener; when more come, it gets a `Tip` in their place."""


class Ear:
    """One listener's."""

    def __init__(self) -> None:
        self.seen: deque[Seen] = deque()
        self.look = True
        """Something happened, or may have been missed: the tip is told again."""
        self.woken = asyncio.Event()


class News:
    """Passes on what this program learns of to whoever listens."""

    def __init__(self) -> None:
        self._ears: set[Ear] = set()

    @contextmanager
    def listen(self) -> Iterator[Ear]:
        ear = Ear()
        self._ears.add(ear)
        try:
            yield ear
        finally:
            self._ears.discard(ear)

    def seen(self, event: Seen) -> None:
        """A transaction is in a pool."""
        for ear in self._ears:
            if len(ear.seen) < _KEPT:
                ear.seen.append(event)
            else:
                ear.look = True
            ear.woken.set()

    def hint(self) -> None:
        """Something may have happened."""
        for ear in self._ears:
            ear.look = True
            ear.woken.set()


async def polled_events(news: News, tip: Callable[[], Awaitable[Header]], seconds: float) -> AsyncIterator[ChainEvent]:
    """Endless; begins with a `Tip`, which also comes after the source was away, after a hint, and with each new block.
    seconds: between two questions."""
    last: Header | None = None
    with news.listen() as ear:
        while True:
            ear.woken.clear()
            while ear.seen:
                yield ear.seen.popleft()
            try:
                header = await tip()
            except ChainError:
                ear.look = True
            else:
                if ear.look or header != last:
                    ear.look, last = False, header
                    yield Tip(header)
            with suppress(TimeoutError):
                await asyncio.wait_for(ear.woken.wait(), seconds)
