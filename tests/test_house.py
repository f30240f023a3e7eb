"""What the repository promises about itself: its locks, its files, its documents."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bct.errors import RemoteProtocolError
from bct.pay.messages import MESSAGES, CloseReason, Codec, Fault, Message, Refusal

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, check=True)
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).exists()]


def pins(name: str) -> dict[str, str]:
    """Library → version of one lock file; each entry carries at least one sha256."""
    entries = re.findall(r"^([a-z0-9-]+)==(\S+)[^\\\n]*\\\n((?: +--hash=sha256:[0-9a-f]{64}.*\n)+)", lock(name), re.M)
    return {library: version for library, version, _ in entries}


def lock(name: str) -> str:
    return (ROOT / f"requirements/{name}.txt").read_text()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("runtime", PROJECT["dependencies"]),
        ("dev", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]),
        ("setup", (ROOT / "requirements/setup.in").read_text().splitlines()[1:]),
    ],
)
def test_the_lock_holds_what_the_project_asks_for(name: str, wanted: list[str]) -> None:
    locked = pins(name)
    assert len(locked) == len(re.findall(r"^[^\s#]", lock(name), re.M)), "an entry without a hash"
    for requirement in map(Requirement, wanted):
        assert requirement.name in locked, f"{requirement} is not in requirements/{name}.txt: ./run lock"
        assert requirement.specifier.contains(locked[requirement.name]), f"{requirement}: ./run lock"


def test_what_runs_is_what_is_tested() -> None:
    assert pins("runtime").items() <= pins("dev").items()
    assert all(pins("dev").get(library, version) == version for library, version in pins("setup").items())


def test_locks_carry_no_addresses() -> None:
    for path in tracked("requirements/*", "tools/pins.toml", "tests/js/package-lock.json"):
        assert "://" not in path.read_text(), path


def test_nothing_names_a_machine_it_was_written_on() -> None:
    place = re.compile(r"(?<![\w.~])/(?:work|root|home|srv|Users)/\w")
    assert not [path for path in tracked() if place.search(path.read_text())]


def test_nothing_built_is_tracked() -> None:
    ignored = subprocess.run(
        ["git", "ls-files", "-ci", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    assert ignored.stdout == b""
    assert not [path for path in tracked() if b"\0" in path.read_bytes()]


def test_every_module_says_what_it_is_for() -> None:
    sources = {path: path.read_text() for path in tracked("src/*.py", "tools/*.py", "bench/*.py")}
    assert not [path for path, text in sources.items() if text and not ast.get_docstring(ast.parse(text))]


def test_no_test_is_skipped() -> None:
    skips = re.compile(r"\b(?:skip|skipif|xfail|importorskip)\b\(")
    assert not [path for path in tracked("tests/*.py") if skips.search(path.read_text())]


def test_documents_point_at_what_exists() -> None:
    for path in tracked("*.md"):
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} points at {target}"


def test_documents_name_only_verbs_that_run_has() -> None:
    usage = subprocess.run([ROOT / "run", "--help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"\./run (\w+)", usage))
    for path in tracked("*.md"):
        assert set(re.findall(r"\./run (\w+)", path.read_text())) <= known, path


def field_kind(codec: Codec) -> str:
    """As docs/PROTOCOL.md writes it, found out by reading zeros, and a count that is too high."""
    value, end = codec.read(bytes(100), 0)
    if isinstance(value, int):
        return f"u{8 * end}"
    if value:
        return str(end)
    with pytest.raises(RemoteProtocolError, match="at most") as refused:
        codec.read(b"\xff" * end, 0)
    most = re.findall(r"at most (\d+)", str(refused.value))[0]
    return f"{'b' if isinstance(value, bytes) else 'n'}{8 * end} <= {most}"


def wire_name(message: type[Message]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", message.__name__).upper()


def test_the_protocols_page_lists_every_message_as_it_is() -> None:
    page = (ROOT / "docs/PROTOCOL.md").read_text()
    listed = re.findall(r"^\| 0x(\w\w) \| (\w+) \| [VS, ]+ \| (.*?) \| (.*?)\|$", page, re.M)
    assert [(int(number, 16), name, fields) for number, name, fields, _ in listed] == [
        (message.TYPE, wire_name(message), ", ".join(f"{field} {field_kind(codec)}" for field, codec in message.LAYOUT))
        for message in MESSAGES
    ]
    unsigned = [name for _, name, fields, by in listed if "signature" in fields and not by.strip()]
    assert not unsigned, f"{unsigned}: the page does not say who signs"


@pytest.mark.parametrize("words", [CloseReason, Refusal, Fault])
def test_the_protocols_page_lists_every_reason(words: type[CloseReason | Refusal | Fault]) -> None:
    page = " ".join((ROOT / "docs/PROTOCOL.md").read_text().split())
    assert ", ".join(f"{word.value} {word.name}" for word in words) in page
