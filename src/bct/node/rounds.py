"""When a watchman looks: every few seconds, at once when something happens, and ever more rarely while the chain cannot
be asked.

Who could cheat: time. A machine that slept for a night wakes up hours nearer to every expiry, with its timers where
they were; so a jump of its clock ends every wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from bct.bitcoin.chain import Chain, Seen, Tip
from bct.bitcoin.tx import Tx
from bct.channel.patience import Patience
from bct.errors import BctError, RemoteProtocolError

log = structlog.get_logger()

LOOK_SECONDS = 5.0
LONGEST_PAUSE = 60.0
"""Between two looks while they fail."""
JUMP_SECONDS = 30.0
"""By how much clock and steady clock may part within one pause before it counts as a jump."""


class Rounds:
    """chain: whose events wake it. look: one look. heard: whether a transaction that passes by is a reason for one.
    clock: Unix seconds. steady: seconds of a clock that only goes forward, and stands still while the machine sleeps.
    """

    def __init__(
        self,
        chain: Chain,
        look: Callable[[], Awaitable[None]],
        heard: Callable[[Tx], bool],
        clock: Callable[[], int],
        steady: Callable[[], float],
    ) -> None:
        self._chain = chain
        self._look = look
        self._heard = heard
        self._clock = clock
        self._steady = steady
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._run())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        async for event in self._chain.events():
            match event:
                case Tip():
                    self._wake.set()
                case Seen(_, raw):
                    with suppress(RemoteProtocolError):  # nothing that we could have made
                        if self._heard(Tx.parse(raw)):
                            self._wake.set()

    async def _run(self) -> None:
        patience, trouble = Patience(LOOK_SECONDS, LONGEST_PAUSE), ""
        while True:
            try:
                await self._look()
                patience, trouble = Patience(LOOK_SECONDS, LONGEST_PAUSE), ""
            except Exception as error:  # even a bug of ours: the next look is the only thing that can help
                if type(error).__name__ != trouble:  # once, and not at each look
                    bug = not isinstance(error, BctError)
                    log.warning("the watchman cannot look", text=str(error), exc_info=bug)
                trouble = type(error).__name__
            patience.tried(self._steady())
            await self._rest(patience.pause)

    async def _rest(self, seconds: float) -> None:
        """Until something happens, the time is over, or the machine wakes up."""
        until = self._steady() + seconds
        while (left := until - self._steady()) > 0 and not self._wake.is_set():
            ahead = self._clock() - self._steady()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(left, LOOK_SECONDS))
            jump = self._clock() - self._steady() - ahead
            if abs(jump) > JUMP_SECONDS:
                log.info("the clock has jumped", seconds=round(jump))
                break
        self._wake.clear()
