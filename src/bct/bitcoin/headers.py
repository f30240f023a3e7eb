"""Block headers: 80 bytes, the work in them, and how hard the next one has to be.

Who could cheat: whoever tells us headers. He cannot name an easy target, for it follows from the blocks before; he
cannot meet a hard one without doing the work; and he cannot begin elsewhere, for a block of each network is pinned.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bct.bitcoin.chain import Network
from bct.bitcoin.keys import sha256d
from bct.errors import RemoteProtocolError

SIZE = 80
SPACING = 600
"""Seconds between two blocks that the difficulty aims at."""
WINDOW = 147
"""Headers before a block that say how hard it has to be: a day's 144, and the median of three at its beginning."""
_MEDIAN = 11
_FORMAT = struct.Struct("<I32s32sIII")


def bad_header(text: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-header", text)


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """In wire order. time: Unix seconds. bits: the target as three bytes and an exponent."""

    version: int
    previous: bytes
    merkle_root: bytes
    time: int
    bits: int
    nonce: int

    def serialize(self) -> bytes:
        return _FORMAT.pack(self.version, self.previous, self.merkle_root, self.time, self.bits, self.nonce)

    @classmethod
    def parse(cls, raw: bytes) -> BlockHeader:
        """Exactly 80 bytes. Raises RemoteProtocolError('bad-header')."""
        if len(raw) != SIZE:
            raise bad_header(f"a block header has {SIZE} bytes, got {len(raw)}")
        return cls(*_FORMAT.unpack(raw))


class Link(NamedTuple):
    """What a header says to those after it. work: all that was done up to it, counted from anywhere."""

    time: int
    bits: int
    work: int


@dataclass(frozen=True, slots=True)
class Rules:
    """One network's. limit: the easiest target. pinned: a block that is in the chain, height and hash; nothing before
    it is judged by its work, for it leads there. retargets: not on regtest, where every block is as easy as the first.
    eases: a block that comes 20 minutes after the one before may be as easy as the limit, on the test network."""

    limit: int
    pinned: tuple[int, bytes]
    retargets: bool = True
    eases: bool = False

    @property
    def start(self) -> int:
        """The lowest height that has to be known to judge what follows the pinned block."""
        return max(0, self.pinned[0] - WINDOW)


def _pinned(height: int, block_hash: str) -> tuple[int, bytes]:
    return height, bytes.fromhex(block_hash)[::-1]


RULES: Mapping[Network, Rules] = {
    Network.REGTEST: Rules(
        limit=(1 << 255) - 1,
        pinned=_pinned(0, "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
        retargets=False,
    ),
    Network.TEST: Rules(
        limit=(1 << 224) - 1,
        pinned=_pinned(1_599_999, "00000000000005504bfd1a3ce4688c30c86740390102b6cd464a2fb5e0e3fed1"),
        eases=True,
    ),
    Network.MAIN: Rules(
        limit=(1 << 224) - 1,
        pinned=_pinned(899_999, "00000000000000000e7dcc27c06ee353bd37260b2e7e664314c204f0324a5087"),
    ),
}


def target_of(bits: int) -> int:
    """The number that a block's hash must not exceed. Raises RemoteProtocolError('bad-header')."""
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    target = mantissa << 8 * (exponent - 3) if exponent >= 3 else mantissa >> 8 * (3 - exponent)
    if bits & 0x800000 or not 0 < target < 1 << 256:
        raise bad_header(f"{bits:08x} is no target")
    return target


def bits_of(target: int) -> int:
    """The shortest spelling of a target, rounded down to its three highest bytes."""
    size = (target.bit_length() + 7) // 8
    mantissa = target >> 8 * (size - 3) if size > 3 else target << 8 * (3 - size)
    if mantissa & 0x800000:  # would be read as a sign
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


def work_of(bits: int) -> int:
    """Hashes that a block of this difficulty takes on average. Raises RemoteProtocolError('bad-header')."""
    return (1 << 256) // (target_of(bits) + 1)


def median_time(times: Sequence[int]) -> int:
    """Of a block and up to ten before it, oldest first."""
    last = sorted(times[-_MEDIAN:])
    return last[len(last) // 2]


def next_bits(before: Sequence[Link], time: int, rules: Rules) -> int:
    """What the header of a block at `time` has to say after these: its bits are no choice of the miner's.

    The work of the last day, and the time it took, give the work expected in ten minutes (the rule since block 504,031
    of mainnet). before: at least `WINDOW` headers, oldest first.
    """
    last = before[-1]
    if not rules.retargets:
        return last.bits
    if rules.eases and time > last.time + 2 * SPACING:
        return bits_of(rules.limit)
    newest, oldest = _middle(before[-3:]), _middle(before[-WINDOW : -WINDOW + 3])
    took = min(max(newest.time - oldest.time, 72 * SPACING), 288 * SPACING)
    work = (newest.work - oldest.work) * SPACING // took
    return bits_of(min(rules.limit, ((1 << 256) - work) // work))


def _middle(three: Sequence[Link]) -> Link:
    """By time. Which of two equal ones it is follows from the order in which the node compares."""
    a, b, c = three
    if a.time > c.time:
        a, c = c, a
    if a.time > b.time:
        a, b = b, a
    if b.time > c.time:
        b, c = c, b
    return b


def hash_of(raw: bytes) -> bytes:
    """A block's id, in the order in which the next header names it."""
    return sha256d(raw)
