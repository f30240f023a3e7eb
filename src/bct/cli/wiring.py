"""The only place that knows which back-end stands behind which Protocol: a node out of a data directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import structlog

from bct.backends import ledger as ledger_file
from bct.backends.database import Database
from bct.backends.disk import DiskStores
from bct.backends.ledger import Ledger
from bct.backends.tcp import Tcp
from bct.backends.watch_post import HttpPost
from bct.backends.watched_files import WatchedFiles
from bct.channel.state import FINAL_STATES
from bct.cli import chains, recovery
from bct.cli.home import Home
from bct.config import Config
from bct.node.daemon import Node, Parts
from bct.pay.replay import Replay
from bct.units import Outpoint
from bct.wallet.keyring import Keyring

log = structlog.get_logger()


async def make_node(stack: AsyncExitStack, home: Home, config: Config, keyring: Keyring) -> Node:
    """A node that is not started yet. What it stands on is let go when it stops, at the latest with the stack.

    Raises ConfigError, ChainError, StoreError, TemporaryError.
    """
    posts = tuple(map(HttpPost, config.watchman.send_to))
    config = replace(config, chain=await chains.start(stack, home, config.chain))
    chain = await chains.connect(stack, config.chain)
    files = await stack.enter_async_context(AsyncExitStack())
    database = await Database.open(home.database)
    files.push_async_callback(database.close)
    await recovery.check_owner(keyring, database.channels)
    await recovery.catch_up(home, chain, database.channels, keyring, config.channel)
    earned, spent = Replay(), Replay()
    nodes: list[Node] = []
    over = {saved.params.outpoint for saved in await database.channels.payees() if saved.state in FINAL_STATES}
    payee = await _ledger(files, home.earned, earned, over, on_synced=lambda number: nodes[0].till.synced(number))
    over = {saved.params.outpoint for saved in await database.channels.payers() if saved.state in FINAL_STATES}
    payer = await _ledger(files, home.spent, spent, over, purchases=True)
    parts = Parts(
        sources=(chain,),
        transport=Tcp(),
        stores=DiskStores(home.titles, home.incoming),
        channels=database.channels,
        titles=database.titles,
        receipts=database.receipts,
        payee_ledger=payee,
        payer_ledger=payer,
        earned=earned,
        spent=spent,
        keyring=keyring,
        payout=keyring.payout,
        random=os.urandom,
        close=files.aclose,
        posts=posts,
        watched=WatchedFiles(home.watched) if config.watchman.listen else None,
    )
    nodes.append(Node(config, parts))
    return nodes[0]


async def _ledger(
    files: AsyncExitStack,
    path: Path,
    replay: Replay,
    over: set[Outpoint],
    *,
    purchases: bool = False,
    on_synced: Callable[[int], None] | None = None,
) -> Ledger:
    """The ledger, read into `replay`, and written anew when most of it counts no more. over: channels that are done
    with; purchases: what was bought over them is kept."""
    ledger = Ledger.open(path, replay.add, on_synced)
    if ledger.cut:
        log.warning("ledger cut", kept=str(ledger_file.cut_of(path, ledger.synced)), bytes=ledger.cut)
    if (shorter := replay.shortened(over, purchases=purchases)) is not None:
        await ledger.close()
        ledger_file.rewrite(path, shorter)
        ledger = Ledger.open(path, lambda _: None, on_synced)
        log.info("ledger shortened", path=str(path), records=len(shorter))
    files.push_async_callback(ledger.close)
    return ledger
