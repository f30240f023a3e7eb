"""vectors/ and the drawn pages of docs/ are what the code says today."""

from __future__ import annotations

import pytest

from tests.make_vectors import ROOT, made

FILES = made()


@pytest.mark.parametrize("path", FILES)
def test_a_generated_file_is_current(path: str) -> None:
    written = (ROOT / path).read_text(encoding="utf-8")
    assert written == FILES[path], (
        f"{path} differs from the code: run python -m tests.make_vectors and look at the diff"
    )
