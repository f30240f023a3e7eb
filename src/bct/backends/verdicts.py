"""What ARC, WhatsOnChain and the nodes behind them say about a transaction, put into the closed words of `Outcome`.

Who could cheat: a service that says yes to what it never passed on, or no to what is on its way. So a word counts as
far as it goes and no further: only "a node has it" is good; what is merely queued has not been heard of yet; what
speaks of another spend is a conflict, whatever else it says. Some words fit more than one case (coins that are missing
never were, or are gone); `unclear` leaves them to somebody who can look. Nothing here waits, and no text is trusted: it
is only searched for the words of a node's rejections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bct.bitcoin.chain import Outcome

_LONGEST_DETAIL = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """One source's word about one transaction. detail: its own text, untrusted. unclear: only a look at the coins that
    the transaction spends can tell what it means; `outcome` is UNREACHABLE then."""

    outcome: Outcome
    detail: str = ""
    unclear: bool = False


def _unclear(detail: str) -> Verdict:
    return Verdict(Outcome.UNREACHABLE, detail, unclear=True)


# -- a node's words ---------------------------------------------------------------------------------------------------

REASONS: Mapping[str, Outcome] = {
    "txn-mempool-conflict": Outcome.CONFLICT,
    "txn-double-spend-detected": Outcome.CONFLICT,
    "bad-txn-update": Outcome.CONFLICT,  # a parked transaction holds the coin
    "non-final-txn-replacement-rate": Outcome.CONFLICT,  # so many tried to that the node stopped looking
    # These say that the node is full, slow or busy with it, nothing of the transaction.
    "mempool full": Outcome.UNREACHABLE,
    "non-final-pool-full": Outcome.UNREACHABLE,
    "too-long-mempool-chain": Outcome.UNREACHABLE,
    "too-long-validation-time": Outcome.UNREACHABLE,
}
"""A BSV node's reject reasons; any other is INVALID."""

_UNCLEAR = (
    "missing-inputs",
    "missing inputs",
    "missingorspent",
    "txn-double-spend-detected",  # also said of a transaction that comes in by two doors at one moment
)
_KNOWN = ("txn-already-known", "txn-already-in-mempool", "already in the mempool", "already in block chain")
_DOUBLE = ("double spend", "double-spend", "doublespend")
_NODE_REFUSED = "unexpected response code"  # WhatsOnChain's head of what its node said


def of_reason(text: str) -> Verdict | None:
    """What a text means that quotes a node; None when it holds none of a node's words."""
    low = text.lower()
    if any(word in low for word in _KNOWN):
        return Verdict(Outcome.KNOWN, text)
    if any(word in low for word in _UNCLEAR):
        return _unclear(text)
    if found := next((outcome for word, outcome in REASONS.items() if word in low), None):
        return Verdict(found, text)
    if any(word in low for word in _DOUBLE):
        return Verdict(Outcome.CONFLICT, text)
    if "non-final" in low:
        return Verdict(Outcome.PARKED, text)
    return None


# -- ARC --------------------------------------------------------------------------------------------------------------

ARC_STATUS: Mapping[str, Outcome] = {
    "UNKNOWN": Outcome.UNREACHABLE,
    # On its way to a node, none of which has said anything. A transaction that is not final stays here.
    "QUEUED": Outcome.UNREACHABLE,
    "RECEIVED": Outcome.UNREACHABLE,
    "STORED": Outcome.UNREACHABLE,
    "ANNOUNCED_TO_NETWORK": Outcome.UNREACHABLE,
    "REQUESTED_BY_NETWORK": Outcome.UNREACHABLE,
    "SENT_TO_NETWORK": Outcome.UNREACHABLE,
    "ACCEPTED_BY_NETWORK": Outcome.ACCEPTED,
    "SEEN_ON_NETWORK": Outcome.ACCEPTED,
    "DOUBLE_SPEND_ATTEMPTED": Outcome.CONFLICT,
    "REJECTED": Outcome.INVALID,
    "MINED_IN_STALE_BLOCK": Outcome.UNREACHABLE,  # ARC sends it anew, and says "not final" of this status
    "MINED": Outcome.KNOWN,
}
"""Every txStatus but SEEN_IN_ORPHAN_MEMPOOL: a node lacks coins."""

