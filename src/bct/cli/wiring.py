"""The only place that knows which back-end stands behind which Protocol: a node out of a data directory."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import replace

from bct.backends.database import Database
from bct.backends.disk import DiskStores
from bct.backends.ledger import Ledger
from bct.backends.tcp import Tcp
from bct.cli import chains
from bct.cli.home import Home
from bct.config import Config
from bct.node.daemon import Node, Parts
from bct.wallet.keyring import Keyring


async def make_node(stack: AsyncExitStack, home: Home, config: Config, keyring: Keyring) -> Node:
    """A node that is not started yet. What it stands on is let go when it stops, at the latest with the stack.

    Raises ConfigError, ChainError, StoreError, TemporaryError.
    """
    config = replace(config, chain=await chains.start(stack, home, config.chain))
    chain = await chains.connect(stack, config.chain)
    files = await stack.enter_async_context(AsyncExitStack())
    database = await Database.open(home.database)
    files.push_async_callback(database.close)
    earned: list[bytes] = []
    spent: list[bytes] = []
    nodes: list[Node] = []
    payee = Ledger.open(home.earned, earned.append, lambda sequence: nodes[0].till.synced(sequence))
    files.push_async_callback(payee.close)
    payer = Ledger.open(home.spent, spent.append)
    files.push_async_callback(payer.close)
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
    )
    nodes.append(Node(config, parts))
    return nodes[0]
