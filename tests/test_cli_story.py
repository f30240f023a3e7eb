"""A creator, a viewer and a second seeder, each with real processes of its own: what people do with `bct`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bct.backends.node_rpc import NodeRpc
from bct.bitcoin.script import p2pkh
from bct.bitcoin.tx import Tx
from bct.cli import keys
from bct.config import Config
from tests.film import BUNNY, make
from tests.machine import Machine, lives, pointed_at

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
            yield Street(creator, viewer, published(creator, BUNNY, "Bunny"))


@pytest.fixture(scope="module")
def neighbour(street: Street, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One more node, with no coins to begin with."""
    machine = Machine(tmp_path_factory.mktemp("neighbour"), street.viewer.env)
    machine.bct("init")
    with machine.up():
        yield machine


def published(creator: Machine, film: Path, name: str, price: int = PRICE) -> dict[str, Any]:
    """What `bct publish --json` said."""
    terms = ("--price", str(price), "--free-seconds", "0", "--name", name)
    return dict(creator.bct("publish", str(film), *terms))


def clip(tmp_path: Path, seconds: int) -> Path:
    """The first seconds of the bunny: another film than all of it."""
    return make(tmp_path / "clip.mp4", "-c", "copy", seconds=seconds)


def played(machine: Machine, link: str, *more: str, code: int) -> list[str]:
    """The lines that `bct play --json` printed: the start, the end, and an error if there was one."""
    said, _ = machine.run("play", link, "--player", READER, "--json", *more, code=code)
    return said.splitlines()


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


def test_a_free_title_needs_neither_wallet_nor_channel(street: Street, neighbour: Machine, tmp_path: Path) -> None:
    free = published(street.creator, clip(tmp_path, 1), "Free", price=0)
    assert (free["view"], free["creators"], free["fees"]) == (0, [], 0)
    ended = neighbour.bct("play", free["link"], "--player", READER)
    assert (ended["here"], ended["spent"], ended["channels"]) == (ended["pieces"], 0, [])


def test_an_empty_wallet_ends_with_6_and_says_what_is_lacking(street: Street, neighbour: Machine) -> None:
    said = played(neighbour, street.title["link"], code=6)
    assert "0 sat can be spent" in json.loads(said[-1])["text"]


def test_a_cap_is_never_passed_not_by_one_satoshi(street: Street, neighbour: Machine) -> None:
    neighbour.bct("wallet", "topup", "1000")
    for cap in (20, 60 + 2 * PRICE, 90):
        ended = json.loads(played(neighbour, street.title["link"], "--max-sats", str(cap), code=6)[-2])
        assert ended["spent"] + ended["fees"] <= cap
        assert ended["trouble"]["error"] == "funds"
    held = sum(neighbour.bct("wallet", "balance")[kind] for kind in ("confirmed", "pending", "reserved"))
    locked = sum(one["capacity"] for one in neighbour.bct("channels", "list")["channels"] if not one["txid"])
    assert 1000 - held - locked <= 20 + 60 + 2 * PRICE + 90


def test_a_file_that_is_another_is_not_seeded(street: Street, tmp_path: Path) -> None:
    wrong = street.viewer.bct("seed", "add", street.title["link"], "--from", str(BUNNY), code=1)
    assert "bytes, the torrent" in wrong["text"]


def test_who_has_watched_a_film_sells_it_on_and_its_creator_gets_the_share(street: Street, neighbour: Machine) -> None:
    film = street.viewer.home.titles / street.title["infohash"] / "data"
    seed = ("seed", "add", street.title["link"], "--from", str(film))
    title = street.viewer.bct(*seed)
    assert (title["holding"], title["price"]) == ("seeded", PRICE)
    assert list(street.viewer.home.incoming.iterdir()) == []
    assert "already" in street.viewer.bct(*seed, code=2)["text"]
    neighbour.bct("wallet", "topup")
    ended = neighbour.bct("play", title["link"], "--player", READER)
    assert [peer["address"] for peer in ended["peers"]] == [street.viewer.node.found["listen"]]
    sold = [one for one in street.viewer.bct("channels", "list")["channels"] if one["role"] == "payee"]
    assert [(one["paid"], one["state"]) for one in sold] == [(ended["spent"], "settled")]
    assert creators_part(street, sold[0]["txid"]) == ended["spent"] * 6000 // 10_000


