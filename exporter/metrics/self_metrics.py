"""The exporter's own metrics, in a registry of their own."""

from collections.abc import Callable, Iterator
from typing import Final

import prometheus_client as prometheus
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter.cavatica.answer import REASONS, RequestOutcome
from exporter.tracker.state_file import StateFileStatus

# In seconds. CAVATICA documents no response times; a scrape lasts two minutes at most.
_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)


class SelfMetrics:
    """Counters of the HTTP requests to the API, and facts about the process.

    Args:
        version: Version of the exporter.
        revision: Commit that it was built from, or "".
        python: Version of Python.
        exporter_metrics: Whether to include ``process_*`` and ``python_info``.
    """

    def __init__(self, *, version: str, revision: str, python: str, exporter_metrics: bool) -> None:
        self._registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "cavatica_api_requests",
            "Number of HTTP requests sent to the API by HTTP status, or none without a response.",
            ["code"],
            registry=self._registry,
        )
        self._failures = prometheus.Counter(
            "cavatica_api_request_failures",
            "Number of HTTP requests to the API without a usable response by reason.",
            ["reason"],
            registry=self._registry,
        )
        for reason in REASONS:
            self._failures.labels(reason)
        self._duration = prometheus.Histogram(
            "cavatica_api_request_duration_seconds",
            "Duration of HTTP requests to the API in seconds.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        prometheus.Gauge(
            "cavatica_exporter_build_info",
            "Version of the exporter, its commit, and the version of Python, always 1.",
            ["version", "revision", "python"],
            registry=self._registry,
        ).labels(version, revision, python).set(1)
        if exporter_metrics:
            prometheus.ProcessCollector(registry=self._registry)
            prometheus.PlatformCollector(registry=self._registry)

    def show_state_file(self, status: Callable[[], StateFileStatus]) -> None:
        """Show the state file, too; to be called once."""
        self._registry.register(_StateFileCollector(status))

    def observe(self, outcome: RequestOutcome) -> None:
        """Count one finished HTTP request."""
        self._requests.labels("none" if outcome.status is None else outcome.status).inc()
        self._duration.observe(outcome.seconds)
        if outcome.reason is not None:
            self._failures.labels(outcome.reason).inc()

    def collect(self) -> Iterator[Metric]:
        """Yield the families that have samples, without their `_created` series.

        Those would double the number of series.
        """
        for metric in self._registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            if metric.samples:
                yield metric


class _StateFileCollector(Collector):
    def __init__(self, status: Callable[[], StateFileStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        yield GaugeMetricFamily(
            "cavatica_exporter_state_file_last_write_success_timestamp_seconds",
            "Unix time in seconds of the last successful write of the state file.",
            value=status.last_write,
        )
        yield GaugeMetricFamily(
            "cavatica_exporter_state_file_error",
            "Result of the last read or write of the state file: 1 if it failed, 0 otherwise.",
            value=status.error,
        )
