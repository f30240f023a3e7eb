"""The local stream, as players, seeking players, vanishing players and guessing strangers use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.bitcoin.script import p2pkh
from bct.channel.transactions import fee_at
from bct.node.daemon import Node
from tests.desk import Desk, desk, serving
from tests.nodes import running_node
from tests.test_paid_viewing import publish

pytestmark = pytest.mark.anyio

PIECE = 64 * 1024
PIECES = 40


@dataclass
class Cinema:
    """A viewer's API, and a film of 40 pieces for sale at a seeder, the first two free."""

    seeder: Node
    viewer: Node
    api: Desk
    link: str
    film: bytes

    async def play(self, **more: Any) -> dict[str, Any]:
        answer = await self.api.owner.post("/api/plays", json={"link": self.link, **more})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def look(self, play: dict[str, Any]) -> dict[str, Any]:
        return dict((await self.api.owner.get(f"/api/plays/{play['token']}")).json())

    async def until(self, play: dict[str, Any], key: str, value: object) -> None:
        async with asyncio.timeout(10):
            while (await self.look(play))[key] != value:
                pass


@pytest.fixture
async def cinema(tmp_path: Path, chain: ChainNode, miner: RegtestMiner) -> AsyncIterator[Cinema]:
    async with open_cinema(tmp_path, chain) as opened:
        await miner.pay(p2pkh(opened.viewer.wallet.new_address()), 100_000)
        await miner.mine()
        await opened.viewer.wallet.sync()
        yield opened


@asynccontextmanager
async def open_cinema(root: Path, chain: ChainNode, price: int = 1) -> AsyncIterator[Cinema]:
    async with (
        running_node(root / "seeder", chain) as seeder,
        running_node(root / "viewer", chain) as viewer,
        desk(viewer) as api,
    ):
        link, film = await publish(seeder, root / "seeder", PIECES, price)
        yield Cinema(seeder, viewer, api, str(link), film)


RANGES = [
    None,
    "bytes=0-",
    "bytes=0-0",
    "bytes=1-1",
    f"bytes={PIECE - 1}-{PIECE}",
    f"bytes={3 * PIECE}-{5 * PIECE - 1}",
    "bytes=-1",
    f"bytes=-{PIECE + 7}",
    "bytes=-99999999",
    f"bytes={PIECES * PIECE - 1001}-",
    f"bytes={PIECES * PIECE - 2000}-99999999",
    "bytes=99999999-",
    "bytes=-0",
]


async def test_ranges_are_answered_as_a_plain_files_are(cinema: Cinema, tmp_path: Path) -> None:
    """Side by side with Starlette's own file response, of a film that is bought while it is read."""
    (tmp_path / "film.mp4").write_bytes(cinema.film)

    async def file(request: Request) -> FileResponse:
        return FileResponse(tmp_path / "film.mp4")

    play = await cinema.play()
    async with serving(Starlette(routes=[Route("/film", file)])) as plain:
        for asked in RANGES:
            headers = {"Range": asked} if asked else {}
            for method in ("HEAD", "GET"):
                ours = await cinema.api.stranger.request(method, play["url"], headers=headers)
                theirs = await cinema.api.stranger.request(method, f"{plain}/film", headers=headers)
                assert ours.status_code == theirs.status_code, asked
                assert ours.headers.get("content-range") == theirs.headers.get("content-range"), asked
                if ours.status_code < 400:
                    assert ours.headers["content-length"] == theirs.headers["content-length"], asked
                    assert ours.content == theirs.content, asked
    assert (await cinema.look(play))["spent"] == PIECES - 2


async def test_a_player_learns_what_it_needs_before_a_byte_is_bought(cinema: Cinema) -> None:
    play = await cinema.play()
    answer = await cinema.api.stranger.head(play["url"])
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(cinema.film))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] == f'"{play["infohash"]}"'
    assert (await cinema.look(play))["here"] == 0, "nothing was fetched either"


async def test_if_range_of_another_film_gets_the_whole_one(cinema: Cinema) -> None:
    play = await cinema.play()
    for tag, status in ((f'"{play["infohash"]}"', 206), (f'"{"0" * 40}"', 200), ("Sun, 22 Nov 2026 12:00:00 GMT", 200)):
        headers = {"Range": "bytes=0-9", "If-Range": tag}
        assert (await cinema.api.stranger.head(play["url"], headers=headers)).status_code == status


