"""What leaves this node for one peer. The only caller of `send_block`, and it calls it behind the gate only.

Who could cheat: a peer that asks for what it did not pay, or faster than it reads. Every request passes the swarm's
gate in the order it came; what the gate holds back waits, with all behind it; while the peer does not take what was
said, nothing more is read from disk for it. A peer that goes on asking for what it is refused is cut off.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from bct.errors import RemoteProtocolError
from bct.pay.account import Verdict
from bct.torrent.geometry import Block

if TYPE_CHECKING:
    from bct.node.peer import Peer

REFUSALS = 256
AHEAD = 1 << 20
"""Bytes said to a peer and not yet taken by the system, above which it has to wait."""


class Serving:
    """One peer's requests, oldest first."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._waiting: deque[Block] = deque()
        self._refused = 0
        self.sent = 0
        """Bytes of payload handed to the connection."""

    def ask(self, blocks: tuple[Block, ...]) -> None:
        self._waiting.extend(blocks)
        self.go_on()

    def cancelled(self, block: Block) -> None:
        if block in self._waiting:
            self._waiting.remove(block)

    def go_on(self) -> None:
        """Serves until something has to be waited for: the gate, the peer, or the next request."""
        peer, waiting = self._peer, self._waiting
        swarm = peer.swarm
        if swarm is None or peer.closed:
            return
        room = AHEAD - peer.connection.buffered
        while waiting and room > 0:
            block = waiting[0]
            verdict = swarm.gate(peer, block)
            if verdict is Verdict.HOLD:
                return
            waiting.popleft()
            if verdict is Verdict.REFUSE:
                self._refuse(block)
                continue
            room -= block.length
            if peer.wire.send_block(block.piece, block.begin, swarm.read(block)):
                self.sent += block.length

    def _refuse(self, block: Block) -> None:
        self._peer.wire.reject(block)
        self._refused += 1
        if self._refused > REFUSALS:
            raise RemoteProtocolError("not-paid", f"asked {self._refused} times for pieces that were not paid for")

    def lost(self) -> None:
        self._waiting.clear()
