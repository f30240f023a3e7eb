"""`bct backup` and `bct restore`: what a node must not lose, in a file of its own."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bct.cli.verb import Session, verb
from bct.cli.verbs.life import PassphraseFile

if TYPE_CHECKING:
    from bct.cli.backup import Contents

File = Annotated[Path, typer.Argument(help="The backup.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    verb(app, "backup")(backup)
    verb(app, "restore")(restore)


def backup(session: Session, file: File) -> None:
    """Copy words, payment channels, ledgers, terms and purchases into one file. The node may run meanwhile.

    The words in it are sealed if the wallet is; if it is not, whoever has the file has the money. Films are not in it.

    Example: `bct backup bct-monday.zip`
    """
    from bct.cli import backup
    from bct.cli.keys import network_of

    backup.write(session.home, network_of(session.config()), file)
    found = {"backup": str(file), "size": file.stat().st_size}
    session.result(found, f"{file}: {found['size']} bytes. See that it can be read: bct restore --verify {file}")


def restore(
    session: Session,
    file: File,
    verify: Annotated[bool, typer.Option("--verify", help="Only see that it is whole and can be read.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make the data directory again out of a backup; or, with --verify, only see that this could be done.

    Never start the node that the backup was made of as well: two nodes with the same words spend each other's coins.

    Example: `bct restore bct-monday.zip`
    """
    from bct.cli import backup
    from bct.cli.keys import read_passphrase

    passphrase = read_passphrase(passphrase_file)
    if verify:
        contents = asyncio.run(backup.verify(file, passphrase))
    else:
        contents = asyncio.run(backup.restore(session.home, file, passphrase))
    session.result(asdict(contents), lambda: _show(session, contents, verify))


def _show(session: Session, contents: Contents, verify: bool) -> None:
    print(f"A backup of {time.strftime('%Y-%m-%d %H:%M', time.localtime(contents.made))}, {contents.network}, whole.")
    print("  words      " + ("sealed; give --passphrase-file to try it" if contents.sealed else "there"))
    print(f"  channels   {contents.earning} earn, {contents.spending} spend")
    print(f"  titles     {contents.titles}, without their films")
    print(f"  purchases  {contents.bought} pieces")
    if not verify:
        print(f"It was put into {session.home.root}. Next: bct up" + (", once with its passphrase" * contents.sealed))
