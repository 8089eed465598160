"""What the exporter counts about itself, in a registry of its own."""

from collections.abc import Iterator
from typing import Final

import prometheus_client as prometheus
from prometheus_client.metrics_core import Metric

from exporter.cavatica.answer import REASONS, RequestOutcome

# In seconds: the API's page tells of no time; a scrape waits for two minutes at most.
_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)


class SelfMetrics:
    """Counts HTTP requests to the API.

    Args:
        version: Of the exporter.
        revision: The commit it was built from, or "".
        python: The version of Python.
        exporter_metrics: Whether to have ``process_*`` and ``python_info``, too.
    """

    def __init__(self, *, version: str, revision: str, python: str, exporter_metrics: bool) -> None:
        self._registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "cavatica_api_requests",
            "HTTP requests sent to the API, by status (none: no answer).",
            ["code"],
            registry=self._registry,
        )
        self._failures = prometheus.Counter(
            "cavatica_api_request_failures",
            "HTTP requests to the API that gave no answer to use.",
            ["reason"],
            registry=self._registry,
        )
        for reason in REASONS:
            self._failures.labels(reason)
        self._duration = prometheus.Histogram(
            "cavatica_api_request_duration_seconds",
            "How long HTTP requests to the API took.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        prometheus.Gauge(
            "cavatica_exporter_build_info",
            "1, with the version of the exporter.",
            ["version", "revision", "python"],
            registry=self._registry,
        ).labels(version, revision, python).set(1)
        if exporter_metrics:
            prometheus.ProcessCollector(registry=self._registry)
            prometheus.PlatformCollector(registry=self._registry)

    def observe(self, exchange: RequestOutcome) -> None:
        """Count one HTTP request that is over."""
        self._requests.labels("none" if exchange.status is None else exchange.status).inc()
        self._duration.observe(exchange.seconds)
        if exchange.reason is not None:
            self._failures.labels(exchange.reason).inc()

    def collect(self) -> Iterator[Metric]:
        """Give the families, without the series that say when a counter was created."""
        for metric in self._registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric
