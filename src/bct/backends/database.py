"""The node's database: SQLite in one file, spoken to from one thread.

SQLite has one writer at a time whatever is done, so one thread with one connection costs nothing and rules out every
lock error; the event loop waits for it as it would for a server. Each piece of work is one transaction, and is on the
disk when it returns (write-ahead log, synchronous=FULL): about 200 to 1,000 a second, which is why payments go to the
ledger instead.

A file of an older bct is brought up to date when it is opened, in one transaction; one of a newer bct is refused.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection as SqliteConnection

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from bct.backends.tables import METADATA
from bct.backends.tables.channels import ChannelTables
from bct.backends.tables.receipts import ReceiptTable
from bct.backends.tables.titles import TitleTables
from bct.errors import StoreError

VERSION = "0003"
"""The newest migration. It stands here so that alembic is loaded only when there is something to migrate."""
_A_WAY_ON = "restore it from a backup, or move it away and let bct wallet restore find what the twelve words hold"


class Database:
    """An open database: `channels` is a ChannelStore, `titles` a TitleStore, `receipts` a ReceiptStore."""

    def __init__(self, path: Path, thread: ThreadPoolExecutor, engine: Engine) -> None:
        """Use `open`."""
        self.channels = ChannelTables(self._run)
        self.titles = TitleTables(self._run)
        self.receipts = ReceiptTable(self._run)
        self._path = path
        self._thread = thread
        self._engine = engine

    @classmethod
    async def open(cls, path: Path) -> Database:
        """Opens, creates or upgrades the file. Raises StoreError."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        engine = create_engine(URL.create("sqlite", database=str(path)))
        event.listen(engine, "connect", _configure)
        database = cls(path, thread, engine)
        try:
            await database._run(database._upgrade)
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Waits for the work that was given, then lets the file go."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    async def _run[T](self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_transaction, work)

    def _in_transaction[T](self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise StoreError(f"the database {self._path} refused: {getattr(error, 'orig', None) or error}") from error

    def _upgrade(self, connection: Connection) -> None:
        found, tables = _version(connection), set(inspect(connection).get_table_names())
        if found > VERSION:
            raise StoreError(
                f"{self._path} was written by a newer bct (version {found}, this one knows {VERSION}): update bct"
            )
        lacking = METADATA.tables.keys() - tables if found == VERSION else set()
        if lacking or (tables and not found):
            what = f"lacks {', '.join(sorted(lacking))}" if lacking else "does not say of which version it is"
            raise StoreError(f"{self._path} {what}: it is half made, or was changed by hand: {_A_WAY_ON}")
        if found < VERSION:
            _migrate(connection)


def copy(path: Path) -> bytes:
    """What the file holds at one moment, also while a node writes to it. Raises StoreError."""
    with _plain(path) as database, closing(sqlite3.connect(":memory:")) as memory:
        database.backup(memory)
        return memory.serialize()


def examine(path: Path) -> str:
    """The version of a database that SQLite finds sound. Changes nothing. Raises StoreError."""
    with _plain(path) as database:
        (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise StoreError(f"{path} is damaged ({said.splitlines()[-1]}): {_A_WAY_ON}")
        (version,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(version)


@contextmanager
def _plain(path: Path) -> Iterator[SqliteConnection]:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
        raise StoreError(f"{path} cannot be read ({error}): {_A_WAY_ON if damaged else 'is the disk full?'}") from error


def _configure(connection: SqliteConnection, _: object) -> None:
    connection.autocommit = True  # the journal's mode cannot change inside a transaction
    for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {setting}")
    connection.autocommit = False  # transactions as PEP 249 has them: they hold changes of tables too


def _version(connection: Connection) -> str:
    """Of the newest migration that was applied; empty for a new file."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "bct.backends:migrations")
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")
