"""docs/THREATS.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TABLE = (TESTS.parent / "docs/THREATS.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+)(?:::(\w+))?`", TABLE)))


def test_every_attack_has_a_row() -> None:
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", TABLE, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 58


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_is_there(file: str, name: str) -> None:
    source = (TESTS / f"{file}.py").read_text(encoding="utf-8")
    assert not name or re.search(rf"^\s*(async )?def {name}\(", source, re.MULTILINE)
