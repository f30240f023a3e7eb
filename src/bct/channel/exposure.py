"""How many satoshis to accept over a funding transaction that no block holds yet.

Who could cheat: a payer that races our copy of the funding with another spend of its coins, or that opens many channels
at once, or has parked a conflict where a plain look does not show it. What is at stake is only what we serve before a
block comes: so it is bounded per channel, per address block and over all, and rises with what independent sources say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bct.bitcoin.chain import GOOD, Broadcast, Outcome

FRESH_SECONDS = 30
FRESH_TOTAL = 10_000
FRESH_BLOCK = 2_000
OLDER_TOTAL = 100_000
_NO = frozenset((Outcome.CONFLICT, Outcome.PARKED, Outcome.INVALID))


@dataclass(frozen=True, slots=True)
class Sighting:
    """One source's answer about the funding transaction. source: its name; at: Unix seconds."""

    source: str
    at: int
    outcome: Outcome


def heard(answers: Sequence[Broadcast], chain: str, at: int) -> list[Sighting]:
    """What each independent source makes of a whole package, parents before children: its first word that is not good,
    else its last; of an empty one, all is in blocks. chain: name of the one that was asked, for when it is one source
    itself."""
    words: dict[str, Outcome] = {} if answers else {chain: Outcome.KNOWN}
    for answer in answers:
        for source, outcome in answer.said or ((chain, answer.outcome),):
            if source not in words or words[source] in GOOD:
                words[source] = outcome
    return [Sighting(source, at, outcome) for source, outcome in words.items()]


def judged(sightings: Iterable[Sighting]) -> Outcome:
    """What several sources say together: one no is believed at once, else one yes is enough."""
    seen = [s.outcome for s in sightings]
    yes = next((outcome for outcome in seen if outcome in GOOD), Outcome.UNREACHABLE)
    return next((outcome for outcome in seen if outcome in _NO), yes)


def is_conflict(sightings: Iterable[Sighting]) -> bool:
    """Any source that speaks of a conflict, or holds the transaction back, is believed at once."""
    return any(s.outcome in _NO for s in sightings)


def is_clean(sightings: Iterable[Sighting]) -> bool:
    """Two independent sources answered well, and both again 30 s or more later."""
    first: dict[str, int] = {}
    twice: set[str] = set()
    for s in sorted(sightings, key=lambda s: s.at):
        if s.outcome not in GOOD:
            continue
        if s.at - first.setdefault(s.source, s.at) >= FRESH_SECONDS:
            twice.add(s.source)
    return len(twice) >= 2


def cap(sightings: Iterable[Sighting], *, confirmed: bool, fresh: int, clean: int) -> int | None:
    """Most satoshis one channel may hold: None once confirmed, 0 on a conflict, else `fresh` or `clean`."""
    if confirmed:
        return None
    seen = list(sightings)
    if is_conflict(seen):
        return 0
    return clean if is_clean(seen) else fresh


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """An open channel whose funding no block holds: what it has been paid, how old it is, from which address block."""

    paid: int
    age: int
    block: str


def room(channels: Iterable[Unconfirmed], *, age: int, block: str) -> int:
    """Satoshis that one more payment may add to a channel of this age and address block, over all channels."""
    everyone = list(channels)
    if age >= FRESH_SECONDS:
        return max(0, OLDER_TOTAL - sum(c.paid for c in everyone if c.age >= FRESH_SECONDS))
    young = [c for c in everyone if c.age < FRESH_SECONDS]
    of_block = sum(c.paid for c in young if c.block == block)
    return max(0, min(FRESH_TOTAL - sum(c.paid for c in young), FRESH_BLOCK - of_block))