def creators_part(street: Street, txid: str) -> int:
    """What the settlement, as the chain has it, pays to the creator."""
    chain = street.creator.node.get("/api/status")["chain"]

    async def fetch() -> Any:
        rpc = NodeRpc(chain["url"], Path(chain["cookie_file"]))
        try:
            return await rpc.call("getrawtransaction", txid)
        finally:
            await rpc.close()

    payout = p2pkh(keys.load(street.creator.home, Config(), "").payout)
    return sum(
        output.value for output in Tx.parse(bytes.fromhex(asyncio.run(fetch()))).outputs if output.script == payout
    )


@pytest.mark.parametrize(("file", "says"), [(__file__, "not a video"), ("/nowhere.mp4", "cannot be read")])
def test_what_is_no_film_is_not_published(street: Street, file: str, says: str) -> None:
    assert says in street.creator.bct("publish", file, code=1)["text"]
    assert list(street.creator.home.incoming.iterdir()) == []


def test_ctrl_c_ends_a_play_in_order(street: Street, tmp_path: Path) -> None:
    title = published(street.creator, clip(tmp_path, 2), "Clip")
    for number in (signal.SIGINT, signal.SIGTERM):
        with street.viewer.start("play", title["link"], "--no-player", "--json") as process:
            assert process.stdout
            started = json.loads(process.stdout.readline())
            urllib.request.urlopen(started["url"]).read()
            process.send_signal(number)
            ended = json.loads(process.stdout.readline())
            assert process.wait(30) == 0
        assert ended["here"] == ended["pieces"]
        assert [channel["state"] for channel in ended["channels"]] == ["settled"] * (number == signal.SIGINT)


def objects(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines()]


def test_two_films_in_a_row_are_paid_over_one_channel(street: Street, tmp_path: Path) -> None:
    """The second one, of other creators, locks nothing; its line makes the settlement dearer. The cap is for both."""
    first = published(street.creator, clip(tmp_path, 4), "First")
    second = street.creator.bct("publish", str(clip(tmp_path, 5)), "--name", "Second", "--free-seconds", "0",
                                "--price", str(PRICE), "--payee", f"{'ab' * 20}:7000")  # fmt: skip
    cap = 1000
    said, _ = street.viewer.run(
        "play", first["link"], second["torrent"], "--player", READER, "--max-sats", str(cap), "--json"
    )
    one, done, two, ended = objects(said)
    assert (one["cap"], one["quote"]["cost"]) == (cap, PRICE * first["pieces"])
    (kept,), (channel,) = done["channels"], ended["channels"]
    assert kept["state"] == "open"
    assert kept["outpoint"] == channel["outpoint"]
    assert kept["capacity"] == one["quote"]["locked"] >= 2 * one["quote"]["cost"]
    assert two["quote"]["locked"] == 0
    assert two["cap"] == cap - done["spent"] - done["fees"]
    assert ended["fees"] == two["quote"]["fees"] == 2
    assert (channel["state"], channel["paid"]) == ("settled", done["spent"] + ended["spent"])
    assert ended["bought"] == second["pieces"]


