"""Where peers arrive: one listening port, every swarm of this node, limits and timeouts.

Who could cheat: a stranger who opens connections and says nothing, or thousands of them from one address. Handshakes
have ten seconds, addresses a number of connections, and a peer that was proven to lie is not let in again while the
node runs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import structlog

from bct import __version__
from bct.bitcoin.chain import Network
from bct.config import WireConfig
from bct.errors import TemporaryError
from bct.node.peer import Peer
from bct.node.swarm import Swarm
from bct.torrent.transport import Connection, Listener, Transport
from bct.units import Infohash

log = structlog.get_logger()

SWEEP_SECONDS = 2.0


class Hub:
    """Every connection of the node. clock: steady seconds. random: so many bytes."""

    def __init__(
        self,
        transport: Transport,
        config: WireConfig,
        network: Network,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self.transport = transport
        self.config = config
        self.network = network
        self.clock = clock
        self.random = random
        self.client = f"bct {__version__}"
        self.peer_id = b"-BC0100-" + random(12)
        self.swarms: dict[Infohash, Swarm] = {}
        self.peers: set[Peer] = set()
        self._served = 0
        self._by_address: Counter[str] = Counter()
        self._banned: set[str] = set()
        self._listener: Listener | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def served(self) -> int:
        """Bytes of payload that were sent to peers since the start."""
        return self._served + sum(peer.serving.sent for peer in self.peers)

    @property
    def port(self) -> int:
        return self._listener.port if self._listener else 0

    async def start(self) -> None:
        """Listens. Raises ConfigError when the port is taken."""
        self._listener = await self.transport.listen(self.config.listen_host, self.config.listen_port, self._arrived)
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        if self._sweeper:
            self._sweeper.cancel()
        if self._listener:
            self._listener.close()
        for peer in list(self.peers):
            peer.close()
        await asyncio.sleep(0)  # each connection's `lost` comes in the next turn

    async def connect(self, host: str, port: int, swarm: Swarm) -> Peer:
        """Raises TemporaryError when nobody answers, or the address is banned."""
        if host in self._banned:
            raise TemporaryError(f"{host} has sent false data before: no new connection to it while this node runs")
        connection = await self.transport.connect(host, port)
        peer = self._welcome(connection, swarm)
        swarm.joined(peer)
        return peer

    def swarm_for(self, infohash: bytes) -> Swarm | None:
        return self.swarms.get(Infohash(infohash))

    def ban(self, peer: Peer) -> None:
        self._banned.add(peer.connection.remote[0])

    def gone(self, peer: Peer) -> None:
        if peer in self.peers:
            self.peers.discard(peer)
            self._served += peer.serving.sent
            self._by_address[peer.connection.remote[0]] -= 1

    def _arrived(self, connection: Connection) -> None:
        host = connection.remote[0]
        full = len(self.peers) >= self.config.max_peers
        if full or host in self._banned or self._by_address[host] >= self.config.max_peers_per_address:
            connection.close()
            return
        self._welcome(connection, None)

    def _welcome(self, connection: Connection, swarm: Swarm | None) -> Peer:
        peer = Peer(connection, self, swarm, self.clock())
        self.peers.add(peer)
        self._by_address[connection.remote[0]] += 1
        return peer

    async def _sweep(self) -> None:
        """One timer for all: handshakes that do not come, peers that fell silent, our own signs of life."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.clock()
            for peer in list(self.peers):
                self._look_at(peer, now)

    def _look_at(self, peer: Peer, now: float) -> None:
        config = self.config
        if not peer.wire.is_open and now - peer.opened_at > config.handshake_timeout:
            log.info("peer refused", peer=str(peer), reason="no-handshake")
            peer.close()
        elif now - peer.heard_at > 2 * config.keepalive:
            peer.close()
        elif now - peer.said_at > config.keepalive:
            peer.wire.keep_alive()
            peer.flush()
