"""Fuzzes targets, one after the other: `python -m tests.fuzz [TARGET ...] [--seconds 60] [--keep]`.

Bytes that show a mistake are printed; once it is mended they are added to the corpus by hand. --keep writes what was
found worth keeping into the corpus.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.hunt import hunt, keep
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzes bct's parsers.")
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", action="store_true", help="write the corpus anew")
    asked = parser.parse_args()
    failed = 0
    for name in asked.targets:
        with tempfile.TemporaryDirectory(prefix="bct-fuzz-") as folder:
            found = Path(folder)
            catch = hunt(name, asked.seconds, found)
            print(f"{name}: {catch}", flush=True)
            failed |= bool(catch.finding)
            if asked.keep and not catch.finding:
                keep(name, found)
    return failed


if __name__ == "__main__":
    sys.exit(main())
