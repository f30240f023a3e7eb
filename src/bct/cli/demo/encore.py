"""The second act: two short titles of two creators, one after the other, over one new payment channel.

A block is mined when the first one has been watched, and another when the second one has, before anything is settled:
whatever the second one put on the chain would be in that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bct.bitcoin import address
from bct.bitcoin.chain import Network
from bct.cli.demo import witnesses
from bct.cli.demo.checkout import Checkout
from bct.cli.demo.judge import Encore
from bct.cli.demo.parties import Party, mine
from bct.config import ChainConfig
from bct.errors import BctError

SECONDS = 6.0
PRICE = 1
SHARES = 6000, 7000


@dataclass(frozen=True, slots=True)
class Stage:
    """Who plays, and where. say: is told what has happened."""

    creator: Party
    seeder: Party
    viewer: Party
    chain: ChainConfig
    checkout: Checkout
    home: Path
    log: Path
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Clips:
    """first, second: as they were published; the second one pays a creator at the address of `guest`."""

    first: Mapping[str, Any]
    second: Mapping[str, Any]
    guest: str

    @property
    def pieces(self) -> tuple[int, int]:
        """For sale."""
        return self.first["paid_pieces"], self.second["paid_pieces"]


async def prepare(stage: Stage) -> Clips:
    """Raises BctError."""
    guest = (await stage.seeder.verb("wallet", "address"))["address"]
    clips = Clips(*await asyncio.gather(_creators(stage), _seeders(stage, guest)), guest)
    stage.say(f"two short titles: {clips.pieces[0]} pieces of the creator's, {clips.pieces[1]} of the seeder's own")
    return clips


async def play(stage: Stage, clips: Clips) -> Encore:
    """Raises BctError."""
    since = await mine(stage.chain)
    done = await _close(stage, await _watch(stage, clips.first["link"], more=1), "?keep=true")
    stage.say(f"the first one watched, its payment channel kept: {done['bought']} pieces for {done['spent']} sat")
    between = await mine(stage.chain)
    token = await _watch(stage, clips.second["link"], more=0)
    until = await mine(stage.chain)
    ended = await _close(stage, token, "")
    await mine(stage.chain)
    counted = await _recompute(stage, clips, ended["channels"][-1], since=since, quiet=f"{between}:{until}")
    stage.say(f"the second one watched, with {counted['quiet_txs']} transactions; settled for both")
    return Encore(clips.pieces, (done["bought"], ended["bought"]), counted)


async def _recompute(stage: Stage, clips: Clips, channel: Mapping[str, Any], **blocks: object) -> Mapping[str, Any]:
    """As `tools/check_chain.py` tells it."""
    if channel["txid"] is None:
        raise BctError(f"the payment channel of the short titles was not settled: it is {channel['state']}")
    return await witnesses.tool(
        stage.checkout.check_chain,
        stage.log,
        rpc=stage.chain.url,
        cookie=stage.chain.cookie_file,
        funding=channel["outpoint"].partition(":")[0],
        settlement=channel["txid"],
        creator=(stage.creator.payout, clips.guest),
        seeder=stage.seeder.payout,
        share=SHARES,
        price=PRICE,
        pieces=clips.pieces,
        **blocks,
    )


async def _creators(stage: Stage) -> Mapping[str, Any]:
    """The creator's, as the seeder seeds it."""
    film = await _clip(stage, 0)
    terms = ("--name", "First clip", "--price", str(PRICE), "--share", str(SHARES[0]), "--free-seconds", "0")
    published = await stage.creator.verb("publish", str(film), *terms)
    prepared = stage.creator.home.titles / str(published["infohash"]) / "data"
    seeded = await stage.seeder.verb("seed", "add", published["link"], "--from", str(prepared))
    return dict(published) | {"link": seeded["link"]}


async def _seeders(stage: Stage, guest: str) -> Mapping[str, Any]:
    """The seeder's own, which pays a creator at the address of `guest`."""
    film = await _clip(stage, 1)
    payee = f"{address.decode(guest, Network.REGTEST).hex()}:{SHARES[1]}"
    terms = ("--name", "Second clip", "--price", str(PRICE), "--payee", payee, "--free-seconds", "0")
    return dict(await stage.seeder.verb("publish", str(film), *terms))


async def _clip(stage: Stage, number: int) -> Path:
    into = stage.home / f"clip{number}.mp4"
    await witnesses.cut(stage.checkout.film, number * SECONDS, SECONDS, into, stage.log)
    return into


async def _watch(stage: Stage, link: str, more: int) -> str:
    """All of it; the play's token."""
    play = await stage.viewer.post("/api/plays", {"link": link, "more": more})
    await witnesses.sha256_of(play["url"])
    return str(play["token"])


async def _close(stage: Stage, token: str, how: str) -> Mapping[str, Any]:
    return dict(await stage.viewer.delete(f"/api/plays/{token}{how}"))
