"""``/api/status`` and ``/api/stop``: the node as a whole."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter

from bct import __version__
from bct.api.money import WalletView, is_over, wallet_view
from bct.node.daemon import Ended, Node
from bct.units import txid_hex


@dataclass(frozen=True, slots=True)
class ChainView:
    """How the chain is reached, and whether it answers. Another node on this machine can be pointed at the same."""

    network: str
    reachable: bool
    height: int | None
    url: str
    cookie_file: str
    zmq: str
    faucet: str


@dataclass(frozen=True, slots=True)
class AlarmView:
    """word: of a fixed set, for programs. text: what is wrong and what to do."""

    word: str
    text: str


@dataclass(frozen=True, slots=True)
class StatusView:
    """uptime: seconds. listen: where peers connect. earning, spending: payment channels that are not over. plays:
    tokens. alarms: what only a person can mend."""

    version: str
    uptime: float
    listen: str
    peers: int
    chain: ChainView
    wallet: WalletView
    titles: int
    plays: list[str]
    earning: int
    spending: int
    alarms: list[AlarmView]


@dataclass(frozen=True, slots=True)
class EndedView:
    """A payment channel that was open when the node stopped. txid: of its settlement; None when that comes later."""

    channel: str
    role: str
    paid: int
    txid: str | None


def status_view(node: Node) -> StatusView:
    settings, tip = node.config.chain, node.till.newest
    return StatusView(
        version=__version__,
        uptime=round(time.time() - node.started, 1),
        listen=f"{node.config.wire.listen_host}:{node.hub.port}",
        peers=len(node.hub.peers),
        chain=ChainView(
            network=node.chain.network.name.lower(),
            reachable=node.watchman.reachable,
            height=tip.height if tip else None,
            url=settings.url,
            cookie_file=settings.cookie_file,
            zmq=settings.zmq,
            faucet=settings.faucet,
        ),
        wallet=wallet_view(node),
        titles=len(node.library.titles),
        plays=list(node.viewer.plays),
        earning=sum(not is_over(one.state) for one in node.till.earnings.values()),
        spending=sum(not is_over(one.payer.state) for one in node.purse.spendings.values()),
        alarms=[AlarmView(alarm.word, alarm.text) for alarm in node.bell.alarms],
    )


def ended_view(ended: Ended) -> EndedView:
    txid = txid_hex(ended.txid) if ended.txid else None
    return EndedView(str(ended.outpoint), ended.role.value, ended.paid, txid)


def router(node: Node, stop: Callable[[], Awaitable[list[Ended]]]) -> APIRouter:
    """stop: ends the node and says what became of its payment channels; the server ends after the answer."""
    routes = APIRouter()

    @routes.get("/api/status")
    async def status() -> StatusView:
        return status_view(node)

    @routes.post("/api/stop")
    async def end() -> list[EndedView]:
        return [ended_view(ended) for ended in await stop()]

    return routes
