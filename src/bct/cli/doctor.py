"""`bct doctor`: is everything here that a node needs, and does it work?"""

from __future__ import annotations

import asyncio
import platform
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bct.backends import database, ledger, sandbox
from bct.backends.regtest_node import find_bitcoind
from bct.bitcoin.chain import Header
from bct.bitcoin.keys import PrivateKey, verify
from bct.channel.timing import CLOCK_BEHIND
from bct.cli import chains, keys
from bct.cli.client import NodeClient
from bct.cli.home import Home
from bct.config import Config
from bct.errors import BctError, ConfigError, NotRunningError
from bct.pay.replay import Replay

LEAST_FREE = 1 << 30
PROGRAM_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. text: what was found, and what to do when it is not good."""

    name: str
    good: bool
    text: str


def examine(home: Home, config: Config, passphrase: str) -> list[Finding]:
    """Everything, in the order in which things depend on each other."""
    return list(_findings(home, config, passphrase))


def show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for one in findings:
        table.add_row("[green]ok[/]" if one.good else "[red]NO[/]", one.name, one.text)
    Console().print(table)


def _findings(home: Home, config: Config, passphrase: str) -> Iterator[Finding]:
    yield _look("python", _python)
    yield _look("secp256k1", _curve)
    yield _look("sqlite", lambda: sqlite3.sqlite_version)
    yield _look("ffmpeg", _ffmpeg)
    yield _look("sandbox", _sandbox)
    yield _look("disk", lambda: _disk(home))
    yield _look("wallet", lambda: _wallet(home, config, passphrase))
    yield _look("database", lambda: _database(home))
    yield _look("ledgers", lambda: _ledgers(home))
    running = _running(home)
    yield Finding("node", True, f"runs at {running.address}" if running else "does not run: bct up")
    if not running:
        yield _look("ports", lambda: _ports(config))
    if config.chain.url:
        yield _look("chain", lambda: asyncio.run(_chain(config)))
    else:
        yield _look("bitcoind", lambda: find_bitcoind(config.chain.bitcoind))


def _look(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except BctError as error:
        return Finding(name, False, str(error))


def _python() -> str:
    if not (3, 12) <= sys.version_info[:2] <= (3, 13):
        raise ConfigError(f"this is Python {platform.python_version()}: bct needs 3.12 or 3.13")
    return platform.python_version()


def _curve() -> str:
    key, digest = PrivateKey(bytes(31) + b"\1"), bytes(32)
    if not verify(key.public, digest, key.sign(digest)):
        raise ConfigError("the library libsecp256k1 does not know its own signature: install coincurve anew")
    return "signs and verifies"


def _ffmpeg() -> str:
    import imageio_ffmpeg

    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
        command = [program, "-version"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=True)  # noqa: S603
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"ffmpeg does not run ({error}): publishing needs it") from None
    return f"{said.stdout.split()[2]} at {program}"


def _sandbox() -> str:
    standing = asyncio.run(sandbox.standing())
    walls = [name for name, stands in (("network", standing.network), ("files", standing.files)) if stands]
    missing = [name for name, stands in (("network", standing.network), ("files", standing.files)) if not stands]
    text = f"ffmpeg is kept from {' and '.join(walls) or 'neither network nor files'}"
    return text + (f"; this system does not let us keep it from {' or '.join(missing)}" if missing else "")


def _disk(home: Home) -> str:
    place = next(one for one in (home.root, *home.root.parents) if one.exists())
    free = shutil.disk_usage(place).free
    if free < LEAST_FREE:
        raise ConfigError(f"{free >> 20} MiB are free at {place}: a film needs more")
    return f"{free >> 30} GiB free at {place}"


def _wallet(home: Home, config: Config, passphrase: str) -> str:
    home.check()
    keyring = keys.load(home, config, passphrase)
    return "sealed; give --passphrase-file to look inside" if keyring.locked else "opens"


def _database(home: Home) -> str:
    if not home.database.exists():
        return "none yet: bct up makes it"
    version = database.examine(home.database)
    if version > database.VERSION:
        raise ConfigError(f"{home.database} was written by a newer bct (version {version}): update bct")
    return f"sound, version {version}"


def _ledgers(home: Home) -> str:
    texts = [_ledger(path) for path in (home.earned, home.spent) if path.exists()]
    return "; ".join(texts) or "none yet: bct up makes them"


def _ledger(path: Path) -> str:
    """What was torn off by a power cut is no reason to do anything; what was cut off before is said as long as it
    lies there."""
    replay = Replay()
    _, torn = ledger.read(path, replay.add)
    text = f"{path.name} tells of {len(replay.channels())} payment channels"
    if torn:
        text += f", and has {torn} bytes that cannot be read: the next start puts them aside"
    if kept := sorted(one.name for one in path.parent.glob(f"{path.name}.cut-*")):
        text += f"; {', '.join(kept)} cannot be read and can go once the channels of then are over"
    return text


def _running(home: Home) -> NodeClient | None:
    try:
        node = NodeClient(home)
        node.get("/api/status")
    except NotRunningError:
        return None
    return node


def _ports(config: Config) -> str:
    import socket

    from bct.api.server import bind

    bind(config.api).close()
    host, port = config.wire.listen_host, config.wire.listen_port
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise ConfigError(f"{host}:{port} cannot be listened on ({error.strerror}): set wire.listen_port") from None
    return f"{config.api.port} and {port} are free"


async def _chain(config: Config) -> str:
    async with AsyncExitStack() as stack:
        chain = await chains.connect(stack, config.chain)
        tip = await chain.tip()
    _check_clock(tip)
    return f"block {tip.height} at {config.chain.url}"


def _check_clock(tip: Header) -> None:
    ahead = tip.time - int(time.time())
    if ahead > CLOCK_BEHIND:
        raise ConfigError(f"the newest block is {ahead} s ahead of this machine's clock: set the clock")
