"""Export states: which IDs are asked for, what answers change, expiry, and the blocks."""

import tracemalloc
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from exporter.cavatica.export import Export, LookupFailure
from exporter.tracker.blocks import BLOCK_SIZE
from exporter.tracker.departed import REMEMBER_SECONDS
from exporter.tracker.snapshot import Batch, Block, WatchedExport
from exporter.tracker.states import SETTLE_SECONDS, ExportStates
from tests.support.fakes import (
    BROKEN,
    NOT_FOUND,
    FakeClock,
    Outcome,
    completed,
    failed,
    ids,
    pending,
    running,
    watch,
)

DAY = 86_400.0


class States:
    """`ExportStates` with a clock, and short methods for tests."""

    def __init__(self, *, max_age: float = 300, retention: float = 0) -> None:
        self.clock = FakeClock()
        self.tracked = ExportStates(max_age, retention)

    def watch(
        self,
        batches: Mapping[str, Sequence[str]],
        acknowledged: Sequence[str] = (),
        *,
        error: str | None = None,
    ) -> None:
        """Update the watchlist."""
        self.tracked.update_watchlist(
            replace(watch(batches, acknowledged), error=error),
            monotonic=self.clock.monotonic(),
            unix=self.clock.time(),
        )

    def record(self, outcomes: Mapping[str, Outcome]) -> None:
        """Record an answer."""
        now = self.clock.monotonic()
        self.tracked.record(
            outcomes, asked=now, overlaps=True, monotonic=now, unix=self.clock.time()
        )

    def receive(self, *exports: Export) -> None:
        """Plan a scrape, record these exports as its answers, and requeue its IDs."""
        plan = self.plan(100)
        self.record({export.id: export for export in exports})
        self.requeue([i for call in plan for i in call], [])

    def plan(self, size: int) -> list[list[str]]:
        """Return the calls of a scrape; `requeue` must follow."""
        return self.tracked.plan(size, overlaps=False)

    def requeue(self, asked: Sequence[str], not_asked: Sequence[str]) -> None:
        """Queue the IDs of a plan again."""
        self.tracked.requeue(asked, not_asked, monotonic=self.clock.monotonic())

    def asked(self, size: int = 100) -> list[list[str]]:
        """Plan a scrape all of whose calls are made, and return its calls."""
        plan = self.plan(size)
        self.requeue([i for call in plan for i in call], [])
        return plan

    def expire(self, since: float | None = None) -> None:
        """Expire states at the end of a scrape that began now, or at `since`."""
        steady = self.clock.monotonic()
        self.tracked.expire(
            since=steady if since is None else since, monotonic=steady, unix=self.clock.time()
        )

    def oldest_answers(self) -> dict[str, float]:
        """Return the Unix time of the oldest answers, by batch."""
        behind = self.clock.time() - self.clock.monotonic()
        return {name: at + behind for name, at in self.tracked.oldest_answers().items()}

    def known(self) -> dict[str, WatchedExport]:
        """Return all watched exports, by ID."""
        return {
            watched.id: watched
            for batch in self.tracked.batches()
            for block in batch.blocks
            for watched in block.exports
        }

    def shown(self) -> dict[str, str]:
        """Return the states to show, by ID."""
        return {export_id: watched.state for export_id, watched in self.known().items()}

    def batch(self, name: str = "b") -> Batch:
        """Return the batch with this name."""
        return {batch.name: batch for batch in self.tracked.batches()}[name]


# Which IDs are asked for


@pytest.mark.parametrize(
    ("unfinished", "finished", "in_error", "calls"),
    [
        # They fit into the free places.
        (0, 250, 5, [100]),
        (30, 250, 70, [100]),
        # They share one more call with finished ones.
        (100, 250, 1, [100, 100]),
        (100, 0, 1, [100, 1]),
        (30, 250, 71, [100, 100]),
        (30, 250, 300, [100, 100]),
        (0, 0, 300, [100, 50]),
    ],
)
def test_ids_with_a_lookup_error_are_asked_for_before_finished_exports(
    unfinished: int, finished: int, in_error: int, calls: list[int]
) -> None:
    """The cause of the error may have ended: all are asked for in turn, and soon."""
    states = States()
    groups = {"r": ids(unfinished, "r"), "d": ids(finished, "d"), "e": ids(in_error, "e")}
    states.watch(groups)
    states.asked()
    states.record(
        {i: running(i) for i in groups["r"]}
        | {i: completed(i) for i in groups["d"]}
        | dict.fromkeys(groups["e"], NOT_FOUND)
    )
    states.asked(1000)
    seen: Counter[str] = Counter()
    for _ in range(6):
        plan = states.asked()
        assert [len(call) for call in plan] == calls
        seen.update(i for call in plan for i in call)
    assert all(seen[i] == 6 for i in groups["r"])
    assert all(seen[i] for i in groups["e"])


def test_all_ids_are_asked_for_when_one_is_accessible_again() -> None:
    """With the right token all of them are, and in the very next scrape their states are known."""
    states = States()
    watched = ids(500)
    states.watch({"b": watched})
    refused = LookupFailure("9005", 403, "not yours")
    states.asked()
    states.record(dict.fromkeys(watched, refused))
    first = states.plan(100)
    states.record({i: running(i) for i in first[0]})
    states.requeue([i for call in first for i in call], [])
    assert sorted(i for call in states.asked() for i in call) == [*watched]


def test_id_with_a_lookup_error_that_is_added_again_comes_first() -> None:
    """An ID that returns is asked for in the next scrape, as a new one is."""
    states = States()
    states.watch({"a": ids(300, "a"), "b": ["again"]})
    states.asked()
    states.record(dict.fromkeys([*ids(300, "a"), "again"], NOT_FOUND))
    states.asked(1000)
    states.watch({"a": ids(300, "a")})
    states.watch({"a": ids(300, "a"), "b": ["again"]})
    assert states.asked()[0][0] == "again"


