"""``/api/plays``: watching a title, and what it costs while it goes on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from bct.api.errors import not_found
from bct.api.money import MOST, ChannelView, spending_view
from bct.api.stream import path_of
from bct.api.titles import Base64, read_torrent, torrent_link
from bct.errors import BctError, ConfigError, TemporaryError
from bct.node.daemon import Node
from bct.node.play import Play
from bct.pay.capacity import Quote
from bct.title.link import TorrentLink, parse_peer
from bct.torrent.metainfo import Metainfo

OFFER_SECONDS = 5.0
CHANNELS = 3
"""Payment channels whose fees a play may cost when its owner names no cap: seeders come and go."""
MORE = 100
"""Titles that may be announced at most."""


class NewPlay(BaseModel):
    """One of link and torrent (the .torrent file, base64). peer: host:port to ask first. max_sats: the most that pieces
    and miner fees together may cost; by default what the title costs, and the fees of a few payment channels. more: how
    many titles are to be watched next, with what is left of that and over the same payment channel if it can be had: it
    gets room for them, and the default of max_sats as well, as much for each as for this one."""

    model_config = ConfigDict(extra="forbid")

    link: str = ""
    torrent: Base64 = ""
    peer: str = ""
    max_sats: Annotated[int, Field(ge=0, le=MOST)] | None = None
    more: Annotated[int, Field(ge=0, le=MORE)] = 0


@dataclass(frozen=True, slots=True)
class QuoteView:
    """price: satoshis a piece. cost: of the pieces that are missing. fees, locked: of the payment channel that would be
    opened for them; what it holds and is not spent comes back. Where one is open that will do, nothing is locked, and
    the fees are what its end costs more."""

    price: int
    pieces: int
    cost: int
    fees: int
    locked: int


@dataclass(frozen=True, slots=True)
class PeerView:
    """ahead: pieces asked of it and not here yet. rate: bytes per second."""

    address: str
    pays: bool
    ahead: int
    rate: int


@dataclass(frozen=True, slots=True)
class TroubleView:
    """An error, as the API answers with it."""

    error: str
    text: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class PlayView:
    """here: pieces on this node. bought: pieces paid for. spent: satoshis for them, fees: satoshis committed to miners;
    together they never pass `cap`.
    waiting_for: what keeps a reader's pieces from coming, empty when nothing does. trouble: after which nothing more is
    bought. rate: bytes per second. first_byte: seconds from the start until a reader had it.
    quote: only in the answer to POST, and only when the title is for sale."""

    token: str
    url: str
    infohash: str
    name: str
    length: int
    pieces: int
    here: int
    bought: int
    spent: int
    fees: int
    cap: int | None
    waiting_for: str
    trouble: TroubleView | None
    rate: int
    first_byte: float | None
    peers: list[PeerView]
    channels: list[ChannelView]
    quote: QuoteView | None = None


def play_view(node: Node, play: Play, origin: str) -> PlayView:
    swarm, buyer, budget = play.swarm, play.buyer, play.budget
    peers = [
        PeerView(
            str(peer), seat.spending is not None, len(peer.fetching.pieces), int(seat.window.rate if seat.window else 0)
        )
        for peer, seat in buyer.seats.items()
    ]
    return PlayView(
        token=play.token,
        url=origin + path_of(play),
        infohash=swarm.infohash.hex(),
        name=swarm.metainfo.name if swarm.metainfo else "",
        length=play.length,
        pieces=swarm.geometry.count if swarm.geometry else 0,
        here=len(swarm.store.pieces) if swarm.store else 0,
        bought=buyer.deals.pieces,
        spent=budget.pieces,
        fees=budget.fees,
        cap=budget.limit,
        waiting_for=buyer.waiting_for if play.reading else "",
        trouble=_trouble(buyer.deals.trouble),
        rate=sum(peer.rate for peer in peers),
        first_byte=None if play.first_byte_at is None else round(play.first_byte_at - play.started, 3),
        peers=peers,
        channels=[spending_view(spending) for spending in buyer.deals.channels],
    )


def _trouble(error: BctError | None) -> TroubleView | None:
    return TroubleView(error.word(), str(error), error.exit_code) if error else None


async def start(node: Node, new: NewPlay) -> tuple[Play, Quote | None]:
    """Raises ConfigError, TemporaryError."""
    link, metainfo = _what(new)
    if new.peer:
        link = replace(link, peers=(parse_peer(new.peer), *link.peers))
    play = await node.play(link, new.max_sats, metainfo, new.more)
    quote = await _quote(play, link)
    if new.max_sats is None:
        play.budget.limit = (1 + new.more) * quote.cost + CHANNELS * quote.opening if quote else 0
    return play, quote


def _what(new: NewPlay) -> tuple[TorrentLink, Metainfo | None]:
    if bool(new.link) == bool(new.torrent):
        raise ConfigError("name what to play: either a link or a .torrent file")
    if new.link:
        return torrent_link(new.link), None
    metainfo, link = read_torrent(new.torrent)
    return link, metainfo


async def _quote(play: Play, link: TorrentLink) -> Quote | None:
    """What the first offer comes to; None for a title that nobody sells, and for one that is here already."""
    if link.creator is None or play.swarm.complete:
        return None
    with suppress(TemporaryError):
        await play.buyer.asking.first_terms(OFFER_SECONDS)
    return play.buyer.opening.quote()


def router(node: Node, origin: str) -> APIRouter:
    """origin: where the streams are reached, http://host:port."""
    routes = APIRouter()

    def find(token: str) -> Play:
        play = node.viewer.plays.get(token)
        if play is None:
            raise not_found("there is no such play (any more)")
        return play

    @routes.post("/api/plays")
    async def add(new: NewPlay) -> PlayView:
        play, quote = await start(node, new)
        priced = QuoteView(quote.price, quote.pieces, quote.cost, quote.fees, quote.locked) if quote else None
        return replace(play_view(node, play, origin), quote=priced)

    @routes.get("/api/plays/{token}")
    async def get(token: str) -> PlayView:
        return play_view(node, find(token), origin)

    @routes.delete("/api/plays/{token}")
    async def close(token: str, keep: bool = False) -> PlayView:
        """Settles first; what the channels came to is in the answer. keep: they stay open for the next play, and when
        none wants them, `POST /api/channels/{outpoint}/close` brings their change back."""
        play = find(token)
        await node.viewer.close(play, keep=keep)
        return play_view(node, play, origin)

    return routes
