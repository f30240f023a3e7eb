"""One line of a benchmark's table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """bct beside another program, a bare library or a budget, both measured in the same run on the same machine."""

    name: str
    """What was done: "seed 512 MiB to one peer"."""
    value: float
    """bct's figure."""
    unit: str
    """Of both figures: "MB/s", "us"."""
    against: str
    """The other program with its version: "libtorrent 2.1.1"."""
    against_value: float
    """Its figure."""
    settings: str
    """Whatever of the other program was not left as it comes; empty: nothing."""
    goal: float
    """The ratio that is good enough: the most it may be, or the least where `more_is_better`."""
    more_is_better: bool = False

    @property
    def ratio(self) -> float:
        """bct's figure over the other's."""
        return self.value / self.against_value

    @property
    def meets(self) -> bool:
        return self.ratio >= self.goal if self.more_is_better else self.ratio <= self.goal

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": round(self.ratio, 3), "meets": self.meets}
