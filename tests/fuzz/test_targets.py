"""Every target with its seeds, with what fuzzing has kept, and with a few hundred inputs made of those."""

from __future__ import annotations

import pytest

from tests.fuzz import corpus
from tests.fuzz.mutate import mutations
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_seed_can_be_read(name: str) -> None:
    """Otherwise all that is made of it would be refused at the first byte."""
    for seed in TARGETS[name].seeds():
        TARGETS[name].read(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_the_bytes(name: str) -> None:
    known = [*TARGETS[name].seeds(), *corpus.load(name)]
    for raw in (b"", *known, *mutations(name, known, TARGETS[name].mutations)):
        try:
            TARGETS[name](raw)
        except BaseException as error:
            error.add_note(f"the bytes: {raw.hex()}")
            raise
