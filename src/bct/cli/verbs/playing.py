"""`bct play`: films in the owner's player, one after another, and a meter of what they cost."""

from __future__ import annotations

import base64
import functools
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
from bct.errors import BctError, ConfigError

if TYPE_CHECKING:
    from bct.cli.client import NodeClient

PLAYERS = ("mpv", "vlc", "celluloid", "totem", "ffplay")
METER_SECONDS = 0.5


def add_to(app: typer.Typer) -> None:
    verb(app, "play")(play)


def play(
    session: Session,
    what: Annotated[list[str], typer.Argument(help="Links or .torrent files, in this order.", show_default=False)],
    peer: Annotated[str, typer.Option("--peer", help="host:port of a seeder to ask first.")] = "",
    player: Annotated[
        str, typer.Option("--player", help="Program that gets the film's address.", show_default="the first one found")
    ] = "",
    no_player: Annotated[bool, typer.Option("--no-player", help="Only print the address, until Ctrl-C.")] = False,
    max_sats: Annotated[
        int | None,
        typer.Option(
            "--max-sats", min=0, help="The most all of it may cost, pieces and miner fees together; never passed."
        ),
    ] = None,
) -> None:
    """Watch a film, or several one after another, paying for each piece as it comes.

    A film ends with its player; Ctrl-C ends all of them. Then the payment channel is settled and what was not spent
    comes back. Films that one seeder has are paid over one payment channel: the second one puts nothing on the chain.
    With `--json`, for each film one object when it can be read and one when it is closed; then one for each channel
    that was kept for a later film and not used for it.

    Example: `bct play film.torrent --max-sats 200`
    """
    command = [] if no_player else _player(player)
    if len(what) > 1 and not command:
        raise ConfigError("films are shown one after another by a player, and end with it: name one with --player")
    titles = [_what(text) | {"peer": peer} for text in what]
    row = _Row(session, session.node(), command, max_sats)
    with _sigterm_as_interrupt():
        try:
            for number, title in enumerate(titles, 1):
                if not row.show(title, len(titles) - number):
                    break
        finally:
            row.end()


class _Row:
    """Films one after another. max_sats: of all of them."""

    def __init__(self, session: Session, node: NodeClient, command: list[str], max_sats: int | None) -> None:
        self._session = session
        self._node = node
        self._command = command
        self._left = max_sats
        self._kept: dict[str, dict[str, Any]] = {}
        """Payment channels that a film left open for the next one, as they stood then, by outpoint."""

    def show(self, title: dict[str, str], more: int) -> bool:
        """One film, to its end. more: how many are to follow. False when the owner has had enough. Raises the error
        that kept it from being watched."""
        playing = self._node.post("/api/plays", title | {"max_sats": self._left, "more": more})
        goes_on = True
        try:
            self._session.result(playing, lambda: _show_start(playing, more))
            _watch(self._session, self._node, playing, self._command)
        except KeyboardInterrupt:  # maybe at once: whoever reads the address may end us
            goes_on = False
            self._session.note("\nsettling …")
        keep = goes_on and more > 0
        ended = self._node.delete(f"/api/plays/{playing['token']}" + ("?keep=true" if keep else ""))
        self._session.result(ended, lambda: _show_end(ended, keep))
        self._count(ended, keep)
        if ended["trouble"]:
            raise _error(ended)
        return goes_on

    def _count(self, ended: dict[str, Any], keep: bool) -> None:
        if self._left is not None:
            self._left -= ended["spent"] + ended["fees"]
        for channel in ended["channels"]:
            self._kept.pop(channel["outpoint"], None)
            if keep and not channel["txid"]:
                self._kept[channel["outpoint"]] = channel

    def end(self) -> None:
        """Brings back what lies in channels that were kept and that no later film has used."""
        for outpoint, channel in self._kept.items():
            try:
                channel = self._node.post(f"/api/channels/{outpoint}/close")
            except BctError as error:
                self._session.note(f"  {error}")
            self._session.result(channel, functools.partial(_show_channel, channel))


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


def _show_start(playing: dict[str, Any], more: int) -> None:
    print(f"{playing['name']}: {playing['url']}")
    quote = playing["quote"]
    if not quote:
        print("  it costs nothing")
        return
    for_all = "in all, with what is to follow" if more else "in all"
    cost = f"{quote['pieces']} pieces at {quote['price']} sat: {quote['cost']} sat"
    print(f"  {cost}, and about {quote['fees']} sat to miners; at most {playing['cap']} sat {for_all}")
    if quote["locked"]:
        print(f"  {quote['locked']} sat are locked meanwhile; what is not spent of them comes back")
    else:
        print("  it is paid over the payment channel that is open: nothing more is locked")


def _show_meter(now: dict[str, Any]) -> None:
    speed = f"{now['rate'] / 1e6:.1f} MB/s from {len(now['peers'])} peers"
    spent = f"{now['bought']} pieces for {now['spent']} sat + {now['fees']} sat to miners of at most {now['cap']}"
    waiting = f" | waiting for {now['waiting_for']}" if now["waiting_for"] else ""
    print(
        f"\r\033[K{now['here']}/{now['pieces']} here | {spent} | {speed}{waiting}", end="", file=sys.stderr, flush=True
    )


def _show_end(ended: dict[str, Any], kept: bool) -> None:
    print(f"\n{ended['bought']} pieces were bought for {ended['spent']} sat; at most {ended['fees']} sat go to miners.")
    for channel in ended["channels"]:
        if kept and not channel["txid"]:
            left = channel["capacity"] - channel["paid"]
            print(f"  channel {channel['outpoint']} stays open for the next film, with {left} sat in it")
        else:
            _show_channel(channel)


def _show_channel(channel: dict[str, Any]) -> None:
    if channel["txid"]:
        print(f"  settled in {channel['txid']}: {channel['change']} sat are back, {channel['fee']} sat went to miners")
    else:
        print(f"  channel {channel['outpoint']} is not settled yet: at the latest its refund brings the rest back")
