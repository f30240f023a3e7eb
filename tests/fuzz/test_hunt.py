"""A few seconds of guided fuzzing a target; how far each got is told at the end of the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.hunt import hunt
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.long
SECONDS = 10


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    catch = hunt(name, SECONDS, tmp_path)
    record_property("told", f"fuzzed {name}: {catch}")
    assert not catch.finding, catch.finding
