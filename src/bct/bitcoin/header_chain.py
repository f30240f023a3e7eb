"""The chain of headers that we keep ourselves: without a gap, each one checked, the branch with the most work.

Who could cheat: the service that shows us headers. It can be slow, and it can show a branch that others have left; more
it cannot do without the work. What is checked of each, before anything changes: it names the one before it, its target
is the one that the rules ask for, its hash meets it, its time is past the median of eleven, and the whole has more work
than what it replaces. Below the pinned block hashes alone decide: whatever leads to it is its past.

A branch that leaves ours more than `DEEPEST` blocks down is not followed: then something is going on that a person has
to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from bct.bitcoin.chain import Header
from bct.bitcoin.headers import (
    SIZE,
    WINDOW,
    BlockHeader,
    Link,
    Rules,
    bad_header,
    hash_of,
    median_time,
    next_bits,
    target_of,
    work_of,
)

DEEPEST = 100
_PREVIOUS = slice(4, 36)
_BELOW = 10  # headers under one that its median time needs


class HeaderChain:
    """Headers from `base` to `height`, 80 bytes each. raw: what an earlier one of these held, from `base` on."""

    def __init__(self, rules: Rules, base: int = 0, raw: bytes = b"") -> None:
        """Raises RemoteProtocolError('bad-header') when `raw` is not what was kept."""
        self.rules = rules
        self.base = base
        self._raw = bytearray()
        if raw:
            self.begin(base, _cut(raw))

    @property
    def height(self) -> int:
        """Of the tip; below `base` while there is nothing."""
        return self.base + len(self._raw) // SIZE - 1

    def raw(self, height: int) -> bytes:
        """All headers from here on."""
        return bytes(self._raw[self._place(height) :])

    def covers(self, height: int) -> bool:
        """Whether enough is known below to tell this one's median time."""
        return bool(self._raw) and self.base <= max(0, height - _BELOW)

    def header(self, height: int) -> Header | None:
        """None above the tip. Only for a height that is covered."""
        if height > self.height:
            return None
        header = self._parsed(height)
        times = [self._parsed(one).time for one in range(max(0, height - _BELOW), height + 1)]
        return Header(height, self._hash(height), header.previous, header.merkle_root, header.time, median_time(times))

    def height_of(self, block_hash: bytes) -> int | None:
        """Where a block is in this chain; None if it is in no part of it that we hold."""
        if self._raw and block_hash == self._hash(self.height):
            return self.height
        found = self._raw.find(block_hash)
        while found >= 0:
            if found % SIZE == _PREVIOUS.start and found > SIZE:
                return self.base + found // SIZE - 1
            found = self._raw.find(block_hash, found + 1)
        return None

    # -- what a service shows -----------------------------------------------------------------------------------------

    def begin(self, first: int, raws: Sequence[bytes]) -> None:
        """The first headers: in a row, from `rules.start` or lower up to the pinned block or beyond. Raises
        RemoteProtocolError('bad-header')."""
        height, pinned = self.rules.pinned
        last = height - first
        if first > self.rules.start or len(raws) <= last:
            raise bad_header(f"headers {first} to {first + len(raws) - 1} do not hold the pinned block {height}")
        _check_row(raws[: last + 1])
        if hash_of(raws[last]) != pinned:
            raise bad_header(f"block {height} is {_hex(hash_of(raws[last]))}, pinned is {_hex(pinned)}")
        self.base, self._raw = first, bytearray(b"".join(raws[: last + 1]))
        self.extend(height + 1, raws[last + 1 :])

    def joins(self, first: int, raws: Sequence[bytes]) -> bool:
        """Whether headers in a row from `first` on can be compared with ours: they name one of ours, or are ours."""
        return self._shared(first, raws) is not None

    def extend(self, first: int, raws: Sequence[bytes]) -> bool:
        """Headers in a row from `first` on, some of which may be ours already; whether the tip is another one now.

        Raises RemoteProtocolError('bad-header') for what cannot be; nothing has changed then.
        """
        shared = self._shared(first, raws)
        if shared is None:
            raise bad_header(f"headers from {first} on do not join ours, which end at {self.height}")
        fork, new = first + shared, raws[shared:]
        if not new:
            return False
        self._check_depth(fork)
        before = self._links(fork)
        ours = self._work(fork)
        if self._check(fork, new, before) - before[-1].work <= ours:
            return False
        self._raw[self._place(fork) :] = b"".join(new)
        return True

    def extend_down(self, raws: Sequence[bytes]) -> None:
        """Headers in a row that end right below `base`. Raises RemoteProtocolError('bad-header')."""
        _check_row([*raws, bytes(self._raw[:SIZE])])
        self._raw[:0] = b"".join(raws)
        self.base -= len(raws)

    # -- checks -------------------------------------------------------------------------------------------------------

    def _shared(self, first: int, raws: Sequence[bytes]) -> int | None:
        """How many of them are ours already; None if the next one does not follow one of ours."""
        if not self.base <= first <= self.height + 1:
            return None
        ours = (self._at(height) for height in range(first, self.height + 1))
        shared = 0
        for mine, raw in zip(ours, raws, strict=False):
            if mine != raw:
                break
            shared += 1
        if shared < len(raws):
            fork = first + shared
            if fork == self.base or raws[shared][_PREVIOUS] != self._hash(fork - 1):
                return None
        return shared

    def _check_depth(self, fork: int) -> None:
        if fork <= self.rules.pinned[0]:
            raise bad_header(f"a branch leaves ours at {fork}, below the pinned block {self.rules.pinned[0]}")
        if self.height - fork >= DEEPEST:
            raise bad_header(
                f"a branch leaves ours {self.height - fork + 1} blocks down, at most {DEEPEST} are followed"
            )

    def _check(self, fork: int, raws: Sequence[bytes], before: Sequence[Link]) -> int:
        """The work of these headers and of those before them, once each is found good."""
        links, previous = list(before), self._hash(fork - 1)
        for height, raw in enumerate(raws, fork):
            header = BlockHeader.parse(raw)
            if header.previous != previous:
                raise bad_header(f"header {height} does not name the one before it")
            self._check_work(height, header, previous := hash_of(raw), links)
            if header.time <= median_time([link.time for link in links[-11:]]):
                raise bad_header(f"header {height} has a time that was over: {header.time}")
            links.append(Link(header.time, header.bits, links[-1].work + work_of(header.bits)))
        return links[-1].work

    def _check_work(self, height: int, header: BlockHeader, block_hash: bytes, before: Sequence[Link]) -> None:
        bits = next_bits(before, header.time, self.rules)
        if header.bits != bits:
            raise bad_header(f"header {height} has the difficulty {header.bits:08x}, the rules ask for {bits:08x}")
        if int.from_bytes(block_hash, "little") > target_of(bits):
            raise bad_header(f"header {height} does not have the work that it claims")

    # -- bytes --------------------------------------------------------------------------------------------------------

    def _links(self, fork: int) -> list[Link]:
        """Of the headers under `fork`, as many as the rules look back."""
        links = [Link(0, 0, 0)]
        for height in range(max(self.base, fork - WINDOW), fork):
            header = self._parsed(height)
            links.append(Link(header.time, header.bits, links[-1].work + work_of(header.bits)))
        return links[1:]

    def _work(self, fork: int) -> int:
        """Of our own headers from `fork` on."""
        return sum(work_of(self._parsed(height).bits) for height in range(fork, self.height + 1))

    def _place(self, height: int) -> int:
        return (height - self.base) * SIZE

    def _at(self, height: int) -> bytes:
        return bytes(self._raw[self._place(height) : self._place(height + 1)])

    def _parsed(self, height: int) -> BlockHeader:
        return BlockHeader.parse(self._at(height))

    def _hash(self, height: int) -> bytes:
        """The next header tells it; of the tip it is computed."""
        if height == self.height:
            return hash_of(self._at(height))
        start = self._place(height + 1)
        return bytes(self._raw[start + _PREVIOUS.start : start + _PREVIOUS.stop])


def _cut(raw: bytes) -> list[bytes]:
    return [raw[at : at + SIZE] for at in range(0, len(raw), SIZE)]


def _check_row(raws: Sequence[bytes]) -> None:
    """Each names the one before it."""
    if any(len(raw) != SIZE for raw in raws):
        raise bad_header(f"a block header has {SIZE} bytes")
    if any(after[_PREVIOUS] != hash_of(before) for before, after in pairwise(raws)):
        raise bad_header("headers that are said to be in a row are not")


def _hex(block_hash: bytes) -> str:
    return block_hash[::-1].hex()
