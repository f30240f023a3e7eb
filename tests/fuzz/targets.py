"""The table of targets: every parser that reads bytes of a stranger, or of a disk that may be damaged."""

from __future__ import annotations

from tests.fuzz import disk, money, payments, titles, torrents
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = torrents.TARGETS | money.TARGETS | titles.TARGETS | payments.TARGETS | disk.TARGETS