@pytest.mark.parametrize(
    ("unfinished", "finished", "calls"),
    [
        (0, 0, []),
        (0, 1, [1]),
        (0, 250, [100]),
        (1, 0, [1]),
        (30, 250, [100]),
        (30, 20, [50]),
        (100, 0, [100]),
        (100, 50, [100]),
        (101, 50, [100, 51]),
        (101, 250, [100, 100]),
        (250, 0, [100, 100, 50]),
    ],
)
def test_number_of_calls_depends_on_the_unfinished_exports(
    unfinished: int, finished: int, calls: list[int]
) -> None:
    """There are `ceil(unfinished / 100)` calls; finished exports fill the last one."""
    states = States()
    done = ids(finished, "done")
    states.watch({"b": done + ids(unfinished)})
    states.receive(*map(completed, done))
    plan = states.asked()
    assert [len(call) for call in plan] == calls
    all_asked = [export_id for call in plan for export_id in call]
    assert len(all_asked) == len(set(all_asked))
    assert set(all_asked[:unfinished]) == set(ids(unfinished))


def test_new_ids_come_first() -> None:
    """New IDs are asked for before all others, in the order of the files."""
    states = States()
    states.watch({"b": ["a", "b"]})
    states.receive()
    states.watch({"b": ["a", "n", "b", "m"]})
    assert states.asked() == [["n", "m", "a", "b"]]


def test_ids_of_calls_that_were_not_made_come_first() -> None:
    """The next scrape asks for the IDs of calls that were not made before the others."""
    states = States()
    states.watch({"b": ids(6)})
    first, second, third = states.plan(2)
    states.requeue(second, [*first, *third])
    assert states.asked(size=2) == [first, third, second]


def test_ids_that_were_asked_for_longest_ago_come_first() -> None:
    """If a scrape can make only one call, every unfinished export still gets its turn."""
    states = States()
    states.watch({"b": ids(5)})
    turns = []
    for _ in range(5):
        now, *later = states.plan(2)
        turns += now
        states.requeue(now, [i for call in later for i in call])
    assert turns == [*ids(5), *ids(5)]


def test_free_places_are_shared_by_all_finished_exports() -> None:
    """Finished exports are asked for in the free places of a call, the longest wait first."""
    states = States()
    states.watch({"b": ["r", *ids(5)]})
    states.receive(*map(completed, ids(5)))
    turns = [states.asked(size=3) for _ in range(5)]
    assert all(call[0] == "r" for [call] in turns)
    assert [i for [call] in turns for i in call[1:]] == [*ids(5), *ids(5)]


def test_finished_exports_of_a_call_that_was_not_made_come_first() -> None:
    """Finished exports keep their turn if the call with their places was not made."""
    states = States()
    states.watch({"b": ["r", *ids(4)]})
    states.receive(*map(completed, ids(4)))
    [call] = states.plan(3)
    states.requeue([], call)
    assert states.asked(size=3) == [call]


def test_id_unknown_to_the_api_is_asked_for_in_free_places() -> None:
    """An ID unknown to the API is not unfinished: a thousand of them cost no call."""
    states = States()
    states.watch({"b": ["r", "x"]})
    plan = states.plan(100)
    states.record({"r": running("r"), "x": NOT_FOUND})
    states.requeue(plan[0], [])
    assert states.asked(size=1) == [["r"]]
    assert states.asked(size=2) == [["r", "x"]]


@pytest.mark.parametrize("outcome", [BROKEN, None], ids=["server error", "no outcome"])
def test_id_that_may_be_valid_is_asked_for_with_the_unfinished(
    outcome: LookupFailure | None,
) -> None:
    """An error with status 500 or above is the platform's, and some cannot be paired with IDs."""
    states = States()
    states.watch({"b": ["x", "y"]})
    states.plan(100)
    states.record({"x": outcome, "y": completed("y")})
    states.requeue(["x", "y"], [])
    assert states.asked(size=1) == [["x"]]


def test_export_that_is_found_again_is_asked_for_with_the_unfinished() -> None:
    """An ID unknown to the API leaves the free places when the API has an unfinished export."""
    states = States()
    states.watch({"b": ["r", "x"]})
    states.plan(100)
    states.record({"x": NOT_FOUND})
    states.requeue(["r", "x"], [])
    states.receive(running("x"))
    assert states.known()["x"].failure is None
    assert states.asked(size=1) == [["r"], ["x"]]


def test_undocumented_state_can_still_change() -> None:
    """An undocumented state is shown, and its export is asked for with the unfinished."""
    states = States()
    states.watch({"b": ["x", "y"]})
    states.receive(Export("x", "ABORTED"), completed("y"))
    assert states.shown()["x"] == "ABORTED"
    assert states.asked(size=1) == [["x"]]


def test_undocumented_state_counts_as_final_after_a_week() -> None:
    """After a week without a change, the export is asked for in free places, and stays shown."""
    states = States()
    states.watch({"b": ["x", "r"]})
    states.receive(Export("x", "WAITING"), running("r"))
    states.clock.advance(DAY)
    states.receive(Export("x", "ABORTED"), running("r"))
    states.clock.advance(SETTLE_SECONDS)
    states.receive(Export("x", "ABORTED"), running("r"))
    assert states.asked(size=1) == [["x"], ["r"]]
    states.clock.advance(1)
    states.receive(Export("x", "ABORTED"), running("r"))
    assert states.asked(size=1) == [["r"]]
    assert states.asked(size=2) == [["r", "x"]]
    states.clock.advance(301)
    states.expire()
    assert states.shown() == {"x": "ABORTED", "r": "UNKNOWN"}
    states.receive(running("x"), running("r"))
    assert states.asked(size=1) == [["r"], ["x"]]


# What an answer changes


def test_id_without_an_answer_is_unknown() -> None:
    """An ID is UNKNOWN until the first answer."""
    states = States()
    states.watch({"b": ["x"]})
    assert states.known() == {"x": WatchedExport("x", "UNKNOWN")}


@pytest.mark.parametrize("answer", [NOT_FOUND, BROKEN, None])
def test_error_item_makes_an_unfinished_export_unknown_at_once(answer: Outcome) -> None:
    """If the API returns an error for an unfinished export, its last state is not shown."""
    states = States()
    states.watch({"b": ["x"]})
    states.receive(running("x"))
    states.record({"x": answer})
    now = states.known()["x"]
    assert (now.state, now.failure) == ("UNKNOWN", answer)
    assert now.export == running("x")
    states.receive(running("x"))
    now = states.known()["x"]
    assert (now.state, now.failure) == ("RUNNING", None)


