"""A machine that runs bct: its disk, its clock, its line to the chain, and the node, from one power cut to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import cache
from random import Random
from typing import Any, Protocol

from bct.bitcoin.hd import words_of_entropy
from bct.bitcoin.keys import PrivateKey, sha256
from bct.config import ChannelConfig, Config, WireConfig
from bct.errors import BctError
from bct.node.daemon import Node, Parts
from bct.pay.records import Record
from bct.pay.replay import Replay
from bct.units import Infohash, PieceIndex
from bct.wallet.keyring import Keyring
from bct.wallet.paths import Path
from tests.sim.chain import SimNode, SimSource
from tests.sim.clock import Clock
from tests.sim.disk import Books, Disk, SimLedger, SimStores
from tests.sim.net import SimNet
from tests.sim.power import Power

PORT = 6881


class Observer(Protocol):
    """Who watches what machines do, as they do it."""

    def earned(self, host: Host, record: Record) -> None: ...
    def spent(self, host: Host, record: Record) -> None: ...
    def kept(self, host: Host, infohash: Infohash, piece: PieceIndex) -> None: ...
    def synced(self, host: Host, sequence: int) -> None: ...
    def crashed(self, host: Host) -> None: ...


class Keys(Keyring):
    """One's keys, each derived once in all runs."""

    __slots__ = ()

    def key(self, path: Path) -> PrivateKey:
        at = (self.payout, path)
        if at not in _DERIVED:
            _DERIVED[at] = super().key(path)
        return _DERIVED[at]


_DERIVED: dict[tuple[bytes, Path], PrivateKey] = {}


@cache
def keys_of(name: str) -> Keyring:
    return Keys.of_words(words_of_entropy(sha256(name.encode())[:16]))


class Host:
    """name: its wallet's keys derive from it, in every run the same."""

    def __init__(
        self,
        name: str,
        ip: str,
        clock: Clock,
        net: SimNet,
        nodes: list[SimNode],
        observer: Observer,
        dice: Random,
        channel: ChannelConfig,
    ) -> None:
        """nodes: that its sources are lines to, its own first."""
        self.name = name
        self.ip = ip
        self.disk = Disk()
        self.keys = keys_of(name)
        self.skew = 0.0
        """Seconds that its clock is ahead."""
        self.power: Power | None = None
        self.node: Node
        self.started = False
        """Its node is up."""
        self.sources: list[SimSource] = []
        self.chores: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """What its owner does, begun again at each start."""
        self.crashes = 0
        self.coins = 0
        """Satoshis that it was given."""
        self.allowed = 0
        """Satoshis that its owner has allowed all its plays together to cost."""
        self._clock = clock
        self._net = net
        self._nodes = nodes
        self._observer = observer
        self._dice = dice
        self._channel = channel

    def __repr__(self) -> str:
        return self.name

    @property
    def up(self) -> bool:
        return self.power is not None and self.power.on

    async def boot(self) -> None:
        """On, with what the disk holds."""
        self.power = power = Power(self.name)
        power.run(self._live(power))
        await asyncio.sleep(0)

    async def _live(self, power: Power) -> None:
        """Its owner starts the node, again and again while the chain is away, and then has it do his chores."""
        self.started = False
        config = Config(wire=WireConfig(listen_host=self.ip, listen_port=PORT), channel=self._channel)
        while True:
            self.node = Node(config, self._parts(power))
            try:
                await self.node.start()
                break
            except BctError:
                await asyncio.sleep(20)
        self.started = True
        for chore in self.chores:
            power.run(chore())

    def _parts(self, power: Power) -> Parts:
        disk, dice, observer = self.disk, self._dice, self._observer
        self.sources = [SimSource(node, power, dice) for node in self._nodes]
        books = Books(disk, power, dice)

        async def close() -> None: ...

        return Parts(
            sources=self.sources,
            transport=self._net.transport(self.ip, power),
            stores=SimStores(disk, power, lambda infohash, piece: observer.kept(self, infohash, piece)),
            channels=books,
            titles=books,
            receipts=books,
            payee_ledger=SimLedger(
                disk, disk.earned, power, dice, lambda record: observer.earned(self, record), self._synced
            ),
            payer_ledger=SimLedger(disk, disk.spent, power, dice, lambda record: observer.spent(self, record)),
            earned=Replay(disk.earned),
            spent=Replay(disk.spent),
            keyring=self.keys,
            payout=self.keys.payout,
            random=dice.randbytes,
            close=close,
            steady=lambda: self._clock.steady,
            unix=lambda: self._clock.unix + self.skew,
        )

    def _synced(self, sequence: int) -> None:
        self._observer.synced(self, sequence)
        self.node.till.synced(sequence)

    def crash(self) -> None:
        """As the power does."""
        if self.power and self.up:
            self.crashes += 1
            self.power.off()
            self._observer.crashed(self)

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Something that this machine does."""
        assert self.power
        return self.power.run(work)
