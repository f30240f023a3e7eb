"""Where the process of a data directory is reached, for the verbs that speak to it."""

from __future__ import annotations

import json
from typing import Any

from bct.backends import files
from bct.cli.home import Home
from bct.errors import StoreError


def tell(home: Home, secret: str, found: dict[str, Any]) -> None:
    """secret: what its owner shows. Raises StoreError."""
    try:
        files.replace(home.cookie, secret.encode())
        files.replace(home.running, json.dumps(found).encode())
    except OSError as error:
        raise StoreError(f"{home.cookie} cannot be written: {error.strerror}") from error


def forget(home: Home) -> None:
    home.running.unlink(missing_ok=True)
    home.cookie.unlink(missing_ok=True)
