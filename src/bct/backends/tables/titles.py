"""Titles, the newest terms seen for each, and seeders that kept money or sent false data."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Integer, LargeBinary, Table, Text, func, insert, select
from sqlalchemy.dialects import sqlite

from bct.backends.tables import METADATA, Run
from bct.title.store import Holding, SavedTitle
from bct.title.terms import Terms
from bct.units import Infohash

TITLES = Table(
    "titles",
    METADATA,
    Column("infohash", LargeBinary, CheckConstraint("length(infohash) = 20"), primary_key=True, nullable=False),
    Column("name", Text, nullable=False),
    Column("holding", Text, nullable=False),
    Column("metainfo", LargeBinary, nullable=False),
    Column("created", Integer, nullable=False),
    Column("terms", LargeBinary, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    sqlite_strict=True,
)

TERMS_SEEN = Table(
    "terms_seen",
    METADATA,
    Column("infohash", LargeBinary, primary_key=True, nullable=False),
    Column("creator", LargeBinary, CheckConstraint("length(creator) = 33"), primary_key=True, nullable=False),
    Column("sequence", Integer, nullable=False),
    sqlite_strict=True,
)

MISSTEPS = Table(
    "missteps",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("seeder", LargeBinary, CheckConstraint("length(seeder) = 33"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("time", Integer, nullable=False),
    Index("missteps_by_seeder", "seeder"),
    sqlite_strict=True,
)


class TitleTables:
    """A `TitleStore`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def put_title(self, saved: SavedTitle) -> None:
        """Adds it, or replaces the one with this infohash."""
        row = {
            "name": saved.name,
            "holding": saved.holding.value,
            "metainfo": saved.metainfo,
            "created": saved.created,
            "terms": saved.terms,
            "manifest": saved.manifest,
        }
        new = sqlite.insert(TITLES).values(infohash=saved.infohash, **row)
        await self._run(lambda db: db.execute(new.on_conflict_do_update(set_=row)))

    async def titles(self) -> list[SavedTitle]:
        """All of them, oldest first."""
        query = select(TITLES).order_by(TITLES.c.created, TITLES.c.infohash)
        rows = await self._run(lambda db: db.execute(query).all())
        return [
            SavedTitle(
                Infohash(row.infohash),
                row.name,
                Holding(row.holding),
                row.metainfo,
                row.created,
                row.terms,
                row.manifest,
            )
            for row in rows
        ]

    async def lowest_sequence(self, infohash: Infohash, creator: bytes) -> int:
        """See `TitleStore`."""
        seen = (TERMS_SEEN.c.infohash == infohash) & (TERMS_SEEN.c.creator == creator)
        query = select(TERMS_SEEN.c.sequence).where(seen)
        return await self._run(lambda db: db.execute(query).scalar() or 0)

    async def is_sold(self, infohash: Infohash) -> bool:
        """See `TitleStore`."""
        query = select(func.count()).where(TERMS_SEEN.c.infohash == infohash)
        return await self._run(lambda db: bool(db.execute(query).scalar()))

    async def saw_terms(self, terms: Terms) -> None:
        """Terms whose signature was checked."""
        new = sqlite.insert(TERMS_SEEN).values(infohash=terms.infohash, creator=terms.creator, sequence=terms.sequence)
        higher = func.max(TERMS_SEEN.c.sequence, new.excluded.sequence)
        await self._run(lambda db: db.execute(new.on_conflict_do_update(set_={"sequence": higher})))

    async def note_misstep(self, key: bytes, kind: str, when: int) -> None:
        """A seeder, by its 33-byte key, kept money or sent false data. when: Unix seconds."""
        await self._run(lambda db: db.execute(insert(MISSTEPS).values(seeder=key, kind=kind, time=when)))

    async def missteps(self, key: bytes) -> int:
        """How many were noted."""
        query = select(func.count()).where(MISSTEPS.c.seeder == key)
        return await self._run(lambda db: db.execute(query).scalar_one())
