"""The database: what is saved comes back as it was, what cannot be is refused, and files of other versions are told."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from bct.backends import database as database_file
from bct.backends.database import VERSION, Database, _version
from bct.backends.tables import METADATA
from bct.bitcoin.chain import Network
from bct.bitcoin.keys import sha256
from bct.channel.state import State
from bct.channel.store import ChannelStore, SavedPayee, SavedPayer
from bct.errors import LocalProtocolError, StoreError
from bct.pay.receipt_store import SavedReceipt
from bct.pay.receipts import EPOCH
from bct.title.store import Holding, SavedTitle, TitleStore
from bct.title.terms import Terms
from bct.units import Infohash, Outpoint, Satoshi, Txid
from tests.channel_parts import FILM, FUNDING, NOW, SERIES, key, params
from tests.vectors.messages import CONTEXT
from tests.vectors.receipts import EPOCHS

pytestmark = pytest.mark.anyio

OTHER = Outpoint(Txid(sha256(b"other")), 0)
FILM_HASH = Infohash(bytes(range(20)))
EARNING = SavedPayee(params(), bytes(range(16)), FILM, (b"parent", b"child"), NOW, 3600)
SPENDING = SavedPayer(params(), OTHER, SERIES, key("seeder").public, "198.51.100.7", 6881, b"funding", NOW)
TITLE = SavedTitle(FILM_HASH, "A film: ünicode & 'quotes'", Holding.WATCHED, b"d4:infoe", NOW, b"terms", b"manifest")


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Database]:
    database = await Database.open(path)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened(tmp_path / "bct.db") as database:
        yield database


@pytest.fixture
def channels(database: Database) -> ChannelStore:
    return database.channels


@pytest.fixture
def titles(database: Database) -> TitleStore:
    return database.titles


# -- channels ---------------------------------------------------------------------------------------------------------


async def test_channels_come_back_as_they_were_after_a_restart(tmp_path: Path) -> None:
    largest = params(capacity=2**32 - 1, rate=1000, max_outputs=20, outpoint=OTHER)
    ended = replace(EARNING, params=largest, nonce=bytes(16), created=NOW + 1, state=State.DONE, settlement=b"raw")
    refunded = replace(SPENDING, params=largest, created=NOW - 1, state=State.REFUNDED, closing=b"refund")
    async with opened(tmp_path / "bct.db") as database:
        assert await database.channels.add_payee(ended)
        assert await database.channels.add_payee(EARNING)
        await database.channels.add_payer(SPENDING)
        await database.channels.add_payer(refunded)
    async with opened(tmp_path / "bct.db") as database:
        assert await database.channels.payees() == [EARNING, ended]
        assert await database.channels.payers() == [refunded, SPENDING]


async def test_an_offer_opens_one_channel_and_an_outpoint_is_one_channel(channels: ChannelStore) -> None:
    assert await channels.add_payee(EARNING)
    for again in (
        EARNING,
        replace(EARNING, params=params(outpoint=OTHER)),  # the nonce is taken
        replace(EARNING, nonce=bytes(16)),  # the outpoint is
    ):
        assert not await channels.add_payee(again)
    assert await channels.payees() == [EARNING]
    await channels.add_payer(SPENDING)
    with pytest.raises(StoreError, match=r"UNIQUE constraint failed: payer_channels\.outpoint"):
        await channels.add_payer(SPENDING)


async def test_an_offer_raced_for_opens_one_channel(channels: ChannelStore) -> None:
    tries = [replace(EARNING, params=params(outpoint=Outpoint(FUNDING.txid, n))) for n in range(8)]
    assert sorted(await asyncio.gather(*map(channels.add_payee, tries))) == [False] * 7 + [True]
    assert len(await channels.payees()) == 1


async def test_a_state_moves_and_the_last_transaction_stays(channels: ChannelStore) -> None:
    await channels.add_payee(EARNING)
    await channels.add_payer(SPENDING)
    await channels.move_payee(FUNDING, State.CLOSING, b"settlement")
    await channels.move_payee(FUNDING, State.SETTLED)
    await channels.move_payer(FUNDING, State.REFUNDING, b"refund")
    await channels.move_payer(FUNDING, State.REFUNDED)
    assert await channels.payees() == [replace(EARNING, state=State.SETTLED, settlement=b"settlement")]
    assert await channels.payers() == [replace(SPENDING, state=State.REFUNDED, closing=b"refund")]
    for move in (channels.move_payee, channels.move_payer):
        with pytest.raises(LocalProtocolError, match="was never saved"):
            await move(OTHER, State.DONE)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(EARNING, nonce=bytes(15)),
        replace(EARNING, params=replace(EARNING.params, capacity=Satoshi(0))),
        replace(EARNING, params=replace(EARNING.params, capacity=Satoshi(2**32))),
        replace(EARNING, params=replace(EARNING.params, lock=replace(EARNING.params.lock, payer=bytes(32)))),
        replace(EARNING, params=replace(EARNING.params, lock=replace(EARNING.params.lock, expiry=499_999_999))),
        replace(EARNING, params=replace(EARNING.params, fee_rate=0)),
        replace(EARNING, idle=59),
        replace(EARNING, idle=86_401),
    ],
)
async def test_what_cannot_be_a_channel_is_not_taken(channels: ChannelStore, wrong: SavedPayee) -> None:
    with pytest.raises(StoreError, match="CHECK constraint failed"):
        await channels.add_payee(wrong)
    assert await channels.payees() == []


# -- titles -----------------------------------------------------------------------------------------------------------


async def test_a_title_is_kept_once_in_its_newest_form(tmp_path: Path) -> None:
    plain = SavedTitle(Infohash(bytes(20)), "older", Holding.SEEDED, b"", NOW - 5)
    async with opened(tmp_path / "bct.db") as database:
        for saved in (TITLE, plain, replace(TITLE, holding=Holding.PUBLISHED, terms=b"newer")):
            await database.titles.put_title(saved)
    async with opened(tmp_path / "bct.db") as database:
        assert await database.titles.titles() == [plain, replace(TITLE, holding=Holding.PUBLISHED, terms=b"newer")]


def terms(sequence: int, infohash: Infohash = FILM_HASH, name: str = "creator") -> Terms:
    creator = key(name)
    unsigned = Terms(
        Network.REGTEST, infohash, Satoshi(5), FILM, (), sequence, NOW, NOW + 60, creator.public
    )  # fmt: skip
    return unsigned.sign(creator)


async def test_the_highest_sequence_of_terms_is_remembered(titles: TitleStore) -> None:
    creator = key("creator").public
    assert await titles.lowest_sequence(FILM_HASH, creator) == 0
    assert not await titles.is_sold(FILM_HASH)
    for sequence in (3, 7, 5):
        await titles.saw_terms(terms(sequence))
    await titles.saw_terms(terms(2**32 - 1, Infohash(bytes(20))))
    await titles.saw_terms(terms(2**32 - 1, name="stranger"))  # who wants the creator's own to be refused for ever
    assert await titles.lowest_sequence(FILM_HASH, creator) == 7
    assert await titles.lowest_sequence(Infohash(bytes(20)), creator) == 2**32 - 1
    assert await titles.is_sold(FILM_HASH)


async def test_missteps_are_counted_by_seeder(titles: TitleStore) -> None:
    one, other = key("one").public, key("other").public
    await titles.note_misstep(one, "kept money", NOW)
    await titles.note_misstep(one, "kept money", NOW)
    await titles.note_misstep(other, "corrupt", NOW)
    assert (await titles.missteps(one), await titles.missteps(other)) == (2, 1)
    assert await titles.missteps(key("third").public) == 0


# -- receipts ---------------------------------------------------------------------------------------------------------


async def test_receipts_come_back_as_they_were_an_epoch_once(tmp_path: Path) -> None:
    """Said anew on another connection, or signed by the payee, an epoch is still the same one."""
    one = SavedReceipt(EPOCHS[0], CONTEXT, (terms(1),) * EPOCH)
    two = SavedReceipt(EPOCHS[1], CONTEXT, (terms(2), terms(1), terms(2)) * 2, bytes(range(64)))
    elsewhere = replace(one, receipt=replace(EPOCHS[0], outpoint=OTHER.pack()))
    async with opened(tmp_path / "bct.db") as database:
        for saved in (two, one, elsewhere, replace(one, countersignature=bytes(64))):
            await database.receipts.put_receipt(saved)
    async with opened(tmp_path / "bct.db") as database:
        assert await database.receipts.receipts(FUNDING) == [replace(one, countersignature=bytes(64)), two]
        assert await database.receipts.receipts(OTHER) == [elsewhere]
        assert await database.receipts.receipts(Outpoint(OTHER.txid, 7)) == []


async def test_a_countersignature_is_whole_or_none(database: Database) -> None:
    with pytest.raises(StoreError, match="CHECK constraint failed"):
        await database.receipts.put_receipt(SavedReceipt(EPOCHS[0], CONTEXT, (terms(1),) * EPOCH, bytes(63)))


# -- the file ---------------------------------------------------------------------------------------------------------


async def test_every_commit_is_on_the_disk_when_it_returns(database: Database) -> None:
    def settings(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database._run(settings) == ["wal", 2, 1]


def schema(path: Path) -> dict[str, str]:
    """Each table and index of a file, as written in it, but for white space."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: re.sub(r"\s", "", sql) for name, sql in rows if name != "alembic_version"}