def test_id_missing_in_an_answer_keeps_its_state() -> None:
    """An answer that does not mention an ID changes nothing; its state lasts for max-age."""
    states = States()
    states.watch({"b": ["x"]})
    states.receive(running("x"))
    states.record({})
    assert states.shown() == {"x": "RUNNING"}


@pytest.mark.parametrize("export", [completed("x"), failed("x")])
@pytest.mark.parametrize("answer", [NOT_FOUND, BROKEN, None, Export("x", "UNKNOWN")])
def test_finished_export_stays_finished(export: Export, answer: Outcome) -> None:
    """COMPLETED and FAILED are not changed by an error, nor by an answer of UNKNOWN."""
    states = States()
    states.watch({"b": ["x"]})
    states.receive(export)
    before = states.known()
    states.record({"x": answer})
    states.clock.advance(1000)
    states.expire()
    assert states.known() == before


@pytest.mark.parametrize("answer", [failed("x"), running("x"), Export("x", "ABORTED")])
def test_answer_with_another_state_corrects_a_finished_export(answer: Export) -> None:
    """An answer with any state but UNKNOWN replaces a finished state."""
    states = States()
    states.watch({"b": ["x"]})
    states.receive(completed("x"))
    states.receive(answer)
    assert states.known()["x"] == WatchedExport("x", answer.state, answer)


def test_end_that_the_api_does_not_send_is_when_it_was_first_seen() -> None:
    """Until the API sends an end, the time of the first finished answer is used instead."""
    states = States()
    states.watch({"b": ["x"]})
    states.receive(running("x"))
    states.clock.advance(60)
    seen = states.clock.time()
    states.receive(completed("x", None))
    states.clock.advance(60)
    states.receive(completed("x", None))
    assert (states.known()["x"].export, states.known()["x"].finished) == (
        completed("x", None),
        seen,
    )
    states.receive(failed("x", None))
    assert (states.known()["x"].export, states.known()["x"].finished) == (failed("x", None), seen)
    states.receive(failed("x", 7.0))
    assert states.known()["x"] == WatchedExport("x", "FAILED", failed("x", 7.0))


def test_second_failure_has_its_own_time() -> None:
    """If an export runs again and fails again, the time of its first failure is not used."""
    states = States()
    states.watch({"b": ["x"]})
    states.receive(failed("x", None))
    states.clock.advance(60)
    # An inconsistent answer: it is RUNNING and has an end.
    states.receive(replace(running("x"), finished=7.0))
    states.clock.advance(60)
    states.receive(failed("x", None))
    assert states.known()["x"].finished == states.clock.time()


@pytest.mark.parametrize("step", [-9000.0, -60.0, 60.0, 40 * DAY, 50 * 365 * DAY])
def test_end_by_the_exporters_clock_moves_when_the_clock_is_set(step: float) -> None:
    """Ends that the API sent stay, and so do exports that are not finished."""
    states = States()
    states.watch({"b": ["f", "api", "r", "again", "new"]})
    states.receive(failed("f", None), failed("api"), running("r"), failed("again", None))
    seen = states.clock.time()
    states.receive(running("again"))
    states.clock.advance(3600)
    states.clock.unix += step
    # Known ends move before the answer is recorded, whose time is by the new clock.
    states.receive(failed("f", None), failed("new", None))
    assert states.known()["f"].finished == seen + step
    assert states.known()["new"].finished == states.clock.time()
    for export in (failed("api"), running("r"), running("again")):
        assert states.known()[export.id] == WatchedExport(export.id, export.state, export)


def test_end_is_never_moved_before_1970() -> None:
    """A negative time would make the state file invalid."""
    states = States()
    states.watch({"b": ["f"]})
    states.receive(failed("f", None))
    states.clock.unix = 10.0
    states.clock.advance(60)
    states.expire()
    assert states.known()["f"].finished == 10.0
    states.clock.unix = 5.0
    states.clock.steady += 100
    states.expire()
    assert states.known()["f"].finished == 0.0


def test_clock_correction_below_a_minute_moves_no_end() -> None:
    """Small corrections add up, and move ends once they make a minute in total."""
    states = States()
    states.watch({"b": ["f"]})
    states.receive(failed("f", None))
    seen = states.clock.time()
    for step, moved in ((59.0, 0.0), (-59.0, 0.0), (-59.0, 0.0), (-59.0, -118.0)):
        states.clock.unix += step
        states.expire()
        assert states.known()["f"].finished == seen + moved


def test_end_moves_only_while_it_is_by_the_exporters_clock() -> None:
    """An end stays if the API has sent it since, or if the ID left and returned."""
    states = States()
    states.watch({"b": ["api", "left"]})
    states.receive(failed("api", None), failed("left", None))
    seen = states.clock.time()
    states.receive(failed("api"))
    states.watch({"b": ["api"]})
    states.watch({"b": ["api", "left"]})
    states.clock.unix += DAY
    states.expire()
    assert states.known()["api"] == WatchedExport("api", "FAILED", failed("api"))
    assert states.known()["left"].finished == seen


def test_exports_retired_by_a_wrong_clock_come_back_when_it_is_set() -> None:
    """When the clock is set right, such exports have series again, and retire in time."""
    states = States(retention=DAY)
    states.watch({"b": ["x", "own", "u"]})
    states.receive(completed("x"), completed("own", None))
    states.clock.unix += 40 * DAY
    states.expire()
    assert {i for i, each in states.known().items() if each.retired} == {"x"}
    states.clock.unix -= 40 * DAY
    states.expire()
    assert not any(each.retired for each in states.known().values())
    states.clock.advance(DAY)
    states.expire()
    assert {i for i, each in states.known().items() if each.retired} == {"x", "own"}


