"""Whole nodes for tests: real disk, ledger, TCP and chain; stores in memory."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bct.backends.disk import DiskStore
from bct.backends.ledger import Ledger
from bct.backends.tcp import Tcp
from bct.bitcoin.chain import Chain
from bct.bitcoin.hd import words_of_entropy
from bct.channel.state import State
from bct.channel.store import SavedPayee, SavedPayer
from bct.config import ChannelConfig, Config, WireConfig
from bct.node.daemon import Node, Parts
from bct.pay.receipt_store import SavedReceipt
from bct.pay.replay import Replay
from bct.title.store import SavedTitle
from bct.title.terms import Terms
from bct.torrent.metainfo import Metainfo, build_info
from bct.units import Infohash, Outpoint
from bct.wallet import paths
from bct.wallet.keyring import Keyring


@dataclass
class MemoryStore:
    """A `ChannelStore`, `TitleStore` and `ReceiptStore` that lives as long as its object."""

    payee: dict[Outpoint, SavedPayee] = field(default_factory=dict)
    payer: dict[Outpoint, SavedPayer] = field(default_factory=dict)
    title: dict[Infohash, SavedTitle] = field(default_factory=dict)
    sequence: dict[tuple[Infohash, bytes], int] = field(default_factory=dict)
    noted: list[tuple[bytes, str]] = field(default_factory=list)
    receipt: dict[tuple[Outpoint, int], SavedReceipt] = field(default_factory=dict)

    async def add_payee(self, saved: SavedPayee) -> bool:
        outpoint = saved.params.outpoint
        if outpoint in self.payee or any(s.nonce == saved.nonce for s in self.payee.values()):
            return False
        self.payee[outpoint] = saved
        return True

    async def payees(self) -> list[SavedPayee]:
        return list(self.payee.values())

    async def move_payee(self, outpoint: Outpoint, state: State, settlement: bytes = b"") -> None:
        saved = self.payee[outpoint]
        self.payee[outpoint] = replace(saved, state=state, settlement=settlement or saved.settlement)

    async def add_payer(self, saved: SavedPayer) -> None:
        self.payer[saved.params.outpoint] = saved

    async def payers(self) -> list[SavedPayer]:
        return list(self.payer.values())

    async def move_payer(self, outpoint: Outpoint, state: State, closing: bytes = b"") -> None:
        saved = self.payer[outpoint]
        self.payer[outpoint] = replace(saved, state=state, closing=closing or saved.closing)

    async def put_title(self, saved: SavedTitle) -> None:
        self.title[saved.infohash] = saved

    async def titles(self) -> list[SavedTitle]:
        return list(self.title.values())

    async def lowest_sequence(self, infohash: Infohash, creator: bytes) -> int:
        return self.sequence.get((infohash, creator), 0)

    async def is_sold(self, infohash: Infohash) -> bool:
        return any(seen == infohash for seen, _ in self.sequence)

    async def saw_terms(self, terms: Terms) -> None:
        key = (terms.infohash, terms.creator)
        self.sequence[key] = max(terms.sequence, self.sequence.get(key, 0))

    async def note_misstep(self, key: bytes, kind: str, when: int) -> None:
        self.noted.append((key, kind))

    async def missteps(self, key: bytes) -> int:
        return sum(one == key for one, _ in self.noted)

    async def put_receipt(self, saved: SavedReceipt) -> None:
        self.receipt[saved.outpoint, saved.receipt.epoch] = saved

    async def receipts(self, outpoint: Outpoint) -> list[SavedReceipt]:
        return [saved for (of, _), saved in sorted(self.receipt.items()) if of == outpoint]


@dataclass
class Stores:
    """A `PieceStores` below one directory."""

    root: Path

    def open(self, metainfo: Metainfo) -> DiskStore:
        return DiskStore.open(self.root / "titles", metainfo)

    def adopt(self, metainfo: Metainfo, name: str) -> DiskStore:
        return DiskStore.adopt(self.root / "titles", metainfo, self.root / "incoming" / name)


@asynccontextmanager
async def running_node(
    root: Path,
    chain: Chain,
    words: str | None = None,
    store: MemoryStore | None = None,
    others: tuple[Chain, ...] = (),
    handshake_timeout: float = 10.0,
    unix: Callable[[], float] = time.time,
    **channel: int,
) -> AsyncIterator[Node]:
    """A node in `root`; the same root, words and store bring it back after a restart. others: further sources that
    are asked about fundings. unix: what it takes for the time."""
    (root / "incoming").mkdir(parents=True, exist_ok=True)
    store = store or MemoryStore()
    keyring = Keyring.of_words(words or words_of_entropy(secrets.token_bytes(16)))
    earned, spent = Replay(), Replay()
    holder: list[Node] = []
    payee = Ledger.open(root / "payee.ledger", earned.add, lambda n: holder[0].till.synced(n) if holder else None)
    payer = Ledger.open(root / "payer.ledger", spent.add)

    async def close() -> None:
        await payee.close()
        await payer.close()

    config = Config(
        wire=WireConfig(listen_port=0, handshake_timeout=handshake_timeout), channel=ChannelConfig(**channel)
    )
    payout = keyring.key((*paths.PAYOUT, 0)).hash
    node = Node(
        config,
        Parts(
            (chain, *others),
            Tcp(),
            Stores(root),
            store,
            store,
            store,
            payee,
            payer,
            earned,
            spent,
            keyring,
            payout,
            os.urandom,
            close,
            unix=unix,
        ),
    )
    holder.append(node)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


def make_film(
    root: Path, pieces: int, piece_length: int = 64 * 1024, seed: int = 1, front: bytes = b""
) -> tuple[Metainfo, str, bytes]:
    """Random bytes in the incoming folder of `root`, behind `front`: (metainfo, its id there, the bytes)."""
    import hashlib
    import random

    data = front + random.Random(seed).randbytes(pieces * piece_length - 1000 - len(front))
    hashes = [
        hashlib.sha1(data[at : at + piece_length], usedforsecurity=False).digest()
        for at in range(0, len(data), piece_length)
    ]
    metainfo = Metainfo.from_info(build_info("film.mp4", len(data), piece_length, hashes))
    (root / "incoming").mkdir(parents=True, exist_ok=True)
    (root / "incoming" / "film").write_bytes(data)
    return metainfo, "film", data
