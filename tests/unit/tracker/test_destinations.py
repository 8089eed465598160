"""Superseded failures: which FAILED exports are superseded, and when they no longer are."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cavatica.export import Export
from exporter.tracker.snapshot import WatchedExport
from exporter.tracker.states import ExportStates
from tests.support.fakes import FakeClock, completed, failed, pending, running, watch
from tests.support.hypothesis_examples import examples

PLACE, ELSEWHERE = 1, 2


class States:
    """The states of watched exports, with a clock."""

    def __init__(self, *ids: str) -> None:
        self.clock = FakeClock()
        self.states = ExportStates(300, 0)
        self.watch(*ids)

    def watch(self, *ids: str) -> None:
        """Watch these IDs."""
        self.states.update_watchlist(
            watch({"b": ids}), monotonic=self.clock.monotonic(), unix=self.clock.time()
        )

    def record(self, *exports: Export) -> None:
        """Record these answers."""
        now, unix = self.clock.monotonic(), self.clock.time()
        outcomes = {export.id: export for export in exports}
        self.states.record(outcomes, asked=now, overlaps=False, monotonic=now, unix=unix)

    def known(self) -> dict[str, WatchedExport]:
        """Return all watched exports, by ID."""
        [batch] = self.states.batches()
        return {watched.id: watched for block in batch.blocks for watched in block.exports}

    def superseded(self) -> set[str]:
        """Return the IDs of the superseded failures, and check that the total agrees."""
        found = {watched.id for watched in self.known().values() if watched.superseded}
        [batch] = self.states.batches()
        assert batch.totals.superseded == len(found)
        return found


def to(destination: int | None, export: Export) -> Export:
    """Return the export with another destination."""
    return replace(export, destination=destination)


def at(times: tuple[float | None, float | None], export: Export) -> Export:
    """Return the export with another start and end."""
    started, finished = times
    return replace(export, started=started, finished=finished)


def test_failure_is_superseded_by_a_later_completed_export() -> None:
    """A failure is superseded in either order of the answers, and its state stays FAILED."""
    answers = [to(PLACE, failed("old", 10.0)), to(PLACE, completed("new", 20.0))]
    for order in itertools.permutations(answers):
        states = States("old", "new")
        for answer in order:
            states.record(answer)
        assert states.superseded() == {"old"}
        assert states.known()["old"].state == "FAILED"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (to(PLACE, failed("old", 10.0)), to(ELSEWHERE, completed("new", 20.0))),
        (to(None, failed("old", 10.0)), to(None, completed("new", 20.0))),
        (to(PLACE, failed("old", 10.0)), to(PLACE, failed("new", 20.0))),
        (to(PLACE, failed("old", 10.0)), to(PLACE, running("new"))),
        (to(PLACE, failed("old", 20.0)), to(PLACE, completed("new", 10.0))),
        (to(PLACE, failed("old", 20.0)), to(PLACE, completed("new", 20.0))),
    ],
    ids=[
        "other destination",
        "unknown destination",
        "failed again",
        "running",
        "earlier",
        "at the same time",
    ],
)
def test_failure_is_not_superseded_by_any_other_export(old: Export, new: Export) -> None:
    """Only a COMPLETED export to the same destination, after the failure, supersedes it."""
    states = States("old", "new")
    states.record(old, new)
    assert states.superseded() == set()


def test_completed_export_supersedes_all_earlier_failures() -> None:
    """A COMPLETED export supersedes all earlier failures, a FAILED one supersedes nothing."""
    states = States("a", "b", "c", "d")
    states.record(to(PLACE, failed("a", 10.0)), to(PLACE, failed("b", 20.0)))
    states.record(to(PLACE, completed("c", 30.0)), to(PLACE, failed("d", 40.0)))
    assert states.superseded() == {"a", "b"}


def test_failure_is_no_longer_superseded_if_the_api_corrects_an_answer() -> None:
    """A failure is no longer superseded if a newer answer contradicts that.

    The later export failed, runs again, has another destination or was earlier; or the state or the
    destination of the failed one is corrected.
    """
    states = States("old", "new")
    for answer in (
        to(PLACE, failed("new", 20.0)),
        to(PLACE, running("new")),
        to(ELSEWHERE, completed("new", 20.0)),
        to(PLACE, completed("new", 5.0)),
    ):
        states.record(to(PLACE, failed("old", 10.0)), to(PLACE, completed("new", 20.0)))
        assert states.superseded() == {"old"}
        states.record(answer)
        assert states.superseded() == set()
    for answer in (
        to(PLACE, pending("old")),
        to(ELSEWHERE, failed("old", 10.0)),
        to(None, failed("old", 10.0)),
    ):
        states.record(to(PLACE, failed("old", 10.0)), to(PLACE, completed("new", 20.0)))
        assert states.superseded() == {"old"}
        states.record(answer)
        assert states.superseded() == set()


def test_failure_is_superseded_only_while_the_later_export_is_watched() -> None:
    """A failure is no longer superseded once the later export leaves, just as after a restart."""
    states = States("old", "new")
    states.record(to(PLACE, failed("old", 10.0)), to(PLACE, completed("new", 20.0)))
    assert states.superseded() == {"old"}
    states.watch("old")
    assert states.superseded() == set()
    states.watch("old", "new")
    assert states.superseded() == {"old"}


@pytest.mark.parametrize(
    ("old", "new", "is_superseded"),
    [
        ((5.0, 10.0), (20.0, None), True),
        ((5.0, 10.0), (10.0, None), False),
        ((5.0, 10.0), (7.0, None), False),
        ((5.0, 10.0), (None, None), False),
        ((5.0, None), (20.0, 30.0), False),
        ((None, None), (None, None), False),
        ((None, 0.0), (0.5, None), True),
    ],
    ids=[
        "started after the failure",
        "started at the time of the failure",
        "started before the failure",
        "no times of the later export",
        "no end of the failed export",
        "no times of either",
        "Unix time 0 is a time",
    ],
)
def test_export_without_an_end_is_later_if_it_started_later(
    old: tuple[float | None, float | None],
    new: tuple[float | None, float | None],
    *,
    is_superseded: bool,
) -> None:
    """A COMPLETED export without an end supersedes a failure only if it started after it."""
    answers = [
        to(PLACE, at(old, failed("old", None))),
        to(PLACE, at(new, completed("new", None))),
    ]
    for order in itertools.permutations(answers):
        states = States("old", "new")
        for answer in order:
            states.record(answer)
            states.clock.advance(60)
        assert states.superseded() == ({"old"} if is_superseded else set())


def test_answer_with_another_end_decides_again() -> None:
    """An answer that adds or removes an end decides again whether a failure is superseded."""
    states = States("old", "new")
    failure = to(PLACE, at((5.0, None), failed("old", None)))
    later = to(PLACE, at((7.0, None), completed("new", None)))
    states.record(failure, later)
    states.record(replace(failure, finished=10.0))
    assert states.superseded() == set()
    states.record(replace(later, finished=20.0))
    assert states.superseded() == {"old"}
    states.record(failure)
    assert states.superseded() == set()


IDS = ["a", "b", "c", "d"]
TIMES = st.sampled_from([10.0, 20.0, 30.0, None])


@st.composite
def answers(draw: st.DrawFn, ids: st.SearchStrategy[str]) -> Export:
    """Draw an export with any state, times and destination."""
    kind = draw(st.sampled_from([completed, failed, lambda name, _: running(name)]))
    times = draw(TIMES), draw(TIMES)
    return to(draw(st.sampled_from([PLACE, ELSEWHERE, None])), at(times, kind(draw(ids), times[1])))


def supersedes(new: Export, old: Export) -> bool:
    """Return whether `new` supersedes `old`, by the API's answers."""
    arrived = new.started if new.finished is None else new.finished
    return (
        (old.state, new.state) == ("FAILED", "COMPLETED")
        and old.destination == new.destination is not None
        and old.finished is not None
        and arrived is not None
        and old.finished < arrived
    )


@examples(60)
@given(
    st.lists(answers(st.sampled_from(IDS)) | st.sets(st.sampled_from(IDS), min_size=1), max_size=12)
)
def test_index_finds_what_a_search_over_all_exports_finds(steps: list[Export | set[str]]) -> None:
    """The index of destinations is right after any answers and changes of the watchlist."""
    states = States(*IDS)
    for step in steps:
        if isinstance(step, Export):
            states.record(step)
        else:
            states.watch(*sorted(step))
        exports = [watched.export for watched in states.known().values() if watched.export]
        expected = {old.id for old in exports for new in exports if supersedes(new, old)}
        assert states.superseded() == expected


@examples(60)
@given(st.tuples(*[answers(st.just(name)) for name in IDS]), st.permutations(range(len(IDS))))
def test_order_and_time_of_the_answers_do_not_matter(
    exports: tuple[Export, ...], order: list[int]
) -> None:
    """Several exporters find the same failures superseded, whenever they saw the answers."""
    first, second = States(*IDS), States(*IDS)
    first.record(*exports)
    for number in order:
        second.record(exports[number])
        second.clock.advance(3600)
    assert first.superseded() == second.superseded()
