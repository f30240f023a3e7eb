"""The whole of it, in processes of their own on a real chain: a seeder that tells a watchman, and dies."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from bct.backends.watch_post import HttpPost
from bct.bitcoin.hd import words_of_entropy
from bct.bitcoin.tx import Tx
from bct.channel.timing import SETTLE_BEFORE
from bct.channel.watched import AFTER_THE_PAYEE
from bct.cli import settings
from bct.errors import AuthError, ConfigError
from bct.pay.receipts import EPOCH
from bct.title.link import TorrentLink, parse
from bct.units import Outpoint
from tests.channel_parts import HOUR
from tests.deal import PIECE, World, own_world
from tests.interop.clients import free_port
from tests.machine import Machine, end
from tests.node_process import node_process
from tests.nodes import running_node
from tests.stage import FREE_PIECES, fund, watch
from tests.test_lookout import Hill

pytestmark = pytest.mark.anyio

PIECES = 2 * EPOCH


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with own_world(tmp_path) as opened:
        yield opened


def machine(root: Path, world: World) -> Machine:
    chain = {"URL": world.node.url, "COOKIE_FILE": str(world.node.cookie_file), "ZMQ": world.node.zmq}
    env = {f"BCT_CHAIN__{name}": value for name, value in chain.items()}
    return Machine(root, env | {"BCT_WATCHMAN__LISTEN": "127.0.0.1:0"})


@contextmanager
def watchman(host: Machine) -> Iterator[str]:
    """`bct watchman up`, and the address that a payee is given."""
    token = host.bct("watchman", "token", "seeder")["address"].partition("#")[2]
    process = host.start("watchman", "up", "--json")
    try:
        assert process.stdout
        yield f"{json.loads(process.stdout.readline())['api']}/#{token}"
    finally:
        end(process.pid, signal.SIGTERM)
        process.communicate()


async def shown(host: Machine) -> list[dict[str, Any]]:
    """What `bct watchman status` says of channels."""
    found = await asyncio.to_thread(host.bct, "watchman", "status")
    return list(found["channels"])


async def test_a_seeder_that_dies_takes_an_epoch_of_its_creators_share_with_it_at_most(
    tmp_path: Path, world: World
) -> None:
    """The seeder's process is killed and its disk is lost. Nobody with a key is left on its side, and the viewer waits
    for its refund; the watchman settles what it was told, in time."""
    host = machine(tmp_path / "watchman", world)
    words = words_of_entropy(secrets.token_bytes(16))
    with watchman(host) as address:
        async with (
            node_process(tmp_path / "seeder", words, world.node, pieces=PIECES, watchman=address) as seeder,
            running_node(tmp_path / "viewer", world.chain) as viewer,
        ):
            link = parse((await seeder.says())["link"])
            assert isinstance(link, TorrentLink)
            await fund(viewer, world.miner)
            play = await viewer.play(link, None)
            await watch(play, 0, (EPOCH + 20) * PIECE)
            paid = play.budget.pieces
            assert EPOCH < paid < PIECES - len(FREE_PIECES)
            async with asyncio.timeout(60):
                while not (known := await shown(host)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await seeder.kill()
            shutil.rmtree(tmp_path / "seeder")
            (one,) = known
            assert (one["owner"], one["state"]) == ("seeder", "open")
            told = one["paid"]
            assert EPOCH <= told <= paid
            assert paid - told < EPOCH, "no more of it is lost"
            outpoint = Outpoint.parse(one["channel"])
            (spending,) = viewer.purse.spendings
            assert spending == outpoint
            await world.pass_time(one["expiry"] - SETTLE_BEFORE + AFTER_THE_PAYEE)
            settlement = await settled(world, outpoint)
        creators = told * 60 // 100
        assert [output.value for output in settlement.outputs[:2]] == [creators, told - creators]
        await world.miner.mine()
        assert (await world.chain.place(settlement.txid)) is not None


async def settled(world: World, outpoint: Outpoint) -> Tx:
    """What the watchman brings to the chain."""
    async with asyncio.timeout(60):
        while (spend := await world.chain.spender(outpoint)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    raw = await world.chain.transaction(spend.txid)
    assert raw
    return Tx.parse(raw)


async def test_a_node_can_be_the_watchman_for_others(tmp_path: Path, world: World) -> None:
    """A creator runs one anyway: `bct up` with watchman.listen."""
    creator = machine(tmp_path / "creator", world)
    port = free_port()
    creator.env["BCT_WATCHMAN__LISTEN"] = f"127.0.0.1:{port}"
    creator.bct("init")
    with creator.up():
        hill = Hill(tmp_path / "elsewhere")
        channel = await hill.channel(expiry=int(time.time()) + 24 * HOUR)
        token = creator.bct("watchman", "token", "seeder")
        assert token["address"].startswith(f"http://127.0.0.1:{port}/#")
        for taken in (False, True):  # a token that was made while it ran counts from its next start on
            post = HttpPost(token["address"])
            with nullcontext() if taken else pytest.raises(AuthError):
                await post.send(channel.at(62))
            await post.close()
            if not taken:
                creator.bct("down")
                creator.bct("up")
        assert list(creator.home.watched.glob("seeder/*.json"))
        assert creator.bct("watchman", "token", "seeder") == token, "shown again"


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    host = Machine(tmp_path / "host")
    assert "set chain.url" in host.bct("watchman", "up", code=2)["text"]
    assert "small letters" in host.bct("watchman", "token", "Not a name", code=2)["text"]
    assert "no node runs" in host.bct("watchman", "status", code=3)["text"]
    host.bct("init")
    assert "its own --data-dir" in host.bct("watchman", "up", code=2)["text"]
    host.env["BCT_WATCHMAN__SEND_TO"] = "nonsense"
    assert "https://host:port/#token" in host.bct("up", code=2)["text"]


def test_watchmen_are_named_in_the_file_or_with_blanks_between(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[watchman]\nsend_to = ["https://one/#a", "https://two/#b"]\n')
    wanted = ("https://one/#a", "https://two/#b")
    assert settings.load(file, {}, (), None).watchman.send_to == wanted
    env = {"BCT_WATCHMAN__SEND_TO": " ".join(wanted)}
    assert settings.load(tmp_path / "none", env, (), None).watchman.send_to == wanted
    assert "#a" not in repr(settings.load(file, {}, (), None)), "a token is in no log"
    file.write_text("[watchman]\nsend_to = [1]\n")
    with pytest.raises(ConfigError, match="a list of texts"):
        settings.load(file, {}, (), None)
