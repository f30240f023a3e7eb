"""What the shell asks of whatever remembers titles and what was learnt about their creators and seeders."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from bct.title.terms import Terms
from bct.units import Infohash


class Holding(Enum):
    """Why a title is here."""

    PUBLISHED = "published"  # its creator's key is ours
    SEEDED = "seeded"  # we sell it for its creator
    WATCHED = "watched"  # we bought what of it is here


@dataclass(frozen=True, slots=True)
class SavedTitle:
    """metainfo: the .torrent file. terms, manifest: as they travel; empty for an ordinary torrent."""

    infohash: Infohash
    name: str
    holding: Holding
    metainfo: bytes
    created: int
    terms: bytes = b""
    manifest: bytes = b""


class TitleStore(Protocol):
    """Every method returns when the change is durable. Raises StoreError."""

    async def put_title(self, saved: SavedTitle) -> None:
        """Adds it, or replaces the one with this infohash."""
        ...

    async def titles(self) -> list[SavedTitle]: ...

    async def lowest_sequence(self, infohash: Infohash, creator: bytes) -> int:
        """The highest sequence number of terms seen for this torrent under this creator's key; 0 for none.

        Under this key alone: anybody can sign terms for any infohash with a key of his own and the highest number
        there is, and the true creator's would be refused for ever.
        """
        ...

    async def is_sold(self, infohash: Infohash) -> bool:
        """Whether anybody's terms were seen for this torrent."""
        ...

    async def saw_terms(self, terms: Terms) -> None: ...

    async def note_misstep(self, key: bytes, kind: str, when: int) -> None:
        """A seeder, by its 33-byte key, kept money or sent false data."""
        ...

    async def missteps(self, key: bytes) -> int: ...
