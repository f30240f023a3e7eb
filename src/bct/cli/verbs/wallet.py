"""`bct wallet …`: coins in and out, and the twelve words."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bct.cli.verb import Session, verb
from bct.cli.verbs.life import PassphraseFile, Set
from bct.errors import ConfigError

TOPUP = 100_000


def add_to(app: typer.Typer) -> None:
    wallet = typer.Typer(help="Coins in and out, and the twelve words.", no_args_is_help=True)
    verb(wallet, "balance")(balance)
    verb(wallet, "address")(address)
    verb(wallet, "topup")(topup)
    verb(wallet, "send")(send)
    verb(wallet, "words")(words)
    verb(wallet, "restore")(restore)
    app.add_typer(wallet, name="wallet")


def balance(session: Session) -> None:
    """What the wallet holds. What payment channels lock is not in it: see `bct channels list`."""
    found = session.node().get("/api/wallet")
    text = f"{found['confirmed']} sat can be spent; {found['pending']} sat wait for a block"
    session.result(found, text + (" (the wallet is locked)" if found["locked"] else ""))


def address(session: Session) -> None:
    """A new address to receive coins at."""
    found = session.node().post("/api/wallet/address")
    session.result(found, found["address"])


def topup(
    session: Session,
    satoshi: Annotated[int, typer.Argument(min=1, help="How many satoshis.")] = TOPUP,
) -> None:
    """Ask the regtest faucet for coins, which are worth nothing.

    Example: `bct wallet topup 50000`
    """
    node = session.node()
    sent = node.post("/api/wallet/topup", {"satoshi": satoshi})
    found = node.get("/api/wallet")
    session.result(found | sent, f"{satoshi} sat came in; the wallet holds {found['confirmed'] + found['pending']} sat")


def send(
    session: Session,
    to: Annotated[str, typer.Argument(help="The address.", show_default=False)],
    amount: Annotated[str, typer.Argument(help="Satoshis, or `all`.", show_default=False)],
) -> None:
    """Send coins to an address.

    Example: `bct wallet send mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8 20000`
    """
    if amount != "all" and not amount.isdecimal():
        raise ConfigError(f"an amount is a number of satoshis, or all; got {amount!r}")
    sent = session.node().post("/api/wallet/send", {"to": to, "satoshi": None if amount == "all" else int(amount)})
    session.result(sent, f"sent in transaction {sent['txid']}")


def words(session: Session, passphrase_file: PassphraseFile = None) -> None:
    """Show the twelve words. Whoever has them has the money."""
    from bct.backends import keyfile
    from bct.cli.keys import network_of, read_passphrase

    session.home.check()
    network = network_of(session.config())
    shown = keyfile.read_words(session.home.wallet, network, read_passphrase(passphrase_file))
    session.result({"words": shown}, shown)


def restore(
    session: Session,
    words_file: Annotated[
        Path | None, typer.Option("--words-file", help="File with the twelve words; else they are asked for.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    settings: Set = None,
) -> None:
    """Make the wallet again on a machine that has nothing but the twelve words.

    Coins are found on the chain, and so are payment channels that are still open; their refunds are sent by the node
    once they have expired, so let it run.

    Example: `bct wallet restore --words-file words.txt --set chain.url=http://127.0.0.1:18332 …`
    """
    from bct.bitcoin.hd import check_words
    from bct.cli import recovery
    from bct.cli.keys import read_passphrase

    config = session.config(settings or [])
    given = check_words(_typed_words(words_file))
    found = asyncio.run(recovery.restore(session.home, config, given, read_passphrase(passphrase_file)))
    session.result(found, lambda: _show_restored(found))


def _typed_words(file: Path | None) -> str:
    if file is None:
        return input("The twelve words: ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None


def _show_restored(found: dict[str, Any]) -> None:
    print(f"The wallet is back: {found['satoshi']} sat in {found['coins']} coins.")
    for channel in found["channels"]:
        print(f"  payment channel {channel['outpoint']}: {channel['capacity']} sat, refunded after it has expired")
    print("Next: bct up")