@pytest.mark.parametrize(
    ("stored", "after"),
    [
        (1_699_990_000.0, 1_699_990_000.0),
        (1_699_989_999.0, None),
        (10.0, None),
        (1_700_000_000.0, 1_700_000_000.0),
        (1_700_000_001.0, None),
        (4e9, None),
    ],
)
def test_impossible_stored_end_is_replaced_by_the_next_answer(
    stored: float, after: float | None
) -> None:
    """A stored end before the start or in the future was taken from a wrong clock."""
    states = States()
    states.tracked.restore([WatchedExport("f", "FAILED", failed("f", None), seen_finished=stored)])
    states.watch({"b": ["f"]})
    now = states.clock.time()
    states.receive(failed("f", None))
    assert states.known()["f"].finished == (now if after is None else after)
    states.clock.unix += DAY
    states.expire()
    assert states.known()["f"].finished == (now + DAY if after is None else after)


# The age of states


@pytest.mark.parametrize("max_age", [0.0, 0.5, 300.0])
def test_state_is_shown_for_max_age_and_then_unknown(max_age: float) -> None:
    """An unfinished state expires after max-age; times and volume of the export stay known."""
    states = States(max_age=max_age)
    states.watch({"b": ["x", "y"]})
    states.receive(running("x"), completed("y"))
    states.clock.advance(max_age)
    states.expire()
    assert states.shown() == {"x": "RUNNING", "y": "COMPLETED"}
    states.clock.advance(0.25)
    states.expire()
    assert states.shown() == {"x": "UNKNOWN", "y": "COMPLETED"}
    assert states.known()["x"].export == running("x")
    states.receive(running("x"))
    assert states.shown()["x"] == "RUNNING"


def test_answer_of_the_same_scrape_does_not_expire() -> None:
    """Even with a max-age of 0s, an answer is shown by the scrape that received it."""
    states = States(max_age=0)
    states.watch({"b": ["x"]})
    began = states.clock.monotonic()
    states.receive(running("x"))
    states.clock.advance(9)
    states.expire(since=began)
    assert states.shown() == {"x": "RUNNING"}


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_age_is_not_measured_on_the_wall_clock(jump: float) -> None:
    """A jump of the wall clock neither expires a state nor keeps an old one."""
    states = States(max_age=300)
    states.watch({"b": ["x"]})
    states.receive(running("x"))
    states.clock.unix += jump
    states.expire()
    assert states.shown() == {"x": "RUNNING"}
    states.clock.advance(301)
    states.expire()
    assert states.shown() == {"x": "UNKNOWN"}


def test_oldest_answer_is_that_of_the_unfinished() -> None:
    """A batch has the time of its oldest answer for an unfinished export, if there is one."""
    states = States()
    states.watch({"a": ["x", "y"], "b": ["z"], "c": ["n"], "d": ["l"]})
    first = states.clock.time()
    states.receive(running("x"), running("y"), completed("z"))
    assert states.oldest_answers() == {"a": first}
    states.clock.advance(10)
    states.receive(running("y"))
    assert states.oldest_answers() == {"a": first}
    states.receive(running("x"))
    assert states.oldest_answers() == {"a": first + 10}
    states.receive(failed("x"), completed("y"))
    assert states.oldest_answers() == {}


@pytest.mark.parametrize(("answer", "remains"), [(NOT_FOUND, False), (BROKEN, True), (None, True)])
def test_error_item_does_not_renew_the_oldest_answer(answer: Outcome, *, remains: bool) -> None:
    """The time of the last answer stays while the export counts as unfinished."""
    states = States()
    states.watch({"b": ["x"]})
    first = states.clock.time()
    states.receive(running("x"))
    states.clock.advance(10)
    plan = states.plan(100)
    states.record({"x": answer})
    states.requeue(plan[0], [])
    assert states.oldest_answers() == ({"b": first} if remains else {})


def test_answer_before_an_unknown_id_is_forgotten() -> None:
    """Once the API does not know an ID, the time of its last answer is forgotten for good."""
    states = States()
    states.watch({"b": ["x"]})
    states.receive(running("x"))
    for answer in (NOT_FOUND, BROKEN):
        plan = states.plan(100)
        states.record({"x": answer})
        states.requeue(plan[0], [])
    assert states.oldest_answers() == {}


# The cost of a scrape


class Counted(str):
    """An ID that counts how often it is looked up."""

    __slots__ = ("looked_up",)

    def __init__(self, _: str) -> None:
        self.looked_up = 0

    def __hash__(self) -> int:
        """Count, and return the hash of the text."""
        self.looked_up += 1
        return super().__hash__()


def test_scrape_looks_up_no_id_that_it_does_not_ask_for() -> None:
    """If unfinished exports take all places, no step of a scrape iterates over finished ones."""
    states = States(retention=DAY)
    done = [Counted(export_id) for export_id in ids(1000, "done")]
    states.watch({"b": [*done, *ids(100)]})
    states.receive(*(replace(completed("x"), id=i) for i in done), *map(running, ids(100)))
    states.tracked.batches()
    for export_id in done:
        export_id.looked_up = 0
    states.clock.advance(60)
    states.receive(*map(pending, ids(100)))
    states.expire()
    states.oldest_answers()
    assert [export_id for export_id in done if export_id.looked_up] == []
    states.tracked.batches()
    assert sum(export_id.looked_up for export_id in done) <= BLOCK_SIZE


# Retention


def test_completed_export_retires_after_the_retention() -> None:
    """An export retires that long after its end; the totals of its batch still include it."""
    states = States(retention=DAY)
    states.watch({"b": ["x", "f", "r"]})
    states.receive(completed("x", states.clock.time()), failed("f"), running("r"))
    before = states.batch().totals
    states.clock.advance(DAY - 1)
    states.receive(running("r"))
    states.expire()
    assert not states.known()["x"].retired
    states.clock.advance(1)
    states.expire()
    assert {i for i, watched in states.known().items() if watched.retired} == {"x"}
    assert states.batch().totals == before


def test_without_a_retention_nothing_retires() -> None:
    """With a retention of 0s, COMPLETED exports never retire."""
    states = States(retention=0)
    states.watch({"b": ["x"]})
    states.receive(completed("x", 0.0))
    states.clock.advance(1000 * DAY)
    states.expire()
    assert not states.known()["x"].retired


