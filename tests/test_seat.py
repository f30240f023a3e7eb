"""How far one peer is trusted by the buyer of a title."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bct.bitcoin.chain import Network
from bct.config import WireConfig
from bct.node.peer import Peer, Torrent
from bct.node.seat import MISSES, Seat
from bct.pay.window import Window
from bct.units import Infohash, PieceIndex
from tests.wire_parts import SEEDER_ID, End

TITLE = Infohash(bytes(20))
PIECES = [PieceIndex(number) for number in range(MISSES + 1)]


class Hall:
    """A `Door` that leads nowhere."""

    port = 0

    def __init__(self) -> None:
        self.config = WireConfig()
        self.network = Network.REGTEST
        self.client = "hall"
        self.peer_id = SEEDER_ID
        self.clock: Callable[[], float] = lambda: 0.0
        self.random: Callable[[int], bytes] = bytes

    def swarm_for(self, infohash: bytes) -> Torrent | None:
        return None

    def ban(self, peer: Peer) -> None: ...

    def gone(self, peer: Peer) -> None: ...


@pytest.fixture
def seat() -> Seat:
    return Seat(Peer(End(1), Hall(), None, 0.0), TITLE)


@pytest.mark.parametrize("why", ["rejected", "stalled"])
def test_who_shows_pieces_and_does_not_send_them_is_asked_no_more(seat: Seat, why: str) -> None:
    """THREATS 18: without an end to it, whoever refuses would be asked again as fast as the line allows."""
    for piece in PIECES[: MISSES - 1]:
        assert not seat.failed(piece, why), "it kept nothing: it was not paid"
        assert not seat.useless
    seat.failed(PIECES[MISSES - 1], why)
    assert seat.useless
    assert seat.price(PIECES[MISSES], 0) is None


def test_trust_ends_with_money_kept_and_is_written_down_for_who_can_be_paid_only(seat: Seat) -> None:
    seat.window = Window(1, 1000)
    seat.window.delivered(1000, 0.0, 1.0)
    assert not seat.distrust()
    assert (seat.useless, seat.window.pieces) == (True, 1)
