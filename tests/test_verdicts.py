"""What services say, in our words: every status and every error that their descriptions name, and then some."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bct.backends.verdicts import ARC_ERRORS, ARC_STATUS, Verdict, of_arc, of_reason, of_woc, together
from bct.bitcoin.chain import GOOD, Outcome

TXID, OTHER = "0a" * 32, "0b" * 32
ACCEPTED, KNOWN, PARKED, CONFLICT, INVALID, UNREACHABLE = Outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("UNKNOWN", UNREACHABLE),
        ("QUEUED", UNREACHABLE),
        ("RECEIVED", UNREACHABLE),
        ("STORED", UNREACHABLE),
        ("ANNOUNCED_TO_NETWORK", UNREACHABLE),
        ("REQUESTED_BY_NETWORK", UNREACHABLE),
        ("SENT_TO_NETWORK", UNREACHABLE),
        ("ACCEPTED_BY_NETWORK", ACCEPTED),
        ("SEEN_ON_NETWORK", ACCEPTED),
        ("DOUBLE_SPEND_ATTEMPTED", CONFLICT),
        ("REJECTED", INVALID),
        ("MINED_IN_STALE_BLOCK", UNREACHABLE),
        ("MINED", KNOWN),
        ("SOMETHING_NEW", UNREACHABLE),
        ("", UNREACHABLE),
    ],
)
def test_each_status_of_arc(status: str, outcome: Outcome) -> None:
    verdict = of_arc({"txid": TXID, "txStatus": status, "competingTxs": None}, TXID)
    assert (verdict.outcome, verdict.unclear) == (outcome, False)


def test_the_table_is_the_descriptions() -> None:
    """The enum of txStatus in arc.yaml."""
    assert {*ARC_STATUS, "SEEN_IN_ORPHAN_MEMPOOL"} == {
        *("UNKNOWN", "QUEUED", "RECEIVED", "STORED", "ANNOUNCED_TO_NETWORK", "REQUESTED_BY_NETWORK"),
        *("SENT_TO_NETWORK", "ACCEPTED_BY_NETWORK", "SEEN_IN_ORPHAN_MEMPOOL", "SEEN_ON_NETWORK"),
        *("DOUBLE_SPEND_ATTEMPTED", "REJECTED", "MINED_IN_STALE_BLOCK", "MINED"),
    }


@pytest.mark.parametrize(
    ("code", "outcome", "unclear"),
    [
        (400, UNREACHABLE, False),
        (401, UNREACHABLE, False),
        (404, UNREACHABLE, False),
        (409, UNREACHABLE, False),
        (422, UNREACHABLE, False),
        (429, UNREACHABLE, False),
        (460, UNREACHABLE, True),
        (461, INVALID, False),
        (462, UNREACHABLE, True),
        (463, INVALID, False),
        (464, INVALID, False),
        (465, INVALID, False),
        (466, CONFLICT, False),
        (467, UNREACHABLE, False),
        (468, UNREACHABLE, False),
        (469, UNREACHABLE, False),
        (471, INVALID, False),
        (472, INVALID, False),
        (473, INVALID, False),
        (474, INVALID, False),
        (475, UNREACHABLE, False),
        (500, UNREACHABLE, False),
        (None, UNREACHABLE, False),
        ("465", UNREACHABLE, False),
        ([465], UNREACHABLE, False),
    ],
)
def test_each_error_of_arc(code: Any, outcome: Outcome, unclear: bool) -> None:
    verdict = of_arc({"status": code, "title": "No", "detail": "because", "txid": TXID}, TXID)
    assert (verdict.outcome, verdict.unclear) == (outcome, unclear)
    assert "because" in verdict.detail


def test_coins_that_a_node_lacks_are_for_somebody_else_to_look_at() -> None:
    verdict = of_arc({"txid": TXID, "txStatus": "SEEN_IN_ORPHAN_MEMPOOL"}, TXID)
    assert (verdict.outcome, verdict.unclear) == (UNREACHABLE, True)


@pytest.mark.parametrize("status", [status for status in ARC_STATUS if status != "MINED"])
def test_a_competing_transaction_is_a_conflict_whatever_the_status(status: str) -> None:
    assert of_arc({"txid": TXID, "txStatus": status, "competingTxs": [OTHER]}, TXID).outcome is CONFLICT
    assert of_arc({"txid": TXID, "txStatus": status, "competingTxs": [TXID, OTHER]}, TXID).outcome is CONFLICT


def test_what_competes_with_itself_came_in_by_two_doors() -> None:
    verdict = of_arc({"txid": TXID, "txStatus": "DOUBLE_SPEND_ATTEMPTED", "competingTxs": [TXID]}, TXID)
    assert (verdict.outcome, verdict.unclear) == (UNREACHABLE, True)


def test_what_was_mined_has_won() -> None:
    assert of_arc({"txid": TXID, "txStatus": "MINED", "competingTxs": [OTHER]}, TXID).outcome is KNOWN


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("double spend attempted", CONFLICT),
        ("txn-mempool-conflict", CONFLICT),
        ("bad-txn-update", CONFLICT),
        ("non-final-txn-replacement-rate", CONFLICT),
        ("non-final-pool-full", UNREACHABLE),
        ("64: non-final", PARKED),
        ("mempool full", UNREACHABLE),
        ("mandatory-script-verify-flag-failed (Signature must be zero)", INVALID),
        ("", INVALID),
    ],
)
def test_what_a_rejection_of_arc_says_in_words(reason: str, outcome: Outcome) -> None:
    assert of_arc({"txid": TXID, "txStatus": "REJECTED", "extraInfo": reason}, TXID).outcome is outcome


@pytest.mark.parametrize(
    ("code", "text", "outcome", "unclear"),
    [
        (200, f'"{TXID}"', ACCEPTED, False),
        (200, f"{TXID}\n", ACCEPTED, False),
        (200, f'"{OTHER}"', UNREACHABLE, False),
        (200, "", UNREACHABLE, False),
        (200, "<html>", UNREACHABLE, False),
        (200, '"257: txn-already-known"', KNOWN, False),
        (400, "unexpected response code 500: 257: txn-already-known", KNOWN, False),
        (422, "unexpected response code 500: 257: txn-already-in-mempool", KNOWN, False),
        (400, "unexpected response code 500: Transaction already in the mempool", KNOWN, False),
        (400, "unexpected response code 500: 258: txn-mempool-conflict", CONFLICT, False),
        (500, "unexpected response code 500: 258: txn-mempool-conflict", CONFLICT, False),
        (400, "unexpected response code 500: 258: txn-double-spend-detected", UNREACHABLE, True),
        (400, "unexpected response code 500: Missing inputs", UNREACHABLE, True),
        (400, "unexpected response code 500: 64: non-final", PARKED, False),
        (400, "unexpected response code 500: 16: mandatory-script-verify-flag-failed (…)", INVALID, False),
        (400, "unexpected response code 500: 66: insufficient priority", INVALID, False),
        (400, "unexpected response code 500: mempool full", UNREACHABLE, False),
        (400, "Bad Request", UNREACHABLE, False),
        (500, "Internal Server Error", UNREACHABLE, False),
        (404, "Not Found", UNREACHABLE, False),
    ],
)
def test_each_answer_of_whatsonchain_to_a_broadcast(code: int, text: str, outcome: Outcome, unclear: bool) -> None:
    verdict = of_woc(code, text, TXID)
    assert (verdict.outcome, verdict.unclear) == (outcome, unclear)


def test_of_two_words_the_weightier_holds() -> None:
    """The whole cross product: a conflict outweighs a yes, a yes a no, a no a silence; the order plays no part."""
    weight = [CONFLICT, PARKED, ACCEPTED, KNOWN, INVALID, UNREACHABLE]
    for one, other in product(Outcome, Outcome):
        found = together([Verdict(one, "one"), Verdict(other, "other")])
        assert found.outcome is min(one, other, key=weight.index)
        assert found.detail == ("other" if found.outcome is not one else "one")


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from([*ARC_STATUS, *ARC_ERRORS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("txStatus", "status", "title", "detail", "extraInfo", "competingTxs", "txid")


@given(st.dictionaries(st.sampled_from(FIELDS), json))
@settings(max_examples=200)
def test_whatever_arc_says_is_a_verdict(item: dict[str, Any]) -> None:
    verdict = of_arc(item, TXID)
    if verdict.outcome in GOOD:
        assert item["txStatus"] in ("ACCEPTED_BY_NETWORK", "SEEN_ON_NETWORK", "MINED", "REJECTED")
    assert len(verdict.detail) <= 200


@given(st.integers(100, 599), st.text(max_size=300))
@settings(max_examples=100)
def test_whatever_whatsonchain_says_is_a_verdict(code: int, text: str) -> None:
    assert of_woc(code, text, TXID).outcome is not ACCEPTED or text.strip().strip('"').strip() == TXID


def test_a_text_without_a_nodes_words_means_nothing() -> None:
    assert of_reason("it was a dark and stormy night") is None
