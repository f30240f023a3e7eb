"""How `bct` ends when it cannot do what was asked: each exit code, provoked."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.film import BUNNY
from tests.machine import Machine

MAGNET = f"magnet:?xt=urn:btih:{'ab' * 20}&x.pe=127.0.0.1:1"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A node whose wallet is sealed, and not opened."""
    root = tmp_path_factory.mktemp("machine")
    passphrase = root / "passphrase"
    passphrase.write_text("correct horse\n")
    found = Machine(root / "data")
    found.bct("init", "--passphrase-file", str(passphrase))
    with found.up() as node:
        assert node["wallet"] == "locked"
        yield found


def verbs() -> Iterator[list[str]]:
    """Every command there is, as its words."""
    import typer

    from bct.cli.main import app

    def walk(command: object, words: list[str]) -> Iterator[list[str]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, [*words, name])
        if not hasattr(command, "commands"):
            yield words

    return walk(typer.main.get_command(app), [])


def test_every_verb_explains_itself() -> None:
    from typer.testing import CliRunner

    from bct.cli.main import app

    found = list(verbs())
    assert {tuple(words) for words in found} >= {
        ("init",),
        ("play",),
        ("wallet", "restore"),
        ("seed", "add"),
        ("doctor",),
    }
    for words in found:
        shown = CliRunner().invoke(app, [*words, "--help"])
        assert shown.exit_code == 0, words
        assert "--json" in shown.output, words
        assert len(shown.output.splitlines()) >= 8, words


def test_help_loads_nothing_that_takes_time() -> None:
    heavy = {"httpx", "sqlalchemy", "fastapi", "pydantic", "rich", "coincurve", "uvicorn", "structlog"}
    program = (
        "import sys\nsys.argv = ['bct', '--help']\nfrom bct.cli.main import main\n"
        f"try:\n    main()\nfinally:\n    print(*({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert "publish" in done.stdout


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (2, ["play", "nonsense"], "a link looks like"),
        (2, ["play", "none.torrent"], "cannot be read"),
        (2, ["play", MAGNET, "--player", "no-such-player"], "there is no program 'no-such-player'"),
        (2, ["play", MAGNET, "--peer", "nowhere"], "is no peer"),
        (2, ["play", "bct:0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798/film"], "one torrent"),
        (2, ["wallet", "send", "nobody", "1000"], "is no address"),
        (2, ["wallet", "send", "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8", "much"], "a number of satoshis"),
        (2, ["publish", str(BUNNY), "--payee", "me"], "HASH:BPS"),
        (2, ["init"], "holds a wallet"),
        (2, ["channels", "close", "nothing"], "txid:index"),
        (2, ["channels", "refund", f"{'00' * 32}:0"], "no payment channel"),
        (1, ["seed", "add", MAGNET, "--from", "/nowhere.mp4"], "cannot be copied"),
        (5, ["wallet", "send", "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8", "1000"], "the wallet is locked"),
        (5, ["wallet", "address"], "the wallet is locked"),
        (5, ["wallet", "words"], "the wallet is locked"),
        (5, ["publish", str(BUNNY)], "the wallet is locked"),
        (69, ["status", "--network", "main"], "regtest only"),
        (69, ["up", "--network", "test"], "regtest only"),
        (75, ["play", MAGNET, "--player", sys.executable], "none of the 1 peers in the link answers"),
    ],
)
def test_each_failure_has_its_code_and_its_sentence(
    machine: Machine, code: int, arguments: list[str], says: str
) -> None:
    found = machine.bct(*arguments, code=code)
    assert set(found) == {"error", "text", "exit_code"}
    assert found["exit_code"] == code
    assert says.lower() in found["text"].lower()
    assert list(machine.home.incoming.iterdir()) == []


@pytest.mark.parametrize("arguments", [["nothing"], ["play"], ["publish", "x", "--price", "-1"], ["up", "--nothing"]])
def test_a_command_that_is_not_one_ends_with_2(machine: Machine, arguments: list[str]) -> None:
    machine.run(*arguments, code=2)


def test_people_get_the_sentence_on_standard_error(machine: Machine) -> None:
    said, complained = machine.run("wallet", "address", code=5)
    assert said == ""
    assert re.fullmatch(r"bct: the wallet is locked: [^\n]+\n", complained)


def test_without_a_node_or_a_wallet_it_says_what_to_do(tmp_path: Path) -> None:
    empty = Machine(tmp_path / "empty")
    assert "bct up" in empty.bct("status", code=3)["text"]
    assert "bct up" in empty.bct("down", code=3)["text"]
    assert "bct init" in empty.bct("up", code=2)["text"]
    assert not empty.root.exists(), "asking leaves no trace"


def test_a_cookie_of_another_start_is_refused(machine: Machine) -> None:
    before = machine.home.cookie.read_text()
    assert machine.home.cookie.stat().st_mode & 0o777 == 0o600
    machine.home.cookie.write_text("0" * 64)
    try:
        assert "cookie" in machine.bct("status", code=4)["text"]
    finally:
        machine.home.cookie.write_text(before)


def test_a_wrong_passphrase_ends_with_4(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("incorrect horse")
    machine.bct("wallet", "words", "--passphrase-file", str(tmp_path / "wrong"), code=4)


def test_up_twice_is_up_once(machine: Machine) -> None:
    assert machine.bct("up")["pid"] == machine.pid


def test_a_chain_that_does_not_answer_ends_up_with_69(tmp_path: Path) -> None:
    lonely = Machine(tmp_path, {"BCT_CHAIN__URL": "http://127.0.0.1:1", "BCT_CHAIN__COOKIE_FILE": "/nowhere"})
    lonely.bct("init")
    assert "chain.zmq" in lonely.bct("up", code=2)["text"]
    assert "cookie" in lonely.bct("up", "--set", "chain.zmq=tcp://127.0.0.1:1", code=69)["text"]


def test_a_wrong_setting_stops_every_verb(machine: Machine) -> None:
    machine.home.config.write_text("[wire]\nmax_pears = 3\n")
    try:
        for verb in ("status", "up", "doctor"):
            assert "max_pears" in machine.bct(verb, code=2)["text"]
    finally:
        machine.home.config.unlink()


def test_doctor_is_content_or_says_what_is_missing(machine: Machine) -> None:
    assert machine.bct("doctor")["ok"]
    ill = machine.bct("doctor", "--set", "chain.bitcoind=/nowhere/bitcoind", code=1)
    assert [one["name"] for one in ill["checks"] if not one["good"]] == ["bitcoind"]


def test_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    """While it waits for words that never come."""
    words = tmp_path / "words"
    os.mkfifo(words)
    process = Machine(tmp_path / "data").start("wallet", "restore", "--words-file", str(words))
    with process, words.open("w"):  # opens once the other side has
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
