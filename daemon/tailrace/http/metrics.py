"""Figures for ``/metrics``: requests, streams, and a gauge for every buffer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_HELP: Final = {
    "runs": "Runs by status.",
    "schedules": "Schedules that are followed.",
    "schedule_refusals": "Scheduled times that started no run, since the daemon started.",
    "queue_length": "Runs that wait to be started.",
    "pipe_bytes": "Bytes that steps have printed and runners haven't read.",
    "held_bytes": "Bytes that runners have read and not written yet: held back or gathered.",
    "ring_bytes": "Bytes of recent frames kept in memory for watched runs.",
}


class Metrics:
    """One application's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.worker_gauges: Mapping[str, float] = {}  # as of the scrape that is being answered
        self.registry = CollectorRegistry()
        self.transports: set[asyncio.Transport] = set()  # of streams that are open
        self.requests = Counter(
            "tailrace_http_requests",
            "Answers, by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "tailrace_http_request_seconds",
            "Time to an answer; streams aren't counted.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.stream_bytes = Counter(
            "tailrace_stream_bytes", "Bytes handed to watchers.", registry=self.registry
        )
        self.registry.register(_Gauges(self))
        ProcessCollector(registry=self.registry)

    @property
    def bytes_in_flight(self) -> int:
        """Bytes handed to watchers' connections that the kernel hasn't taken yet."""
        return sum(transport.get_write_buffer_size() for transport in self.transports)

    def render(self, worker_gauges: Mapping[str, float]) -> tuple[bytes, str]:
        """Return the exposition and its media type (Prometheus text format 0.0.4)."""
        self.worker_gauges = worker_gauges
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class _Gauges(Collector):
    """Reads what is kept elsewhere at the moment of the scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> list[Metric]:
        """Tell nothing beforehand: the worker may not be up when we are registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give the gauges of streams, and those of the worker.

        The worker's names become ``tailrace_NAME``; ``runs_STATUS`` become one
        gauge with a label.
        """
        yield GaugeMetricFamily(
            "tailrace_watchers", "Streams that are open.", value=len(self._metrics.transports)
        )
        yield GaugeMetricFamily(
            "tailrace_in_flight_bytes",
            "Bytes handed to watchers' connections that the kernel hasn't taken yet.",
            value=self._metrics.bytes_in_flight,
        )
        runs = GaugeMetricFamily("tailrace_runs", _HELP["runs"], labels=("status",))
        for name, value in sorted(self._metrics.worker_gauges.items()):
            head, _, status = name.partition("_")
            if head == "runs" and status:
                runs.add_metric((status,), value)
            else:
                yield GaugeMetricFamily(
                    f"tailrace_{name}", _HELP.get(name, "Kept by the worker."), value=value
                )
        yield runs
