"""Selling one title: a session for each bct peer, and the gate that every block passes."""

from __future__ import annotations

from bct.bitcoin.keys import PrivateKey
from bct.errors import RemoteProtocolError
from bct.node.peer import Peer
from bct.node.till import Till
from bct.pay.account import Verdict
from bct.pay.messages import Message
from bct.pay.payee_session import PayeeSession
from bct.title.terms import Terms
from bct.torrent.geometry import Block
from bct.units import PieceIndex


class TitleSeller:
    """The `Seller` of a swarm. `terms` may be replaced by newer ones; sessions keep theirs."""

    def __init__(self, till: Till, terms: Terms) -> None:
        self.terms = terms
        self.identity: PrivateKey = till.keys.identity
        self._till = till
        self._sessions: dict[Peer, PayeeSession] = {}

    def is_free(self, piece: int) -> bool:
        return self.terms.is_free(piece)

    def met(self, peer: Peer) -> None:
        """The peer speaks bct_pay: it gets an offer unasked."""
        if peer in self._sessions or peer.context is None:
            return
        till = self._till
        session = PayeeSession(peer.context, self.terms, till.keys, till.policy, till.book)
        self._sessions[peer] = session
        till.perform(peer, session, session.offer(till.now, peer.hub.random))

    def message(self, peer: Peer, message: Message) -> None:
        session = self._sessions.get(peer)
        if session is None:
            raise RemoteProtocolError("no-handshake", "bct_pay was spoken before the extended handshake")
        till = self._till
        till.check_ledger()
        before = session.account
        till.perform(peer, session, session.receive(message, till.now, peer.hub.random))
        if session.account is not before:
            till.attach(peer, session)

    def gate(self, peer: Peer, block: Block, size: int) -> Verdict:
        piece = PieceIndex(block.piece)
        session = self._sessions.get(peer)
        if session is None:
            return Verdict.SERVE if self.terms.is_free(piece) else Verdict.REFUSE
        verdict, record = session.ask(piece, size, block.length)
        if record and session.account:
            self._till.opened(session.account, record)
        return verdict

    def gone(self, peer: Peer) -> None:
        if session := self._sessions.pop(peer, None):
            self._till.detach(peer, session)