def test_a_channel_that_the_next_film_does_not_use_is_settled_in_the_end(
    street: Street, neighbour: Machine, tmp_path: Path
) -> None:
    """The second film comes from another seeder; so does nothing at all, at a link that leads nowhere."""
    first = published(street.creator, clip(tmp_path, 6), "Third")
    second = published(neighbour, clip(tmp_path, 7), "Fourth")
    said, _ = street.viewer.run("play", first["link"], second["link"], "--player", READER, "--json")
    _, done, _, ended, closed = objects(said)
    assert closed["outpoint"] == done["channels"][0]["outpoint"] != ended["channels"][0]["outpoint"]
    assert (closed["state"], closed["paid"]) == ("settled", done["spent"])
    assert ended["channels"][0]["state"] == "settled"
    third = published(street.creator, clip(tmp_path, 8), "Fifth")
    nowhere = f"magnet:?xt=urn:btih:{'00' * 20}&x.pe=127.0.0.1:1"
    said, _ = street.viewer.run("play", third["link"], nowhere, "--player", READER, "--json", code=75)
    _, _, closed, error = objects(said)
    assert closed["state"] == "settled"
    assert "none of the 1 peers" in error["text"]


def test_ctrl_c_ends_the_films_that_were_to_follow(street: Street, tmp_path: Path) -> None:
    title = published(street.creator, clip(tmp_path, 9), "Sixth")
    read = tmp_path / "read"
    reads_and_stays = "import sys,time,urllib.request as u; u.urlopen(sys.argv[2]).read(); open(sys.argv[1], chr(119))"
    player = f"{sys.executable} -c '{reads_and_stays}; time.sleep(60)' {read}"
    with street.viewer.start("play", title["link"], street.title["link"], "--player", player, "--json") as process:
        assert process.stdout
        process.stdout.readline()
        while not read.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    (ended,) = objects(said)
    assert [channel["state"] for channel in ended["channels"]] == ["settled"]


def test_films_in_a_row_need_a_player(street: Street) -> None:
    link = street.title["link"]
    assert "--player" in street.viewer.bct("play", link, link, "--no-player", code=2)["text"]


def test_coins_go_out_to_an_address(street: Street) -> None:
    to = street.creator.bct("wallet", "address")["address"]
    before = street.creator.bct("wallet", "balance")
    assert re.fullmatch("[0-9a-f]{64}", street.viewer.bct("wallet", "send", to, "1234")["txid"])
    came = 0
    while not came:  # the creator hears of it from the chain
        after = street.creator.bct("wallet", "balance")
        came = sum(after[kind] - before[kind] for kind in ("confirmed", "pending"))
    assert came == 1234


def test_people_are_told_everything_too(street: Street) -> None:
    for arguments in (("status",), ("titles",), ("channels", "list"), ("receipts", "list"), ("wallet", "balance")):
        said, complained = street.viewer.run(*arguments)
        assert said.strip()
        assert complained == ""
    said, _ = street.viewer.run("play", street.title["link"], "--player", READER)
    assert "0 pieces were bought for 0 sat" in said


def test_down_says_what_became_of_every_channel(street: Street, neighbour: Machine, tmp_path: Path) -> None:
    """One that was kept for another film, and one that is in use. The last story here: the viewer's node is down."""
    before = published(neighbour, clip(tmp_path, 10), "Last but one")
    play = street.viewer.node.post("/api/plays", {"link": before["link"]})
    urllib.request.urlopen(play["url"]).read()
    street.viewer.node.delete(f"/api/plays/{play['token']}?keep=true")
    title = published(street.creator, clip(tmp_path, 3), "Last")
    play = street.viewer.node.post("/api/plays", {"link": title["link"]})
    urllib.request.urlopen(play["url"]).read()
    pid = street.viewer.pid
    settled = street.viewer.bct("down")["settled"]
    assert {one["role"] for one in settled} == {"payer"}
    assert sorted(one["paid"] for one in settled) == sorted(PRICE * one["pieces"] for one in (before, title))
    assert all(re.fullmatch("[0-9a-f]{64}", one["txid"]) for one in settled)
    assert not lives(pid)
    assert not street.viewer.home.running.exists()
    street.viewer.bct("down", code=3)
