"""A creator, a viewer and a second seeder, each with real processes of its own: what people do with `bct`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.film import BUNNY
from tests.machine import Machine, pointed_at

PRICE = 5
READER = f"{sys.executable} -c 'import sys,urllib.request; urllib.request.urlopen(sys.argv[1]).read()'"
"""A player that reads all of the film."""


@dataclass
class Street:
    creator: Machine
    viewer: Machine
    title: dict[str, Any]
    """What `bct publish --json` said."""

    @property
    def cost(self) -> int:
        return PRICE * int(self.title["pieces"])


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    """A creator who has published the bunny, five pieces, none free; a viewer with coins."""
    creator = Machine(tmp_path_factory.mktemp("creator"))
    creator.bct("init")
    with creator.up():
        viewer = Machine(tmp_path_factory.mktemp("viewer"), pointed_at(creator))
        viewer.bct("init")
        with viewer.up():
            viewer.bct("wallet", "topup", "50000")
            publish = ("publish", str(BUNNY), "--price", str(PRICE), "--free-seconds", "0", "--name", "Bunny")
            yield Street(creator, viewer, creator.bct(*publish))


def another(street: Street, root: Path, **env: str) -> Machine:
    machine = Machine(root, street.viewer.env | env)
    machine.bct("init")
    return machine


def test_publishing_says_who_gets_what(street: Street) -> None:
    title = street.title
    assert (title["price"], title["paid_pieces"], title["view"]) == (PRICE, 5, 25)
    assert (title["creators"], title["seeder"]) == ([15], 10)
    assert 60 < title["fees"] < 90
    assert Path(title["torrent"]).stat().st_size > 100
    assert list(street.creator.home.incoming.iterdir()) == [], "the node has taken the film in"
    assert [one["link"] for one in street.creator.bct("titles")["titles"]] == [title["link"]]


def test_a_film_is_played_from_its_torrent_file_alone_paid_and_settled(street: Street) -> None:
    before = street.viewer.bct("wallet", "balance")
    said, _ = street.viewer.run("play", street.title["torrent"], "--player", READER, "--json")
    started, ended = map(json.loads, said.splitlines())
    assert (started["quote"]["cost"], started["spent"]) == (street.cost, 0)
    assert (ended["bought"], ended["spent"], ended["here"]) == (5, street.cost, 5)
    assert ended["spent"] + ended["fees"] <= ended["cap"]
    (channel,) = ended["channels"]
    assert channel["state"] == "settled"
    assert channel["paid"] == street.cost
    (receipt,) = street.viewer.bct("receipts", "list")["receipts"]
    assert (receipt["pieces"], receipt["satoshi"], receipt["txid"]) == (5, street.cost, channel["txid"])
    (earned,) = street.creator.bct("channels", "list")["channels"]
    assert (earned["role"], earned["paid"], earned["txid"]) == ("payee", street.cost, channel["txid"])
    after = street.viewer.bct("wallet", "balance")
    spent = sum(before[kind] - after[kind] for kind in ("confirmed", "pending", "reserved"))
    assert street.cost < spent <= street.cost + ended["fees"]


def test_what_was_bought_is_never_bought_again(street: Street) -> None:
    again = street.viewer.bct("play", street.title["link"], "--player", READER)
    assert (again["bought"], again["spent"], again["fees"], again["here"]) == (0, 0, 0, 5)
