"""Who may hand something over to be watched: names, each with a token that nobody can guess."""

from __future__ import annotations

import json
import re
import secrets

from bct.backends import files
from bct.cli.home import Home
from bct.errors import ConfigError, StoreError


def load(home: Home) -> dict[str, str]:
    """The names by their tokens. Raises ConfigError."""
    try:
        found: dict[str, str] = json.loads(home.tokens.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{home.tokens} cannot be read: {error}") from None
    return found


def of(home: Home, name: str) -> str:
    """The token of this name, a new one the first time. Raises ConfigError for what cannot be a name, StoreError."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", name):
        raise ConfigError(f"a name has up to 32 small letters, digits and -, got {name!r}")
    known = load(home)
    for token, whose in known.items():
        if whose == name:
            return token
    token = secrets.token_hex(32)
    try:
        files.replace(home.tokens, json.dumps(known | {token: name}).encode())
    except OSError as error:
        raise StoreError(f"{home.tokens} cannot be written: {error.strerror}") from error
    return token
