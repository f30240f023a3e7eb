"""A short connection to a seeder, to settle a payment channel that no play uses any more.

So its change comes back now, and not when the seeder has waited long enough. Who could cheat: whoever answers at the
address. Nothing is bought of it; RESUME and CLOSE are signed for this connection alone, its totals count under our own
signature only (`pay.payer_session`), and the settlement that it claims is rebuilt and checked (`Purse.closed`). If it
is silent, or gone, nothing is lost: the channel ends as one ends whose viewer has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from bct.errors import BctError, RemoteProtocolError
from bct.node.hub import Hub
from bct.node.peer import Peer
from bct.node.purse import Purse, Spending
from bct.node.receipts import Receipts
from bct.node.seat import Seat
from bct.node.swarm import Swarm
from bct.pay.messages import CloseReason, Message
from bct.pay.payer_session import Closed, Countersigned, Failed, PayerSession, Ready
from bct.torrent.metainfo import Metainfo
from bct.units import PieceIndex

log = structlog.get_logger()

HANDLE = 1


async def settle(hub: Hub, purse: Purse, spending: Spending, seconds: float) -> bool:
    """Settles a channel that nobody uses; whether that was done within so many seconds. Raises WalletLockedError."""
    if spending.title is None:
        return False
    swarm = Swarm(spending.title, None, None)  # of this connection alone
    swarm.priced = True
    swarm.buyer = errand = _Errand(swarm, purse, spending)
    spending.in_use = True
    try:
        async with asyncio.timeout(seconds):
            await hub.connect(spending.saved.host, spending.saved.port, swarm)
            await errand.finish()
    except (BctError, TimeoutError) as error:
        log.info("channel not settled", channel=str(spending.outpoint), text=str(error) or f"silence for {seconds} s")
    finally:
        purse.release(spending)
        for peer in swarm:
            peer.close()
    return spending.over.is_set()


class _Errand:
    """The `Buyer` of a swarm that buys nothing."""

    def __init__(self, swarm: Swarm, purse: Purse, spending: Spending) -> None:
        self._swarm = swarm
        self._purse = purse
        self._spending = spending
        self._key = purse.key(spending)
        self._receipts = Receipts(swarm, purse, self._spawn)
        self._seats: dict[Peer, Seat] = {}
        self._answer: asyncio.Future[Closed | Failed | None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    async def finish(self) -> None:
        """Until the seeder has settled, or will not, or has hung up, and all of it is known to the purse."""
        match await self._answer:
            case Closed(txid, commitment):
                await self._purse.closed(self._spending, txid, commitment)
            case Failed():
                await self._purse.declined(self._spending)
        await asyncio.gather(*self._tasks)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    # -- Buyer: what the swarm reports --------------------------------------------------------------------------------

    def met(self, peer: Peer) -> None:
        if peer.context is None or peer in self._seats:
            return
        if peer.context.seeder_key != self._spending.saved.seeder:
            raise RemoteProtocolError("another-seeder", "somebody else is at the address of the channel's seeder")
        seat = self._seats[peer] = Seat(peer, self._swarm.infohash)
        seat.spending = self._spending
        fee_rate_cap = self._purse.config.fee_rate_cap
        seat.session = PayerSession(peer.context, None, self._swarm.infohash, 0, fee_rate_cap)
        peer.say(seat.session.resume(self._spending.payer, self._key, HANDLE))

    def message(self, peer: Peer, message: Message) -> None:
        seat = self._seats.get(peer)
        if seat is None or seat.session is None:
            raise RemoteProtocolError("unexpected-message", "bct_pay was spoken before there was a channel")
        match seat.session.receive(message, self._purse.now):
            case Ready(_, missed):
                for payment in missed:
                    peer.say(payment)
                self._receipts.say_again(seat)
                self._receipts.say(seat)
                peer.say(seat.session.close(CloseReason.DONE))
            case Countersigned(answer):
                self._receipts.answered(seat, answer)
            case Closed() | Failed() as answer:
                self._answered(answer)

    def gone(self, peer: Peer) -> None:
        self._answered(None)

    def _answered(self, answer: Closed | Failed | None) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)

    # -- pieces: none is asked for ------------------------------------------------------------------------------------

    def changed(self, peer: Peer) -> None:
        pass

    def metadata_known(self, metainfo: Metainfo) -> None:
        pass

    def arriving(self, peer: Peer, since: float) -> None:
        pass

    def arrived(self, peer: Peer, piece: PieceIndex, data: bytearray, since: float) -> None:
        pass

    def failed(self, peer: Peer, piece: PieceIndex, why: str) -> None:
        pass
