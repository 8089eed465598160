"""A scenario: what exporters show over some hours, as samples for a real Prometheus.

Scenarios are written as data, so that every cell that Grafana makes of them is known beforehand.
`test_scenario.py` compares their metrics and labels with the exporter's own tables.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

NOW = 1_790_000_040
"""The current time of every scenario, in Unix seconds; a whole minute."""

MINUTE, HOUR, DAY = 60, 3600, 86400

STATES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "UNKNOWN")
FINISHED = ("COMPLETED", "FAILED")

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]


@dataclass(frozen=True, slots=True)
class Export:
    """A watched export.

    Attributes:
        id: Its ID.
        batch: Its batch.
        state: Its last state.
        started: Its start, in seconds before `NOW`; None: it is PENDING, or its start is unknown.
        finished: Its end, in seconds before `NOW`.
        size: Size of its file in bytes.
        code: Code of its failure, or of the error that the API returns instead of it.
        volume: Its destination volume.
        acknowledged: Whether an ID file acknowledges it.
        superseded: Whether a later export to the same destination COMPLETED.
    """

    id: str
    batch: str
    state: str
    started: int | None = None
    finished: int | None = None
    size: int = 0
    code: str = ""
    volume: str = "lab/results"
    acknowledged: bool = False
    superseded: bool = False

    def state_at(self, ago: int) -> str:
        """Return its state `ago` seconds before `NOW`."""
        if self.state not in FINISHED or self.finished is None or ago <= self.finished:
            return self.state
        return "RUNNING" if self.started is None or ago <= self.started else "PENDING"


@dataclass(frozen=True, slots=True)
class Replica:
    """One exporter.

    Attributes:
        target: The labels of its target: `job` and `instance`, perhaps others.
        exports: What it watches.
        since: Its first scrape, in seconds before `NOW`.
        down_since: Its last successful scrape, in seconds before `NOW`; later ones fail.
        blind: Whether the API has never answered it.
        refused: Files that the API refused, by batch and code.
        refusals_acknowledged: Batches whose refusals are acknowledged.
        expected: Number of exports that an ID file expects, by batch.
        meanings: Meaning and retry class of each error code.
        files: Whether each ID file is in error, by name.
        outages: Begin and end of times in which scrapes fail, in seconds before `NOW`.
        clock: Seconds by which its own clock is ahead.
        last_success: Age of the last complete scrape at each scrape, in seconds.
        state_file_error: Whether its state file is in error; None: it has no state file.
        unreadable: Whether the directory of its ID files cannot be read.
    """

    target: Labels
    exports: Sequence[Export] = ()
    since: int = 2 * HOUR
    down_since: int | None = None
    blind: bool = False
    refused: Mapping[tuple[str, str], int] = field(default_factory=dict)
    refusals_acknowledged: frozenset[str] = frozenset()
    expected: Mapping[str, int] = field(default_factory=dict)
    meanings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    files: Mapping[str, bool] = field(default_factory=dict)
    outages: Sequence[tuple[int, int]] = ()
    clock: int = 0
    last_success: int = 0
    state_file_error: bool | None = None
    unreadable: bool = False

    def answers_at(self, ago: int) -> bool:
        """Return whether Prometheus can scrape it `ago` seconds before `NOW`."""
        down = self.down_since is not None and ago < self.down_since
        return not down and not any(begin >= ago > end for begin, end in self.outages)

    def samples(self, ago: int) -> Iterator[Sample]:
        """Yield the samples that Prometheus stores `ago` seconds before `NOW`."""
        if ago > self.since:
            return
        yield "up", self.target, float(self.answers_at(ago))
        if not self.answers_at(ago):
            return
        for name, own, value in (
            *self._of_exports(ago),
            *self._of_batches(ago),
            *self._of_watchlist(),
            *self._of_scrape(ago),
        ):
            yield name, {**self.target, **own}, value

    def _state(self, export: Export, ago: int) -> str:
        return "UNKNOWN" if self.blind else export.state_at(ago)

    def _of_exports(self, ago: int) -> Iterator[Sample]:  # noqa: C901 - one line for each metric
        for each in self.exports:
            own = {"batch": each.batch, "export_id": each.id}
            current = self._state(each, ago)
            for state in dict.fromkeys([*STATES, current]):
                yield "cavatica_export_state", {**own, "state": state}, float(state == current)
            if each.acknowledged:
                yield "cavatica_export_acknowledged", own, 1
            if self.blind or (current == "UNKNOWN" and not each.code):
                continue
            if current in {"FAILED", "UNKNOWN"}:
                error = {**own, "code": each.code, "status": "", "message": ""}
                yield "cavatica_export_error_info", error, 1
            if current == "UNKNOWN":
                continue
            yield "cavatica_export_info", {**own, "volume": each.volume}, 1
            if each.started is not None and ago <= each.started:
                yield "cavatica_export_started_timestamp_seconds", own, NOW - each.started
            if current in FINISHED and each.finished is not None:
                yield "cavatica_export_finished_timestamp_seconds", own, NOW - each.finished
            if current == "COMPLETED":
                yield "cavatica_export_size_bytes", own, each.size
            if current == "FAILED" and each.superseded:
                yield "cavatica_export_superseded", own, 1

    def _of_batches(self, ago: int) -> Iterator[Sample]:
        batches: dict[str, list[Export]] = defaultdict(list)
        for each in self.exports:
            batches[each.batch].append(each)
        for batch, exports in batches.items():
            own = {"batch": batch}
            yield "cavatica_watched_exports", own, len(exports)
            yield from self._of_batch(own, exports, ago)
        codes: Counter[str] = Counter()
        for (batch, code), count in self.refused.items():
            codes[code] += count
            yield "cavatica_refused_exports", {"batch": batch, "code": code}, count
        for batch in {batch for batch, _ in self.refused}:
            own = {"batch": batch}
            total = sum(count for (other, _), count in self.refused.items() if other == batch)
            dealt_with = total if batch in self.refusals_acknowledged else 0
            yield "cavatica_acknowledged_refusals", own, dealt_with
        for batch, count in self.expected.items():
            yield "cavatica_expected_exports", {"batch": batch}, count
        codes.update(each.code for each in self.exports if each.code and not self.blind)
        for code, (meaning, retry) in self.meanings.items():
            if codes[code]:
                named = {"code": code, "meaning": meaning, "retry": retry}
                yield "cavatica_error_code_info", named, 1

    def _of_batch(  # noqa: C901 - one line for each metric
        self, own: Labels, exports: Sequence[Export], ago: int
    ) -> Iterator[Sample]:
        states = Counter(dict.fromkeys(STATES, 0))
        errors: Counter[str] = Counter()
        lookups: Counter[str] = Counter()
        finished: dict[str, float] = {}
        started: dict[str, float] = {}
        acknowledged = superseded = size = 0
        for each in exports:
            state = self._state(each, ago)
            states[state] += 1
            if state == "FAILED":
                errors[each.code or "none"] += 1
                acknowledged += each.acknowledged
                superseded += each.superseded
            if state == "UNKNOWN" and each.code and not self.blind:
                lookups[each.code] += 1
            if state == "COMPLETED":
                size += each.size
            if state in FINISHED and each.finished is not None:
                finished[state] = max(NOW - each.finished, finished.get(state, 0))
            if state in {"PENDING", "RUNNING"} and each.started is not None and ago <= each.started:
                started[state] = min(NOW - each.started, started.get(state, NOW))
        for state, count in states.items():
            yield "cavatica_exports", {**own, "state": state}, count
        for code, count in errors.items():
            yield "cavatica_export_errors", {**own, "code": code}, count
        for code, count in lookups.items():
            yield "cavatica_export_lookup_errors", {**own, "code": code}, count
        yield "cavatica_acknowledged_exports", own, acknowledged
        yield "cavatica_superseded_exports", own, superseded
        yield "cavatica_exported_bytes", own, size
        for state, time in finished.items():
            last = {**own, "state": state}
            yield "cavatica_exports_last_finished_timestamp_seconds", last, time
        for state, time in started.items():
            oldest = {**own, "state": state}
            yield "cavatica_exports_oldest_unfinished_timestamp_seconds", oldest, time
        if states["PENDING"] + states["RUNNING"]:
            answered = NOW + self.clock - ago - 20
            yield "cavatica_exports_oldest_answer_timestamp_seconds", own, answered

    def _of_watchlist(self) -> Iterator[Sample]:
        reloaded = float(not (self.unreadable or any(self.files.values())))
        yield "cavatica_exporter_watchlist_last_reload_successful", {}, reloaded
        for file, error in self.files.items():
            own = {"file": file}
            yield "cavatica_exporter_watchlist_file_error", own, float(error)
            changed = NOW - 3 * HOUR
            yield "cavatica_exporter_watchlist_file_mtime_timestamp_seconds", own, changed
        if self.state_file_error is not None:
            yield "cavatica_exporter_state_file_error", {}, float(self.state_file_error)
        for name, value in (("duplicate_ids", 1), ("rejected_ids", 2), ("ignored_files", 3)):
            yield f"cavatica_exporter_watchlist_{name}", {}, value if self.files else 0

    def _of_scrape(self, ago: int) -> Iterator[Sample]:
        build = {"version": "0.1.0", "revision": "abcdef0", "python": "3.11.7"}
        calls = (self.since - ago) // MINUTE + 1
        yield "cavatica_exporter_build_info", build, 1
        yield "process_start_time_seconds", {}, NOW - self.since
        yield "process_resident_memory_bytes", {}, 36 * 2**20
        yield "process_cpu_seconds_total", {}, 0.05 * calls
        yield "cavatica_up", {}, float(not self.blind)
        yield "cavatica_scrape_duration_seconds", {}, 0.2
        yield "cavatica_scrape_api_calls", {}, 1
        for reason in ("auth", "timeout"):
            failed = calls if self.blind and reason == "timeout" else 0
            yield "cavatica_api_request_failures_total", {"reason": reason}, failed
        yield "cavatica_api_requests_total", {"code": "none" if self.blind else "200"}, calls
        for limit in ("0.1", "0.5", "+Inf"):
            own = {"le": limit}
            yield "cavatica_api_request_duration_seconds_bucket", own, calls
        if not self.blind:
            succeeded = NOW + self.clock - ago - self.last_success
            yield "cavatica_last_success_timestamp_seconds", {}, succeeded
            yield "cavatica_last_success_age_seconds", {}, self.last_success
            yield "cavatica_api_rate_limit_requests", {}, 1000
            yield "cavatica_api_rate_limit_remaining_requests", {}, 950


def open_metrics(replicas: Sequence[Replica]) -> Iterator[str]:
    """Yield the samples of all replicas as lines of OpenMetrics, one scrape a minute."""
    for ago in range(max(each.since for each in replicas), -1, -MINUTE):
        for replica in replicas:
            for name, labels, value in replica.samples(ago):
                text = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
                yield f"{name}{{{text}}} {value} {NOW - ago}\n"
    yield "# EOF\n"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
