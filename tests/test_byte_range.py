"""Range headers (RFC 9110, 14), written as what each asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.api import byte_range
from bct.api.byte_range import UnsatisfiableError


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        (None, None),
        ("bytes=0-", (0, 1000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=500-599", (500, 600)),
        ("bytes=999-", (999, 1000)),
        ("bytes=990-5000", (990, 1000)),  # as much as there is
        ("bytes=-1", (999, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("Bytes = 1-2 ", (1, 3)),
        # Malformed or several: as if it were not there.
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0-1,5-6", None),
        ("bytes=+1-2", None),
        ("bytes=١-٢", None),
        ("items=0-1", None),
        ("bytes=" + "9" * 5000 + "-", None),
    ],
)
def test_what_a_header_asks_for(header: str | None, asked: tuple[int, int] | None) -> None:
    assert byte_range.parse(header, 1000) == asked


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=999999999-", "bytes=-0"])
def test_a_range_behind_the_end_is_unsatisfiable(header: str) -> None:
    with pytest.raises(UnsatisfiableError):
        byte_range.parse(header, 1000)


@given(st.text(alphabet="bytes= -0123456789,", max_size=30), st.integers(1, 10**12))
def test_whatever_is_written_the_answer_lies_inside_the_file(text: str, length: int) -> None:
    for header in (text, f"bytes={text}"):
        try:
            asked = byte_range.parse(header, length)
        except UnsatisfiableError:
            continue
        assert asked is None or 0 <= asked[0] < asked[1] <= length


def test_if_range_counts_only_for_exactly_this_film() -> None:
    assert byte_range.is_current(None, '"abc"')
    assert byte_range.is_current('"abc"', '"abc"')
    for other in ('W/"abc"', '"abd"', "abc", "Sun, 22 Nov 2026 12:00:00 GMT", ""):
        assert not byte_range.is_current(other, '"abc"')
