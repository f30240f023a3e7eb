"""What leaves this node for one peer. The only caller of `send_block`, and it calls it behind the gate only.

Who could cheat: a peer that asks for what it did not pay, or faster than it reads. Every request passes the swarm's
gate in the order it came; what the gate holds back waits, with all behind it; while the peer does not take what was
said, nothing more is read from disk for it. A peer that goes on asking for what it is refused is cut off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from bct.errors import RemoteProtocolError
from bct.pay.account import Verdict
from bct.torrent.connection import PeerConnection
from bct.torrent.geometry import Block
from bct.torrent.transport import Connection
from bct.torrent.wire import Buffer

REFUSALS = 256
AHEAD = 1 << 20
"""Bytes said to a peer and not yet taken by the system, above which it has to wait."""

Gate = Callable[[Block], Verdict]
Read = Callable[[Block], Buffer]


class Serving:
    """One peer's requests, oldest first."""

    __slots__ = ("_connection", "_refused", "_waiting", "_wire", "sent")

    def __init__(self, wire: PeerConnection, connection: Connection) -> None:
        self._wire = wire
        self._connection = connection
        self._waiting: deque[Block] = deque()
        self._refused = 0
        self.sent = 0
        """Bytes of payload handed to the connection."""

    def ask(self, blocks: tuple[Block, ...]) -> None:
        self._waiting.extend(blocks)

    def cancelled(self, block: Block) -> None:
        if block in self._waiting:
            self._waiting.remove(block)

    def go_on(self, gate: Gate, read: Read) -> None:
        """Serves until something has to be waited for: the gate, the peer, or the next request.

        Raises RemoteProtocolError('not-paid') for a peer that will not stop asking.
        """
        waiting = self._waiting
        room = AHEAD - self._connection.buffered
        while waiting and room > 0:
            block = waiting[0]
            verdict = gate(block)
            if verdict is Verdict.HOLD:
                return
            waiting.popleft()
            if verdict is Verdict.REFUSE:
                self._refuse(block)
            elif self._wire.send_block(block.piece, block.begin, read(block)):
                room -= block.length
                self.sent += block.length

    def _refuse(self, block: Block) -> None:
        self._wire.reject(block)
        self._refused += 1
        if self._refused > REFUSALS:
            raise RemoteProtocolError("not-paid", f"asked {self._refused} times for pieces that were not paid for")

    def lost(self) -> None:
        self._waiting.clear()
