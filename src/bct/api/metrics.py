"""``/api/metrics``: the few numbers that an operator watches, as Prometheus reads them.

Nothing in them names a peer, a title or a payment channel: who collects metrics need not know who watches what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.responses import Response

from bct.channel.alarms import Standing
from bct.node.bell import Bell
from bct.node.daemon import Node
from bct.node.lookout import Lookout


class _Numbers(Collector):
    """Asked anew at each reading."""

    def __init__(self, numbers: Callable[[], Iterable[Metric]]) -> None:
        self._numbers = numbers

    def collect(self) -> Iterable[Metric]:
        return self._numbers()


def numbers(node: Node) -> Iterator[Metric]:
    """All of them, read from the node as it stands."""
    standings = list(node.watchman.upkeep.standings())
    tip, balance = node.till.newest, node.wallet.balance
    yield _gauge("bct_chain_reachable", "1 while the chain answers.", int(node.watchman.reachable))
    yield _gauge("bct_chain_height", "Height of the best block.", tip.height if tip else 0)
    yield _gauge("bct_chain_fee_floor", "Satoshis per 1,000 bytes that miners ask.", node.till.floor)
    yield _gauge("bct_peers", "Connections.", len(node.hub.peers))
    yield _gauge("bct_plays", "Films being watched.", len(node.viewer.plays))
    yield CounterMetricFamily("bct_served_bytes", "Payload sent to peers since the start.", value=node.hub.served)
    yield _by("bct_wallet_satoshis", "Coins of the wallet.", "kind", {
        "confirmed": balance.confirmed, "pending": balance.pending, "reserved": balance.reserved,
    })  # fmt: skip
    yield from _of_channels(standings)
    yield from _of_purchases(node)
    if node.lookout:
        yield from of_a_lookout(node.lookout)
    yield of_alarms(node.bell)


def of_alarms(bell: Bell) -> Metric:
    words = Counter(alarm.word for alarm in bell.alarms)
    return _by("bct_alarms", "What only a person can mend, by kind.", "word", words)


def of_a_lookout(lookout: Lookout) -> Iterator[Metric]:
    """What is watched for others."""
    channels, satoshis = Counter[str](), Counter[str]()
    for guarded in lookout.guarded.values():
        channels[guarded.state.value] += 1
        satoshis[guarded.state.value] += guarded.checked.paid
    yield _by("bct_watched_channels", "Payment channels watched for others.", "state", channels)
    yield _by("bct_watched_satoshis", "What they pay to others than their payers.", "state", satoshis)


def _of_channels(standings: list[Standing]) -> Iterator[Metric]:
    channels = GaugeMetricFamily("bct_channels", "Payment channels that are not over.", labels=("role", "state"))
    paid = GaugeMetricFamily("bct_channel_satoshis", "What was paid over them.", labels=("role", "state"))
    for role, state in {(one.role, one.state) for one in standings}:
        found = [one.paid for one in standings if (one.role, one.state) == (role, state)]
        channels.add_metric((role.value, state.value), len(found))
        paid.add_metric((role.value, state.value), sum(found))
    yield channels
    yield paid
    yield _gauge("bct_unmined_ends", "Settlements and refunds that wait for a block.", sum(o.waits for o in standings))


def _of_purchases(node: Node) -> Iterator[Metric]:
    bought = [one for of_channel in node.purse.purchases.values() for one in of_channel.values()]
    yield CounterMetricFamily("bct_bought_pieces", "Pieces ever bought.", value=sum(one.pieces for one in bought))
    yield CounterMetricFamily("bct_bought_satoshis", "Paid for them.", value=sum(one.satoshi for one in bought))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _by(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for kind, value in values.items():
        family.add_metric((kind,), value)
    return family


def registry_of(numbers: Callable[[], Iterable[Metric]]) -> CollectorRegistry:
    """These numbers, and what the system says of this process."""
    registry = CollectorRegistry()
    registry.register(_Numbers(numbers))
    ProcessCollector(registry=registry)
    return registry


def metrics_response(registry: CollectorRegistry) -> Response:
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def router(node: Node) -> APIRouter:
    routes = APIRouter()
    registry = registry_of(lambda: numbers(node))

    @routes.get("/api/metrics")
    async def metrics() -> Response:
        return metrics_response(registry)

    return routes
