"""What one play may cost: the cap that is never passed, not by one satoshi.

It covers the pieces and every miner fee the play causes: for each payment channel it opens, the funding's fee and the
dearer of settlement and refund. What is locked in a channel and comes back as change is not a cost.
"""

from __future__ import annotations

from bct.errors import FundsError


class Budget:
    """limit: satoshis; None for no cap. more: how many titles are to be watched next with what is left of it. A payment
    channel gets room for them as well: as much for each as for this one, for all that is known."""

    def __init__(self, limit: int | None, more: int = 0) -> None:
        self.limit = limit
        self.more = more
        self.pieces = 0
        """Satoshis signed for pieces."""
        self.fees = 0
        """Satoshis committed to miners."""

    @property
    def total(self) -> int:
        return self.pieces + self.fees

    def left(self) -> int | None:
        """Satoshis that may still be spent; None for no cap."""
        return None if self.limit is None else self.limit - self.total

    def allows(self, amount: int) -> bool:
        left = self.left()
        return left is None or amount <= left

    def spend(self, price: int) -> None:
        """Counts a piece, before its payment is signed. Raises FundsError."""
        self._check(price, "the next piece")
        self.pieces += price

    def commit(self, fees: int) -> None:
        """Counts miner fees, before the transaction that causes them is signed. Raises FundsError."""
        self._check(fees, "miner fees")
        self.fees += fees

    def release(self, fees: int) -> None:
        """Takes back what was committed for a transaction that nobody will ever see."""
        self.fees -= fees

    def _check(self, amount: int, what: str) -> None:
        if not self.allows(amount):
            raise FundsError(
                f"{what} would cost {amount} sat; {self.total} of at most {self.limit} sat are spent: raise --max-sats"
            )