def test_export_that_completed_long_ago_is_retired_when_first_seen() -> None:
    """After a restart, exports that had retired have no series, not even for a while."""
    states = States(retention=DAY)
    states.watch({"b": ["x"]})
    states.receive(completed("x", states.clock.time() - DAY))
    assert states.known()["x"].retired


def test_corrected_export_is_no_longer_retired() -> None:
    """An answer with another state, or with a later end, undoes the retirement."""
    states = States(retention=DAY)
    states.watch({"b": ["x"]})
    states.receive(completed("x", states.clock.time() - DAY))
    states.receive(failed("x"))
    assert not states.known()["x"].retired
    states.receive(completed("x", states.clock.time()))
    assert not states.known()["x"].retired
    states.clock.advance(DAY)
    states.expire()
    assert states.known()["x"].retired


def test_corrected_end_moves_the_retirement() -> None:
    """After a correction of its end, an export does not retire by the old one."""
    states = States(retention=DAY)
    states.watch({"b": ["x"]})
    states.receive(completed("x", states.clock.time()))
    states.receive(completed("x", states.clock.time() + 100))
    states.clock.advance(DAY)
    states.expire()
    assert not states.known()["x"].retired
    states.clock.advance(100)
    states.expire()
    assert states.known()["x"].retired


def test_retirement_by_a_wrong_wall_clock_is_undone() -> None:
    """An export that retired too early has its series again after the next equal answer."""
    states = States(retention=DAY)
    states.watch({"b": ["x"]})
    done = completed("x", states.clock.time())
    states.receive(done)
    states.clock.unix += 2 * DAY
    states.expire()
    assert states.known()["x"].retired
    states.clock.unix -= 2 * DAY
    states.receive(done)
    assert not states.known()["x"].retired
    states.clock.advance(DAY)
    states.expire()
    assert states.known()["x"].retired


def test_retired_export_that_changes_while_the_clock_is_back_retires_again() -> None:
    """A change while the wall clock is behind brings the series back until it is right."""
    states = States(retention=DAY)
    states.watch({"b": ["x"]})
    done = completed("x", states.clock.time() - DAY)
    states.receive(done)
    states.clock.unix -= DAY
    states.receive(replace(done, size=5))
    assert not states.known()["x"].retired
    states.clock.unix += DAY
    states.expire()
    assert states.known()["x"].retired


def test_export_that_returns_is_retired_by_the_present_clock() -> None:
    """If a wrong clock had retired it when its file left, it has its series again."""
    states = States(retention=DAY)
    states.watch({"b": ["x"]})
    states.receive(completed("x", states.clock.time()))
    states.clock.unix += 2 * DAY
    states.expire()
    assert states.known()["x"].retired
    states.watch({})
    states.clock.unix -= 2 * DAY
    states.watch({"b": ["x"]})
    assert not states.known()["x"].retired


def test_export_that_is_not_watched_does_not_retire() -> None:
    """An ID that left the watchlist is not retired; after days, it returns as UNKNOWN."""
    states = States(retention=DAY)
    states.watch({"b": ["x", "y"]})
    states.receive(completed("x", states.clock.time()))
    states.watch({"b": ["y"]})
    states.clock.advance(2 * DAY)
    states.expire()
    states.watch({"b": ["x", "y"]})
    assert states.shown() == {"x": "UNKNOWN", "y": "UNKNOWN"}


