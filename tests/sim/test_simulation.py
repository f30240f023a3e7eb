"""Whole worlds, one a seed: whatever befalls them, the money is where it belongs.

    python -m tests.sim.test_simulation weather 17

tells one of them from the beginning.
"""

from __future__ import annotations

import pytest

from tests.sim.people import watcher
from tests.sim.weather import Weather
from tests.sim.world import HOUR, Title, World, tell


async def weather(world: World) -> None:
    """Two seeders and two viewers who are all honest, and a world that is not kind."""
    dice = world.dice
    seeders = [world.host(f"seeder {n}", idle=dice.choice((60, 900))) for n in (1, 2)]
    viewers = [world.host(f"viewer {n}", lifetime=dice.choice((6, 9, 12)) * HOUR) for n in (1, 2)]
    for host in world.hosts:
        await host.boot()
    await world.sleep(2)
    titles = [Title("a film", 12), Title("another film", 20)]
    for title in titles:
        price = dice.choice((1, 2, 7, 25))
        for seeder in dice.sample(seeders, dice.randint(1, 2)):
            await world.sell(seeder, title, price)
    for viewer in viewers:
        await world.fund(viewer, 20_000)
    await world.sleep(8)
    for viewer in viewers:
        viewer.chores.append(watcher(world, viewer, titles))
        viewer.run(viewer.chores[0]())
    sky = Weather(world, world.hosts)
    await sky.blow(dice.choice((40, 90)), pause=6)
    world.clock.hurry(120)
    await sky.blow(dice.choice((60, 200, 420)), pause=6)


STORIES = {story.__name__: story for story in (weather,)}


@pytest.mark.parametrize("seed", range(10))
def test_weather(seed: int) -> None:
    tell(seed, weather)


if __name__ == "__main__":
    import sys

    _, name, number = sys.argv
    print("\n".join(tell(int(number), STORIES[name]).story))
