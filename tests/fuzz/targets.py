"""The table of targets: every parser that reads bytes of a stranger, or of a disk that may be damaged."""

from __future__ import annotations

from tests.fuzz import disk, evidence, money, payments, titles, torrents
from tests.fuzz.target import Target

_ROOMS = (torrents, money, titles, payments, evidence, disk)

TARGETS: dict[str, Target] = {name: target for room in _ROOMS for name, target in room.TARGETS.items()}
