"""Which failures are superseded, and when they no longer are."""

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


class Line:
    """States of exports that go to the same destinations."""

    def __init__(self, *ids: str) -> None:
        self.clock = FakeClock()
        self.states = ExportStates(300, 0)
        self.watch(*ids)

    def watch(self, *ids: str) -> None:
        """Watch these IDs."""
        self.states.update_watchlist(
            watch({"b": ids}), monotonic=self.clock.monotonic(), unix=self.clock.time()
        )

    def hear(self, *exports: Export) -> None:
        """Record these answers."""
        now, unix = self.clock.monotonic(), self.clock.time()
        outcomes = {export.id: export for export in exports}
        self.states.record(outcomes, asked=now, overlaps=False, monotonic=now, unix=unix)

    def known(self) -> dict[str, WatchedExport]:
        """Return everything known, by ID."""
        [batch] = self.states.batches()
        return {watched.id: watched for block in batch.blocks for watched in block.exports}

    def superseded(self) -> set[str]:
        """Return the IDs of the superseded failures; the total agrees."""
        found = {watched.id for watched in self.known().values() if watched.superseded}
        [batch] = self.states.batches()
        assert batch.totals.superseded == len(found)
        return found


def to(destination: int | None, export: Export) -> Export:
    """Return the export with this destination."""
    return replace(export, destination=destination)


def at(times: tuple[float | None, float | None], export: Export) -> Export:
    """Return the export with this start and end."""
    started, finished = times
    return replace(export, started=started, finished=finished)


def test_a_failure_is_superseded_when_its_file_arrived_later() -> None:
    """A failure is superseded for either order of the answers."""
    answers = [to(PLACE, failed("old", 10.0)), to(PLACE, completed("new", 20.0))]
    for order in itertools.permutations(answers):
        line = Line("old", "new")
        for answer in order:
            line.hear(answer)
        assert line.superseded() == {"old"}
        assert line.known()["old"].state == "FAILED"


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
    ids=["elsewhere", "unknown destination", "fails again", "runs", "earlier", "at the same time"],
)
def test_nothing_else_makes_a_failure_good(old: Export, new: Export) -> None:
    """The file must have arrived, at the same place, after the failure."""
    line = Line("old", "new")
    line.hear(old, new)
    assert line.superseded() == set()


def test_two_failures_and_a_repeat() -> None:
    """A failed repetition supersedes nothing; a COMPLETED one supersedes all earlier failures."""
    line = Line("a", "b", "c", "d")
    line.hear(to(PLACE, failed("a", 10.0)), to(PLACE, failed("b", 20.0)))
    line.hear(to(PLACE, completed("c", 30.0)), to(PLACE, failed("d", 40.0)))
    assert line.superseded() == {"a", "b"}


def test_a_failure_is_open_again_when_the_api_takes_the_repeat_back() -> None:
    """The repeat runs again, went elsewhere, or the failure itself is corrected."""
    line = Line("old", "new")
    for answer in (
        to(PLACE, failed("new", 20.0)),
        to(PLACE, running("new")),
        to(ELSEWHERE, completed("new", 20.0)),
        to(PLACE, completed("new", 5.0)),
    ):
        line.hear(to(PLACE, failed("old", 10.0)), to(PLACE, completed("new", 20.0)))
        assert line.superseded() == {"old"}
        line.hear(answer)
        assert line.superseded() == set()
    for answer in (
        to(PLACE, pending("old")),
        to(ELSEWHERE, failed("old", 10.0)),
        to(None, failed("old", 10.0)),
    ):
        line.hear(to(PLACE, failed("old", 10.0)), to(PLACE, completed("new", 20.0)))
        assert line.superseded() == {"old"}
        line.hear(answer)
        assert line.superseded() == set()


def test_a_failure_is_open_again_when_the_repeat_is_not_watched_any_more() -> None:
    """A failure is open again once the later export is not watched: after a restart it would be."""
    line = Line("old", "new")
    line.hear(to(PLACE, failed("old", 10.0)), to(PLACE, completed("new", 20.0)))
    assert line.superseded() == {"old"}
    line.watch("old")
    assert line.superseded() == set()
    line.watch("old", "new")
    assert line.superseded() == {"old"}


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
        "began after the failure",
        "began as it failed",
        "began before it failed",
        "no times",
        "the failure may be later",
        "nothing is known",
        "the first second",
    ],
)
def test_a_time_that_the_api_does_not_say(
    old: tuple[float | None, float | None],
    new: tuple[float | None, float | None],
    *,
    is_superseded: bool,
) -> None:
    """A COMPLETED export without an end was later if it began later; in doubt, it was not."""
    answers = [
        to(PLACE, at(old, failed("old", None))),
        to(PLACE, at(new, completed("new", None))),
    ]
    for order in itertools.permutations(answers):
        line = Line("old", "new")
        for answer in order:
            line.hear(answer)
            line.clock.pass_by(60)
        assert line.superseded() == ({"old"} if is_superseded else set())


def test_a_repeat_that_gets_its_time() -> None:
    """The API says the end of the repeat, or that of the failure, in a later answer."""
    line = Line("old", "new")
    failure = to(PLACE, at((5.0, None), failed("old", None)))
    repeat = to(PLACE, at((7.0, None), completed("new", None)))
    line.hear(failure, repeat)
    line.hear(replace(failure, finished=10.0))
    assert line.superseded() == set()
    line.hear(replace(repeat, finished=20.0))
    assert line.superseded() == {"old"}
    line.hear(failure)
    assert line.superseded() == set()


IDS = ["a", "b", "c", "d"]
TIMES = st.sampled_from([10.0, 20.0, 30.0, None])


@st.composite
def answers(draw: st.DrawFn, ids: st.SearchStrategy[str]) -> Export:
    """An export in a state, from and to some time, to some destination."""
    kind = draw(st.sampled_from([completed, failed, lambda name, _: running(name)]))
    times = draw(TIMES), draw(TIMES)
    return to(draw(st.sampled_from([PLACE, ELSEWHERE, None])), at(times, kind(draw(ids), times[1])))


def supersedes(new: Export, old: Export) -> bool:
    """Return whether the API says that `new` made `old` good."""
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
def test_what_is_kept_is_what_a_walk_over_all_exports_finds(steps: list[Export | set[str]]) -> None:
    """The index equals a search over all exports, after any answers and edits."""
    line = Line(*IDS)
    for step in steps:
        if isinstance(step, Export):
            line.hear(step)
        else:
            line.watch(*sorted(step))
        exports = [watched.export for watched in line.known().values() if watched.export]
        expected = {old.id for old in exports for new in exports if supersedes(new, old)}
        assert line.superseded() == expected


@examples(60)
@given(st.tuples(*[answers(st.just(name)) for name in IDS]), st.permutations(range(len(IDS))))
def test_every_exporter_finds_the_same(exports: tuple[Export, ...], order: list[int]) -> None:
    """What is superseded depends on the API's last answers, not on when they were first seen."""
    first, second = Line(*IDS), Line(*IDS)
    first.hear(*exports)
    for number in order:
        second.hear(exports[number])
        second.clock.pass_by(3600)
    assert first.superseded() == second.superseded()
