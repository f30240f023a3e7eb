"""What happens: published, seeded, watched to the end, settled, mined, compared; then somebody asks without paying.

And when all of that has been measured, a second act (`encore`).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bct.cli import chains
from bct.cli.demo import encore, witnesses
from bct.cli.demo.checkout import Checkout
from bct.cli.demo.encore import Stage
from bct.cli.demo.judge import Seen, Verdict, judge
from bct.cli.demo.parties import Party, mine
from bct.cli.demo.witnesses import Wire
from bct.cli.home import Home
from bct.config import ChainConfig
from bct.errors import BctError, TemporaryError
from bct.title import link
from bct.title.link import TorrentLink

NAME = "Big Buck Bunny"
PRICE, SHARE = 1, 6000
TOPUP = 10_000
PIECE = 256 * 1024
JUMP_TO, JUMP_FOR = 30.0, 4.0
"""Seconds of film."""
MOST_SECONDS = 240.0
SETTLE_SECONDS = 15.0

Say = Callable[[float, str], None]
"""Told each step as it ends: seconds from the start, and what it was."""


@dataclass(frozen=True, slots=True)
class Told:
    """The end of it, and everything that can be shown."""

    verdict: Verdict
    seen: Seen
    parties: tuple[Party, Party, Party]
    chain: ChainConfig


@dataclass(frozen=True, slots=True)
class Watched:
    """One viewing. ended: the play after it was settled. frames, seek_frames: through the URL."""

    first_byte_ms: int
    frames: int
    seek_frames: int
    sha256: str
    ended: Mapping[str, Any]


async def tell(stack: AsyncExitStack, checkout: Checkout, directory: Path, say: Say) -> Told:
    """What was started runs until the stack ends. Raises BctError."""
    try:
        async with asyncio.timeout(MOST_SECONDS):
            return await _Story(stack, checkout, directory, say).tell()
    except TimeoutError:
        raise TemporaryError(f"it was not over after {MOST_SECONDS:.0f} s") from None


class _Story:
    def __init__(self, stack: AsyncExitStack, checkout: Checkout, directory: Path, say: Say) -> None:
        self._stack = stack
        self._checkout = checkout
        self._tell_step = say
        self._home = directory
        self._log = directory / "witnesses.log"
        self._started = time.monotonic()
        self._creator, self._seeder, self._viewer = (Party(name, directory) for name in ("creator", "seeder", "viewer"))

    @property
    def _parties(self) -> tuple[Party, Party, Party]:
        return self._creator, self._seeder, self._viewer

    def _say(self, text: str) -> None:
        self._tell_step(time.monotonic() - self._started, text)

    async def tell(self) -> Told:
        chain = await self._set_up()
        published, seeded = await self._publish()
        wire = await Wire.start(
            self._stack, self._checkout.watch_wire, self._seeder.listen, _free(published), PIECE, self._log
        )
        since = await mine(chain)
        watched = await self._watch(_by_way_of(seeded["link"], wire.address))
        await mine(chain)
        spent = await self._channel(self._viewer)
        earned = await self._channel(self._seeder)
        counted = await self._recompute(chain, published, spent, since)
        wallets = await self._wallets(counted)
        self._say(f"{counted['onchain_txs']} transactions mined; the chain was read by somebody else")
        stage = Stage(*self._parties, chain, self._checkout, self._home, self._log, self._say)
        plain, clips = await asyncio.gather(self._ask_without_paying(published), encore.prepare(stage))
        second_act = await encore.play(stage, clips)
        original = hashlib.sha256(self._prepared(published).read_bytes()).hexdigest()
        seen = Seen(
            published=published,
            ended=watched.ended,
            earned=earned,
            spent=spent,
            wallets=wallets,
            chain=counted,
            wire=await wire.counted(),
            plain=plain,
            sha256=(original, watched.sha256),
            frames=(await witnesses.pictures(str(self._checkout.film), self._log, (), ("-c", "copy")), watched.frames),
            seek_frames=(await self._decode(str(self._checkout.film), jump=True), watched.seek_frames),
            encore=second_act,
            piece_length=PIECE,
            topped_up=TOPUP,
            first_byte_ms=watched.first_byte_ms,
            elapsed_s=round(time.monotonic() - self._started, 1),
        )
        return Told(judge(seen), seen, self._parties, chain)

    # -- before -------------------------------------------------------------------------------------------------------

    async def _set_up(self) -> ChainConfig:
        chain = await chains.start(self._stack, Home(self._home / "bsv"), ChainConfig())
        self._say("a BSV node in regtest, and somebody who mines")
        await asyncio.gather(*(party.start(self._stack, chain) for party in self._parties))
        self._say("creator, seeder and viewer: a process and a wallet each")
        return chain

    async def _publish(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The title as the creator published it, and as the seeder seeds it from a file of its own."""
        terms = ("--name", NAME, "--price", str(PRICE), "--share", str(SHARE))
        published, _ = await asyncio.gather(
            self._creator.verb("publish", str(self._checkout.film), *terms),
            self._viewer.verb("wallet", "topup", str(TOPUP)),
        )
        self._say(
            f"published: {published['pieces']} pieces, {_free(published)} free, the others {PRICE} sat each, "
            f"{SHARE / 100:.0f} % of it the creator's"
        )
        seeded = await self._seeder.verb("seed", "add", published["link"], "--from", str(self._prepared(published)))
        self._say("seeded by another node, which has the film and no part in making it")
        return published, seeded

    def _prepared(self, published: Mapping[str, Any]) -> Path:
        """The creator's film as it was published."""
        return self._creator.home.titles / str(published["infohash"]) / "data"

    # -- watching -----------------------------------------------------------------------------------------------------

    async def _watch(self, address: str) -> Watched:
        """From the link to the last settlement."""
        asked = time.monotonic()
        play = await self._viewer.post("/api/plays", {"link": address})
        url, path = play["url"], f"/api/plays/{play['token']}"
        await witnesses.first_byte(url)
        first_byte_ms = round(1000 * (time.monotonic() - asked))
        self._say(f"playing: the first byte after {first_byte_ms} ms")
        seek_frames = await self._decode(url, jump=True)
        self._say(f"jumped to the middle: {seek_frames} pictures")
        frames = await self._decode(url)
        self._say(f"watched from the start to the end: {frames} pictures")
        digest = await witnesses.sha256_of(url)
        ended = await self._viewer.delete(path)
        self._say(f"closed and settled: {ended['bought']} pieces for {ended['spent']} sat")
        return Watched(first_byte_ms, frames, seek_frames, digest, ended)

    async def _decode(self, source: str, *, jump: bool = False) -> int:
        """Pictures of all of it, or of some seconds in the middle."""
        before, after = (("-ss", str(JUMP_TO)), ("-t", str(JUMP_FOR))) if jump else ((), ())
        return await witnesses.pictures(source, self._log, before, after)

    # -- after --------------------------------------------------------------------------------------------------------

    async def _channel(self, party: Party) -> dict[str, Any]:
        """The one payment channel of this party, as it tells it once the chain has ended it. Raises BctError."""
        channels: list[dict[str, Any]] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while not channels or any(one["txid"] is None for one in channels):
                    channels = await party.get("/api/channels")
                    await asyncio.sleep(0.05)
        if len(channels) != 1 or channels[0]["txid"] is None:
            raise BctError(f"the {party.name} should have one settled payment channel, and has {channels}")
        return channels[0]

    async def _recompute(
        self, chain: ChainConfig, published: Mapping[str, Any], spent: Mapping[str, Any], since: int
    ) -> dict[str, Any]:
        """As `tools/check_chain.py` tells it."""
        return await witnesses.tool(
            self._checkout.check_chain,
            self._log,
            rpc=chain.url,
            cookie=chain.cookie_file,
            funding=spent["outpoint"].partition(":")[0],
            settlement=spent["txid"],
            creator=self._creator.payout,
            seeder=self._seeder.payout,
            share=SHARE,
            price=PRICE,
            pieces=published["paid_pieces"],
            since=since,
        )

    async def _wallets(self, counted: Mapping[str, Any]) -> dict[str, int]:
        """What each wallet holds, once the block with the settlement has reached all three of them."""
        wallets: dict[str, Any] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while not wallets or any(one["pending"] for one in wallets.values()):
                    wallets = {party.name: await party.get("/api/wallet") for party in self._parties}
                    await asyncio.sleep(0.05)
        return {name: one["confirmed"] for name, one in wallets.items()}

    async def _ask_without_paying(self, published: Mapping[str, Any]) -> dict[str, Any]:
        """What an ordinary client got, as `tools/plain_client.py` tells it."""
        plain = await witnesses.tool(
            self._checkout.plain_client,
            self._log,
            torrent=published["torrent"],
            peer=self._seeder.listen,
            free=_free(published),
            into=self._home / "plain",
        )
        self._say(f"an ordinary client asked for everything: {plain['leaked_bytes']} unpaid bytes")
        return plain


def _free(published: Mapping[str, Any]) -> int:
    """Pieces that cost nothing, all of them at the beginning."""
    return int(published["pieces"] - published["paid_pieces"])


def _by_way_of(text: str, address: str) -> str:
    """The same link, with the wire's witness in the seeder's place."""
    seeders = link.parse(text)
    assert isinstance(seeders, TorrentLink)
    return str(replace(seeders, peers=(link.parse_peer(address),)))
