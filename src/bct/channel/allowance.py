"""How much one stranger, known by a token, may ask of us. Time is steady seconds, given as argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Allowance:
    """`burst` at once, and `rate` a second in the long run."""

    rate: float
    burst: float
    _used: float = 0.0
    _at: float = 0.0

    def take(self, now: float) -> bool:
        """Whether one more is allowed; if so, it is counted."""
        self._used = max(0.0, self._used - (now - self._at) * self.rate)
        self._at = now
        if self._used + 1 > self.burst:
            return False
        self._used += 1
        return True
