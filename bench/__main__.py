"""Run benchmarks, print their table, write it as JSON. A missed goal is shown, and explained in docs/BENCHMARKS.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.row import Row

NAMES = ("payments", "seeding", "peers", "ingest")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="one of them; without: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    options = parser.parse_args(arguments)
    rows = [row for name in ([options.name] if options.name else NAMES) for row in run(name)]
    Console(markup=False).print(table(rows))
    if options.json:
        options.json.write_text(json.dumps({**machine(), "rows": [row.as_json() for row in rows]}, indent=2) + "\n")
    return 0


def run(name: str) -> list[Row]:
    print(f"bench: {name}", file=sys.stderr, flush=True)
    rows: list[Row] = import_module(f"bench.{name}").rows()
    return rows


def table(rows: list[Row]) -> Table:
    drawn = Table("what", "bct", "other", "", "against", "ratio", "goal", "", box=None)
    for row in rows:
        figures = f"{row.value:,.4g}", f"{row.against_value:,.4g}", row.unit
        against = f"{row.against} ({row.settings})" if row.settings else row.against
        drawn.add_row(
            row.name, *figures, against, f"{row.ratio:.2f}", f"{row.goal:.2f}", "ok" if row.meets else "MISSED"
        )
    return drawn


def machine() -> dict[str, object]:
    """What the figures depend on, without naming the machine."""
    return {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}


if __name__ == "__main__":
    sys.exit(main())
