"""One node's data directory: what stands where."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bct.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Home:
    """Made by `bct init`; the owner's alone (mode 0700)."""

    root: Path

    @classmethod
    def at(cls, given: Path | None) -> Home:
        """The given directory, else $BCT_DATA_DIR, else the user's (XDG on Linux)."""
        if given is None and (named := os.environ.get("BCT_DATA_DIR")):
            given = Path(named)
        if given is None:
            from platformdirs import user_data_path

            given = user_data_path("bct", appauthor=False)
        return cls(given.expanduser().absolute())

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def wallet(self) -> Path:
        return self.root / "wallet.json"

    @property
    def cookie(self) -> Path:
        """The secret that the running node wants to see, hex; new each start."""
        return self.root / ".cookie"

    @property
    def running(self) -> Path:
        """Where the running node is reached: JSON with pid, api and listen."""
        return self.root / "running.json"

    @property
    def log(self) -> Path:
        return self.root / "bct.log"

    @property
    def database(self) -> Path:
        return self.root / "bct.db"

    @property
    def earned(self) -> Path:
        """The ledger of what was paid to this node."""
        return self.root / "payee.ledger"

    @property
    def spent(self) -> Path:
        return self.root / "payer.ledger"

    @property
    def restored(self) -> Path:
        """There after `bct restore`, until the chain was asked what has happened since the backup."""
        return self.root / "restored"

    @property
    def titles(self) -> Path:
        return self.root / "titles"

    @property
    def incoming(self) -> Path:
        """Where the owner's own commands put films for the node to take in."""
        return self.root / "incoming"

    @property
    def torrents(self) -> Path:
        """The .torrent files of what was published."""
        return self.root / "torrents"

    @property
    def chain(self) -> Path:
        """The embedded regtest node's own directory."""
        return self.root / "chain"

    @property
    def watched(self) -> Path:
        """What is watched for others: a directory a token, a file a payment channel."""
        return self.root / "watched"

    @property
    def tokens(self) -> Path:
        """Who may hand something over to be watched: JSON, the names by their tokens."""
        return self.root / "watchman.tokens"

    def make(self) -> None:
        """The directory and those inside it. Raises ConfigError."""
        try:
            for directory in (self.root, self.incoming, self.titles, self.torrents):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.root} cannot be made: {error.strerror}: choose another --data-dir") from None

    def check(self) -> None:
        """Raises ConfigError when there is no wallet here."""
        if not self.wallet.exists():
            raise ConfigError(f"there is no wallet in {self.root}: make one with bct init")
