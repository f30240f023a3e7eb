"""What an operator and a collector of metrics are told, over the real API."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.channel_parts import HOUR, NOW
from tests.desk import Desk, desk
from tests.post import Post

pytestmark = pytest.mark.anyio

Labels = tuple[str, ...]


async def read(api: Desk) -> dict[tuple[str, Labels], float]:
    """Each number, by its name and the values of its labels."""
    answer = await api.owner.get("/api/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, tuple(sample.labels.values())): sample.value for sample in samples}


async def test_the_few_numbers_of_a_node(tmp_path: Path) -> None:
    post = Post(tmp_path)
    for paid in (100, 40):
        await post.earn(paid)
    due = await post.earn(7, expiry=NOW + 3 * HOUR)
    async with post.on_duty() as node, desk(node) as api:
        await node.watchman.look()
        found = await read(api)
        assert found["bct_channels", ("payee", "open")] == 3
        assert found["bct_channel_satoshis", ("payee", "open")] == 147
        assert found["bct_chain_height", ()] == 3
        assert (found["bct_chain_reachable", ()], found["bct_chain_fee_floor", ()]) == (1, 100)
        assert (found["bct_peers", ()], found["bct_served_bytes_total", ()]) == (0, 0)
        assert found["process_resident_memory_bytes", ()] > 1 << 20
        post.now = NOW + 2 * HOUR
        await node.watchman.look()
        found = await read(api)
        assert found["bct_channels", ("payee", "open")] == 2
        assert found["bct_channel_satoshis", ("payee", "settled")] == 7
        assert found["bct_unmined_ends", ()] == 1
        assert ("bct_alarms", ("unmined",)) in found
        assert str(due) not in (await api.owner.get("/api/metrics")).text, "who collects them need not know who watches"


async def test_alarms_are_in_the_status_and_counted_by_kind(tmp_path: Path) -> None:
    post = Post(tmp_path)
    await post.earn()
    async with post.on_duty() as node, desk(node) as api:
        assert (await api.owner.get("/api/status")).json()["alarms"] == []
        post.chain.floor = 5_000
        await post.chain.mine()
        post.now = NOW + 11 * HOUR
        await node.watchman.look()
        said = (await api.owner.get("/api/status")).json()["alarms"]
        assert [one["word"] for one in said] == ["fees", "unsettled"]
        assert "its payer can take 140 sat back in 60 min" in said[1]["text"]
        found = await read(api)
        assert (found["bct_alarms", ("fees",)], found["bct_alarms", ("unsettled",)]) == (1, 1)


async def test_metrics_are_the_owners(tmp_path: Path) -> None:
    async with Post(tmp_path).on_duty() as node, desk(node) as api:
        assert (await api.stranger.get("/api/metrics")).status_code == 401
