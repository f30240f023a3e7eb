"""Payment channels, ours to earn on and ours to spend on. Their totals change too fast for here: see the ledger.

Trust: nobody but the two nodes' own code writes here, yet money hangs on it, so the database itself refuses what cannot
be: a key of the wrong length, a capacity of nothing, a second channel for one offer.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import sqlite

from bct.backends.tables import METADATA, Run
from bct.channel.lock import Lock
from bct.channel.state import State
from bct.channel.store import SavedPayee, SavedPayer
from bct.channel.transactions import Params
from bct.errors import LocalProtocolError
from bct.units import Outpoint, Payees, PubKeyHash, Satoshi


def _bytes(name: str, size: int, *, primary_key: bool = False, unique: bool = False) -> Column[bytes]:
    check = CheckConstraint(f"length({name}) = {size}")
    return Column(name, LargeBinary, check, primary_key=primary_key, unique=unique, nullable=False)


def _number(name: str, least: int, most: int, *, before: str | None = None) -> Column[int]:
    """before: what stands in rows that are older than the column."""
    check = CheckConstraint(f"{name} BETWEEN {least} AND {most}")
    return Column(name, Integer, check, nullable=False, server_default=text(before) if before else None)


def _shared() -> list[Column[bytes] | Column[int] | Column[str]]:
    """What both sides keep of a channel: its `Params`, the payees of line 0, when it was made, its state."""
    return [
        _bytes("outpoint", 36, primary_key=True),
        _number("capacity", 1, 2**32 - 1),
        _bytes("payer_key", 33),
        _bytes("payee_key", 33),
        _number("expiry", 500_000_000, 2**31 - 1),
        _bytes("change_hash", 20),
        _bytes("payout_hash", 20),
        _number("fee_rate", 1, 2**32 - 1),
        _number("max_outputs", 1, 255),
        Column("payees", LargeBinary, nullable=False),
        Column("created", Integer, nullable=False),
        Column("state", Text, nullable=False),
    ]


PAYEE_CHANNELS = Table(
    "payee_channels",
    METADATA,
    *_shared(),
    _bytes("nonce", 16, unique=True),
    Column("funding", LargeBinary, nullable=False),  # raw transactions, parents first: a MessagePack array
    Column("settlement", LargeBinary, nullable=False),
    _number("idle", 60, 86_400, before="900"),
    sqlite_strict=True,
)

PAYER_CHANNELS = Table(
    "payer_channels",
    METADATA,
    *_shared(),
    _bytes("anchor", 36),
    _bytes("seeder", 33),
    Column("host", Text, nullable=False),
    _number("port", 0, 65535),
    Column("funding", LargeBinary, nullable=False),
    Column("closing", LargeBinary, nullable=False),
    sqlite_strict=True,
)


class ChannelTables:
    """A `ChannelStore`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def add_payee(self, saved: SavedPayee) -> bool:
        """False, and nothing is kept, when the nonce or the outpoint has been taken before."""
        row = _common(saved) | {
            "nonce": saved.nonce,
            "funding": msgspec.msgpack.encode(saved.funding),
            "settlement": saved.settlement,
            "idle": saved.idle,
        }
        statement = sqlite.insert(PAYEE_CHANNELS).values(row).on_conflict_do_nothing()
        return await self._run(lambda db: db.execute(statement).rowcount == 1)

    async def payees(self) -> list[SavedPayee]:
        """All of them, oldest first."""
        return await self._run(lambda db: [_payee(row) for row in _oldest_first(db, PAYEE_CHANNELS)])

    async def move_payee(self, outpoint: Outpoint, state: State, settlement: bytes = b"") -> None:
        """settlement: kept from now on, unless it is empty."""
        await self._move(PAYEE_CHANNELS, outpoint, state, {"settlement": settlement} if settlement else {})

    async def add_payer(self, saved: SavedPayer) -> None:
        row = _common(saved) | {
            "anchor": saved.anchor.pack(),
            "seeder": saved.seeder,
            "host": saved.host,
            "port": saved.port,
            "funding": saved.funding,
            "closing": saved.closing,
        }
        await self._run(lambda db: db.execute(insert(PAYER_CHANNELS).values(row)))

    async def payers(self) -> list[SavedPayer]:
        """All of them, oldest first."""
        return await self._run(lambda db: [_payer(row) for row in _oldest_first(db, PAYER_CHANNELS)])

    async def move_payer(self, outpoint: Outpoint, state: State, closing: bytes = b"") -> None:
        """closing: kept from now on, unless it is empty."""
        await self._move(PAYER_CHANNELS, outpoint, state, {"closing": closing} if closing else {})

    async def _move(self, table: Table, outpoint: Outpoint, state: State, more: dict[str, bytes]) -> None:
        statement = update(table).where(table.c.outpoint == outpoint.pack()).values(state=state.value, **more)
        if await self._run(lambda db: db.execute(statement).rowcount) == 0:
            raise LocalProtocolError(f"channel {outpoint} was never saved in {table.name}")


def _oldest_first(db: Connection, table: Table) -> list[Row[tuple[object, ...]]]:
    return list(db.execute(select(table).order_by(table.c.created, table.c.outpoint)))


def _common(saved: SavedPayee | SavedPayer) -> dict[str, bytes | int | str]:
    params = saved.params
    return {
        "outpoint": params.outpoint.pack(),
        "capacity": params.capacity,
        "payer_key": params.lock.payer,
        "payee_key": params.lock.payee,
        "expiry": params.lock.expiry,
        "change_hash": params.change,
        "payout_hash": params.payout,
        "fee_rate": params.fee_rate,
        "max_outputs": params.max_outputs,
        "payees": saved.payees.pack(),
        "created": saved.created,
        "state": saved.state.value,
    }


def _params(row: Row[tuple[object, ...]]) -> Params:
    return Params(
        Outpoint.unpack(row.outpoint),
        Satoshi(row.capacity),
        Lock(row.payer_key, row.payee_key, row.expiry),
        PubKeyHash(row.change_hash),
        PubKeyHash(row.payout_hash),
        row.fee_rate,
        row.max_outputs,
    )


def _payee(row: Row[tuple[object, ...]]) -> SavedPayee:
    funding = msgspec.msgpack.decode(row.funding, type=tuple[bytes, ...])
    payees, state = Payees.unpack(row.payees), State(row.state)
    return SavedPayee(_params(row), row.nonce, payees, funding, row.created, row.idle, state, row.settlement)


def _payer(row: Row[tuple[object, ...]]) -> SavedPayer:
    return SavedPayer(
        _params(row),
        Outpoint.unpack(row.anchor),
        Payees.unpack(row.payees),
        row.seeder,
        row.host,
        row.port,
        row.funding,
        row.created,
        State(row.state),
        row.closing,
    )
