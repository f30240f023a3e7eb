"""`bct demo`: a film is sold, watched and settled on this machine, and what came of it is checked from outside.

`story` is what happens, `parties` are who takes part, `witnesses` are programs that know nothing of bct and tell what
they saw, `judge` compares their words with the parties', and `report` shows it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console

from bct.cli.demo import report, story
from bct.cli.demo.checkout import Checkout
from bct.cli.demo.judge import Verdict
from bct.errors import BctError


def run(json_file: Path | None, keep: bool) -> None:
    """json_file: gets the figures, whether or not they are right. keep: everything stays up until Ctrl-C.

    Raises ConfigError outside of a checkout, and BctError with what went wrong; then the directory is left for a look.
    """
    checkout = Checkout.find()
    directory = Path(tempfile.mkdtemp(prefix="bct-demo-"))
    try:
        asyncio.run(_run(checkout, directory, json_file, keep))
    except BctError as error:
        raise BctError(f"the demo failed: {error}. The parties' logs and data are in {directory}") from None
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)


async def _run(checkout: Checkout, directory: Path, json_file: Path | None, keep: bool) -> None:
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    console = Console(highlight=False, soft_wrap=True)
    async with AsyncExitStack() as stack:
        told = await story.tell(stack, checkout, directory, partial(report.step, console))
        if json_file:
            _write(json_file, told.verdict)
        report.show(console, told)
        if keep:
            report.show_places(console, told, directory)
            await asyncio.Event().wait()
    if told.verdict.wrong:
        raise BctError("; ".join(told.verdict.wrong))


def _write(file: Path, verdict: Verdict) -> None:
    try:
        file.write_text(json.dumps(asdict(verdict.figures), indent=2) + "\n")
    except OSError as error:
        raise BctError(f"{file} cannot be written: {error.strerror}") from None
