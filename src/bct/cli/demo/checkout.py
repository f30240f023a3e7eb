"""What the demo takes from the checkout it runs in: the film that `./run` made, and the witnesses under tools/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bct
from bct.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Checkout:
    """film: sixty seconds in 1080p. The others are programs."""

    film: Path
    check_chain: Path
    watch_wire: Path
    plain_client: Path

    @classmethod
    def find(cls) -> Checkout:
        """Raises ConfigError when a part of it is missing."""
        root = Path(bct.__file__).parents[2]
        tools = root / "tools"
        found = cls(
            root / ".cache/film/demo.mp4",
            tools / "check_chain.py",
            tools / "watch_wire.py",
            tools / "plain_client.py",
        )
        for path in (found.film, found.check_chain, found.watch_wire, found.plain_client):
            if not path.exists():
                raise ConfigError(f"{path} is missing: the demo runs in a checkout, by ./run demo")
        return found
