"""``/api/titles`` and ``/api/seeds``: what this node publishes and seeds.

Trust: a film is named by the id that the owner's own command gave it in the incoming folder, 32 hex digits; no path and
no address travels here, so nothing sent to the API can name another file of this machine.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from bct.errors import ConfigError, RemoteProtocolError
from bct.node.daemon import Node
from bct.node.library import Publication
from bct.title import link, manifest, torrent_file
from bct.title import terms as title_terms
from bct.title.link import TorrentLink
from bct.title.manifest import Manifest, Rendition
from bct.title.ranges import PieceRange
from bct.title.store import SavedTitle
from bct.torrent.metainfo import MAX_FILE, Metainfo
from bct.units import WHOLE, Payees, PieceIndex, Satoshi

IncomingId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Base64 = Annotated[str, Field(max_length=4 * MAX_FILE // 3 + 4)]
Share = Annotated[int, Field(ge=1, le=WHOLE)]


class Film(BaseModel):
    """What the ingest found. duration: milliseconds. rendition: as in a manifest."""

    model_config = ConfigDict(extra="forbid")

    duration: Annotated[int, Field(ge=1)]
    rendition: dict[str, Any]


class NewTitle(BaseModel):
    """price: satoshis a piece. payees: (hash in hex, basis points); when there are none, `share` basis points go to
    this node's own payout key. free: pieces given away, from the first on. torrent: the .torrent file."""

    model_config = ConfigDict(extra="forbid")

    incoming: IncomingId
    torrent: Base64
    name: Annotated[str, Field(min_length=1, max_length=255)]
    film: Film
    price: Annotated[int, Field(ge=0, lt=2**32)]
    share: Share = 6000
    payees: Annotated[list[tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")], Share]], Field(max_length=16)] = []
    free: Annotated[int, Field(ge=0, lt=2**32)] = 0


class NewSeed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    link: str
    incoming: IncomingId


@dataclass(frozen=True, slots=True)
class TitleView:
    """price: satoshis a piece, 0 for a free title. paid_pieces: those that cost something. view: what all of them cost;
    creators, seeder: who gets how much of that. here: pieces on this node."""

    infohash: str
    name: str
    holding: str
    link: str
    length: int
    pieces: int
    here: int
    price: int
    paid_pieces: int
    view: int
    creators: list[int]
    seeder: int


@dataclass(frozen=True, slots=True)
class PublishedView:
    """torrent: the .torrent file that plays by itself, base64. fees: of one payment channel, to miners."""

    title: TitleView
    torrent: str
    fees: int


def title_view(node: Node, saved: SavedTitle) -> TitleView:
    swarm = node.hub.swarms[saved.infohash]
    metainfo, store = Metainfo.from_file(saved.metainfo), swarm.store
    count = metainfo.geometry.count
    terms = title_terms.decode(saved.terms) if saved.terms else None
    paid = terms.paid_in(PieceRange(PieceIndex(0), count)) if terms else 0
    view = paid * terms.price if terms else 0
    creators, seeder = terms.payees.split.of(view) if terms and view else ((), 0)
    return TitleView(
        infohash=saved.infohash.hex(),
        name=saved.name,
        holding=saved.holding.value,
        link=str(node.link(saved)),
        length=metainfo.length,
        pieces=count,
        here=len(store.pieces) if store else 0,
        price=terms.price if terms else 0,
        paid_pieces=paid,
        view=view,
        creators=list(creators),
        seeder=seeder,
    )


def read_torrent(encoded: str) -> tuple[Metainfo, TorrentLink]:
    """A .torrent file in base64. Raises ConfigError: it is the owner who sent it."""
    try:
        return torrent_file.decode(base64.b64decode(encoded, validate=True))
    except ValueError as error:
        raise ConfigError(f"the .torrent file is not base64: {error}") from None
    except RemoteProtocolError as error:
        raise ConfigError(str(error)) from None


def torrent_link(text: str) -> TorrentLink:
    """A link to one torrent. Raises ConfigError."""
    parsed = link.parse(text)
    if not isinstance(parsed, TorrentLink):
        raise ConfigError("this link names a title, and only links to one torrent (magnet:) are followed as yet")
    return parsed


async def publish(node: Node, new: NewTitle) -> SavedTitle:
    metainfo, _ = read_torrent(new.torrent)
    payees = [(bytes.fromhex(one), share) for one, share in new.payees] or [(node.payout, new.share)]
    free = (PieceRange(PieceIndex(0), min(new.free, metainfo.geometry.count)),) if new.free and new.price else ()
    description = _manifest(node, new, metainfo)
    return await node.publish(
        Publication(new.incoming, metainfo, description, Satoshi(new.price), Payees.of(*payees), free)
    )


def _manifest(node: Node, new: NewTitle, metainfo: Metainfo) -> bytes:
    """Signed by this node's profile. Raises ConfigError for a description that could not be shown."""
    key = node.creator_key()
    torrent = {
        "infohash": metainfo.infohash.hex(), "length": metainfo.length, "piece_length": metainfo.piece_length
    }  # fmt: skip
    try:
        rendition = msgspec.convert(new.film.rendition | torrent, Rendition)
        made = Manifest(key.public.hex(), new.film.duration, new.name, (rendition,), 0, title_id(new.name))
        manifest.decode(msgspec.json.encode(made, order="sorted"))
    except (msgspec.ValidationError, RemoteProtocolError) as error:
        raise ConfigError(f"the film's description cannot be published: {error}") from None
    return manifest.encode(made.sign(key))


def title_id(name: str) -> str:
    """An id out of a title's name: a-z, 0-9 and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:64].strip("-") or "film"


def router(node: Node) -> APIRouter:
    routes = APIRouter()

    @routes.get("/api/titles")
    async def titles() -> list[TitleView]:
        return [title_view(node, saved) for saved in node.library.titles.values()]

    @routes.post("/api/titles")
    async def add(new: NewTitle) -> PublishedView:
        saved = await publish(node, new)
        file = torrent_file.encode(Metainfo.from_file(saved.metainfo), node.link(saved))
        terms = title_terms.decode(saved.terms)
        fees = node.purse.fees(len(terms.payees.hashes)) if terms.price else 0
        return PublishedView(title_view(node, saved), base64.b64encode(file).decode(), fees)

    @routes.post("/api/seeds")
    async def seed(new: NewSeed) -> TitleView:
        return title_view(node, await node.seed(torrent_link(new.link), new.incoming))

    return routes