async def test_migrations_lead_to_the_tables_in_the_code(tmp_path: Path) -> None:
    async with opened(tmp_path / "migrated.db"):
        pass
    engine = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    METADATA.create_all(engine)
    engine.dispose()
    assert schema(tmp_path / "migrated.db") == schema(tmp_path / "made.db")


def test_the_version_is_that_of_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", "bct.backends:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [VERSION]


def migrate(path: Path, revision: str) -> None:
    """Up or down to this version, as a database's owner does it by hand."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"autocommit": False})
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "bct.backends:migrations")
        config.set_main_option("path_separator", "os")
        found = _version(connection)
        (command.upgrade if found < revision else command.downgrade)(config, revision)
    engine.dispose()


async def test_channels_older_than_the_idle_time_come_up_and_can_go_down_again(tmp_path: Path) -> None:
    """The columns are written out: this is a file as version 0001 has left it."""
    path = tmp_path / "bct.db"
    migrate(path, "0001")
    old = schema(path)
    fixed = EARNING.params
    row = {
        "outpoint": fixed.outpoint.pack(),
        "capacity": fixed.capacity,
        "payer_key": fixed.lock.payer,
        "payee_key": fixed.lock.payee,
        "expiry": fixed.lock.expiry,
        "change_hash": fixed.change,
        "payout_hash": fixed.payout,
        "fee_rate": fixed.fee_rate,
        "max_outputs": fixed.max_outputs,
        "payees": EARNING.payees.pack(),
        "created": EARNING.created,
        "state": "open",
        "nonce": EARNING.nonce,
        "funding": msgspec.msgpack.encode(EARNING.funding),
        "settlement": b"",
    }
    other = row | {"outpoint": OTHER.pack(), "nonce": bytes(16), "state": "settled", "settlement": b"raw"}
    with sqlite3.connect(path) as connection:
        connection.executemany(
            f"INSERT INTO payee_channels VALUES ({', '.join(f':{name}' for name in row)})", (row, other)
        )
    closed = replace(
        EARNING, params=replace(fixed, outpoint=OTHER), nonce=bytes(16), state=State.SETTLED, settlement=b"raw"
    )
    async with opened(path) as database:
        found = await database.channels.payees()
        assert {one.params.outpoint: one for one in found} == {
            FUNDING: replace(EARNING, idle=900),
            OTHER: replace(closed, idle=900),
        }
        await database.channels.move_payee(FUNDING, State.CLOSING, b"made")
    migrate(path, "0001")
    assert schema(path) == old
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT state, settlement FROM payee_channels ORDER BY state").fetchall()
    assert rows == [("closing", b"made"), ("settled", b"raw")]
    async with opened(path) as database:
        assert [one.idle for one in await database.channels.payees()] == [900, 900]


async def test_a_file_of_a_newer_bct_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bct.db"
    async with opened(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="version 9999, this one knows 0003"):
        await Database.open(path)


async def test_an_upgrade_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "bct.db"
    migrate(path, "0001")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE receipts (mine TEXT)")
    before = schema(path)
    with pytest.raises(StoreError, match="table receipts already exists"):
        await Database.open(path)
    assert schema(path) == before, "the migration before the one that failed is taken back, too"


async def test_a_database_that_is_half_made_is_said(tmp_path: Path) -> None:
    path = tmp_path / "bct.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE titles (mine TEXT)")
    with pytest.raises(StoreError, match=r"does not say of which version it is: it is half made.* restore it from a"):
        await Database.open(path)
    path.unlink()
    async with opened(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE payee_channels")
    with pytest.raises(StoreError, match=r"lacks payee_channels: it is half made.* or move it away and let bct wallet"):
        await Database.open(path)


async def test_a_copy_is_of_one_moment_and_a_database(tmp_path: Path, database: Database) -> None:
    await database.channels.add_payee(EARNING)
    (tmp_path / "copy.db").write_bytes(database_file.copy(tmp_path / "bct.db"))
    await database.channels.move_payee(FUNDING, State.CLOSING)
    async with opened(tmp_path / "copy.db") as copy:
        assert await copy.channels.payees() == [EARNING]


async def test_a_sound_database_says_its_version_and_a_damaged_one_what_helps(tmp_path: Path) -> None:
    path = tmp_path / "bct.db"
    async with opened(path) as database:
        for n in range(50):
            await database.titles.put_title(replace(TITLE, infohash=Infohash(n.to_bytes(20)), metainfo=bytes(3000)))
        assert database_file.examine(path) == VERSION
    whole = bytearray(path.read_bytes())
    assert database_file.examine(path) == VERSION
    whole[len(whole) // 2 : len(whole) // 2 + 4096] = bytes(4096)
    path.write_bytes(whole)
    with pytest.raises(StoreError, match=r"is damaged \(.*: restore it from a backup"):
        database_file.examine(path)
    path.write_bytes(b"a diary, and a long one" * 100)
    for look in (database_file.examine, database_file.copy):
        with pytest.raises(StoreError, match="not a database"):
            look(path)
        with pytest.raises(StoreError, match="unable to open"):
            look(tmp_path / "nowhere.db")
    assert not (tmp_path / "nowhere.db").exists()


async def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    path = tmp_path / "bct.db"
    path.write_bytes(b"a diary, and a long one" * 100)
    with pytest.raises(StoreError, match="not a database"):
        await Database.open(path)
    with pytest.raises(StoreError, match="unable to open"):
        await Database.open(tmp_path / "missing" / "bct.db")
