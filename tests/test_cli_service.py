"""A node's end, however it comes: what is owed is settled, and what was locked comes back."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bct.backends.node_rpc import NodeRpc
from tests.film import make
from tests.machine import Machine, end, pointed_at

PRICE = 5


@dataclass
class Town:
    """host: a machine whose chain outlives the others; it has coins, and watches what they publish."""

    root: Path
    host: Machine

    def machine(self, *arguments: str) -> Machine:
        """arguments: of `bct init`; none at all for a machine that is still empty."""
        made = Machine(self.root / secrets.token_hex(4), pointed_at(self.host))
        if arguments:
            made.bct(*arguments)
        return made

    def faucet(self, path: str, **body: object) -> dict[str, Any]:
        url = self.host.node.get("/api/status")["chain"]["faucet"] + path
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())) as answer:
            return dict(json.loads(answer.read()))

    def rpc(self, method: str, *arguments: object) -> Any:
        """Of the chain's own node."""
        chain = self.host.node.get("/api/status")["chain"]

        async def call() -> Any:
            rpc = NodeRpc(chain["url"], Path(chain["cookie_file"]))
            try:
                return await rpc.call(method, *arguments)
            finally:
                await rpc.close()

        return asyncio.run(call())


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    root = tmp_path_factory.mktemp("town")
    host = Machine(root / "host")
    host.bct("init")
    with host.up():
        top_up(host)
        yield Town(root, host)


def publish(creator: Machine, folder: Path, seconds: int) -> dict[str, Any]:
    """So much of the bunny: a film that nobody here has watched yet."""
    film = make(folder / "film.mp4", "-c", "copy", seconds=seconds)
    return dict(creator.bct("publish", str(film), "--price", str(PRICE), "--free-seconds", "0"))


@contextmanager
def watching(viewer: Machine, title: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A play of which one piece was read and paid for, and whose payment channel is open."""
    play = viewer.node.post("/api/plays", {"link": title["link"]})
    with urllib.request.urlopen(play["url"]) as film:
        film.read(1000)
        yield viewer.node.get(f"/api/plays/{play['token']}")


def top_up(machine: Machine) -> None:
    machine.node.post("/api/wallet/topup", {"satoshi": 100_000})


def open_channel(viewer: Machine) -> dict[str, Any]:
    (channel,) = (one for one in viewer.node.get("/api/channels") if not one["txid"])
    return dict(channel)


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_signal_settles_within_ten_seconds(town: Town, tmp_path: Path, number: signal.Signals, seconds: int) -> None:
    creator = town.machine("init")
    with creator.up():
        with watching(town.host, publish(creator, tmp_path, seconds)):
            assert open_channel(town.host)["state"] == "open"
            assert end(creator.pid, number) < 10
        channel = town.host.node.get("/api/channels")[-1]
        assert (channel["state"], channel["paid"] >= PRICE) == ("settled", True)
        assert town.rpc("getrawtransaction", channel["txid"], True)["txid"] == channel["txid"]


def test_a_locked_node_sells_and_settles_what_it_is_owed(town: Town, tmp_path: Path) -> None:
    """Its passphrase was given once, to publish, and not after the restart."""
    (tmp_path / "passphrase").write_text("correct horse")
    secret = ("--passphrase-file", str(tmp_path / "passphrase"))
    creator = town.machine("init", *secret)
    with creator.up(*secret) as node:
        assert node["wallet"] == "open"
        publish(creator, tmp_path, 3)
        creator.bct("down")
    with creator.up() as node:
        assert node["wallet"] == "locked"
        (title,) = creator.node.get("/api/titles")
        with watching(town.host, title):
            (settled,) = creator.bct("down")["settled"]
        assert settled["paid"] >= PRICE
        assert settled["txid"]


def test_twelve_words_bring_back_coins_and_an_open_channel_and_its_refund(town: Town, tmp_path: Path) -> None:
    """The seeder is gone for good, and the viewer's machine is lost."""
    creator, viewer, anew = town.machine("init"), town.machine("init"), town.machine()
    with creator.up(), viewer.up():
        top_up(viewer)
        with watching(viewer, publish(creator, tmp_path, 4)):
            locked = open_channel(viewer)
            creator.kill()
            viewer.kill()
    (tmp_path / "words").write_text(viewer.bct("wallet", "words")["words"])
    found = anew.bct("wallet", "restore", "--words-file", str(tmp_path / "words"))
    assert [(one["outpoint"], one["capacity"]) for one in found["channels"]] == [
        (locked["outpoint"], locked["capacity"])
    ]
    assert 99_500 < found["satoshi"] + locked["capacity"] < 100_000, "all but the funding's fee"
    anew.bct("wallet", "restore", "--words-file", str(tmp_path / "words"), code=2)
    with anew.up():
        assert "chain takes the refund" in anew.bct("channels", "refund", locked["outpoint"], code=75)["text"]
        town.rpc("setmocktime", locked["expiry"] + 3600)
        town.faucet("/mine", blocks=12)
        ended = open_until_refunded(anew)
        assert ended["change"] == locked["capacity"] - ended["fee"]
        balance = anew.node.get("/api/wallet")
        assert balance["confirmed"] + balance["pending"] == found["satoshi"] + ended["change"]


def open_until_refunded(machine: Machine) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        (channel,) = machine.node.get("/api/channels")
        if channel["state"] == "refunded":
            return dict(channel)
    raise AssertionError(f"{channel} was not refunded")


def test_words_that_are_none_and_a_chain_that_is_silent_leave_no_trace(town: Town, tmp_path: Path) -> None:
    anew = town.machine()
    (tmp_path / "words").write_text("abandon " * 11 + "about")
    silent = ("--set", "chain.url=http://127.0.0.1:1")
    anew.bct("wallet", "restore", "--words-file", str(tmp_path / "words"), *silent, code=69)
    (tmp_path / "words").write_text("abandon " * 12)
    anew.bct("wallet", "restore", "--words-file", str(tmp_path / "words"), code=2)
    assert not anew.home.wallet.exists()