@pytest.mark.slow
def test_thousands_of_scrapes_do_not_leak_memory() -> None:
    """Checks, expiry, retirement and a clock that is set back need no more memory with time."""
    states = States(max_age=0, retention=DAY)
    # CPython keeps up to 2,000 freed tuples of each length below 20; these are longer.
    states.watch({"b": ids(24)})

    def scrape(number: int) -> None:
        states.clock.advance(30)
        states.clock.unix -= 29 if number % 3 else 0
        done = [completed(f"e0000{i}", 1_700_000_000.0) for i in range(8)]
        done[0] = replace(done[0], size=number)
        states.receive(*done, running("e00008"), completed("e00009", None))
        states.record({"e00010": BROKEN, "e00011": NOT_FOUND})
        states.expire()
        states.batch()

    tracemalloc.start()
    try:
        # After a thousand scrapes, CPython 3.10 has allocated all that it keeps for reuse.
        for number in range(1200):
            scrape(number)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1200):
            scrape(number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4096


@pytest.mark.slow
def test_ends_that_change_with_every_answer_do_not_leak_memory() -> None:
    """An API that sends another end on each scrape does not fill the memory with entries."""
    states = States(retention=DAY)
    states.watch({"b": ids(100)})
    states.receive(*map(completed, ids(100)))

    def scrape(number: int) -> None:
        states.clock.advance(1)
        states.receive(*(completed(i, states.clock.time() - number % 7) for i in ids(100)))
        states.expire()
        states.batch()

    tracemalloc.start()
    try:
        for number in range(20):
            scrape(number)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(200):
            scrape(number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 20,000 entries would be over 2 MB.
    assert after - before < 300_000
    states.clock.advance(DAY + 1)
    states.expire()
    assert all(watched.retired for watched in states.known().values())


# Changes of the watchlist


def blocks_by_batch(states: States) -> dict[str, list[Block]]:
    """Return the blocks of each batch."""
    return {batch.name: list(batch.blocks) for batch in states.tracked.batches()}


def test_each_block_has_exports_of_one_batch() -> None:
    """Batches are in the order of their names, their exports in the order of the files."""
    states = States()
    states.watch({"two": ids(BLOCK_SIZE + 1), "none": [], "one": ["x"]})
    blocks = blocks_by_batch(states)
    assert list(blocks) == ["none", "one", "two"]
    assert all(0 < len(block.exports) <= BLOCK_SIZE for block in blocks["two"])
    assert tuple(w.id for block in blocks["two"] for w in block.exports) == ids(BLOCK_SIZE + 1)
    assert {block.batch for block in blocks["two"]} == {"two"}
    assert blocks["none"] == []
    assert states.batch("none").totals.watched == 0
    assert states.batch("two").totals.watched == BLOCK_SIZE + 1


def test_blocks_are_half_full_on_average() -> None:
    """Small blocks cost memory, and a change in a large block renders many exports again."""
    states = States()
    states.watch({"b": ids(10_000)})
    sizes = [len(block.exports) for block in blocks_by_batch(states)["b"]]
    assert 0.4 * BLOCK_SIZE < sum(sizes) / len(sizes) < 0.6 * BLOCK_SIZE
    assert min(sizes[:-1]) >= BLOCK_SIZE / 4
    assert max(sizes) <= BLOCK_SIZE


@pytest.mark.parametrize("edited", [ids(5000)[1:], ("new", *ids(5000))])
def test_insertion_or_removal_at_the_top_of_a_list_changes_few_blocks(
    edited: Sequence[str],
) -> None:
    """Almost all blocks stay the same objects, although every ID is at another position."""
    states = States()
    states.watch({"b": ids(5000)})
    before = blocks_by_batch(states)["b"]
    states.watch({"b": edited})
    after = blocks_by_batch(states)["b"]
    assert sum(block not in before for block in after) <= 3
    assert [watched.id for block in after for watched in block.exports] == [*edited]


def test_changed_export_replaces_only_its_block() -> None:
    """Every other block and batch is the same object in the next snapshot."""
    states = States()
    states.watch({"a": ids(2 * BLOCK_SIZE, "a"), "b": ["x"]})
    blocks, other = blocks_by_batch(states), states.batch("b")
    states.receive(running("a00000"))
    changed = blocks_by_batch(states)
    assert changed["a"][0] is not blocks["a"][0]
    assert changed["a"][1] is blocks["a"][1]
    assert states.batch("b") is other


def test_equal_answer_changes_no_block() -> None:
    """An answer with the same exports and errors as before leaves the batch the same object."""
    states = States(retention=DAY)
    states.watch({"b": ["c", "d", "r", "x"]})
    answer: dict[str, Outcome] = {
        "c": completed("c", None),
        "d": completed("d", states.clock.time() - DAY),
        "r": running("r"),
        "x": NOT_FOUND,
    }
    states.record(answer)
    before = states.batch()
    states.clock.advance(60)
    states.record(answer)
    states.expire()
    assert states.batch() is before


def test_equal_watchlist_changes_no_block() -> None:
    """A new watchlist with the same content leaves all batches the same objects."""
    states = States()
    states.watch({"a": ids(BLOCK_SIZE + 1), "b": ["x"], "c": []}, ["x"])
    states.receive(failed("x"))
    before = states.tracked.batches()
    states.watch({"a": ids(BLOCK_SIZE + 1), "b": ["x"], "c": []}, ["x"])
    assert all(now is then for now, then in zip(states.tracked.batches(), before, strict=True))


def test_added_id_changes_only_the_last_block_of_its_batch() -> None:
    """The states of all other IDs stay, and their blocks are the same objects."""
    states = States()
    states.watch({"a": ids(BLOCK_SIZE + 1), "b": ["x"]})
    states.receive(failed("x"))
    blocks = blocks_by_batch(states)
    states.watch({"a": [*ids(BLOCK_SIZE + 1), "new"], "b": ["x"], "c": ["y"]})
    changed = blocks_by_batch(states)
    *others, last = blocks["a"]
    assert changed["a"][: len(others)] == others
    assert last not in changed["a"]
    assert changed["b"] == blocks["b"]
    assert states.shown()["new"] == states.shown()["y"] == "UNKNOWN"


def test_answer_before_a_change_of_the_watchlist_takes_effect() -> None:
    """An answer and a new watchlist between two snapshots both take effect."""
    states = States()
    states.watch({"a": ["x"], "b": ["y"]})
    states.record({"x": failed("x")})
    states.watch({"a": ["x"], "b": ["y"], "c": ["z"]})
    assert states.shown() == {"x": "FAILED", "y": "UNKNOWN", "z": "UNKNOWN"}
    assert states.batch("a").totals.states["FAILED"] == 1


def test_id_that_left_is_gone_at_once() -> None:
    """An ID that left the watchlist is in no total, has no series and is not asked for."""
    states = States()
    states.watch({"a": ["x", "y", "z"], "b": ["w"]})
    states.receive(running("x"), completed("y"))
    states.watch({"a": ["z"]})
    assert states.shown() == {"z": "UNKNOWN"}
    assert states.batch("a").totals.watched == 1
    assert states.asked() == [["z"]]
    assert states.oldest_answers() == {}


def test_id_that_returns_soon_is_still_known() -> None:
    """States and times of failures survive when an ID file is replaced, renamed or moved."""
    states = States(retention=DAY)
    states.watch({"a": ["x", "y", "f", "z"]})
    old = completed("y", states.clock.time() - 2 * DAY)
    states.receive(running("x"), old, failed("f", None))
    states.expire()
    before = states.known()
    answered, seen = states.oldest_answers()["a"], states.clock.time()
    states.watch({"a": ["z"]})
    states.clock.advance(60)
    states.watch({"a": ["z"], "b": ["x", "y", "f"]}, acknowledged=["f"])
    states.expire()
    after = states.known()
    assert after.pop("f") == replace(before.pop("f"), acknowledged=True)
    assert after == before
    assert states.oldest_answers() == {"b": answered}
    assert states.asked(size=2) == [["x", "z"]]
    states.receive(failed("f", None))
    assert states.known()["f"].finished == seen


def test_id_that_returns_is_as_old_as_its_last_answer() -> None:
    """The state of an ID that returns expires max-age after its last answer."""
    states = States(max_age=300)
    states.watch({"b": ["x", "y"]})
    states.receive(running("x"), running("y"))
    states.watch({"b": ["y"]})
    states.clock.advance(301)
    states.watch({"b": ["x", "y"]})
    states.expire()
    assert states.shown() == {"x": "UNKNOWN", "y": "UNKNOWN"}


def test_id_that_was_away_for_over_an_hour_is_unknown() -> None:
    """After an hour, nothing is remembered of an ID that is not watched."""
    states = States()
    for seconds in (REMEMBER_SECONDS, REMEMBER_SECONDS + 1):
        states.watch({"b": ["x", "y"]})
        states.receive(completed("x"))
        states.watch({"b": ["y"]})
        states.clock.advance(seconds)
        states.watch({"b": ["x", "y"]})
        known = seconds == REMEMBER_SECONDS
        assert states.shown()["x"] == ("COMPLETED" if known else "UNKNOWN")
    states.receive(completed("x"))
    states.watch({"b": ["y"]})
    states.clock.advance(REMEMBER_SECONDS + 1)
    states.watch({"b": ["y", "z"]})
    states.clock.advance(-2)
    states.watch({"b": ["x", "y", "z"]})
    assert states.shown()["x"] == "UNKNOWN"


def test_departed_ids_are_reported_while_they_are_remembered() -> None:
    """`departed` returns what the state file needs, as the same object while nothing changes."""
    states = States()
    all_ids = ids(2 * BLOCK_SIZE + 1)
    states.watch({"b": [*all_ids, "stays"]})
    states.receive(*map(completed, all_ids))
    states.watch({"b": ["stays"]})
    now = states.clock.monotonic()
    departed = states.tracked.departed(now)
    assert [len(block.exports) for block in departed] == [BLOCK_SIZE, BLOCK_SIZE, 1]
    assert tuple(each.id for block in departed for each in block.exports) == all_ids
    assert states.tracked.departed(now + REMEMBER_SECONDS) is departed
    states.watch({"b": ["stays", *all_ids[1:]]})
    assert [each.id for [each] in (b.exports for b in states.tracked.departed(now))] == [all_ids[0]]
    assert states.tracked.departed(now + REMEMBER_SECONDS + 1) == ()


def test_restored_exports_are_known_and_asked_for_in_free_places() -> None:
    """Exports of the state file are known at once; those that are not watched are not shown."""
    states = States(retention=DAY)
    day_before = states.clock.time() - 2 * DAY
    states.tracked.restore(
        [
            WatchedExport("c", "COMPLETED", completed("c", day_before)),
            WatchedExport("f", "FAILED", failed("f")),
            WatchedExport("gone", "COMPLETED", completed("gone")),
        ]
    )
    states.watch({"b": ["c", "n", "f"]}, acknowledged=["f"])
    states.expire()
    assert states.shown() == {"c": "COMPLETED", "n": "UNKNOWN", "f": "FAILED"}
    assert states.known()["c"].retired
    assert states.known()["f"].acknowledged
    assert states.asked() == [["n", "c", "f"]]


def departed(states: States) -> list[str]:
    """Return the IDs that are stored although they are not watched."""
    blocks = states.tracked.departed(states.clock.monotonic())
    return [each.id for block in blocks for each in block.exports]


def test_restored_id_is_stored_for_an_hour_after_it_is_known_to_have_left() -> None:
    """While an ID file cannot be read, it may list any restored ID, so all are kept."""
    states = States()
    states.tracked.restore([WatchedExport(i, "FAILED", failed(i)) for i in "xyz"])
    states.watch({"b": ["x"]}, error="a file that cannot be read")
    assert departed(states) == ["y", "z"]
    states.clock.advance(REMEMBER_SECONDS + 1)
    states.watch({"b": ["x", "y"]}, error="a file that cannot be read")
    assert departed(states) == ["z"]
    assert states.shown() == {"x": "FAILED", "y": "FAILED"}
    states.watch({"b": ["x", "y"]})
    states.clock.advance(1)
    states.watch({"b": ["x"]})
    assert departed(states) == ["z", "y"]
    states.clock.advance(REMEMBER_SECONDS)
    assert departed(states) == ["y"]
    states.clock.advance(1.1)
    assert departed(states) == []


@pytest.mark.parametrize("error", [None, "a file that cannot be read"])
def test_short_processes_remember_departed_ids_for_an_hour(error: str | None) -> None:
    """A process restores what the last one stored, and an ID keeps the time at which it left."""
    stored = [WatchedExport(i, "FAILED", failed(i)) for i in "wxyz"]
    clock = FakeClock()

    def run_process(*watched: str, error: str | None = None) -> dict[str, tuple[str, float | None]]:
        nonlocal stored
        states = States()
        states.clock.unix = clock.unix
        states.tracked.restore(stored)
        states.watch({"b": watched}, error=error)
        blocks = states.tracked.departed(states.clock.monotonic())
        stored = [*states.known().values(), *(each for block in blocks for each in block.exports)]
        return {each.id: (each.state, each.left) for each in stored}

    began = clock.unix
    known, left = ("FAILED", None), ("FAILED", began)
    assert run_process("w", "x") == {"w": known, "x": known, "y": left, "z": left}
    clock.unix += REMEMBER_SECONDS / 2
    later = clock.unix
    assert run_process("w", "y") == {"w": known, "y": known, "z": left, "x": ("FAILED", later)}
    clock.unix = began + REMEMBER_SECONDS
    assert run_process("w", error=error)["z"] == left
    clock.unix += 1
    assert run_process("w", error=error).keys() == {"w", "x", "y"}
    clock.unix = began
    assert run_process("w")["x"] == left, "the clock was set back"


def test_departed_ids_are_forgotten_in_the_order_in_which_they_left() -> None:
    """The order is right even if a restored ID is found to have left after the other one."""
    states = States()
    states.tracked.restore([WatchedExport(i, "FAILED", failed(i)) for i in "xy"])
    states.watch({"b": ["x"]}, error="a file that cannot be read")
    states.watch({}, error="a file that cannot be read")
    states.clock.advance(10)
    states.watch({})
    assert departed(states) == ["x", "y"]
    states.clock.advance(REMEMBER_SECONDS - 5)
    assert departed(states) == ["y"]


@pytest.mark.parametrize("late", [False, True])
def test_restored_id_that_is_not_watched_is_remembered_for_an_hour(*, late: bool) -> None:
    """A restored ID may be watched only later: its directory may be mounted after the start."""
    states = States()
    states.tracked.restore([WatchedExport("x", "FAILED", failed("x"))])
    states.watch({})
    states.clock.advance(REMEMBER_SECONDS + late)
    states.watch({"b": ["x"]})
    assert states.shown() == {"x": "UNKNOWN" if late else "FAILED"}


def test_state_restored_late_is_shown_unless_an_answer_is_newer() -> None:
    """A state file that is read late has the effect of one at the start; newer answers stay."""
    states = States()
    everything = ["silent", "missing", "odd", "running", "other", "expired", "api"]
    states.watch({"b": everything}, acknowledged=["silent"])
    states.record(
        {
            "missing": NOT_FOUND,
            "odd": Export("odd", "UNKNOWN"),
            "running": running("running"),
            "other": completed("other", None),
            "expired": running("expired"),
            "api": failed("api", 1_699_999_600.0),
        }
    )
    states.requeue(["running"], ["silent", "odd", "expired"])
    states.clock.advance(301)
    states.receive(running("running"))
    states.expire()
    assert states.shown()["expired"] == "UNKNOWN"
    states.tracked.restore([WatchedExport(i, "FAILED", failed(i)) for i in [*everything, "gone"]])
    states.watch({"b": everything}, acknowledged=["silent"])
    # The older answers for these IDs must not expire the restored states.
    states.expire()
    known = states.known()
    for export_id in ("silent", "missing", "odd"):
        assert known[export_id] == WatchedExport(
            export_id, "FAILED", failed(export_id), acknowledged=export_id == "silent"
        )
    assert states.shown().items() >= {"running": "RUNNING", "expired": "UNKNOWN"}.items()
    # As if the file had been read at the start, its time of the first finished answer counts.
    assert known["other"] == WatchedExport(
        "other", "COMPLETED", completed("other", None), seen_finished=failed("other").finished
    )
    assert known["api"].finished == 1_699_999_600.0
    assert departed(states) == ["gone"]
    states.asked()
    assert {i for call in states.asked() for i in call[:2]} == {"running", "expired"}


@pytest.mark.parametrize(
    ("stored", "earlier"), [(1_699_995_000.0, True), (10.0, False), (4e9, False)]
)
def test_end_restored_late_replaces_a_later_one_by_the_exporters_clock(
    stored: float, *, earlier: bool
) -> None:
    """With the later end, an old failure would be reported as new, also after the next start."""
    states = States()
    states.watch({"b": ["f"]})
    states.receive(failed("f", None))
    seen = states.clock.time()
    states.tracked.restore([WatchedExport("f", "FAILED", failed("f", None), seen_finished=stored)])
    states.watch({"b": ["f"]})
    assert states.known()["f"].finished == (stored if earlier else seen)
    states.clock.unix += DAY
    states.expire()
    assert states.known()["f"].finished == (stored if earlier else seen + DAY)


def test_state_restored_late_does_not_replace_an_answer_for_an_id_that_left() -> None:
    """Only if such an ID had no answer, the stored state is shown when it returns."""
    states = States()
    states.watch({"b": ["x", "y", "z"]})
    states.record({"x": completed("x"), "y": NOT_FOUND})
    states.watch({"b": ["z"]})
    states.tracked.restore([WatchedExport(i, "FAILED", failed(i)) for i in "xy"])
    states.watch({"b": ["z"]})
    states.watch({"b": ["x", "y", "z"]})
    assert states.shown() == {"x": "COMPLETED", "y": "FAILED", "z": "UNKNOWN"}


def test_answer_for_an_id_that_left_is_dropped() -> None:
    """A call that began before the ID left the watchlist may be answered after it."""
    states = States()
    states.watch({"b": ["x", "y"]})
    states.watch({"b": ["y"]})
    states.record({"x": running("x"), "y": running("y")})
    assert states.shown() == {"y": "RUNNING"}


def test_late_answer_to_an_earlier_call_is_dropped() -> None:
    """Of two concurrent calls, the one that began first may be answered last."""
    states = States()
    states.watch({"b": ["x"]})
    states.plan(100)
    began = states.clock.monotonic()
    states.clock.advance(1)
    states.record({"x": completed("x")})
    states.clock.advance(1)
    now, unix = states.clock.monotonic(), states.clock.time()

    def late(*, overlaps: bool) -> str:
        states.tracked.record(
            {"x": failed("x")}, asked=began, overlaps=overlaps, monotonic=now, unix=unix
        )
        return states.shown()["x"]

    assert late(overlaps=True) == "COMPLETED"
    states.tracked.plan(100, overlaps=True)
    assert late(overlaps=False) == "COMPLETED"
    # Without another scrape in flight, no call can have been overtaken.
    states.tracked.plan(100, overlaps=False)
    assert late(overlaps=False) == "FAILED"


def test_id_that_moves_to_another_batch_keeps_its_state() -> None:
    """The ID's state and its place in the queue stay; the totals of both batches change."""
    states = States()
    states.watch({"a": ["x", "y"], "b": ["z"]})
    states.receive(running("x"), completed("y"), running("z"))
    states.watch({"a": [], "b": ["x", "y", "z"]})
    assert states.shown() == {"x": "RUNNING", "y": "COMPLETED", "z": "RUNNING"}
    assert states.batch("a").totals.watched == 0
    assert states.batch("b").totals.states["RUNNING"] == 2
    assert states.oldest_answers() == {"b": states.clock.time()}
    assert states.asked() == [["x", "z", "y"]]


def test_acknowledging_changes_one_block() -> None:
    """An acknowledged failure is marked and counted, until its acknowledgement is removed."""
    states = States()
    states.watch({"a": ids(2 * BLOCK_SIZE)})
    states.receive(failed("e00000"))
    blocks = blocks_by_batch(states)
    states.watch({"a": ids(2 * BLOCK_SIZE)}, ["e00000", "never-watched"])
    changed = blocks_by_batch(states)
    assert states.known()["e00000"].acknowledged
    assert states.batch("a").totals.acknowledged == 1
    assert changed["a"][0] is not blocks["a"][0]
    assert changed["a"][1] is blocks["a"][1]
    states.watch({"a": ids(2 * BLOCK_SIZE)})
    assert not states.known()["e00000"].acknowledged
    assert states.batch("a").totals.acknowledged == 0
