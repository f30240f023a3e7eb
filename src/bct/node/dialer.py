"""Keeps a title connected to the addresses of its link: who drops off while pieces are missing is called again.

Who could cheat: a peer that hangs up as soon as it is paid, to be paid anew on the next call. One call can lose no more
than one window (see `seat`); so pauses between calls double up to a minute, until a call has lasted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bct.errors import ConfigError, TemporaryError
from bct.node.hub import Hub
from bct.node.peer import Peer
from bct.node.swarm import Swarm
from bct.title.link import Peer as Address

CALL_SECONDS = 10.0
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
LASTED = 120.0
"""Seconds after which a connection counts as a good one."""


class Dialer:
    """One task an address, from `start` to `stop`."""

    def __init__(self, hub: Hub, swarm: Swarm, addresses: Sequence[Address]) -> None:
        self._hub = hub
        self._swarm = swarm
        self._addresses = addresses
        self._untried = len(addresses)
        self._answered = False
        self._known = asyncio.Event()  # that somebody has answered, or that nobody does
        self._failure: TemporaryError | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns as soon as somebody answers, or somebody is connected anyway. Raises TemporaryError when nobody
        answers, ConfigError when there is nobody to call."""
        self._tasks = [asyncio.create_task(self._stay(address)) for address in self._addresses]
        if self._swarm.peers:
            return
        if not self._tasks:
            raise ConfigError("the link names no peer (x.pe): give one with --peer host:port")
        await self._known.wait()
        if not self._answered:
            raise TemporaryError(f"none of the {len(self._addresses)} peers in the link answers: {self._failure}")

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _stay(self, address: Address) -> None:
        """Connected, as far as it lies with us."""
        pause = FIRST_PAUSE
        peer = await self._call(address)
        self._untried -= 1
        self._answered = self._answered or peer is not None
        if self._answered or not self._untried:
            self._known.set()
        while not self._swarm.complete:
            since = self._hub.clock()
            if peer:
                await peer.ended.wait()
            if self._hub.clock() - since > LASTED:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            peer = await self._call(address)

    async def _call(self, address: Address) -> Peer | None:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await self._hub.connect(address.host, address.port, self._swarm)
        except TimeoutError:
            self._failure = TemporaryError(f"{address} says nothing for {CALL_SECONDS:.0f} s")
        except TemporaryError as error:
            self._failure = error
        return None