ARC_ERRORS: Mapping[int, Outcome] = {
    461: Outcome.INVALID,  # an unlocking script fails
    463: Outcome.INVALID,  # malformed
    464: Outcome.INVALID,  # outputs
    465: Outcome.INVALID,  # fee too low
    466: Outcome.CONFLICT,
    471: Outcome.INVALID,  # an input is frozen, by policy
    472: Outcome.INVALID,  # or by consensus
    473: Outcome.INVALID,  # fee of the ancestors
    474: Outcome.INVALID,  # too large
}
"""Error codes that speak of the transaction. The others speak of the request (400, 401, 404, 422, 429), of formats that
are not used here (467, 468, 469, 475), or of nothing at all (409, 5xx): nothing was learned."""

_ARC_UNCLEAR = frozenset((460, 462))
"""No parent to be found; inputs that "are non-existent or spent"."""


def of_arc(item: Mapping[str, Any], txid: str) -> Verdict:
    """One transaction's part of ARC's answer: a status, or an error, which also comes with HTTP 200 around it. txid: as
    people write it."""
    status, detail = item.get("txStatus"), _detail(item)
    if not isinstance(status, str):
        return _of_arc_error(item.get("status"), detail)
    if status == "MINED":
        return Verdict(Outcome.KNOWN, detail)
    competing = _competing(item)
    if others := [one for one in competing if one != txid]:
        return Verdict(Outcome.CONFLICT, f"{detail} competing: {', '.join(others)}"[:_LONGEST_DETAIL])
    if competing or status == "SEEN_IN_ORPHAN_MEMPOOL":  # with itself: it came in by two doors
        return _unclear(detail)
    if status == "REJECTED":
        return of_reason(detail) or Verdict(Outcome.INVALID, detail)
    return Verdict(ARC_STATUS.get(status, Outcome.UNREACHABLE), detail)


def _of_arc_error(code: Any, detail: str) -> Verdict:
    if not isinstance(code, int):
        return Verdict(Outcome.UNREACHABLE, detail)
    return _unclear(detail) if code in _ARC_UNCLEAR else Verdict(ARC_ERRORS.get(code, Outcome.UNREACHABLE), detail)


def _competing(item: Mapping[str, Any]) -> list[str]:
    competing = item.get("competingTxs")
    return [str(one) for one in competing] if isinstance(competing, list) else []


def _detail(item: Mapping[str, Any]) -> str:
    """Everything ARC says in words, in one line."""
    said = (item.get(name) for name in ("txStatus", "status", "title", "detail", "extraInfo"))
    return " ".join(str(one) for one in said if one and one != 200)[:_LONGEST_DETAIL]


# -- WhatsOnChain -----------------------------------------------------------------------------------------------------


def of_woc(code: int, text: str, txid: str) -> Verdict:
    """The answer to a broadcast. txid: as people write it; a yes to another one is none."""
    said = text.strip().strip('"').strip()
    detail = f"{code} {said}"[:_LONGEST_DETAIL]
    if code == 200 and said == txid:
        return Verdict(Outcome.ACCEPTED)
    if found := of_reason(detail):
        return found
    if _NODE_REFUSED in said:
        return Verdict(Outcome.INVALID, detail)
    return Verdict(Outcome.UNREACHABLE, detail)


# -- several together -------------------------------------------------------------------------------------------------

_WEIGHT = (
    Outcome.CONFLICT,
    Outcome.PARKED,
    Outcome.ACCEPTED,
    Outcome.KNOWN,
    Outcome.INVALID,
    Outcome.UNREACHABLE,
)


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """What became of a transaction that several sources were given: the weightiest word; of equal ones the first.

    One word of another spend outweighs any yes: both can be true, and only one of the two will be mined. A yes
    outweighs a no: one node that has it is enough for it to be mined, and a no may be one miner's policy.
    """
    return min(verdicts, key=lambda verdict: _WEIGHT.index(verdict.outcome))
