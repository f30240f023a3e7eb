"""`bct init`, `up`, `down`, `status`: a node's life."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from bct.cli.verb import Session, verb
from bct.errors import BctError, NotRunningError, TemporaryError

if TYPE_CHECKING:
    from bct.cli.home import Home

DOWN_SECONDS = 45.0
"""Settling takes 10 s at most; the rest is for the embedded chain to save itself."""

PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File whose first line is the wallet's passphrase.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="A setting, section.key=value; may be given more than once.")
]


def add_to(app: typer.Typer) -> None:
    verb(app, "init")(init)
    verb(app, "up")(up)
    verb(app, "down")(down)
    verb(app, "status")(status)


def init(session: Session, passphrase_file: PassphraseFile = None) -> None:
    """Make the data directory, a wallet with twelve words, and this node's identity.

    Example: `bct init --passphrase-file secret.txt`
    """
    from bct.backends import keyfile
    from bct.bitcoin import address
    from bct.bitcoin.hd import ENTROPY_SIZE, words_of_entropy
    from bct.cli.keys import network_of, read_passphrase

    network = network_of(session.config())
    passphrase = read_passphrase(passphrase_file)
    session.home.make()
    words = words_of_entropy(secrets.token_bytes(ENTROPY_SIZE))
    keyring = keyfile.create(session.home.wallet, words, network, passphrase)
    made = {
        "data_dir": str(session.home.root),
        "words": words,
        "identity": keyring.identity.public.hex(),
        "payout": address.encode(keyring.payout, network),
    }
    session.result(made, lambda: _show_words(session.home, words))


def _show_words(home: Home, words: str) -> None:
    print(f"A wallet was made in {home.root}. These twelve words are the money: whoever has them has it,")
    print("and with them it comes back on any machine. Write them down now, on paper:\n")
    for number, word in enumerate(words.split(), 1):
        print(f"{number:>6}. {word}")
    print("\nNext: bct up")


def up(
    session: Session,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay here until Ctrl-C, and log here.")] = False,
    passphrase_file: PassphraseFile = None,
    settings: Set = None,
) -> None:
    """Start the node, and a chain for it unless `chain.url` names one.

    Without its passphrase a sealed wallet stays locked: the node seeds and settles what it is owed, and spends nothing.

    Example: `bct up --set api.port=0 --set wire.listen_port=0`
    """
    session.home.check()
    flags = settings or []
    session.config(flags)
    if foreground:
        _serve(session, flags, passphrase_file)
        return
    if (running := _running(session)) is None:
        running = _spawn(session, flags, passphrase_file)
    _announce(session, running)


def _announce(session: Session, running: dict[str, Any]) -> None:
    text = f"The node is up: peers at {running['listen']}, API at {running['api']}, log in {session.home.log}."
    session.result(running, text + (" Its wallet is locked." if running["wallet"] == "locked" else ""))


def _serve(session: Session, flags: list[str], passphrase_file: Path | None) -> None:
    from bct.cli import keys, logs, service

    config = session.config(flags)
    keyring = keys.load(session.home, config, keys.read_passphrase(passphrase_file))
    logs.set_up()
    session.home.make()
    ended = service.run(session.home, config, keyring, lambda found: _announce(session, found))
    for one in ended:
        session.note(f"channel {one.outpoint}: {one.paid} sat, {'settled' if one.txid else 'saved for later'}")


def _running(session: Session) -> dict[str, Any] | None:
    """What is known of the node that runs already."""
    try:
        node = session.node()
        wallet = node.get("/api/wallet")
    except NotRunningError:
        return None
    return node.found | {"wallet": "locked" if wallet["locked"] else "open", "log": str(session.home.log)}


def _spawn(session: Session, flags: list[str], passphrase_file: Path | None) -> dict[str, Any]:
    """Starts the node as a process of its own and waits for its first line: where it is, or why it did not come up."""
    command = [sys.executable, "-m", "bct.cli", "up", "--foreground", "--json", "--data-dir", str(session.home.root)]
    command += [part for flag in flags for part in ("--set", flag)]
    command += ["--network", session.network] if session.network else []
    command += ["--passphrase-file", str(passphrase_file.absolute())] if passphrase_file else []
    with session.home.log.open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - it is this program
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    assert child.stdout
    return _first_words(session, child.stdout)


def _first_words(session: Session, output: IO[bytes]) -> dict[str, Any]:
    line = output.readline()
    if not line:
        raise BctError(f"the node ended before it was up: {session.home.log} says why")
    said: dict[str, Any] = json.loads(line)
    if "error" not in said:
        return said
    from bct.cli.client import error_of

    raise error_of(said)


def down(session: Session) -> None:
    """Settle every payment channel that can be, and stop the node.

    What cannot be settled now (the chain, or a seeder, does not answer) is saved and settled later.
    """
    node = session.node()
    ended = node.post("/api/stop")
    _wait_for_end(session.home, node.found["pid"])
    session.result({"settled": ended}, lambda: _show_ended(ended))


def _wait_for_end(home: Home, pid: int) -> None:
    deadline = time.monotonic() + DOWN_SECONDS
    while _lives(pid):
        if time.monotonic() > deadline:
            raise TemporaryError(f"the node (process {pid}) is still ending after {DOWN_SECONDS:.0f} s: see {home.log}")
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _show_ended(ended: list[dict[str, Any]]) -> None:
    print("The node is down." + ("" if ended else " No payment channel was open."))
    for one in ended:
        what = "earned" if one["role"] == "payee" else "spent"
        how = f"settled in {one['txid']}" if one["txid"] else "saved: it is settled after the next start"
        print(f"  channel {one['channel']}: {what} {one['paid']} sat, {how}")


def status(session: Session) -> None:
    """What the node is doing: chain, wallet, peers, titles, plays."""
    found = session.node().get("/api/status")
    session.result(found, lambda: _show_status(found))


def _show_status(found: dict[str, Any]) -> None:
    chain, wallet = found["chain"], found["wallet"]
    reach = f"block {chain['height']}" if chain["reachable"] else "does not answer"
    coins = f"{wallet['confirmed']} sat, {wallet['pending']} more wait for a block"
    for name, value in (
        ("version", f"{found['version']}, up for {found['uptime']:.0f} s"),
        ("chain", f"{chain['network']}, {reach}, {chain['url']}"),
        ("wallet", f"{coins}{', locked' if wallet['locked'] else ''}"),
        ("peers", f"{found['peers']}, listening at {found['listen']}"),
        ("titles", str(found["titles"])),
        ("channels", f"{found['earning']} earn, {found['spending']} spend"),
        ("plays", ", ".join(found["plays"]) or "none"),
    ):
        print(f"{name:<9} {value}")
    for alarm in found["alarms"]:
        print(f"alarm     {alarm['text']}")
