"""`bct demo`: everything at once, on one machine."""

from __future__ import annotations

from bct.cli.verb import Session
from bct.errors import TemporaryError


def run(session: Session) -> None:
    """Raises TemporaryError."""
    raise TemporaryError("the demo is not part of this checkout yet")
