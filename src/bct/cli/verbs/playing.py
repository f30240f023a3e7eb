"""`bct play`: a film in the owner's player, and a meter of what it costs."""

from __future__ import annotations

import base64
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bct.cli.verb import Session, verb
from bct.errors import ConfigError

if TYPE_CHECKING:
    from bct.cli.client import NodeClient

PLAYERS = ("mpv", "vlc", "celluloid", "totem", "ffplay")
METER_SECONDS = 0.5


def add_to(app: typer.Typer) -> None:
    verb(app, "play")(play)


def play(
    session: Session,
    what: Annotated[str, typer.Argument(help="A link, or a .torrent file.", show_default=False)],
    peer: Annotated[str, typer.Option("--peer", help="host:port of a seeder to ask first.")] = "",
    player: Annotated[
        str, typer.Option("--player", help="Program that gets the film's address.", show_default="the first one found")
    ] = "",
    no_player: Annotated[bool, typer.Option("--no-player", help="Only print the address, until Ctrl-C.")] = False,
    max_sats: Annotated[
        int | None,
        typer.Option("--max-sats", min=0, help="The most it may cost, pieces and miner fees together; never passed."),
    ] = None,
) -> None:
    """Watch a film, paying for each piece as it comes.

    It ends with the player or with Ctrl-C; then the payment channel is settled and what was not spent comes back.
    With `--json`, one object when the film can be read and one when it is settled.

    Example: `bct play film.torrent --max-sats 200`
    """
    command = [] if no_player else _player(player)
    node = session.node()
    playing = node.post("/api/plays", _what(what) | {"peer": peer, "max_sats": max_sats})
    try:
        with _sigterm_as_interrupt():  # whoever reads the address may end us at once
            session.result(playing, lambda: _show_start(playing))
            _watch(session, node, playing, command)
    except KeyboardInterrupt:
        session.note("\nsettling …")
    ended = node.delete(f"/api/plays/{playing['token']}")
    session.result(ended, lambda: _show_end(ended))
    if ended["trouble"]:
        raise _error(ended)


def _what(text: str) -> dict[str, str]:
    path = Path(text)
    if not text.endswith(".torrent"):
        return {"link": text}
    try:
        return {"torrent": base64.b64encode(path.read_bytes()).decode()}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _player(wanted: str) -> list[str]:
    """The command; empty when no player is there and none was asked for."""
    if wanted:
        command = shlex.split(wanted)
        if not command or shutil.which(command[0]) is None:
            raise ConfigError(f"there is no program {wanted!r} to play it with")
        return command
    found = next(filter(shutil.which, PLAYERS), None)
    return [found] if found else []


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch(session: Session, node: NodeClient, playing: dict[str, Any], command: list[str]) -> None:
    """Until the player ends, or, without one, until the play is no more: closed as idle, or with its node."""
    process = _start(command, playing["url"]) if command else None
    shows_meter = sys.stderr.isatty() and not session.json
    try:
        while process is None or process.poll() is None:
            if process and not shows_meter:
                process.wait()
                break
            now = node.get(f"/api/plays/{playing['token']}")
            if shows_meter:
                _show_meter(now)
            time.sleep(METER_SECONDS)
    finally:
        if process and process.poll() is None:
            process.terminate()


def _start(command: list[str], url: str) -> subprocess.Popen[bytes]:
    nothing = subprocess.DEVNULL
    return subprocess.Popen([*command, url], stdin=nothing, stdout=nothing)  # noqa: S603 - the owner's choice


def _error(ended: dict[str, Any]) -> Exception:
    from bct.cli.client import error_of

    return error_of(ended["trouble"])


def _show_start(playing: dict[str, Any]) -> None:
    print(f"{playing['name']}: {playing['url']}")
    if quote := playing["quote"]:
        cost = f"{quote['pieces']} pieces at {quote['price']} sat: {quote['cost']} sat"
        print(f"  {cost}, and about {quote['fees']} sat to miners; at most {playing['cap']} sat in all")
        print(f"  {quote['locked']} sat are locked meanwhile; what is not spent of them comes back")
    else:
        print("  it costs nothing")


def _show_meter(now: dict[str, Any]) -> None:
    speed = f"{now['rate'] / 1e6:.1f} MB/s from {len(now['peers'])} peers"
    spent = f"{now['bought']} pieces for {now['spent']} sat + {now['fees']} sat to miners of at most {now['cap']}"
    waiting = f" | waiting for {now['waiting_for']}" if now["waiting_for"] else ""
    print(
        f"\r\033[K{now['here']}/{now['pieces']} here | {spent} | {speed}{waiting}", end="", file=sys.stderr, flush=True
    )


def _show_end(ended: dict[str, Any]) -> None:
    print(f"\n{ended['bought']} pieces were bought for {ended['spent']} sat; at most {ended['fees']} sat go to miners.")
    for channel in ended["channels"]:
        if channel["txid"]:
            print(
                f"  settled in {channel['txid']}: {channel['change']} sat are back, {channel['fee']} sat went to miners"
            )
        else:
            print(f"  channel {channel['outpoint']} is not settled yet: at the latest its refund brings the rest back")
