"""`bct doctor` and `bct demo`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from bct.cli.verb import Session, verb
from bct.cli.verbs.life import PassphraseFile, Set


def add_to(app: typer.Typer) -> None:
    verb(app, "doctor")(doctor)
    verb(app, "demo")(demo)


def doctor(session: Session, passphrase_file: PassphraseFile = None, settings: Set = None) -> None:
    """Look whether everything a node needs is here and works; ends with 1 when something does not."""
    from bct.cli import doctor
    from bct.cli.keys import read_passphrase

    findings = doctor.examine(session.home, session.config(settings or []), read_passphrase(passphrase_file))
    good = all(one.good for one in findings)
    session.result({"ok": good, "checks": [asdict(one) for one in findings]}, lambda: doctor.show(findings))
    if not good:
        raise typer.Exit(1)


def demo(session: Session) -> None:
    """A film, a seeder, a viewer and a BSV node on this machine: watch it being paid for."""
    from bct.cli import demo

    demo.run(session)
