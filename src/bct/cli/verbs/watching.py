"""`bct watchman …`: settles for payees elsewhere that are gone, from another process or another host."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from bct.cli.verb import Session, verb
from bct.cli.verbs.life import Set


def add_to(app: typer.Typer) -> None:
    watchman = typer.Typer(help="Settle for payees that are gone, without their keys.", no_args_is_help=True)
    verb(watchman, "token")(token)
    verb(watchman, "up")(up)
    verb(watchman, "status")(status)
    app.add_typer(watchman, name="watchman")


def token(
    session: Session,
    name: Annotated[str, typer.Argument(help="For whom: small letters, digits and -.")] = "payee",
    settings: Set = None,
) -> None:
    """Show the address that a payee puts into its `watchman.send_to`; the first time with a new token in it.

    A watchman that runs already knows it from its next start on.

    Example: `bct watchman token alice --data-dir watchman`
    """
    from bct.cli import tokens
    from bct.cli.watching import LISTEN

    listen = session.config(settings or []).watchman.listen or LISTEN
    session.home.make()
    address = f"http://{listen}/#{tokens.of(session.home, name)}"
    session.result({"name": name, "address": address}, address)


def up(session: Session, settings: Set = None) -> None:
    """Watch, until Ctrl-C: take what payees hand over, and send it to the chain when they do not.

    Example: `bct watchman up --data-dir watchman --set watchman.listen=0.0.0.0:8406 --set chain.url=…`
    """
    from bct.cli import logs, watching

    config = session.config(settings or [])
    watching.check(session.home, config)
    session.home.make()
    logs.set_up()
    watching.run(session.home, config, lambda found: session.result(found, f"Watching at {found['api']}."))


def status(session: Session) -> None:
    """What is watched, and what only a person can mend."""
    found = session.node().get("/watch")
    session.result(found, lambda: _show(found))


def _show(found: dict[str, Any]) -> None:
    print(f"chain     {'block ' + str(found['height']) if found['reachable'] else 'does not answer'}")
    print(f"channels  {len(found['channels'])}")
    for one in found["channels"]:
        hours = (one["due"] - time.time()) / 3600
        print(f"  {one['channel']}  {one['owner']}: {one['paid']} sat, {one['state']}, due in {hours:.1f} h")
    for text in found["alarms"]:
        print(f"alarm     {text}")
