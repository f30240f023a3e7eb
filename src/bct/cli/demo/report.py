"""The demo for the eye: one line a step while it runs, and a table in the end."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from bct.cli.demo.judge import Figures, Seen, Verdict
from bct.cli.demo.story import Told


def step(console: Console, text: str) -> None:
    console.print(f"[cyan]›[/] {text}")


def show(console: Console, told: Told) -> None:
    figures = told.verdict.figures
    for table in (
        _money(told, figures),
        _film(told.seen, figures),
        _chain(told.seen, figures),
        _claims(told.verdict),
    ):
        console.print()
        console.print(table)
    console.print()
    if not told.verdict.wrong:
        console.print(f"[bold green]All of it is so.[/] It took {figures.elapsed_s} s.")


def show_places(console: Console, told: Told, directory: Path) -> None:
    """Where everything is that still runs."""
    table = Table("what", "where", box=None, header_style="dim", pad_edge=False)
    for party in told.parties:
        table.add_row(party.name, f"{party.node.address}, peers at {party.listen}, log {party.log}")
        table.add_row("", f"bct status --data-dir {party.home.root}")
    table.add_row("chain", f"{told.chain.url}, cookie {told.chain.cookie_file}, faucet {told.chain.faucet}")
    table.add_row("all of it", str(directory))
    console.print(table)
    console.print("\nEverything is still up. [bold]Ctrl-C[/] ends it and removes the directory.")


def _money(told: Told, figures: Figures) -> Table:
    table = Table("who", "process", "satoshis", "for what", title="Who paid, and who got it", title_justify="left")
    table.columns[2].justify = "right"
    creator, seeder, viewer = told.parties
    paid = figures.satoshi_paid
    table.add_row("viewer", str(viewer.pid), f"-{paid}", f"{figures.pieces_paid} pieces, one payment each")
    table.add_row("", "", f"-{figures.onchain_fee_satoshi}", "miners: one transaction to open, one to settle")
    table.add_row("creator", str(creator.pid), f"+{figures.creator_satoshi}", f"its part of each of {paid} sat")
    table.add_row("seeder", str(seeder.pid), f"+{figures.seeder_satoshi}", "the rest, for sending them")
    return table


def _film(seen: Seen, figures: Figures) -> Table:
    table = Table.grid(padding=(0, 2))
    free, length = figures.pieces_free, seen.piece_length // 1024
    for name, text in (
        ("film", f"{figures.pieces_total} pieces of {length} KiB: {free} free, {figures.pieces_paid} bought"),
        ("a payment", f"{figures.payment_bytes_each} bytes on the wire, before each piece"),
        ("first byte", f"{figures.first_byte_ms} ms after play"),
        ("pictures", f"{figures.decoded_frames} decoded; {seen.seek_frames[1]} of them first, after a jump"),
        ("without paying", f"{figures.unpaid_bytes_leaked} bytes beyond the free pieces, by libtorrent"),
    ):
        table.add_row(f"[dim]{name}[/]", text)
    return table


def _chain(seen: Seen, figures: Figures) -> Table:
    table = Table.grid(padding=(0, 2))
    change, fees = figures.payer_change_satoshi, seen.chain
    for name, text in (
        ("funding", figures.funding_txid),
        ("", f"locks {figures.capacity_satoshi} sat, {fees['funding_fee_satoshi']} to miners"),
        ("settlement", figures.settlement_txid),
        ("", f"pays {figures.satoshi_paid} sat, {change} back, {fees['settlement_fee_satoshi']} to miners"),
    ):
        table.add_row(f"[dim]{name}[/]", text)
    return table


def _claims(verdict: Verdict) -> Table:
    table = Table.grid(padding=(0, 1))
    for claim in verdict.claims:
        mark = "[red]✗[/]" if claim.wrong else "[green]✓[/]"
        table.add_row(mark, f"[red]{claim.wrong}[/]" if claim.wrong else claim.text)
    return table
