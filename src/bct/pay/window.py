"""How many pieces to have paid for and not yet received: the only thing a viewer can lose to a seeder.

It starts at one piece and grows by what is delivered, up to what keeps the line full (one more than fits into a round
trip), and never beyond max(1 piece, 20 satoshis).
"""

from __future__ import annotations

EXPOSED_SATOSHI = 20
_SMOOTHING = 0.25


class Window:
    """One seeder's. Times are seconds on any steady clock."""

    def __init__(self, price: int, piece_length: int) -> None:
        self._most = max(1, EXPOSED_SATOSHI // price) if price else EXPOSED_SATOSHI
        self._piece_length = piece_length
        self._round_trip = 0.0
        self._rate = 0.0
        self._last = 0.0
        self.pieces = 1

    @property
    def rate(self) -> float:
        """Bytes per second, smoothed; 0 before the first delivery."""
        return self._rate

    def first_block(self, waited: float) -> None:
        """The first block of a piece that was asked for with nothing else outstanding came after `waited` seconds."""
        self._round_trip = waited if not self._round_trip else min(self._round_trip * 1.1, waited)

    def delivered(self, size: int, since: float, now: float) -> None:
        """A piece of `size` bytes is complete. since: when it was asked for."""
        took = max(now - max(since, self._last), 1e-6)
        self._last = now
        rate = size / took
        self._rate = rate if not self._rate else self._rate + _SMOOTHING * (rate - self._rate)
        wanted = 2 + int(self._rate * self._round_trip / self._piece_length)
        self.pieces = min(self._most, wanted, self.pieces + 1)

    def broken(self) -> None:
        """Something paid for did not come: trust starts again at one piece."""
        self.pieces = 1