async def test_only_what_is_read_and_a_little_ahead_is_bought(cinema: Cinema, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bct.node.play.READ_AHEAD", 4 * PIECE)
    play = await cinema.play()
    headers = {"Range": f"bytes={10 * PIECE}-{11 * PIECE - 1}"}
    answer = await cinema.api.stranger.get(play["url"], headers=headers)
    assert answer.content == cinema.film[10 * PIECE : 11 * PIECE]
    assert 1 <= (await cinema.look(play))["spent"] <= 5


async def test_a_guessed_address_is_not_there_and_a_closed_one_no_more(cinema: Cinema) -> None:
    play = await cinema.play()
    guessed = play["url"].replace(play["token"], "0" * 32)
    assert (await cinema.api.stranger.get(guessed)).status_code == 404
    await cinema.api.owner.delete(f"/api/plays/{play['token']}")
    assert (await cinema.api.stranger.get(play["url"])).status_code == 404
    assert (await cinema.api.owner.get(f"/api/plays/{play['token']}")).status_code == 404


async def test_a_player_that_goes_away_ends_the_buying(cinema: Cinema) -> None:
    """It asks for a byte that never comes, and leaves."""
    play = await cinema.play()
    cinema.seeder.hub.config = replace(cinema.seeder.hub.config, max_peers=0)
    for peer in list(cinema.seeder.hub.peers):
        peer.close()
    await cinema.until(play, "peers", [])
    reading = asyncio.create_task(cinema.api.stranger.get(play["url"]))
    await cinema.until(play, "waiting_for", "a peer: none is connected")
    assert cinema.viewer.viewer.plays[play["token"]].reading
    reading.cancel()
    async with asyncio.timeout(5):
        while cinema.viewer.viewer.plays[play["token"]].reading:
            await cinema.look(play)


async def test_a_cap_too_small_is_told_before_the_first_byte(cinema: Cinema) -> None:
    play = await cinema.play(max_sats=20)
    answer = await cinema.api.stranger.get(play["url"], headers={"Range": f"bytes={5 * PIECE}-"})
    assert answer.status_code == 402
    assert answer.json()["exit_code"] == 6
    seen = await cinema.look(play)
    assert (seen["spent"], seen["fees"]) == (0, 0)
    assert seen["trouble"]["error"] == "funds"


async def test_a_cap_reached_in_the_middle_ends_the_stream_and_is_never_passed(cinema: Cinema) -> None:
    play = await cinema.play(max_sats=95)
    got = bytearray()

    async def read() -> None:
        async with cinema.api.stranger.stream("GET", play["url"]) as answer:
            assert answer.status_code == 200
            async for part in answer.aiter_raw():
                got.extend(part)

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    seen = await cinema.look(play)
    assert seen["trouble"]["error"] == "funds"
    assert seen["bought"] >= 8
    assert seen["spent"] + seen["fees"] <= 95
    assert len(got) >= seen["bought"] * PIECE
    assert cinema.film.startswith(got)


async def test_an_empty_purse_is_told_in_a_sentence(tmp_path: Path, chain: ChainNode) -> None:
    async with open_cinema(tmp_path, chain) as poor:
        play = await poor.play()
        answer = await poor.api.stranger.get(play["url"], headers={"Range": f"bytes={5 * PIECE}-"})
        assert answer.status_code == 402
        assert "sat can be spent" in answer.json()["text"]


async def test_what_is_free_is_read_without_a_wallet(tmp_path: Path, chain: ChainNode) -> None:
    async with open_cinema(tmp_path, chain, price=0) as free:
        play = await free.play()
        assert (play["quote"], play["cap"]) == (None, 0)
        assert (await free.api.stranger.get(play["url"])).content == free.film
        assert (await free.look(play))["channels"] == []


@pytest.mark.parametrize("read", [1, 5])
async def test_closing_a_play_settles_and_ends_its_readers(cinema: Cinema, read: int) -> None:
    play = await cinema.play()
    async with cinema.api.stranger.stream("GET", play["url"]) as answer:
        parts = answer.aiter_raw(PIECE)
        for _ in range(read):
            await anext(parts)
        ended = (await cinema.api.owner.delete(f"/api/plays/{play['token']}")).json()
        async with asyncio.timeout(5):
            with suppress(httpx.RemoteProtocolError):  # short, unless all of it had come already
                async for _ in parts:
                    pass
    for channel in ended["channels"]:  # none, when it was closed before its channel was open
        assert channel["state"] == "settled"
        assert channel["change"] == channel["capacity"] - channel["paid"] - channel["fee"]
    assert bool(ended["channels"]) == bool(ended["fees"])
    assert cinema.viewer.wallet.balance.reserved == 0
    assert read == 1 or ended["spent"] > 0


async def test_a_play_that_is_not_the_last_keeps_its_payment_channel(cinema: Cinema) -> None:
    """It holds twice what the film costs; closing it with keep settles nothing, and asking for the change does."""
    play = await cinema.play(more=1)
    locked = 2 * (PIECES - 2) + fee_at(100, 4)
    assert (play["quote"]["cost"], play["quote"]["fees"], play["quote"]["locked"]) == (PIECES - 2, 74, locked)
    assert play["cap"] == 2 * (PIECES - 2) + 3 * 74
    await cinema.api.stranger.get(play["url"])
    answer = await cinema.api.owner.delete(f"/api/plays/{play['token']}", params={"keep": True})
    (kept,) = answer.json()["channels"]
    assert (kept["state"], kept["paid"], kept["capacity"], kept["txid"]) == ("open", PIECES - 2, locked, None)
    ended = (await cinema.api.owner.post(f"/api/channels/{kept['outpoint']}/close")).json()
    assert (ended["state"], ended["change"] + ended["paid"] + ended["fee"]) == ("settled", locked)
