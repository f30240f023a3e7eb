"""What a fuzz target is, and the seeds that the vectors give it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bct.errors import BctError, RemoteProtocolError

_MOST_PARTS = 24
VECTORS = Path(__file__).parents[2] / "vectors"


@dataclass(frozen=True, slots=True)
class Target:
    """One parser, whatever bytes it is given.

    read: reads them, and if they can be read asserts what must hold of what came out. seeds: inputs that can be read.
    rooms: the modules that it is there to reach. refusals: the only errors it may raise; reasons: the words that a
    RemoteProtocolError may carry, empty for any. mutations: how many are tried with every test run.
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    rooms: tuple[ModuleType, ...]
    refusals: tuple[type[Exception], ...] = (RemoteProtocolError,)
    reasons: frozenset[str] = frozenset()
    mutations: int = 1_000

    def __call__(self, raw: bytes) -> None:
        """Raises whatever was found: an assertion that does not hold, or an error that nobody was told about."""
        try:
            self.read(raw)
        except self.refusals as error:
            self._judge(error)

    def _judge(self, error: Exception) -> None:
        """A refusal says why in words that can be logged; a peer's carries one fixed word."""
        if isinstance(error, BctError):
            assert str(error), "a refusal without a sentence"
            assert len(str(error)) < 2_000, "a refusal as long as what it refuses"
        if isinstance(error, RemoteProtocolError):
            assert not self.reasons or error.reason in self.reasons, error.reason


def vector(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def text_of(raw: bytes) -> str:
    """Any text: what is no UTF-8 becomes what Python makes of it in arguments and file names."""
    return raw.decode(errors="surrogateescape")


def respelled(raw: bytes) -> bytes:
    """JSON in the one spelling that is read, so that what stands in it gets its turn; other bytes as they are."""
    try:
        return json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return raw


def parts_of(raw: bytes) -> list[bytes]:
    """Many inputs in one: each begins with its length in two bytes. The last takes what is there; what is beyond
    `_MOST_PARTS` is left, for a story of a thousand steps teaches no more than one of twenty."""
    parts: list[bytes] = []
    while raw and len(parts) < _MOST_PARTS:
        size = int.from_bytes(raw[:2])
        parts.append(raw[2 : 2 + size])
        raw = raw[2 + size :]
    return parts


def joined(*parts: bytes) -> bytes:
    """Inverse of `parts_of`."""
    return b"".join(len(part).to_bytes(2) + part for part in parts)
