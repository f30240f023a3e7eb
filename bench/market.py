"""A seller and its viewers for benchmarks: payment channels that stand already, real bytes over the real shell.

The chain is left out: what is measured starts when a channel is open. Keys come from numbers, so that two processes
agree on them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import cast

from bct.backends.ledger import Ledger
from bct.backends.tcp import Tcp
from bct.bitcoin.chain import Chain, Network
from bct.bitcoin.keys import PrivateKey, sha256
from bct.channel.lock import Lock
from bct.channel.payer import Payer
from bct.channel.state import State
from bct.channel.store import SavedPayee, SavedPayer
from bct.channel.transactions import Params
from bct.config import ChannelConfig, WireConfig
from bct.node.hub import Hub
from bct.node.purse import Purse
from bct.node.seller import TitleSeller
from bct.node.swarm import Swarm
from bct.node.till import Till
from bct.node.wallet import NodeWallet
from bct.pay.offers import Policy
from bct.pay.payee_session import PayeeKeys
from bct.title.ranges import PieceRange
from bct.title.terms import Terms
from bct.torrent.metainfo import Metainfo
from bct.torrent.store import PieceStore
from bct.units import Outpoint, Payees, PieceIndex, Satoshi, Txid
from bct.wallet.paths import Path as KeyPath
from tests.nodes import MemoryStore

NETWORK = Network.REGTEST
CREATOR = PrivateKey(sha256(b"creator"))
SEEDER = PrivateKey(sha256(b"seeder"))
PAYEES = Payees.of((CREATOR.hash, 6000))
CAPACITY = Satoshi(10_000_000)


def viewer_key(number: int) -> PrivateKey:
    return PrivateKey(sha256(b"viewer%d" % number))


def payee_key(nonce: bytes) -> PrivateKey:
    return PrivateKey(sha256(b"payee" + nonce))


def params(number: int) -> Params:
    """The channel of viewer `number`."""
    lock = Lock(
        viewer_key(number).public, payee_key(number.to_bytes(16)).public, int(time.time()) // 86400 * 86400 + 172_800
    )
    outpoint = Outpoint(Txid(sha256(b"funding%d" % number)), 0)
    return Params(outpoint, CAPACITY, lock, viewer_key(number).hash, SEEDER.hash, 100, 8)


def payer(number: int) -> Payer:
    return Payer(params(number), (PAYEES,), reserved=(CAPACITY,), state=State.OPEN)


def terms(metainfo: Metainfo) -> Terms:
    now = int(time.time())
    free = (PieceRange(PieceIndex(0), 1),)
    return Terms(NETWORK, metainfo.infohash, Satoshi(1), PAYEES, free, 1, now - 60, now + 86400, CREATOR.public).sign(
        CREATOR
    )


def purse(ledger: Ledger) -> Purse:
    """Viewer 0's channels: the one with the seller stands."""
    saved = MemoryStore()
    one = params(0)
    saved.payer[one.outpoint] = SavedPayer(one, one.outpoint, PAYEES, SEEDER.public, "127.0.0.1", 0, b"", 0, State.OPEN)
    wallet, no_chain = cast(NodeWallet, _OneKey()), cast(Chain, None)
    return Purse(no_chain, saved, saved, ledger, wallet, ChannelConfig(), lambda: int(time.time()), os.urandom)


class _OneKey:
    """A wallet as far as an open channel asks for one."""

    locked = False

    def key(self, path: KeyPath) -> PrivateKey:
        return viewer_key(0)

    def watch(self, path: KeyPath) -> None: ...


async def selling(
    directory: Path, metainfo: Metainfo, store: PieceStore, viewers: int
) -> tuple[Hub, Swarm, Till, Ledger]:
    """A hub that sells one title over `viewers` open channels."""
    tills: list[Till] = []
    ledger = Ledger.open(directory / "payee.ledger", lambda _: None, lambda n: tills[0].synced(n))
    saved = MemoryStore()
    for number in range(viewers):
        one = SavedPayee(params(number), number.to_bytes(16), PAYEES, (), int(time.time()), 900)
        await saved.add_payee(one)
    keys = PayeeKeys(SEEDER, sha256(b"secret"), payee_key)
    policy = Policy(SEEDER.hash, 100, 1000, 8, 900)
    till = Till((), saved, saved, ledger, keys, policy, ChannelConfig(), lambda: int(time.time()), lambda _: None)
    tills.append(till)
    await till.load({}, lambda *_: 0)
    for earning in till.earnings.values():
        earning.account.cap = None  # as if every funding were mined
    hub = Hub(Tcp(), WireConfig(listen_port=0, max_peers_per_address=10_000), NETWORK, time.monotonic, os.urandom)
    swarm = hub.swarms[metainfo.infohash] = Swarm(metainfo.infohash, metainfo, store)
    swarm.seller = TitleSeller(till, terms(metainfo))
    return hub, swarm, till, ledger
