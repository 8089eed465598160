"""What the exporter counts about itself."""

import pytest

from exporter.cavatica.answer import REASONS, Reason, RequestOutcome
from exporter.metrics.self_metrics import SelfMetrics
from exporter.tracker.state_file import StateFileStatus


@pytest.fixture
def self_metrics() -> SelfMetrics:
    """Return counters that counted nothing."""
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
    """A rate over a counter that just appeared would miss its first failure."""
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
    """A request without an answer has the status `none`; a successful one has no reason."""
    self_metrics.observe(RequestOutcome(status, 0.2, reason))
    after = samples(self_metrics)
    assert after["cavatica_api_requests_total", (code,)] == 1
    assert after["cavatica_api_request_duration_seconds_count", ()] == 1
    assert after["cavatica_api_request_duration_seconds_sum", ()] == 0.2
    counted = {known: after["cavatica_api_request_failures_total", (known,)] for known in REASONS}
    assert counted == dict.fromkeys(REASONS, 0) | ({} if reason is None else {reason: 1})


def test_the_build_is_shown(self_metrics: SelfMetrics) -> None:
    """Which exporter answers is a label of a constant."""
    assert samples(self_metrics)["cavatica_exporter_build_info", ("1.2", "abc", "3.11")] == 1


def test_no_series_says_when_a_counter_was_created(self_metrics: SelfMetrics) -> None:
    """Of each counter there is one series a label, not two."""
    self_metrics.observe(RequestOutcome(200, 0.2, None))
    assert not [name for name, _ in samples(self_metrics) if name.endswith("_created")]


@pytest.mark.parametrize("wanted", [True, False])
def test_metrics_of_the_process_can_be_left_out(*, wanted: bool) -> None:
    """`process_*` and `python_info` are there unless they are not wanted."""
    self_metrics = SelfMetrics(version="1", revision="", python="3", exporter_metrics=wanted)
    names = {metric.name for metric in self_metrics.collect()}
    assert ("process_resident_memory_bytes" in names) == wanted
    assert ("python_info" in names) == wanted


def test_two_exporters_in_one_process_count_apart(self_metrics: SelfMetrics) -> None:
    """Nothing is registered globally."""
    other = SelfMetrics(version="1", revision="", python="3", exporter_metrics=False)
    other.observe(RequestOutcome(200, 0.2, None))
    assert ("cavatica_api_requests_total", ("200",)) not in samples(self_metrics)


@pytest.mark.parametrize("last_write", [None, 12.5])
@pytest.mark.parametrize("error", [True, False])
def test_the_state_file_is_shown_where_there_is_one(
    self_metrics: SelfMetrics, last_write: float | None, *, error: bool
) -> None:
    """Its error always, the time of its last write once there was one."""
    before = samples(self_metrics)
    self_metrics.show_state_file(lambda: StateFileStatus(last_write, error))
    after = samples(self_metrics)
    prefix = "cavatica_exporter_state_file"
    written = {(f"{prefix}_last_write_success_timestamp_seconds", ()): last_write}
    assert after == before | {(f"{prefix}_error", ()): error} | (written if last_write else {})
