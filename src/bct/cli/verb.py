"""What every verb has in common: its options, its output, and how it ends."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bct.cli.home import Home
from bct.errors import BctError

if TYPE_CHECKING:
    from bct.cli.client import NodeClient
    from bct.config import Config

INTERRUPTED = 130


class NetworkName(StrEnum):
    REGTEST = "regtest"
    TEST = "test"
    MAIN = "main"


@dataclass(frozen=True, slots=True)
class Session:
    """One call of a verb. network: None when it was not said."""

    home: Home
    json: bool
    network: str | None

    def config(self, flags: Sequence[str] = ()) -> Config:
        """Every setting. flags: ``section.key=value``. Raises ConfigError, ChainError."""
        from bct.cli import settings

        return settings.load(self.home.config, os.environ, flags, self.network)

    def node(self) -> NodeClient:
        """The running node. Raises NotRunningError."""
        from bct.cli.client import NodeClient

        self.config()
        return NodeClient(self.home)

    def result(self, value: Any, text: str | Callable[[], None]) -> None:
        """What the verb is about: one JSON object for programs, else the text, or whatever `text` prints."""
        if self.json:
            print(json.dumps(value), flush=True)
        elif isinstance(text, str):
            print(text, flush=True)
        else:
            text()

    def note(self, text: str) -> None:
        """A word beside the result, for people only."""
        if not self.json:
            print(text, flush=True)

    def fail(self, error: BctError) -> None:
        if self.json:
            found = {"error": error.word(), "text": str(error), "exit_code": error.exit_code}
            print(json.dumps(found), flush=True)
        else:
            print(f"bct: {error}", file=sys.stderr)


_COMMON = {
    "as_json": (bool, typer.Option("--json", help="Print JSON for programs instead of text."), False),
    "data_dir": (
        Path | None,
        typer.Option("--data-dir", help="The node's directory.", show_default="$BCT_DATA_DIR, else the user's"),
        None,
    ),
    "network": (NetworkName | None, typer.Option("--network", help="The chain.", show_default="regtest"), None),
}


def verb(
    app: typer.Typer, name: str | None = None, *, alone: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a command of a function whose first argument is a `Session`: adds --json, --data-dir and --network, and
    turns errors into their sentence and exit code. alone: without these options, for a verb that is about no node."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(function, eval_str=True).parameters.values()

        @functools.wraps(function)
        def command(
            as_json: bool = False, data_dir: Path | None = None, network: NetworkName | None = None, **arguments: Any
        ) -> None:
            session = Session(Home.at(data_dir), as_json, network.value if network else None)
            try:
                function(session, **arguments)
            except BctError as error:
                session.fail(error)
                raise typer.Exit(error.exit_code) from None
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED) from None

        common = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
            for name, (kind, option, default) in ({} if alone else _COMMON).items()
        ]
        parameters = [*(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *common]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        app.command(name)(command)
        return function

    return register
