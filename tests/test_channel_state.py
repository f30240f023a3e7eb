"""The table of a payment channel's life, whole: every pair of state and event, on both sides."""

from __future__ import annotations

from itertools import product

import pytest

from bct.channel.payee import Payee
from bct.channel.payer import Payer
from bct.channel.state import FINAL_STATES, TABLE, Event, Role, State, can, move
from bct.errors import LocalProtocolError
from tests.channel_parts import FILM, params

ALL = list(product(Role, State, Event))


@pytest.mark.parametrize(("role", "state", "event"), ALL, ids=lambda part: part.value)
def test_a_pair_moves_as_the_table_says_or_not_at_all(role: Role, state: State, event: Event) -> None:
    kind = Payer if role is Role.PAYER else Payee
    side = kind(params(), (FILM,), state=state)
    if (state, event) in TABLE[role]:
        side.on(event)
        assert side.state is TABLE[role][state, event]
        assert can(role, state, event)
    else:
        with pytest.raises(LocalProtocolError, match=f"{role.value}'s channel that is {state.value} has no move"):
            side.on(event)
        assert side.state is state
        assert not can(role, state, event)


def reachable(role: Role, start: State) -> set[State]:
    seen, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        for event in Event:
            if can(role, state, event) and (to := move(role, state, event)) not in seen:
                seen.add(to)
                waiting.append(to)
    return seen


def test_a_payer_can_come_into_every_state() -> None:
    assert reachable(Role.PAYER, State.OPENING) == set(State)


def test_a_payee_can_come_into_every_state_but_that_of_refunding() -> None:
    assert reachable(Role.PAYEE, State.OPENING) == set(State) - {State.REFUNDING}


@pytest.mark.parametrize("role", Role)
def test_nothing_leaves_a_final_state_and_every_other_one_leads_to_one(role: Role) -> None:
    for state in reachable(role, State.OPENING):
        if state in FINAL_STATES:
            assert reachable(role, state) == {state}
        else:
            assert State.DONE in reachable(role, state)


@pytest.mark.parametrize("role", Role)
def test_money_moves_only_in_one_direction(role: Role) -> None:
    """Whatever comes after a close, no event makes a channel open again."""
    for state in (State.CLOSING, State.SETTLED, State.REFUNDED):
        assert not reachable(role, state) & {State.OPENING, State.OPEN}


def test_a_reorg_brings_each_side_back_to_what_it_can_still_send() -> None:
    """THREATS 34: the spend is gone from the chain; the payee settles again, the payer refunds again."""
    assert move(Role.PAYEE, State.SETTLED, Event.UNSEEN) is State.CLOSING
    assert move(Role.PAYEE, State.REFUNDED, Event.UNSEEN) is State.CLOSING
    assert move(Role.PAYER, State.REFUNDED, Event.UNSEEN) is State.REFUNDING
    assert move(Role.PAYER, State.SETTLED, Event.UNSEEN) is State.CLOSING
    assert move(Role.PAYER, State.CLOSING, Event.EXPIRED) is State.REFUNDING
