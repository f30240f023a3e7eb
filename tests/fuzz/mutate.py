"""Inputs made of others, the same ones each time: what a fuzzer does, without its sense of what is new."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

_BYTES = (0, 1, 0x7F, 0x80, 0xFD, 0xFE, 0xFF)
_NUMBERS = (0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)


def mutations(name: str, known: Sequence[bytes], count: int) -> Iterator[bytes]:
    """So many, each one to four changes away from one of the known."""
    chance = Random(name)
    for _ in range(count):
        raw = chance.choice(known)
        for _ in range(chance.randint(1, 4)):
            raw = chance.choice(_CHANGES)(raw, chance, chance.choice(known))
        yield raw


def _flip(raw: bytes, chance: Random, other: bytes) -> bytes:
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + bytes(byte ^ 1 << chance.randrange(8) for byte in raw[at : at + 1]) + raw[at + 1 :]


def _set(raw: bytes, chance: Random, other: bytes) -> bytes:
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + bytes((chance.choice(_BYTES),)) + raw[at + 1 :]


def _number(raw: bytes, chance: Random, other: bytes) -> bytes:
    at, size = chance.randrange(len(raw) + 1), chance.choice((2, 4, 8))
    number = chance.choice(_NUMBERS) % (1 << 8 * size)
    return raw[:at] + number.to_bytes(size, chance.choice(("big", "little"))) + raw[at + size :]


def _cut(raw: bytes, chance: Random, other: bytes) -> bytes:
    return raw[: chance.randrange(len(raw) + 1)]


def _drop(raw: bytes, chance: Random, other: bytes) -> bytes:
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + raw[at + chance.randint(1, 16) :]


def _repeat(raw: bytes, chance: Random, other: bytes) -> bytes:
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + raw[at : at + chance.randint(1, 64)] * 2 + raw[at:]


def _insert(raw: bytes, chance: Random, other: bytes) -> bytes:
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + chance.randbytes(chance.randint(1, 8)) + raw[at:]


def _splice(raw: bytes, chance: Random, other: bytes) -> bytes:
    """The beginning of one and the end of another."""
    return raw[: chance.randrange(len(raw) + 1)] + other[chance.randrange(len(other) + 1) :]


_CHANGES: tuple[Callable[[bytes, Random, bytes], bytes], ...] = (
    _flip, _set, _number, _cut, _drop, _repeat, _insert, _splice,
)  # fmt: skip
