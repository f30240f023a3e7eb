"""When a payment channel may be opened, paid over, and must be settled. Every time is Unix seconds, given as argument.

Who could cheat: a payer whose expiry is so near that the refund overtakes the settlement; either side, or the network,
with a clock that is wrong. So the later of our clock and the newest block's time counts as now, nothing is opened while
the two disagree by hours, and the payee settles two hours before the payer can take the money back.
"""

from __future__ import annotations

from bct.bitcoin.chain import Header, Network
from bct.channel.lock import EXPIRY_END, EXPIRY_MIN
from bct.errors import Action, RemoteProtocolError, TemporaryError

HOUR = 3600
LIFETIME_MIN = 6 * HOUR
LIFETIME_MAX = 72 * HOUR
SETTLE_BEFORE = 2 * HOUR
UNMINED_BEFORE = 4 * HOUR
CLOCK_BEHIND = 2 * HOUR
HEADERS_STALE = 6 * HOUR
AFTER_FILM = 5 * HOUR


def now_of(clock: int, newest: Header) -> int:
    return max(clock, newest.time)


def check_clock(clock: int, newest: Header, network: Network) -> None:
    """Raises TemporaryError while clock and chain disagree too much to open a channel.

    A regtest chain mines only when asked, so old headers prove nothing there; on mainnet they mean we are cut off.
    """
    if newest.time - clock > CLOCK_BEHIND:
        raise TemporaryError(
            f"the newest block is {newest.time - clock} s ahead of this machine's clock: set the clock, then try again"
        )
    if network is Network.MAIN and clock - newest.time > HEADERS_STALE:
        raise TemporaryError(
            f"the newest block is {(clock - newest.time) // HOUR} hours old: wait until the chain has caught up"
        )


def expiry_for(now: int, playing_time: int, lifetime: int) -> int:
    """The expiry a payer asks for: room for the film and the payee's margin, within the bounds."""
    wanted = max(LIFETIME_MIN, playing_time + AFTER_FILM, lifetime)
    return now + min(wanted, LIFETIME_MAX)


def check_expiry(expiry: int, now: int) -> None:
    """The payee's bounds on an expiry that a payer proposes. Raises RemoteProtocolError('bad-expiry')."""
    if not EXPIRY_MIN <= expiry < EXPIRY_END:
        raise RemoteProtocolError("bad-expiry", f"an expiry is a Unix time, got {expiry}", Action.REFUSE)
    # A minute of slack: the payer computed the bound with its own clock, before the message travelled.
    if not LIFETIME_MIN - 60 <= expiry - now <= LIFETIME_MAX + 60:
        raise RemoteProtocolError(
            "bad-expiry", f"a channel lives 6 to 72 hours, this one would {expiry - now} s", Action.REFUSE
        )


def accepts_payments(expiry: int, now: int) -> bool:
    """No payment is given or taken from two hours before the expiry on."""
    return now < expiry - SETTLE_BEFORE


def may_refund(lock_time: int, median_time: int) -> bool:
    """A lock time is final once the median time of the last eleven blocks has passed it."""
    return median_time > lock_time


def settle_reason(
    *, expiry: int, now: int, idle_since: int | None, idle: int, unmined: bool, below_floor: bool, stopping: bool
) -> str | None:
    """Why the payee must settle an open channel at once; None while it need not.

    idle_since: when the last connection that used it ended; None while one is there (a paused player that stays
    connected is not idle). unmined: the funding is in no block yet. below_floor: miners ask more than the rate that was
    agreed for the settlement. Waiting would not make it cheaper to mine, and the longer it takes the nearer the refund:
    so no more is put on it.
    """
    if stopping:
        return "shutdown"
    if not accepts_payments(expiry, now):
        return "expiry"
    if below_floor:
        return "fee floor"
    if unmined and now >= expiry - UNMINED_BEFORE:
        return "funding unmined"
    if idle_since is not None and now - idle_since >= idle:
        return "idle"
    return None
