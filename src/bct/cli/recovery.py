"""A wallet made again from its twelve words: `wallet.recovery` asks, the chain answers, the node's files are written.

Nothing is written before the whole search has been answered; a chain that cannot be reached leaves no trace.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any

from bct.backends import keyfile
from bct.backends.database import Database
from bct.bitcoin.chain import Chain
from bct.channel.lock import Lock
from bct.channel.state import State
from bct.channel.store import SavedPayer
from bct.channel.transactions import Params
from bct.cli import chains
from bct.cli.home import Home
from bct.cli.keys import network_of
from bct.config import ChannelConfig, Config
from bct.errors import ConfigError
from bct.units import WHOLE, Payees, PubKeyHash
from bct.wallet.keyring import Keyring
from bct.wallet.paths import channel_change, channel_payer
from bct.wallet.recovery import Answer, Ask, AskHistory, AskSpender, AskTransaction, FoundChannel, Recovered, Search

_NOBODY = bytes(33)
_UNKNOWN = bytes(20)


async def restore(home: Home, config: Config, words: str, passphrase: str) -> dict[str, Any]:
    """words: checked. What was found, as `bct wallet restore --json` prints it. Raises ConfigError, ChainError."""
    if home.wallet.exists():
        raise ConfigError(f"{home.wallet} is there already: move it away first, or choose another --data-dir")
    keyring = Keyring.of_words(words)
    home.make()
    async with AsyncExitStack() as stack:
        chain = await chains.connect(stack, await chains.start(stack, home, config.chain))
        found = await search(chain, keyring)
        database = await Database.open(home.database)
        stack.push_async_callback(database.close)
        known = {saved.params.outpoint for saved in await database.channels.payers()}
        for channel in (*found.channels, *found.ended):
            if channel.outpoint not in known:
                await database.channels.add_payer(saved_of(channel, keyring, config.channel, int(time.time())))
        keyfile.create(home.wallet, words, network_of(config), passphrase)
    return {
        "satoshi": sum(coin.value for coin in found.coins),
        "coins": len(found.coins),
        "channels": [
            {"outpoint": str(one.outpoint), "capacity": one.capacity, "expiry": one.expiry} for one in found.channels
        ],
    }


async def search(chain: Chain, keyring: Keyring) -> Recovered:
    """Everything that the words still hold on this chain. Raises ChainError."""
    looking = Search(keyring, Lock.read)
    while looking.ask:
        looking.answer(await _answer(chain, looking.ask))
    return looking.found


async def _answer(chain: Chain, ask: Ask) -> Answer:
    match ask:
        case AskHistory(script):
            return await chain.history(script)
        case AskTransaction(txid):
            return await chain.transaction(txid)
        case AskSpender(outpoint):
            return await chain.spender(outpoint)


def saved_of(channel: FoundChannel, keyring: Keyring, config: ChannelConfig, now: int) -> SavedPayer:
    """The channel as the node keeps it, as far as the chain tells. One that is open can only end: by the seeder's
    settlement, or by our refund. Who the seeder is, and what its commitments pay to whom, is not on the chain and not
    needed for either."""
    derived = channel.anchor, channel.outpoint.index
    lock = Lock(keyring.key(channel_payer(*derived)).public, channel.payee, channel.expiry)
    change = keyring.key(channel_change(*derived)).hash
    params = Params(
        channel.outpoint, channel.capacity, lock, change, PubKeyHash(_UNKNOWN), config.fee_rate, config.max_outputs
    )
    state = State.DONE if channel.closing else State.CLOSING
    nobody = Payees.of((_UNKNOWN, WHOLE))
    return SavedPayer(params, channel.anchor, nobody, _NOBODY, "", 0, channel.funding, now, state, channel.closing)
