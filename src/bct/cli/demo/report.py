"""The demo for the eye: one line a step while it runs, and a table in the end."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bct.cli.demo import story
from bct.cli.demo.judge import Figures, Seen, Verdict
from bct.cli.demo.story import Told


def step(console: Console, seconds: float, text: str) -> None:
    console.print(f"[dim]{seconds:5.1f} s[/]  {text}")


def show(console: Console, told: Told) -> None:
    figures = told.verdict.figures
    for part in (_money(told, figures), _facts(told.seen, figures), _claims(told.verdict)):
        console.print()
        console.print(part)
    console.print()
    if not told.verdict.wrong:
        console.print(f"[bold green]All of it is so.[/] It took {figures.elapsed_s} s.")


def show_places(console: Console, told: Told, directory: Path) -> None:
    """Where everything is that still runs; a line each, to be copied."""
    console.print()
    for party in told.parties:
        console.print(f"{party.name:<8} API {party.node.address}, peers at {party.listen}, log {party.log.name}")
        console.print(f"         ./run bct status --data-dir {party.home.root}")
    console.print(f"chain    {told.chain.url}, cookie {told.chain.cookie_file}")
    console.print(f"faucet   {told.chain.faucet}")
    console.print(f"all      {directory}")
    console.print("\nEverything is still up. [bold]Ctrl-C[/] ends it and removes the directory.")


def _money(told: Told, figures: Figures) -> Table:
    table = Table("", "process", "satoshis", "", box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.columns[2].justify = "right"
    creator, seeder, viewer = told.parties
    paid, fees = figures.satoshi_paid, figures.onchain_fee_satoshi
    for name, process, satoshi, why in (
        ("viewer", viewer.pid, f"-{paid}", f"{figures.pieces_paid} pieces, each paid before it was sent"),
        ("", "", f"-{fees}", "to miners, for opening and settling"),
        ("creator", creator.pid, f"+{figures.creator_satoshi}", f"{story.SHARE / 100:.0f} % of {paid}"),
        ("seeder", seeder.pid, f"+{figures.seeder_satoshi}", "the rest, for sending them"),
    ):
        table.add_row(f"[bold]{name}[/]", f"[dim]{process}[/]", f"[{_color(satoshi)}]{satoshi}[/]", why)
    return table


def _color(satoshi: str) -> str:
    return "green" if satoshi.startswith("+") else "yellow"


def _facts(seen: Seen, figures: Figures) -> Table:
    table = Table.grid(padding=(0, 2))
    chain, encore, length = seen.chain, seen.encore, seen.piece_length // 1024
    for name, text in (
        ("film", f"{figures.pieces_total} pieces of {length} KiB, {figures.pieces_free} of them free"),
        ("first byte", f"{figures.first_byte_ms} ms after play"),
        ("pictures", f"{figures.decoded_frames} decoded, and {seen.seek_frames[1]} before that, after a jump"),
        ("a payment", f"{figures.payment_bytes_each} bytes on the wire"),
        ("not paying", f"{figures.unpaid_bytes_leaked} bytes beyond the free pieces"),
        ("funding", figures.funding_txid),
        ("", f"locked {figures.capacity_satoshi} sat; {chain['funding_fee_satoshi']} sat to miners"),
        ("settlement", figures.settlement_txid),
        ("", f"{figures.payer_change_satoshi} sat came back; {chain['settlement_fee_satoshi']} sat to miners"),
        ("two more", f"titles of {encore.pieces[0]} and {encore.pieces[1]} pieces, over one payment channel"),
        ("", f"{encore.chain['onchain_txs']} transactions, {encore.chain['quiet_txs']} of them for the second title"),
    ):
        table.add_row(f"[dim]{name}[/]", text)
    return table


def _claims(verdict: Verdict) -> Table:
    table = Table.grid(padding=(0, 1))
    for claim in verdict.claims:
        good = not claim.wrong
        table.add_row("[green]✓[/]" if good else "[red]✗[/]", claim.text if good else f"[red]{escape(claim.wrong)}[/]")
    return table
