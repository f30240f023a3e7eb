"""Programs that know nothing of bct, and what they saw: the wire, the chain, a decoder, an ordinary client."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from asyncio.subprocess import Process
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import imageio_ffmpeg

from bct.cli.demo import programs
from bct.errors import BctError

READ_SECONDS = 60.0


class Wire:
    """Every byte between viewer and seeder passes here and is counted."""

    def __init__(self, process: Process, address: str) -> None:
        self._process = process
        self.address = address

    @classmethod
    async def start(cls, stack: AsyncExitStack, program: Path, to: str, free: int, piece: int, log: Path) -> Wire:
        command = (sys.executable, program, "--to", to, "--free", str(free), "--piece", str(piece))
        process = await programs.keep(stack, command, log, talks=True)
        return cls(process, (await programs.line(process)).decode().strip())

    async def counted(self) -> dict[str, Any]:
        """As `tools/watch_wire.py` says it."""
        assert self._process.stdin
        self._process.stdin.write(b"\n")
        found: dict[str, Any] = json.loads(await programs.line(self._process))
        return found


async def tool(program: Path, log: Path, **arguments: object) -> dict[str, Any]:
    """What one of the programs under tools/ found. An argument that is a tuple is given once for each. Raises BctError
    when it found nothing."""
    each = ((name, value if isinstance(value, tuple) else (value,)) for name, value in arguments.items())
    given = [f"--{name}={one}" for name, values in each for one in values]
    printed, _ = await programs.run((sys.executable, program, *given), log)
    try:
        found: dict[str, Any] = json.loads(printed)
    except ValueError:
        raise BctError(f"{program.name} came to nothing: see {log}") from None
    return found


async def pictures(source: str, log: Path, before: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> int:
    """How many ffmpeg makes of a file or URL, its sound decoded as well. before, after: more arguments, around the
    source; with ``-c copy`` they are counted as they lie in the file. Raises BctError when it stumbles."""
    command = (imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-xerror", *before, "-i", source, *after)
    counting = ("-fps_mode", "passthrough", "-progress", "pipe:1", "-f", "null", "-")
    printed, code = await programs.run((*command, *counting), log)
    counts = re.findall(rb"^frame=\s*(\d+)$", printed, re.M)
    if code or not counts:
        raise BctError(f"ffmpeg stumbled over {source}: see {log}")
    return int(counts[-1])


async def cut(film: Path, start: float, seconds: float, into: Path, log: Path) -> None:
    """Some seconds of the film as a film of its own, pictures and sound as they are. Raises BctError."""
    ffmpeg = (imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-ss", str(start), "-i", film)
    _, code = await programs.run((*ffmpeg, "-t", str(seconds), "-c", "copy", into), log)
    if code:
        raise BctError(f"ffmpeg made no short film of {film}: see {log}")


async def first_byte(url: str) -> None:
    """Returns when it is there, and hangs up."""
    async with _http() as http, http.stream("GET", url) as answer:
        await _refuse_errors(answer)
        async for _ in answer.aiter_raw():
            return


async def sha256_of(url: str) -> str:
    """Of everything that the URL gives, hex."""
    digest = hashlib.sha256()
    async with _http() as http, http.stream("GET", url) as answer:
        await _refuse_errors(answer)
        try:
            async for part in answer.aiter_raw():
                digest.update(part)
        except httpx.HTTPError as error:
            raise BctError(f"the film broke off at {url}: {error or type(error).__name__}") from None
    return digest.hexdigest()


def _http() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=READ_SECONDS, trust_env=False)


async def _refuse_errors(answer: httpx.Response) -> None:
    if answer.is_error:
        raise BctError(f"{answer.url} answered {answer.status_code}: {(await answer.aread()).decode()[:300]}")
