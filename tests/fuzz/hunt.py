"""Fuzzing guided by what of bct an input reaches, from the seeds and the corpus on.

An input may have 4 KiB: what takes more is the business of `test_bounds`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.reach import branches, reached
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
_LONGEST = 4096
_ENDLESS = 30
"""Seconds after which an input is a finding, however busy the machine."""
_KEPT_BYTES = 8 * 1024
"""Of a target's inputs in the corpus, the shortest first."""


@dataclass(frozen=True)
class Catch:
    """executions: how many inputs were tried. reach: percent of the lines of each module that they ran. finding: what
    went wrong, and the bytes that show it; empty when nothing did."""

    executions: int
    reach: dict[str, int]
    finding: str = ""

    def __str__(self) -> str:
        modules = ", ".join(f"{share} % of {name.removeprefix('bct.')}" for name, share in self.reach.items())
        return f"{self.executions:,} executions, {modules}{self.finding}"


def hunt(name: str, seconds: int, folder: Path) -> Catch:
    """folder: empty; what was found worth keeping is there afterwards, a file each."""
    _put(folder, [*TARGETS[name].seeds(), *corpus.load(name)])
    said, code = _guided(
        name, f"-max_total_time={seconds}", f"-max_len={_LONGEST}", f"-artifact_prefix={folder}/", folder
    )
    tried = re.search(r"^Done (\d+) runs", said, re.MULTILINE)
    if code or not tried:
        shown = [path.read_bytes().hex() for kind in ("crash", "timeout", "oom") for path in folder.glob(f"{kind}-*")]
        return Catch(0, {}, f"\n{said[-4000:]}\nthe bytes: {' '.join(shown)}")
    return Catch(int(tried[1]), reached(TARGETS[name].rooms, _reading(name, _all(folder))))


def keep(name: str, folder: Path) -> None:
    """Writes those inputs into the corpus that take a turn which nothing shorter there takes."""
    rooms, kept = TARGETS[name].rooms, list[bytes]()
    known = branches(rooms, _reading(name, TARGETS[name].seeds()))
    for raw in sorted(_all(folder), key=len):
        taken = branches(rooms, _reading(name, [raw]))
        if taken - known and sum(map(len, kept)) + len(raw) <= _KEPT_BYTES:
            known |= taken
            kept.append(raw)
    corpus.save(name, kept)


def _reading(name: str, inputs: Iterable[bytes]) -> Callable[[], None]:
    def read() -> None:
        for raw in inputs:
            TARGETS[name](raw)

    return read


def _guided(name: str, *options: object) -> tuple[str, int]:
    """(what it said, its exit code)."""
    arguments = [sys.executable, "-m", "tests.fuzz.guided", name, *map(str, options)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    return done.stdout + done.stderr, done.returncode


def _put(folder: Path, inputs: Iterable[bytes]) -> None:
    for raw in inputs:
        (folder / sha1(raw, usedforsecurity=False).hexdigest()).write_bytes(raw)


def _all(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]
