"""Programs that the demo starts: none outlives it, however it ends."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import AsyncExitStack
from pathlib import Path

from bct.backends.regtest_node import die_with_parent
from bct.errors import BctError

END_SECONDS = 20.0


async def start(command: tuple[str | Path, ...], log: Path, *, talks: bool = False) -> Process:
    """Its standard output is ours, its errors go to `log`. talks: its standard input is ours as well."""
    with log.open("ab") as errors:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE if talks else DEVNULL,
            stdout=PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the demo: it ends them in order
            preexec_fn=die_with_parent,
        )


async def keep(stack: AsyncExitStack, command: tuple[str | Path, ...], log: Path, *, talks: bool = False) -> Process:
    """As `start`, for a program that runs until the stack ends."""
    process = await start(command, log, talks=talks)
    stack.push_async_callback(end, process)
    return process


async def run(command: tuple[str | Path, ...], log: Path) -> tuple[bytes, int]:
    """What it prints, and its exit code."""
    process = await start(command, log)
    try:
        printed, _ = await process.communicate()
    finally:
        await end(process)
    return printed, process.returncode or 0


async def line(process: Process) -> bytes:
    """The next one that it prints. Raises BctError when it ends instead."""
    assert process.stdout
    said = await process.stdout.readline()
    if not said:
        raise BctError("a program ended where it should have said something")
    return said


async def end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), END_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
