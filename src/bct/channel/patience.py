"""How often something that may fail is tried. Time is steady seconds, given as argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Patience:
    """At once; then after `first` seconds, then after twice as long each time, and never later than `longest`."""

    first: float
    longest: float
    _pause: float = 0.0
    _next: float = 0.0

    def due(self, now: float) -> bool:
        return not self._pause or now >= self._next

    def tried(self, now: float) -> None:
        self._pause = min(max(self.first, 2 * self._pause), self.longest)
        self._next = now + self._pause

    @property
    def pause(self) -> float:
        """Seconds from the last try to the next; 0 before the first."""
        return self._pause
