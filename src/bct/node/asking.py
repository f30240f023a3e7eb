"""What is asked for a title: its creator's terms, as the seeders of one play offer them.

Who could cheat: a seeder with terms of its own, or old ones that pay the creator less. Each session takes its offer
only under the creator's key and from the highest sequence on that was ever seen (`title.terms`); what is newer is kept.
"""

from __future__ import annotations

import asyncio

from bct.errors import TemporaryError
from bct.node.swarm import Swarm
from bct.pay.messages import Context
from bct.pay.payer_session import PayerSession
from bct.title.terms import Terms


class Asking:
    """creator: the key of the link, None for an ordinary torrent. lowest: the highest sequence that was ever seen.
    fee_rate_cap: the most satoshis per 1,000 bytes that a seeder may want for miners."""

    def __init__(self, swarm: Swarm, creator: bytes | None, lowest: int, fee_rate_cap: int) -> None:
        self.terms: Terms | None = None
        self._swarm = swarm
        self._creator = creator
        self._lowest = lowest
        self._fee_rate_cap = fee_rate_cap
        self._known = asyncio.Event()

    def session(self, context: Context) -> PayerSession | None:
        """The spending side of one connection; None where nothing is ever paid."""
        if self._creator is None:
            return None
        return PayerSession(context, self._creator, self._swarm.infohash, self._lowest, self._fee_rate_cap)

    def offered(self, terms: Terms) -> bool:
        """A seeder offers the title under these terms, checked. Whether they are news, to be remembered."""
        if self.terms is not None and terms.sequence <= self.terms.sequence:
            return False
        self.terms = terms
        self._lowest = terms.sequence
        self._swarm.priced = terms.price > 0
        self._known.set()
        return True

    def shown_whole(self) -> None:
        """A peer shows every piece, where one that sells shows the free ones only: nobody's terms are needed."""
        self._known.set()

    async def first_terms(self, seconds: float) -> Terms | None:
        """The title's terms as soon as a seeder has offered them; None once one gives all of it away.

        Raises TemporaryError.
        """
        try:
            await asyncio.wait_for(self._known.wait(), seconds)
        except TimeoutError:
            raise TemporaryError(f"no seeder has offered the title within {seconds:.0f} s") from None
        return self.terms
