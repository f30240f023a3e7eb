"""Every setting, once: a frozen dataclass a layer, built at the edge (`cli`) and handed down.

The same names serve in ``config.toml`` (``[wire] max_peers = 200``), in the environment (``BCT_WIRE__MAX_PEERS``) and
in these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ChainConfig:
    """Where the chain is asked. With no `url` bct starts a regtest node of its own."""

    network: str = "regtest"
    """regtest, test or main; main only when said."""
    url: str = ""
    """RPC address of a node that is already running, http://host:port; empty: the embedded one."""
    cookie_file: str = ""
    """Path of that node's .cookie file."""
    zmq: str = ""
    """Its ZMQ address, tcp://host:port, carrying hashblock2 and rawtx2."""
    bitcoind: str = ""
    """Program of the embedded node; empty: the bitcoind on the PATH, else the one `./run` unpacked."""
    faucet: str = ""
    """Regtest only: address of the faucet that `bct wallet topup` asks, http://host:port."""


@dataclass(frozen=True, slots=True)
class WireConfig:
    """Limits of the BitTorrent side, all per node unless said."""

    listen_host: str = "127.0.0.1"
    listen_port: int = 6881
    """0: any free port."""
    public_host: str = ""
    """Name or address under which others reach this node, for the links it gives out; empty: `listen_host`."""
    max_peers: int = 2000
    max_peers_per_address: int = 64
    handshake_timeout: float = 10.0
    """Seconds until both handshakes must have arrived."""
    keepalive: float = 110.0
    """Seconds of silence after which a keep-alive is sent; twice that and the connection ends."""
    request_queue: int = 500
    """Requests a peer may have unanswered."""


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """What this node insists on in payment channels. Seconds and satoshis."""

    fee_rate: int = 100
    """Satoshis per 1,000 bytes; the higher of both sides' is used."""
    fee_rate_cap: int = 1000
    max_outputs: int = 8
    lifetime: int = 12 * 3600
    """Seconds until the refund of a channel we open, at least; more for a long film."""
    idle: int = 15 * 60
    """Seconds without a connection after which the payee settles: of both sides' the shorter."""
    exposure_fresh: int = 1_000
    """Unconfirmed, just seen: most satoshis accepted over one payment channel."""
    exposure_clean: int = 100_000
    """Unconfirmed, but two independent sources have answered well twice, 30 s apart."""


@dataclass(frozen=True, slots=True)
class ApiConfig:
    host: str = "127.0.0.1"
    port: int = 8404
    """0: any free port, written to the data directory."""


@dataclass(frozen=True, slots=True)
class WatchmanConfig:
    """Who settles when a payee is gone: watchmen elsewhere for this node, and this one for others."""

    send_to: tuple[str, ...] = field(default=(), repr=False)
    """Who is told what this node earns: https://host:port/#token, as `bct watchman token` shows it there."""
    listen: str = ""
    """host:port where others hand over what is watched for them. Empty: `bct up` watches for nobody else, and
    `bct watchman up` listens at 127.0.0.1:8406."""


@dataclass(frozen=True, slots=True)
class Config:
    chain: ChainConfig = field(default_factory=ChainConfig)
    wire: WireConfig = field(default_factory=WireConfig)
    channel: ChannelConfig = field(default_factory=ChannelConfig)
    api: ApiConfig = field(default_factory=ApiConfig)
    watchman: WatchmanConfig = field(default_factory=WatchmanConfig)
