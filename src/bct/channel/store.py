"""What the shell asks of whatever remembers payment channels. Totals are the ledger's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bct.channel.state import State
from bct.channel.transactions import Params
from bct.units import Outpoint, Payees


@dataclass(frozen=True, slots=True)
class SavedPayee:
    """A channel we earn on. nonce: of the offer; the payee key derives from it. funding: it, behind what no block held
    when the channel was opened, parents first, for rebroadcast. idle: seconds without a connection after which it is
    settled. settlement: what ends the channel, raw, once there is something: our settlement, or a refund that was
    seen."""

    params: Params
    nonce: bytes
    payees: Payees
    funding: tuple[bytes, ...]
    created: int
    idle: int
    state: State = State.OPEN
    settlement: bytes = b""


@dataclass(frozen=True, slots=True)
class SavedPayer:
    """A channel we spend on. anchor: what the funding's input 0 spends; our keys derive from it and the output's
    index. seeder: its key in the handshake, and where it was. closing: settlement or refund, raw, once there is one."""

    params: Params
    anchor: Outpoint
    payees: Payees
    seeder: bytes
    host: str
    port: int
    funding: bytes
    created: int
    state: State = State.OPENING
    closing: bytes = b""


class ChannelStore(Protocol):
    """Every method returns when the change is durable. Raises StoreError."""

    async def add_payee(self, saved: SavedPayee) -> bool:
        """False, and nothing is kept, when the nonce or the outpoint has been taken before."""
        ...

    async def payees(self) -> list[SavedPayee]: ...

    async def move_payee(self, outpoint: Outpoint, state: State, settlement: bytes = b"") -> None: ...

    async def add_payer(self, saved: SavedPayer) -> None: ...

    async def payers(self) -> list[SavedPayer]: ...

    async def move_payer(self, outpoint: Outpoint, state: State, closing: bytes = b"") -> None: ...
