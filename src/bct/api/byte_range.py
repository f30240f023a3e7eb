"""Which bytes a Range header asks for (RFC 9110, 14): one range of a representation whose length is known."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


class UnsatisfiableError(ValueError):
    """The range begins behind the end: 416."""


def parse(header: str | None, length: int) -> tuple[int, int] | None:
    """The half-open range [start, end) asked for; None for all of it.

    A header that is malformed, or asks for several ranges, counts as absent, as the RFC allows. Raises
    UnsatisfiableError.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(last, length)
    start, end = int(first), int(last) + 1 if last else length
    if last and end <= start:
        return None
    if start >= length:
        raise UnsatisfiableError
    return start, min(end, length)


def _suffix(size: str, length: int) -> tuple[int, int] | None:
    """The last `size` bytes."""
    if not size:
        return None
    if int(size) == 0 or length == 0:
        raise UnsatisfiableError
    return max(0, length - int(size)), length


def is_current(if_range: str | None, etag: str) -> bool:
    """Whether an If-Range header lets the Range count: absent, or exactly our strong tag. We send no dates."""
    return if_range is None or if_range.strip() == etag
