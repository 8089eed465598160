"""Checks of every page of metrics, against the truth and against earlier pages."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from exporter.cavatica.export import parse_timestamp
from exporter.simulator import Simulator
from tests.support.exporter_process import Page
from tests.support.timing import is_within
from tests.system.soak.files import Files, true_state

# Seconds: the simulator's times are whole seconds, and threads are delayed.
_TOLERANCE = 2.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A time on both clocks, in seconds."""

    monotonic: float
    unix: float

    @classmethod
    def now(cls) -> "Moment":
        """Return the current time."""
        return cls(time.monotonic(), time.time())


def read(text: str, *, is_openmetrics: bool) -> Page:
    """Parse a page with Prometheus' own Python library; a repeated series is an error."""
    parse = (
        openmetrics.text_string_to_metric_families
        if is_openmetrics
        else text_string_to_metric_families
    )
    samples = [
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in parse(text)
        for sample in family.samples
    ]
    page = Page({(name, labels): value for name, labels, value in samples})
    if len(page.samples) != len(samples):
        message = "a series stands there twice"
        raise ValueError(message)
    return page


@dataclass(slots=True)
class PageChecker:
    """Finds problems on pages of metrics.

    Attributes:
        simulator: Has the true states of exports.
        files: Has the watched IDs.
        max_age: The exporter's `--exports.max-age` in seconds.
        longest: Longest duration of a scrape, in seconds.
        count: Number of times that each state was shown, and that each check applied.
    """

    simulator: Simulator
    files: Files
    max_age: float
    longest: float
    count: Counter[str]
    _ended: dict[str, tuple[str, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def problems(self, page: Page, began: Moment, ended: Moment) -> list[str]:
        """Return the problems of a page that was requested and received at these times."""
        states = _states(page)
        with self._lock:
            self.count.update(state for state, _ in states.values())
            self.count["up"] += page("cavatica_up") == 1
            return [
                *self._sums(page, states),
                *self._changed_ends(states, began, ended),
                *self._old(states, ended),
                *self._watch(states, began),
            ]

    def end_problems(self, page: Page) -> list[str]:
        """Return the differences between a page and the simulator; call only without faults."""
        problems = [] if page("cavatica_up") else ["not up"]
        for export_id, (state, batch) in _states(page).items():
            if state != (true := true_state(self.simulator, export_id)):
                problems.append(f"{export_id} is shown {state} and is {true}")
            elif state == "COMPLETED":
                export = self.simulator.export(export_id)
                labels = {"batch": batch, "export_id": export_id}
                for name, value in (
                    ("size_bytes", export["result"]["size"]),
                    ("started_timestamp_seconds", parse_timestamp(export["started_on"])),
                    ("finished_timestamp_seconds", parse_timestamp(export["finished_on"])),
                ):
                    if (shown := page(f"cavatica_export_{name}", **labels)) != value:
                        problems.append(f"{export_id}: {name} is shown {shown} and is {value}")
        shown_acknowledged = {
            labels["export_id"] for labels in page.all("cavatica_export_acknowledged")
        }
        if shown_acknowledged != self.files.acknowledged & _states(page).keys():
            problems.append("others are acknowledged than the files say")
        return problems

    def _sums(self, page: Page, states: dict[str, tuple[str, str]]) -> list[str]:
        shown = Counter((batch, state) for state, batch in states.values())
        ones = sum(v for (name, _), v in page.samples.items() if name == "cavatica_export_state")
        problems = [] if ones == len(states) else ["an export is in two states"]
        return problems + [
            f"batch {batch}: {page.states(batch)} of {watched:g}, but the exports say otherwise"
            for labels in page.all("cavatica_watched_exports")
            for batch in [labels["batch"]]
            for watched in [page("cavatica_watched_exports", batch=batch)]
            if sum(page.states(batch).values()) != watched
            or page.states(batch) != {s: n for (b, s), n in shown.items() if b == batch}
        ]

    def _changed_ends(
        self, states: dict[str, tuple[str, str]], began: Moment, ended: Moment
    ) -> list[str]:
        """Return exports that have left COMPLETED or FAILED, which an earlier page showed."""
        problems = []
        for export_id, (state, _) in states.items():
            known, since = self._ended.get(export_id, ("", 0.0))
            if known and state != known and since < began.monotonic:
                problems.append(f"{export_id} was shown {known}, and then {state}")
            if not known and state in {"COMPLETED", "FAILED"}:
                self._ended[export_id] = (state, ended.monotonic)
                self.count["ended"] += 1
        return problems

    def _old(self, states: dict[str, tuple[str, str]], ended: Moment) -> list[str]:
        """Return exports whose state is wrong, or older than `max_age`."""
        problems = []
        for export_id, (state, _) in states.items():
            if state == "UNKNOWN":
                continue
            if (true := true_state(self.simulator, export_id)) == "UNKNOWN":
                problems.append(f"{export_id} is shown {state}, and nobody knows it")
                continue
            export = self.simulator.export(export_id)
            left = {"PENDING": "started_on", "RUNNING": "finished_on"}.get(state)
            if (left is None and state != true) or (state, true) == ("RUNNING", "PENDING"):
                problems.append(f"{export_id} is shown {state} and is {true}")
            elif left is not None and (at := parse_timestamp(export.get(left))) is not None:
                age = ended.unix - at
                if not is_within(age - self.max_age - self.longest, _TOLERANCE):
                    problems.append(f"{export_id} is shown {state}, which it was {age:.1f} s ago")
        return problems

    def _watch(self, states: dict[str, tuple[str, str]], began: Moment) -> list[str]:
        # The page may show a scrape that was already running when it was requested.
        watched = self.files.watched(since=began.monotonic - self.longest)
        if watched is None:
            return []
        self.count["watched"] += 1
        shown: dict[str, set[str]] = {}
        for export_id, (_, batch) in states.items():
            shown.setdefault(batch, set()).add(export_id)
        if shown == {batch: ids for batch, ids in watched.items() if ids}:
            return []
        wrong = {i for ids in shown.values() for i in ids} ^ {
            i for ids in watched.values() for i in ids
        }
        return [f"others are watched than the files say: {sorted(wrong)[:5]}"]


def _states(page: Page) -> dict[str, tuple[str, str]]:
    """Return the state of each export on a page, with its batch."""
    return {
        pairs["export_id"]: (pairs["state"], pairs["batch"])
        for (name, labels), value in page.samples.items()
        if name == "cavatica_export_state" and value == 1
        for pairs in [dict(labels)]
    }
