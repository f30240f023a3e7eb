"""`bct doctor` and `bct demo`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bct.cli.verb import Session, verb
from bct.cli.verbs.life import PassphraseFile, Set


def add_to(app: typer.Typer) -> None:
    verb(app, "doctor")(doctor)
    verb(app, "demo", alone=True)(demo)


def doctor(session: Session, passphrase_file: PassphraseFile = None, settings: Set = None) -> None:
    """Look whether everything a node needs is here and works; ends with 1 when something does not."""
    from bct.cli import doctor
    from bct.cli.keys import read_passphrase

    findings = doctor.examine(session.home, session.config(settings or []), read_passphrase(passphrase_file))
    good = all(one.good for one in findings)
    session.result({"ok": good, "checks": [asdict(one) for one in findings]}, lambda: doctor.show(findings))
    if not good:
        raise typer.Exit(1)


def demo(
    session: Session,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there as well, as JSON.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running until Ctrl-C, and say where to look.")
    ] = False,
) -> None:
    """A film, a seeder, a viewer and a BSV node on this machine: watch it being paid for.

    Everything is real but the coins: a node in regtest, three data directories, three processes, a decoder, and in the
    end an ordinary client that asks for the film without paying. Ends with 1 when anything is off.

    Example: `bct demo --json figures.json`
    """
    from bct.cli import demo

    demo.run(json_file, keep)
