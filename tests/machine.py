"""Machines for tests of the command line: each a data directory, a node that is a process of its own, and verbs.

Verbs run inside the test's process, for importing everything anew each time would take most of the tests' time; `start`
makes a process of one where that matters.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from bct.cli.client import NodeClient
from bct.cli.home import Home
from bct.cli.main import app

ENDS_IN = 60.0
"""Seconds after which a process that should have ended is a failure."""


@dataclass
class Machine:
    """env: settings of the environment, over none of the tester's own."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str | None]:
        """What differs from the tester's own; None for what is not there."""
        tester = dict.fromkeys(name for name in os.environ if name.startswith("BCT_"))
        return tester | {"BCT_API__PORT": "0", "BCT_WIRE__LISTEN_PORT": "0"} | self.env

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`bct` as a process of its own, left running."""
        changed = dict(os.environ) | self.environment
        return subprocess.Popen(
            [sys.executable, "-m", "bct.cli", *arguments, "--data-dir", str(self.root)],
            env={name: value for name, value in changed.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """(what it said, what it complained) of a verb that has to end with `code`."""
        done = CliRunner().invoke(
            app, [*arguments, "--data-dir", str(self.root)], env=self.environment, catch_exceptions=False
        )
        assert done.exit_code == code, f"bct {' '.join(arguments)} ended with {done.exit_code}: {done.output}"
        return done.stdout, done.stderr

    def bct(self, *arguments: str, code: int = 0) -> Any:
        """The last JSON object that the command printed."""
        said, _ = self.run(*arguments, "--json", code=code)
        return json.loads(said.splitlines()[-1])

    @property
    def home(self) -> Home:
        return Home(self.root)

    @property
    def node(self) -> NodeClient:
        """The API of the node that runs here."""
        return NodeClient(self.home)

    @property
    def pid(self) -> int:
        return int(self.node.found["pid"])

    def kill(self) -> None:
        """The node, as a power cut would."""
        end(self.pid, signal.SIGKILL)

    @contextmanager
    def up(self, *arguments: str) -> Iterator[dict[str, Any]]:
        """A node, ended in the end however it went."""
        found = self.bct("up", *arguments)
        try:
            yield found
        finally:
            if lives(found["pid"]):
                end(found["pid"], signal.SIGTERM)


def end(pid: int, number: signal.Signals) -> float:
    """Sends a signal and waits until the process is gone; how many seconds that took."""
    started = time.monotonic()
    os.kill(pid, number)
    while lives(pid):
        assert time.monotonic() - started < ENDS_IN, f"process {pid} does not end"
        time.sleep(0.01)
    return time.monotonic() - started


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pointed_at(machine: Machine) -> dict[str, str]:
    """Settings that point another node at the chain of this machine's."""
    chain = machine.node.get("/api/status")["chain"]
    return {f"BCT_CHAIN__{name.upper()}": chain[name] for name in ("url", "cookie_file", "zmq", "faucet")}
