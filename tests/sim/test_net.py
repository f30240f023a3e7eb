"""The network of memory keeps what `Connection` promises, as TCP does, and breaks as wires do."""

from __future__ import annotations

import asyncio

import pytest

from bct.errors import TemporaryError
from bct.torrent.transport import Connection
from tests.conformance.connection import STORIES, OpenPair, started
from tests.sim.clock import run
from tests.sim.net import SimNet
from tests.sim.power import Power


def pairs(net: SimNet, power: Power | None = None) -> OpenPair:
    """Ends of wires between two machines; power: the calling one's."""
    arrived: asyncio.Queue[Connection] = asyncio.Queue()

    async def open_pair() -> tuple[Connection, Connection]:
        if not net.door(("10.0.0.1", 6881)):
            await net.transport("10.0.0.1", Power()).listen("", 6881, arrived.put_nowait)
        here = await net.transport("10.0.0.2", power or Power()).connect("10.0.0.1", 6881)
        return here, await arrived.get()

    return open_pair


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_it_is_a_connection(story: object) -> None:
    async def tell() -> None:
        assert callable(story)
        await story(pairs(SimNet(1)))

    run(tell())


def test_nobody_there() -> None:
    async def story() -> None:
        with pytest.raises(TemporaryError):
            await SimNet(1).transport("10.0.0.2", Power()).connect("10.0.0.1", 6881)

    run(story())


def test_a_wire_that_is_cut_has_carried_a_part() -> None:
    async def story(seed: int) -> int:
        net = SimNet(seed)
        here, _, ear, far = await started(pairs(net))
        here.send([bytes(100_000)])
        await asyncio.sleep(net.wires[0].delay)
        net.wires[0].cut()
        await far.until(lambda: bool(far.endings))
        await ear.until(lambda: bool(ear.endings))
        assert isinstance(far.endings[0], TemporaryError)
        return len(far.heard)

    carried = {run(story(seed)) for seed in range(10)}
    assert min(carried) < max(carried) <= 100_000
    assert len(carried) >= 3


def test_a_wire_that_hangs_tells_nobody() -> None:
    async def story() -> None:
        net = SimNet(1)
        here, _, ear, far = await started(pairs(net))
        net.wires[0].hang()
        here.send([b"lost"])
        await asyncio.sleep(1000)
        assert (bytes(far.heard), far.endings, ear.endings) == (b"", [], [])

    run(story())


def test_a_machine_without_power() -> None:
    """It hears and says nothing more; the other side is told, or not."""

    async def story(seed: int) -> bool:
        power = Power()
        here, there, ear, far = await started(pairs(SimNet(seed), power))
        here.send([b"one"])
        await far.until_heard(3)
        power.off()
        here.send([b"two"])
        there.send([b"back"])
        await asyncio.sleep(1)
        assert (bytes(far.heard), bytes(ear.heard), ear.endings) == (b"one", b"", [])
        return bool(far.endings)

    assert {run(story(seed)) for seed in range(10)} == {True, False}


def test_the_same_dice_fall_the_same_way() -> None:
    async def story() -> list[tuple[float, int]]:
        here, _, _, far = await started(pairs(SimNet("a seed")))
        arrivals: list[tuple[float, int]] = []
        far.on_received = lambda: arrivals.append((asyncio.get_running_loop().time(), len(far.heard)))
        for size in range(1, 40_000, 997):
            here.send([bytes(size)])
            await asyncio.sleep(0.001)
        await asyncio.sleep(10)
        return arrivals

    assert run(story()) == run(story())
