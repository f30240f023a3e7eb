"""A chain over services on loopback, with one real node behind all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bct.backends.arc import Arc, Callback
from bct.backends.chain_node import ChainNode
from bct.backends.chain_services import ChainServices
from bct.backends.header_sources import BlockHeadersService, HeaderSource, WocHeaders
from bct.backends.headers import Headers
from bct.backends.news import News
from bct.backends.web import TIMEOUT
from bct.backends.woc import Woc
from bct.bitcoin.chain import Network
from bct.bitcoin.headers import RULES
from tests.arc_service import ArcService
from tests.desk import serving
from tests.woc_service import HeadersService, WocService

QUICK = 1000.0
"""Questions a second to a WhatsOnChain that has no limit."""


@dataclass
class Services:
    """The services, and where they are. file: where headers are kept."""

    arc: ArcService
    woc: WocService
    headers: HeadersService
    arc_url: str
    woc_url: str
    headers_url: str
    file: Path

    def chain(
        self,
        *,
        callback: Callback | None = None,
        news: News | None = None,
        own_headers: bool = False,
        poll: float = 0.1,
        rate: float = QUICK,
        timeout: float = TIMEOUT,
        file: Path | None = None,
    ) -> ChainServices:
        """A fresh one. own_headers: from the headers service, not from WhatsOnChain. file: for its headers."""
        woc = Woc(self.woc_url, Network.REGTEST, rate=rate, timeout=timeout)
        source: HeaderSource = BlockHeadersService(self.headers_url) if own_headers else WocHeaders(woc.web)
        headers = Headers(RULES[Network.REGTEST], source, file or self.file)
        arc = Arc(self.arc_url, callback=callback, timeout=timeout)
        return ChainServices(Network.REGTEST, arc, woc, headers, news or News(), poll)


@asynccontextmanager
async def running_services(node: ChainNode, directory: Path) -> AsyncIterator[Services]:
    arc, woc, headers = ArcService(node), WocService(node), HeadersService(node)
    async with serving(arc.switch) as arc_url, serving(woc.switch) as woc_url, serving(headers.switch) as headers_url:
        yield Services(arc, woc, headers, arc_url, f"{woc_url}/v1/bsv", headers_url, directory / "headers")
