"""Block headers made for tests, with real work in them, as easy as regtest's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from bct.bitcoin.header_chain import HeaderChain
from bct.bitcoin.headers import BlockHeader, Link, Rules, bits_of, hash_of, next_bits, target_of, work_of

EASY = (1 << 255) - 1
LONG_AGO = 1_600_000_000


def mined(header: BlockHeader) -> bytes:
    """With the first nonce that meets its target."""
    start, target = header.serialize()[:-4], target_of(header.bits)
    tries = (start + nonce.to_bytes(4, "little") for nonce in count())
    return next(raw for raw in tries if int.from_bytes(hash_of(raw), "little") <= target)


def row(
    length: int,
    after: Sequence[bytes] = (),
    *,
    rules: Rules | None = None,
    bits: int = bits_of(EASY),
    spacing: int = 600,
    salt: int = 0,
) -> list[bytes]:
    """Headers in a row that follow `after`, or begin a chain. rules: whose difficulty they have; else `bits`. Another
    salt is another branch."""
    raws = list(after)
    links: list[Link] = []
    for raw in raws:
        links.append(_link(raw, links))
    for _ in range(length):
        previous = hash_of(raws[-1]) if raws else bytes(32)
        time = links[-1].time + spacing if links else LONG_AGO
        bits = next_bits(links, time, rules) if rules else bits
        raws.append(mined(BlockHeader(1, previous, salt.to_bytes(32), time, bits, 0)))
        links.append(_link(raws[-1], links))
    return raws[len(after) :]


def _link(raw: bytes, links: Sequence[Link]) -> Link:
    header = BlockHeader.parse(raw)
    return Link(header.time, header.bits, (links[-1].work if links else 0) + work_of(header.bits))


def rules_of(raws: Sequence[bytes], pinned: int = 0, *, retargets: bool = False) -> Rules:
    """A network of its own, in which one of these headers is pinned."""
    return Rules(EASY, (pinned, hash_of(raws[pinned])), retargets)


def begun(raws: Sequence[bytes], pinned: int = 0, *, retargets: bool = False) -> HeaderChain:
    chain = HeaderChain(rules_of(raws, pinned, retargets=retargets))
    chain.begin(0, raws)
    return chain
