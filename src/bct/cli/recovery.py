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
from bct.channel.state import FINAL_STATES, State
from bct.channel.store import ChannelStore, SavedPayee, SavedPayer
from bct.channel.transactions import Params
from bct.cli import chains
from bct.cli.home import Home
from bct.cli.keys import network_of
from bct.config import ChannelConfig, Config
from bct.errors import ConfigError
from bct.units import WHOLE, Payees, PubKeyHash
from bct.wallet.keyring import Keyring
from bct.wallet.paths import channel_change, channel_payer, payee
from bct.wallet.recovery import Answer, Ask, AskHistory, AskSpender, AskTransaction, FoundChannel, Recovered, Search

_OTHER_WORDS = (
    "the payment channels in this data directory were made with other twelve words than those of its wallet: put back "
    "the wallet.json that they belong to, or move bct.db, payee.ledger and payer.ledger away"
)
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
        await check_owner(keyring, database.channels)
        await _add_unknown(found, database.channels, keyring, config.channel)
        keyfile.create(home.wallet, words, network_of(config), passphrase)
    return {
        "satoshi": sum(coin.value for coin in found.coins),
        "coins": len(found.coins),
        "channels": [
            {"outpoint": str(one.outpoint), "capacity": one.capacity, "expiry": one.expiry} for one in found.channels
        ],
    }


async def check_owner(keyring: Keyring, channels: ChannelStore) -> None:
    """Raises ConfigError when the oldest payment channels that are not over were made with other twelve words. What
    only an open wallet can tell, a locked one is not asked."""
    earned = [(payee(saved.nonce), saved.params.lock.payee) for saved in await channels.payees() if _lives(saved)]
    spent = [
        (channel_payer(saved.anchor, saved.params.outpoint.index), saved.params.lock.payer)
        for saved in await channels.payers()
        if _lives(saved) and not keyring.locked
    ]
    for path, public in (*earned[:1], *spent[:1]):
        if keyring.key(path).public != public:
            raise ConfigError(_OTHER_WORDS)


def _lives(saved: SavedPayee | SavedPayer) -> bool:
    return saved.state not in FINAL_STATES


async def catch_up(home: Home, chain: Chain, channels: ChannelStore, keyring: Keyring, config: ChannelConfig) -> None:
    """What was opened after the backup that this directory came from is in no file, but on the chain: without it such
    a channel's change and refund would be nobody's. A locked wallet cannot look; it is done when it is open.

    Raises ChainError, StoreError."""
    if home.restored.exists() and not keyring.locked:
        await _add_unknown(await search(chain, keyring), channels, keyring, config)
        home.restored.unlink()


async def _add_unknown(found: Recovered, channels: ChannelStore, keyring: Keyring, config: ChannelConfig) -> None:
    known = {saved.params.outpoint for saved in await channels.payers()}
    for channel in (*found.channels, *found.ended):
        if channel.outpoint not in known:
            await channels.add_payer(saved_of(channel, keyring, config, int(time.time())))


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
