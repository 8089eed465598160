"""The exporter's own metrics."""

import pytest

from exporter.cavatica.answer import REASONS, Reason, RequestOutcome
from exporter.metrics.self_metrics import SelfMetrics
from exporter.tracker.state_file import StateFileStatus


@pytest.fixture
def self_metrics() -> SelfMetrics:
    """Return the exporter's own metrics, before any event."""
    return SelfMetrics(version="1.2", revision="abc", python="3.11", exporter_metrics=False)


Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(self_metrics: SelfMetrics) -> Samples:
    """Return every sample by name and label values."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for metric in self_metrics.collect()
        for sample in metric.samples
    }


def test_every_reason_of_failure_is_there_from_the_start(self_metrics: SelfMetrics) -> None:
    """Each reason has a series of 0 at the start; `rate` would miss a new series' first failure."""
    name = "cavatica_api_request_failures_total"
    failures = {key: value for key, value in samples(self_metrics).items() if key[0] == name}
    assert failures == {(name, (reason,)): 0 for reason in REASONS}


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(200, "200", None), (200, "200", "invalid_response"), (None, "none", "timeout")],
)
def test_a_request_is_counted_by_status_and_reason(
    self_metrics: SelfMetrics, status: int | None, code: str, reason: Reason | None
) -> None:
    """A request without a response has the status `none`; a successful one has no reason."""
    self_metrics.observe(RequestOutcome(status, 0.2, reason))
    after = samples(self_metrics)
    assert after["cavatica_api_requests_total", (code,)] == 1
    assert after["cavatica_api_request_duration_seconds_count", ()] == 1
    assert after["cavatica_api_request_duration_seconds_sum", ()] == 0.2
    counted = {known: after["cavatica_api_request_failures_total", (known,)] for known in REASONS}
    assert counted == dict.fromkeys(REASONS, 0) | ({} if reason is None else {reason: 1})


def test_the_build_is_shown(self_metrics: SelfMetrics) -> None:
    """Version, revision and Python's version are labels of a series whose value is 1."""
    assert samples(self_metrics)["cavatica_exporter_build_info", ("1.2", "abc", "3.11")] == 1


def test_counters_have_no_created_series(self_metrics: SelfMetrics) -> None:
    """A counter has one series, without prometheus_client's second one, `_created`."""
    self_metrics.observe(RequestOutcome(200, 0.2, None))
    assert not [name for name, _ in samples(self_metrics) if name.endswith("_created")]


@pytest.mark.parametrize("wanted", [True, False])
def test_metrics_of_the_process_can_be_left_out(*, wanted: bool) -> None:
    """`process_*` and `python_info` are present unless they are disabled."""
    self_metrics = SelfMetrics(version="1", revision="", python="3", exporter_metrics=wanted)
    names = {metric.name for metric in self_metrics.collect()}
    assert ("process_resident_memory_bytes" in names) == wanted
    assert ("python_info" in names) == wanted


def test_two_exporters_in_one_process_count_separately(self_metrics: SelfMetrics) -> None:
    """Counters are not in prometheus_client's global registry, so exporters do not share them."""
    other = SelfMetrics(version="1", revision="", python="3", exporter_metrics=False)
    other.observe(RequestOutcome(200, 0.2, None))
    assert ("cavatica_api_requests_total", ("200",)) not in samples(self_metrics)


@pytest.mark.parametrize("last_write", [None, 12.5])
@pytest.mark.parametrize("error", [True, False])
def test_a_state_file_has_series(
    self_metrics: SelfMetrics, last_write: float | None, *, error: bool
) -> None:
    """A state file has a series for its error, and after a write one for the time of the last."""
    before = samples(self_metrics)
    self_metrics.show_state_file(lambda: StateFileStatus(last_write, error))
    after = samples(self_metrics)
    prefix = "cavatica_exporter_state_file"
    written = {(f"{prefix}_last_write_success_timestamp_seconds", ()): last_write}
    assert after == before | {(f"{prefix}_error", ()): error} | (written if last_write else {})
