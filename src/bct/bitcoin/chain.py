"""What bct needs of a chain, and the closed vocabulary of what a chain may answer.

Trust: a back-end is asked, never believed about amounts or ids: callers recompute ids from the bytes they hold. What
only the chain can know (is it mined, was it seen, who spent it) it is believed about, by as many sources as the
payment's size asks for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from bct.units import Outpoint, Txid


class Network(Enum):
    """Which chain; the number is what messages carry."""

    REGTEST = 0
    TEST = 1
    MAIN = 2


class Outcome(Enum):
    """What became of one transaction handed to the chain. Only the first two mean it can be mined."""

    ACCEPTED = "accepted"
    KNOWN = "known"  # it was there already, in the pool or in a block
    PARKED = "parked"  # held back as not final: not in the pool, may hide a conflict
    CONFLICT = "conflict"  # another transaction spends the same coin, seen or parked
    INVALID = "invalid"  # can never be mined as it is: script, sums, missing coins, fee too low
    UNREACHABLE = "unreachable"  # nothing was learned; ask again


GOOD = frozenset((Outcome.ACCEPTED, Outcome.KNOWN))


@dataclass(frozen=True, slots=True)
class Broadcast:
    """The chain's answer about one transaction."""

    txid: Txid
    outcome: Outcome
    detail: str = ""
    """The back-end's own words, for the log: untrusted text."""
    said: tuple[tuple[str, Outcome], ...] = ()
    """What each of several independent sources answered, by name; empty when the chain is one source itself."""

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Of each source."""
        return tuple(outcome for _, outcome in self.said) or (self.outcome,)


@dataclass(frozen=True, slots=True)
class Header:
    """80 bytes of block header, read, and where it stands. Times are Unix seconds."""

    height: int
    hash: bytes
    previous: bytes
    merkle_root: bytes
    time: int
    median_time: int
    """Median of the eleven blocks up to and including this one: what lock times are compared with."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transaction is: `height` None means seen but not mined yet."""

    height: int | None
    confirmations: int


@dataclass(frozen=True, slots=True)
class Spend:
    """The input that spends an outpoint."""

    txid: Txid
    input_index: int
    height: int | None


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One transaction that pays a script or spends from it."""

    txid: Txid
    height: int | None


@dataclass(frozen=True, slots=True)
class Tip:
    """A new best block (after a reorg too: heights may repeat)."""

    header: Header


@dataclass(frozen=True, slots=True)
class Seen:
    """A transaction entered the pool, or was met in a block. A source that does not hear of all tells those that were
    handed to it here."""

    txid: Txid
    raw: bytes


ChainEvent = Tip | Seen


class Chain(Protocol):
    """One source of the chain's truth. Every method raises ChainError when the source cannot be reached, but for
    `broadcast`, which says so in its outcomes."""

    @property
    def network(self) -> Network: ...

    async def broadcast(self, raws: Sequence[bytes]) -> list[Broadcast]:
        """Hands over transactions, parents before children; one answer each, in order."""
        ...

    async def place(self, txid: Txid) -> Place | None:
        """Where it is; None when the source does not know it (a parked transaction is not known)."""
        ...

    async def transaction(self, txid: Txid) -> bytes | None:
        """Its bytes, from pool or block."""
        ...

    async def tip(self) -> Header: ...

    async def header(self, height: int) -> Header | None: ...

    async def history(self, script: bytes) -> list[HistoryItem]:
        """Each transaction with an output locked by exactly `script`, and each that spends one; oldest first, then
        the pool's."""
        ...

    async def spender(self, outpoint: Outpoint) -> Spend | None: ...

    async def merkle_path(self, txid: Txid) -> bytes | None:
        """The BUMP (BRC-74) that proves a mined transaction; None while it is not mined."""
        ...

    async def fee_rate(self) -> int:
        """Satoshis per 1,000 bytes below which this source relays or mines nothing."""
        ...

    def events(self) -> AsyncIterator[ChainEvent]:
        """Endless; survives the source going away and coming back. After a gap, a `Tip` comes first."""
        ...

    async def close(self) -> None: ...
