"""The life of a payment channel, as one table.

Both sides live through the same states; what differs is who waits for whom. A pair (state, event) that is not in the
table is a bug of ours and raises LocalProtocolError without changing anything; a peer cannot cause one, because its
messages become events only after they have been checked against the state.
"""

from __future__ import annotations

from enum import Enum

from bct.errors import LocalProtocolError


class Role(Enum):
    PAYER = "payer"
    PAYEE = "payee"


class State(Enum):
    OPENING = "opening"  # saved; the other side, or the chain, has not agreed yet
    OPEN = "open"  # payments rise
    CLOSING = "closing"  # no payment any more; the newest commitment is on its way to the chain
    REFUNDING = "refunding"  # payer only: expired unsettled, the refund is on its way to the chain
    SETTLED = "settled"  # the chain has seen a settlement
    REFUNDED = "refunded"  # the chain has seen the refund
    VOID = "void"  # the funding transaction can never be mined
    DONE = "done"  # the spend is buried deep: nothing is left to do


class Event(Enum):
    AGREED = "agreed"  # payer: READY or RESUMED came; payee: the funding is checked and with the chain
    CLOSE = "close"  # either side wants, or the clock demands, the end
    EXPIRED = "expired"  # median time has passed the expiry and no settlement was seen
    SETTLEMENT_SEEN = "settlement seen"
    REFUND_SEEN = "refund seen"
    UNSEEN = "unseen"  # a reorg took the spend away and it did not come back
    FUNDING_LOST = "funding lost"  # another transaction spent the funding's coins
    BURIED = "buried"  # the spend is 100 blocks deep


FINAL_STATES = frozenset((State.VOID, State.DONE))

_SHARED = {
    (State.OPENING, Event.AGREED): State.OPEN,
    (State.OPEN, Event.AGREED): State.OPEN,  # resumed on another connection
    (State.OPENING, Event.CLOSE): State.CLOSING,
    (State.OPEN, Event.CLOSE): State.CLOSING,
    (State.CLOSING, Event.CLOSE): State.CLOSING,
    (State.OPENING, Event.FUNDING_LOST): State.VOID,
    (State.OPEN, Event.FUNDING_LOST): State.VOID,
    (State.CLOSING, Event.FUNDING_LOST): State.VOID,
    (State.OPENING, Event.SETTLEMENT_SEEN): State.SETTLED,
    (State.OPEN, Event.SETTLEMENT_SEEN): State.SETTLED,
    (State.CLOSING, Event.SETTLEMENT_SEEN): State.SETTLED,
    (State.SETTLED, Event.SETTLEMENT_SEEN): State.SETTLED,
    (State.SETTLED, Event.UNSEEN): State.CLOSING,
    (State.SETTLED, Event.REFUND_SEEN): State.REFUNDED,  # after a reorg the other spend was mined
    (State.SETTLED, Event.BURIED): State.DONE,
    (State.OPENING, Event.REFUND_SEEN): State.REFUNDED,
    (State.OPEN, Event.REFUND_SEEN): State.REFUNDED,
    (State.CLOSING, Event.REFUND_SEEN): State.REFUNDED,
    (State.REFUNDED, Event.REFUND_SEEN): State.REFUNDED,
    (State.REFUNDED, Event.SETTLEMENT_SEEN): State.SETTLED,
    (State.REFUNDED, Event.BURIED): State.DONE,
}

TABLE: dict[Role, dict[tuple[State, Event], State]] = {
    Role.PAYER: _SHARED
    | {
        (State.OPENING, Event.EXPIRED): State.REFUNDING,
        (State.OPEN, Event.EXPIRED): State.REFUNDING,
        (State.CLOSING, Event.EXPIRED): State.REFUNDING,
        (State.REFUNDING, Event.EXPIRED): State.REFUNDING,
        (State.REFUNDING, Event.CLOSE): State.REFUNDING,
        (State.REFUNDING, Event.REFUND_SEEN): State.REFUNDED,
        (State.REFUNDING, Event.SETTLEMENT_SEEN): State.SETTLED,  # first seen wins
        (State.REFUNDING, Event.FUNDING_LOST): State.VOID,
        (State.REFUNDED, Event.UNSEEN): State.REFUNDING,
    },
    Role.PAYEE: _SHARED
    | {
        (State.REFUNDED, Event.UNSEEN): State.CLOSING,  # even after the expiry the payee still broadcasts
    },
}


def move(role: Role, state: State, event: Event) -> State:
    """The next state. Raises LocalProtocolError for a pair the table does not have."""
    try:
        return TABLE[role][state, event]
    except KeyError:
        raise LocalProtocolError(
            f"a {role.value}'s channel that is {state.value} has no move for {event.value}"
        ) from None


def can(role: Role, state: State, event: Event) -> bool:
    return (state, event) in TABLE[role]
