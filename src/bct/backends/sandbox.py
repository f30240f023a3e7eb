"""Runs a program that reads strangers' files: behind walls (`walls`), for a limited time, and gone when we are.

The program has its input and output as open files and gets no path, no environment and no terminal. It is the leader
of a process group of its own, and the group is killed when the run is cancelled, takes too long or fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bct.errors import MediaError

_WALLS = str(Path(__file__).with_name("walls.py"))
_LOG_KEPT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """seconds: on the wall, and per processor; memory: bytes of address space; file_size: bytes of the output."""

    seconds: float
    file_size: int = 1 << 20
    memory: int = 8 << 30


@dataclass(frozen=True, slots=True)
class Finished:
    """code: the exit code, negative for the signal that ended it. log: the last 64 KiB of what it said."""

    code: int
    log: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Which of the walls that depend on kernel and container stand on this machine."""

    network: bool
    files: bool


async def run(
    program: str, arguments: Sequence[str], limits: Limits, source: int, target: int, on_line: Callable[[str], None]
) -> Finished:
    """Runs `program` to its end. source: file descriptor it has as 0. target: one it has under the same number.

    on_line: given each line of its standard output. Raises MediaError when `limits.seconds` pass.
    """
    try:
        async with asyncio.timeout(limits.seconds), _started(program, arguments, limits, source, target) as process:
            assert process.stdout
            assert process.stderr
            log = asyncio.ensure_future(_tail(process.stderr))
            async for line in process.stdout:
                on_line(line.decode(errors="replace").strip())
            return Finished(await process.wait(), await log)
    except TimeoutError:
        raise MediaError(f"the file took more than {limits.seconds:.0f} s to read and was given up") from None


async def standing() -> Standing:
    """Builds the walls around nothing and looks which stand."""
    lines: list[str] = []
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        await run("-", (), Limits(seconds=30), nothing, nothing, lines.append)
    finally:
        os.close(nothing)
    return Standing(**json.loads(lines[0]))


@asynccontextmanager
async def _started(
    program: str, arguments: Sequence[str], limits: Limits, source: int, target: int
) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", _WALLS, _settings(limits), program, *arguments),
        stdin=source,
        stdout=PIPE,
        stderr=PIPE,
        pass_fds=(target,),
        start_new_session=True,
        env={},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _settings(limits: Limits) -> str:
    cores = os.cpu_count() or 1
    seconds = int(limits.seconds * cores) + 1
    return json.dumps(
        {"parent": os.getpid(), "seconds": seconds, "memory": limits.memory, "file_size": limits.file_size}
    )


async def _tail(stream: asyncio.StreamReader) -> str:
    kept = b""
    while data := await stream.read(_LOG_KEPT):
        kept = (kept + data)[-_LOG_KEPT:]
    return kept.decode(errors="replace")
