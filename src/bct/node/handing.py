"""What has to reach a block, handed to every source of the chain again and again, each time after a longer while.

Who could cheat: a source that says that it took a transaction and forgot it, or never passed it on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import structlog

from bct.bitcoin.chain import Chain, Outcome
from bct.channel.patience import Patience
from bct.units import Outpoint

log = structlog.get_logger()

Pace = tuple[float, float]
"""Seconds until something is tried again: at first, and in the end."""
ENDING: Pace = (5.0, 60.0)
"""What ends a channel and the chain has not taken."""
WAITING: Pace = (60.0, 3600.0)
"""What the chain has taken, and no block holds."""


class Handing:
    """For every payment channel. sources: chains, ours first. steady: seconds of a clock that only goes forward."""

    def __init__(self, sources: Sequence[Chain], steady: Callable[[], float]) -> None:
        self.answers: dict[Outpoint, tuple[Outcome, ...]] = {}
        """What each source has last said to what ends a channel."""
        self._sources = sources
        self._steady = steady
        self._patience: defaultdict[Outpoint, dict[Pace, Patience]] = defaultdict(dict)

    def is_due(self, outpoint: Outpoint, pace: Pace) -> bool:
        """Whether it is time to try again; if so, that is noted as the try."""
        patience = self._patience[outpoint].setdefault(pace, Patience(*pace))
        now = self._steady()
        due = patience.due(now)
        if due:
            patience.tried(now)
        return due

    async def hand_over(self, outpoint: Outpoint, raws: Sequence[bytes]) -> None:
        """To every source: the first may have it, and nobody else. raws: parents first, what ends the channel last."""
        answers = await asyncio.gather(*(source.broadcast(raws) for source in self._sources))
        self.answers[outpoint] = tuple(outcome for each in answers for outcome in each[-1].outcomes)
        log.info("handed over", channel=str(outpoint), outcomes=[one.value for one in self.answers[outpoint]])

    def begin_anew(self) -> None:
        """The chain has been away: nothing waits for its next turn."""
        self._patience.clear()

    def is_over(self, outpoint: Outpoint) -> None:
        """Nothing is left to do for this channel."""
        self._patience.pop(outpoint, None)
        self.answers.pop(outpoint, None)
