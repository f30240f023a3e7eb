"""What stories about whole nodes begin with: a viewer with money, a title on sale, somebody who watches it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from bct.backends.regtest_miner import RegtestMiner
from bct.bitcoin.keys import PrivateKey
from bct.bitcoin.script import p2pkh
from bct.node.daemon import Node
from bct.node.library import Publication
from bct.node.play import Play
from bct.title.link import Peer as Address
from bct.title.link import TorrentLink
from bct.title.ranges import PieceRange
from bct.torrent.metainfo import Metainfo
from bct.units import Payees, PieceIndex, Satoshi
from bct.wallet.paths import RECEIVE
from tests.nodes import make_film

FREE = (PieceRange(PieceIndex(0), 2), PieceRange(PieceIndex(9), 1))
FREE_PIECES = {0, 1, 9}
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Title:
    """A title on a seeder: its link, its torrent, and the film itself."""

    link: TorrentLink
    metainfo: Metainfo
    film: bytes

    def by(self, *ports: int, host: str = "127.0.0.1") -> TorrentLink:
        """The link with other addresses in it."""
        peers = tuple(Address(host, port) for port in ports)
        return TorrentLink(self.link.infohash, self.link.creator, self.link.name, peers)


async def fund(node: Node, miner: RegtestMiner, satoshi: int = 100_000) -> None:
    """Coins at the node's first address, in a block, and known to its wallet."""
    await miner.pay(p2pkh(node.wallet.new_address()), satoshi)
    await miner.mine()
    await node.wallet.sync([(*RECEIVE, 0)])


def prepare(root: Path, pieces: int, seed: int = 1, front: bytes = b"") -> tuple[Metainfo, str, bytes]:
    """A film in the incoming folder: (torrent, its id there, the bytes)."""
    (root / "incoming" / "film").unlink(missing_ok=True)  # an earlier one is a title's own file by now
    return make_film(root, pieces, seed=seed, front=front)


async def publish(
    seeder: Node,
    root: Path,
    pieces: int = 24,
    *,
    price: int = 1,
    free: tuple[PieceRange, ...] = FREE,
    seed: int = 1,
    creator: PrivateKey | None = None,
    front: bytes = b"",
) -> Title:
    """creator: whose title it is; the seeder's own unless said. front: what the film begins with."""
    metainfo, incoming, film = prepare(root, pieces, seed, front)
    key = creator or seeder.creator_key()
    publication = Publication(incoming, metainfo, b"", Satoshi(price), Payees.of((key.hash, 6000)), free)
    saved = await seeder.library.publish(publication, key, seeder.chain.network)
    return Title(seeder.link(saved), metainfo, film)


async def share(seeder: Node, root: Path, pieces: int = 24, seed: int = 1) -> Title:
    """An ordinary torrent: nobody's terms."""
    metainfo, incoming, film = prepare(root, pieces, seed)
    return Title(seeder.link(await seeder.library.seed(metainfo, None, incoming)), metainfo, film)


async def watch(play: Play, start: int = 0, end: int | None = None) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return b"".join([bytes(part) async for part in play.read(start, play.length if end is None else end)])
