"""`bct`: every verb, and nothing that takes time to import."""

from __future__ import annotations

import typer

from bct.cli.verbs import channels, checks, keeping, life, playing, publishing, wallet, watching

app = typer.Typer(
    name="bct",
    help="Video from peer to peer, paid piece by piece over BSV payment channels.\n\n"
    "First `bct init` and `bct up`; then `bct play LINK`, or `bct publish FILE`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for subject in (life, playing, publishing, wallet, channels, keeping, watching, checks):
    subject.add_to(app)


def main() -> None:
    app()
