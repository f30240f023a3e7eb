"""`bct channels …`, `bct receipts list`: payment channels, and what was bought over them."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from bct.cli.verb import Session, verb

Outpoint = Annotated[str, typer.Argument(help="The channel, txid:index, as `list` shows it.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    channels = typer.Typer(help="Payment channels: what is locked, paid and settled.", no_args_is_help=True)
    verb(channels, "list")(show)
    verb(channels, "close")(close)
    verb(channels, "refund")(refund)
    app.add_typer(channels, name="channels")
    receipts = typer.Typer(help="What was bought.", no_args_is_help=True)
    verb(receipts, "list")(bought)
    app.add_typer(receipts, name="receipts")


def show(session: Session) -> None:
    """Every payment channel that is open, or was since the node knows of it."""
    found = session.node().get("/api/channels")
    session.result({"channels": found}, lambda: _show(found))


def _show(found: list[dict[str, Any]]) -> None:
    if not found:
        print("No payment channels yet.")
    for channel in found:
        what = "earned" if channel["role"] == "payee" else "paid"
        print(f"{channel['outpoint']}  {channel['state']}, {channel['paid']} of {channel['capacity']} sat {what}")
        if channel["txid"]:
            print(f"  ended in {channel['txid']}: {channel['change']} sat to the payer, {channel['fee']} sat to miners")
        else:
            print(f"  expires in {(channel['expiry'] - time.time()) / 3600:.1f} h")


def close(session: Session, channel: Outpoint) -> None:
    """Settle a channel now: one you earn on, or one you pay over that no play uses."""
    found = session.node().post(f"/api/channels/{channel}/close")
    how = f"settled in {found['txid']}" if found["txid"] else f"{found['state']}: the node keeps trying"
    session.result(found, f"{channel}: {found['paid']} sat, {how}")


def refund(session: Session, channel: Outpoint) -> None:
    """Take back what a channel locks, once it has expired unsettled. The node does this by itself, too."""
    found = session.node().post(f"/api/channels/{channel}/refund")
    session.result(found, f"{channel}: {found['state']}, transaction {found['txid']}")


def bought(session: Session) -> None:
    """What was bought: title, pieces, satoshis, channel, settlement."""
    found = session.node().get("/api/receipts")
    session.result({"receipts": found}, lambda: _show_bought(found))


def _show_bought(found: list[dict[str, Any]]) -> None:
    if not found:
        print("Nothing was bought yet.")
    for one in found:
        settled = f"settled in {one['txid']}" if one["txid"] else "not settled yet"
        print(f"{one['name']}: {one['pieces']} pieces for {one['satoshi']} sat over {one['channel']}, {settled}")
