"""What the owner of a node has to know at once: a pure function of how things stand, in sentences that say what to do.

Who could cheat is the other modules' business. Here is what only a person can mend: a chain that does not answer, a
clock that is wrong, a disk that is full, and money that a payer can soon take back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bct.bitcoin.chain import GOOD, Header, Network, Outcome
from bct.channel.state import Role, State
from bct.channel.timing import CLOCK_BEHIND, HOUR, now_of
from bct.units import Outpoint

ALARM_BEFORE = HOUR
"""Seconds before its expiry from which an end that no block holds is an alarm: half of the time there was for it."""
SILENT = 600
STALE = 2 * HOUR


@dataclass(frozen=True, slots=True)
class Alarm:
    """word: fixed, for programs. about: a payment channel, or whatever else it is about; empty for the node itself."""

    word: str
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class Outlook:
    """How the world looks from this node. clock: this machine's, Unix seconds. newest: None before the chain's first
    answer. silent: seconds for which it has not answered. floor, cap: satoshis per 1,000 bytes, what miners ask and
    what is agreed to at most. locked: the wallet."""

    network: Network
    clock: int
    newest: Header | None = None
    silent: int = 0
    floor: int = 0
    cap: int = 1000
    disk_failed: bool = False
    locked: bool = False

    @property
    def now(self) -> int:
        return now_of(self.clock, self.newest) if self.newest else self.clock


@dataclass(frozen=True, slots=True)
class Standing:
    """How one payment channel stands. paid: satoshis over it. waits: what ends it waits for a block. contested: one of
    the sources speaks of another spend of its funding's coins. short: satoshis less than was paid in what ended it.
    answers: what each source has last said to what ends it."""

    role: Role
    outpoint: Outpoint
    state: State
    expiry: int
    paid: int
    waits: bool = False
    contested: bool = False
    short: int = 0
    answers: tuple[Outcome, ...] = ()


def of_the_node(view: Outlook) -> Iterator[Alarm]:
    if view.silent >= SILENT:
        text = f"the chain has not answered for {_span(view.silent)}, and nothing is settled until it does"
        yield Alarm("unreachable", "", f"{text}: start the BSV node, or set chain.url to one that runs")
    if view.newest and view.newest.time - view.clock > CLOCK_BEHIND:
        text = f"this machine's clock is {_span(view.newest.time - view.clock)} behind the newest block"
        yield Alarm("clock", "", f"{text}, and no channel is opened until it is right: set it")
    if view.newest and view.network is Network.MAIN and view.clock - view.newest.time > STALE:
        text = f"the newest block is {_span(view.clock - view.newest.time)} old"
        yield Alarm("stale", "", f"{text}: see whether the BSV node is cut off, or this machine's clock ahead")
    if view.floor > view.cap:
        text = f"miners ask {view.floor} sat/kB, and no channel is opened above {view.cap}"
        yield Alarm("fees", "", f"{text}: raise channel.fee_rate_cap, or wait until they ask less")
    if view.disk_failed:
        yield Alarm("disk", "", "payments cannot be written down any more: free the disk, then start bct again")


def of_a_channel(channel: Standing, view: Outlook) -> Iterator[Alarm]:
    """At most one about its end, and one about what is known of it."""
    name = str(channel.outpoint)
    ending = _about_its_end(channel, view)
    if ending:
        yield Alarm(ending[0], name, f"payment channel {name} {ending[1]}")
    if channel.contested:
        text = (
            f"another transaction spends the coins of payment channel {name}, and {channel.paid} sat were paid over it"
        )
        yield Alarm("contested", name, f"{text}: nothing more is served; it is settled if its own funding is mined")
    if channel.short > 0:
        text = f"payment channel {name} was settled with {channel.short} sat less than was paid over it"
        yield Alarm("short", name, f"{text}: somebody has sent an older settlement; see who is given yours")
    if _disagree(channel.answers):
        said = ", ".join(answer.value for answer in channel.answers)
        text = f"the sources of the chain disagree about the end of payment channel {name}: {said}"
        yield Alarm("disagree", name, f"{text}; look at each of them before it expires")


def _about_its_end(channel: Standing, view: Outlook) -> tuple[str, str] | None:
    """(word, what has to be said of it)."""
    left = channel.expiry - view.now
    near = left <= ALARM_BEFORE
    when = f"in {_span(left)}" if left > 0 else "now"
    match channel.role, channel.state:
        case Role.PAYEE, State.OPEN | State.CLOSING if near and channel.paid:
            what = f"is not settled, and its payer can take {channel.paid} sat back {when}"
            return "unsettled", f"{what}: see that the BSV node answers and is not cut off"
        case Role.PAYEE, State.SETTLED if near and channel.waits:
            what = f"is settled in no block yet, and its payer can take {channel.paid} sat back {when}"
            return "unmined", f"{what}: see that the BSV node has peers and the wallet is open, so that a child can pay"
        case Role.PAYEE, State.REFUNDED if channel.paid:
            what = f"was refunded before it was settled, and {channel.paid} sat are lost"
            return "refunded", f"{what}: keep a node, or a watchman elsewhere, running when channels expire"
        case Role.PAYER, State.OPENING | State.OPEN | State.CLOSING | State.REFUNDING if left <= 0 and view.locked:
            return "locked", "has expired, and what it locked can come back: start bct with the wallet's passphrase"
    return None


def _disagree(answers: tuple[Outcome, ...]) -> bool:
    heard = {answer in GOOD for answer in answers if answer is not Outcome.UNREACHABLE}
    return len(heard) > 1


def _span(seconds: int) -> str:
    """As people say it."""
    return f"{seconds // 60} min" if seconds < 2 * HOUR else f"{seconds // HOUR} h"
