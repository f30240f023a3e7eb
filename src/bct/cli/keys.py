"""The wallet of a data directory, and the passphrase that opens it."""

from __future__ import annotations

import os
from pathlib import Path

from bct.backends import keyfile
from bct.bitcoin.chain import Network
from bct.cli.home import Home
from bct.config import Config
from bct.errors import ConfigError
from bct.wallet.keyring import Keyring


def network_of(config: Config) -> Network:
    return Network[config.chain.network.upper()]


def read_passphrase(file: Path | None) -> str:
    """The first line of the file, else $BCT_PASSPHRASE, else nothing. Raises ConfigError."""
    if file is None:
        return os.environ.get("BCT_PASSPHRASE", "")
    try:
        passphrase = file.read_text().split("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the passphrase file {file} cannot be read: {error}") from None
    if not passphrase:
        raise ConfigError(f"the first line of the passphrase file {file} is empty")
    return passphrase


def load(home: Home, config: Config, passphrase: str) -> Keyring:
    """Raises ConfigError, AuthError, StoreError."""
    return keyfile.load(home.wallet, network_of(config), passphrase)
