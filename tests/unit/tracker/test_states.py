"""States: calls, the effect of answers, and expiry."""

import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from exporter.cavatica.export import Export
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


class Line:
    """ExportStates, with the clock and the short words of the tests."""

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
        """Adopt a watchlist."""
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

    def hear(self, *exports: Export) -> None:
        """Record proper answers, and requeue as a scrape does."""
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
        """Plan a scrape all of whose calls are made, and give them."""
        plan = self.plan(size)
        self.requeue([i for call in plan for i in call], [])
        return plan

    def expire(self, since: float | None = None) -> None:
        """Expire what is too old at the end of a scrape that began now, or at `since`."""
        steady = self.clock.monotonic()
        self.tracked.expire(
            since=steady if since is None else since, monotonic=steady, unix=self.clock.time()
        )

    def oldest_answers(self) -> dict[str, float]:
        """Return the Unix time of the oldest answers, by batch."""
        behind = self.clock.time() - self.clock.monotonic()
        return {name: at + behind for name, at in self.tracked.oldest_answers().items()}

    def known(self) -> dict[str, WatchedExport]:
        """Return everything known, by ID."""
        return {
            watched.id: watched
            for batch in self.tracked.batches()
            for block in batch.blocks
            for watched in block.exports
        }

    def states(self) -> dict[str, str]:
        """Return the states shown, by ID."""
        return {export_id: watched.state for export_id, watched in self.known().items()}

    def batch(self, name: str = "b") -> Batch:
        """Return a batch."""
        return {batch.name: batch for batch in self.tracked.batches()}[name]


# Who is asked.


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
def test_calls_follow_what_can_still_change(
    unfinished: int, finished: int, calls: list[int]
) -> None:
    """There are `ceil(unfinished / 100)` calls, and finished exports only fill their places."""
    line = Line()
    done = ids(finished, "done")
    line.watch({"b": done + ids(unfinished)})
    line.hear(*map(completed, done))
    plan = line.asked()
    assert [len(call) for call in plan] == calls
    everyone = [export_id for call in plan for export_id in call]
    assert len(everyone) == len(set(everyone))
    assert set(everyone[:unfinished]) == set(ids(unfinished))


def test_whoever_was_never_asked_comes_first() -> None:
    """New IDs are asked before those that were asked already, in the order of the files."""
    line = Line()
    line.watch({"b": ["a", "b"]})
    line.hear()
    line.watch({"b": ["a", "n", "b", "m"]})
    assert line.asked() == [["n", "m", "a", "b"]]


def test_the_rest_comes_first_next_time() -> None:
    """IDs of calls that were not made are asked before the others, in their order."""
    line = Line()
    line.watch({"b": ids(6)})
    first, second, third = line.plan(2)
    line.requeue(second, [*first, *third])
    assert line.asked(size=2) == [first, third, second]


def test_whoever_was_asked_longest_ago_comes_first() -> None:
    """With one call a scrape every unfinished export gets its turn."""
    line = Line()
    line.watch({"b": ids(5)})
    turns = []
    for _ in range(5):
        now, *later = line.plan(2)
        turns += now
        line.requeue(now, [i for call in later for i in call])
    assert turns == [*ids(5), *ids(5)]


def test_free_places_go_round_all_finished_exports() -> None:
    """Finished exports are asked again in the free places, longest ago first."""
    line = Line()
    line.watch({"b": ["r", *ids(5)]})
    line.hear(*map(completed, ids(5)))
    turns = [line.asked(size=3) for _ in range(5)]
    assert all(call[0] == "r" for [call] in turns)
    assert [i for [call] in turns for i in call[1:]] == [*ids(5), *ids(5)]


def test_finished_exports_that_were_not_asked_keep_their_turn() -> None:
    """Where a call was not made, those in its free places are the next again."""
    line = Line()
    line.watch({"b": ["r", *ids(4)]})
    line.hear(*map(completed, ids(4)))
    [call] = line.plan(3)
    line.requeue([], call)
    assert line.asked(size=3) == [call]


def test_an_id_that_the_api_does_not_know_goes_to_the_free_places() -> None:
    """Such an ID is not unfinished: a thousand of them cost no call of their own."""
    line = Line()
    line.watch({"b": ["r", "x"]})
    plan = line.plan(100)
    line.record({"r": running("r"), "x": NOT_FOUND})
    line.requeue(plan[0], [])
    assert line.asked(size=1) == [["r"]]
    assert line.asked(size=2) == [["r", "x"]]


def test_an_id_at_which_the_api_broke_is_asked_with_the_unfinished() -> None:
    """An error of 500 and above is the platform's: the ID may be fine."""
    line = Line()
    line.watch({"b": ["x", "y"]})
    line.plan(100)
    line.record({"x": BROKEN, "y": completed("y")})
    line.requeue(["x", "y"], [])
    assert line.asked(size=1) == [["x"]]


def test_an_id_whose_error_cannot_be_told_is_asked_with_the_unfinished() -> None:
    """Where an answer's errors cannot be paired with IDs, nothing is known of them."""
    line = Line()
    line.watch({"b": ["x", "y"]})
    line.plan(100)
    line.record({"x": None, "y": completed("y")})
    line.requeue(["x", "y"], [])
    assert line.asked(size=1) == [["x"]]


def test_an_export_that_is_found_again_is_asked_with_the_unfinished() -> None:
    """An ID leaves the free places when the API answers with an unfinished export."""
    line = Line()
    line.watch({"b": ["r", "x"]})
    line.plan(100)
    line.record({"x": NOT_FOUND})
    line.requeue(["r", "x"], [])
    line.hear(running("x"))
    assert line.known()["x"].failure is None
    assert line.asked(size=1) == [["r"], ["x"]]


def test_a_state_that_is_not_in_the_list_can_still_change() -> None:
    """ABORTED is passed on, and asked again as any unfinished export."""
    line = Line()
    line.watch({"b": ["x", "y"]})
    line.hear(Export("x", "ABORTED"), completed("y"))
    assert line.states()["x"] == "ABORTED"
    assert line.asked(size=1) == [["x"]]


def test_an_undocumented_state_that_stays_for_a_week_goes_to_the_free_places() -> None:
    """It then counts as final, and is asked for as finished exports are; its state stays shown."""
    line = Line()
    line.watch({"b": ["x", "r"]})
    line.hear(Export("x", "WAITING"), running("r"))
    line.clock.pass_by(DAY)
    line.hear(Export("x", "ABORTED"), running("r"))
    line.clock.pass_by(SETTLE_SECONDS)
    line.hear(Export("x", "ABORTED"), running("r"))
    assert line.asked(size=1) == [["x"], ["r"]]
    line.clock.pass_by(1)
    line.hear(Export("x", "ABORTED"), running("r"))
    assert line.asked(size=1) == [["r"]]
    assert line.asked(size=2) == [["r", "x"]]
    line.clock.pass_by(301)
    line.expire()
    assert line.states() == {"x": "ABORTED", "r": "UNKNOWN"}
    line.hear(running("x"), running("r"))
    assert line.asked(size=1) == [["r"], ["x"]]


# What an answer changes.


def test_an_id_that_was_never_answered_for_is_unknown() -> None:
    """An ID without an answer is UNKNOWN."""
    line = Line()
    line.watch({"b": ["x"]})
    assert line.known() == {"x": WatchedExport("x", "UNKNOWN")}


@pytest.mark.parametrize("answer", [NOT_FOUND, BROKEN, None])
def test_an_error_item_makes_an_unfinished_export_unknown_at_once(answer: Outcome) -> None:
    """What the API once said of an ID for which it answers an error is no state any more."""
    line = Line()
    line.watch({"b": ["x"]})
    line.hear(running("x"))
    line.record({"x": answer})
    now = line.known()["x"]
    assert (now.state, now.failure) == ("UNKNOWN", answer)
    assert now.export == running("x")
    line.hear(running("x"))
    now = line.known()["x"]
    assert (now.state, now.failure) == ("RUNNING", None)


def test_silence_of_an_answer_changes_nothing() -> None:
    """An ID that an answer does not mention keeps its state for max-age."""
    line = Line()
    line.watch({"b": ["x"]})
    line.hear(running("x"))
    line.record({})
    assert line.states() == {"x": "RUNNING"}


@pytest.mark.parametrize("export", [completed("x"), failed("x")])
@pytest.mark.parametrize("answer", [NOT_FOUND, BROKEN, None, Export("x", "UNKNOWN")])
def test_a_finished_export_stays_finished(export: Export, answer: Outcome) -> None:
    """No error and no odd answer takes COMPLETED or FAILED back."""
    line = Line()
    line.watch({"b": ["x"]})
    line.hear(export)
    before = line.known()
    line.record({"x": answer})
    line.clock.pass_by(1000)
    line.expire()
    assert line.known() == before


@pytest.mark.parametrize("answer", [failed("x"), running("x"), Export("x", "ABORTED")])
def test_a_proper_answer_corrects_a_finished_export(answer: Export) -> None:
    """A proper answer of the API can change a finished state."""
    line = Line()
    line.watch({"b": ["x"]})
    line.hear(completed("x"))
    line.hear(answer)
    assert line.known()["x"] == WatchedExport("x", answer.state, answer)


def test_a_finished_export_without_a_time_finished_when_it_was_first_seen_finished() -> None:
    """The time is this exporter's then, and stays, until the API says better."""
    line = Line()
    line.watch({"b": ["x"]})
    line.hear(running("x"))
    line.clock.pass_by(60)
    seen = line.clock.time()
    line.hear(completed("x", None))
    line.clock.pass_by(60)
    line.hear(completed("x", None))
    assert (line.known()["x"].export, line.known()["x"].finished) == (completed("x", None), seen)
    line.hear(failed("x", None))
    assert (line.known()["x"].export, line.known()["x"].finished) == (failed("x", None), seen)
    line.hear(failed("x", 7.0))
    assert line.known()["x"] == WatchedExport("x", "FAILED", failed("x", 7.0))


def test_a_failure_that_comes_back_begins_anew() -> None:
    """An export that ran again failed again: the second failure has its own time."""
    line = Line()
    line.watch({"b": ["x"]})
    line.hear(failed("x", None))
    line.clock.pass_by(60)
    # An odd answer: it runs and has a time of finish.
    line.hear(replace(running("x"), finished=7.0))
    line.clock.pass_by(60)
    line.hear(failed("x", None))
    assert line.known()["x"].finished == line.clock.time()


# Age.


@pytest.mark.parametrize("max_age", [0.0, 0.5, 300.0])
def test_a_state_is_shown_for_max_age_and_then_unknown(max_age: float) -> None:
    """It is shown to the last moment; the times and the volume are facts and stay."""
    line = Line(max_age=max_age)
    line.watch({"b": ["x", "y"]})
    line.hear(running("x"), completed("y"))
    line.clock.pass_by(max_age)
    line.expire()
    assert line.states() == {"x": "RUNNING", "y": "COMPLETED"}
    line.clock.pass_by(0.25)
    line.expire()
    assert line.states() == {"x": "UNKNOWN", "y": "COMPLETED"}
    assert line.known()["x"].export == running("x")
    line.hear(running("x"))
    assert line.states()["x"] == "RUNNING"


def test_what_a_scrape_has_heard_itself_is_not_old() -> None:
    """With a max-age of 0s an answer is shown until the end of its scrape."""
    line = Line(max_age=0)
    line.watch({"b": ["x"]})
    began = line.clock.monotonic()
    line.hear(running("x"))
    line.clock.pass_by(9)
    line.expire(since=began)
    assert line.states() == {"x": "RUNNING"}


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_age_is_not_measured_on_the_wall_clock(jump: float) -> None:
    """A wall clock that jumps makes nothing old, and nothing young."""
    line = Line(max_age=300)
    line.watch({"b": ["x"]})
    line.hear(running("x"))
    line.clock.unix += jump
    line.expire()
    assert line.states() == {"x": "RUNNING"}
    line.clock.pass_by(301)
    line.expire()
    assert line.states() == {"x": "UNKNOWN"}


def test_the_oldest_answer_is_that_of_the_unfinished() -> None:
    """The oldest answer is Unix time by batch; batches without unfinished ones have none."""
    line = Line()
    line.watch({"a": ["x", "y"], "b": ["z"], "c": ["n"], "d": ["l"]})
    first = line.clock.time()
    line.hear(running("x"), running("y"), completed("z"))
    assert line.oldest_answers() == {"a": first}
    line.clock.pass_by(10)
    line.hear(running("y"))
    assert line.oldest_answers() == {"a": first}
    line.hear(running("x"))
    assert line.oldest_answers() == {"a": first + 10}
    line.hear(failed("x"), completed("y"))
    assert line.oldest_answers() == {}


@pytest.mark.parametrize(("answer", "remains"), [(NOT_FOUND, False), (BROKEN, True), (None, True)])
def test_an_error_item_is_no_answer_for_an_export(answer: Outcome, *, remains: bool) -> None:
    """The time of the last proper answer stays for as long as the export counts as unfinished."""
    line = Line()
    line.watch({"b": ["x"]})
    first = line.clock.time()
    line.hear(running("x"))
    line.clock.pass_by(10)
    plan = line.plan(100)
    line.record({"x": answer})
    line.requeue(plan[0], [])
    assert line.oldest_answers() == ({"b": first} if remains else {})


def test_an_answer_for_an_id_that_was_unknown_meanwhile_does_not_come_back() -> None:
    """Once the API did not know it, what it said of it before is no answer any more."""
    line = Line()
    line.watch({"b": ["x"]})
    line.hear(running("x"))
    for answer in (NOT_FOUND, BROKEN):
        plan = line.plan(100)
        line.record({"x": answer})
        line.requeue(plan[0], [])
    assert line.oldest_answers() == {}


# What a scrape costs.


class Counted(str):
    """An ID that counts how often it is looked up."""

    __slots__ = ("looked_up",)

    def __init__(self, _: str) -> None:
        self.looked_up = 0

    def __hash__(self) -> int:
        """Count, and give the hash of the text."""
        self.looked_up += 1
        return super().__hash__()


def test_a_scrape_looks_at_nobody_but_whom_it_asks() -> None:
    """With all places taken by the unfinished, history is not walked over by any step."""
    line = Line(retention=DAY)
    done = [Counted(export_id) for export_id in ids(1000, "done")]
    line.watch({"b": [*done, *ids(100)]})
    line.hear(*(replace(completed("x"), id=i) for i in done), *map(running, ids(100)))
    line.tracked.batches()
    for export_id in done:
        export_id.looked_up = 0
    line.clock.pass_by(60)
    line.hear(*map(pending, ids(100)))
    line.expire()
    line.oldest_answers()
    assert [export_id for export_id in done if export_id.looked_up] == []
    line.tracked.batches()
    assert sum(export_id.looked_up for export_id in done) <= BLOCK_SIZE


# Retention.


def test_a_completed_export_retires_after_the_retention() -> None:
    """It retires that long after it finished, and its batch's totals keep it."""
    line = Line(retention=DAY)
    line.watch({"b": ["x", "f", "r"]})
    line.hear(completed("x", line.clock.time()), failed("f"), running("r"))
    before = line.batch().totals
    line.clock.pass_by(DAY - 1)
    line.hear(running("r"))
    line.expire()
    assert not line.known()["x"].retired
    line.clock.pass_by(1)
    line.expire()
    assert {i for i, watched in line.known().items() if watched.retired} == {"x"}
    assert line.batch().totals == before


def test_without_a_retention_nothing_retires() -> None:
    """0s is for ever."""
    line = Line(retention=0)
    line.watch({"b": ["x"]})
    line.hear(completed("x", 0.0))
    line.clock.pass_by(1000 * DAY)
    line.expire()
    assert not line.known()["x"].retired


def test_an_export_that_completed_long_ago_is_retired_when_it_is_first_seen() -> None:
    """After a restart old exports do not come back for a while."""
    line = Line(retention=DAY)
    line.watch({"b": ["x"]})
    line.hear(completed("x", line.clock.time() - DAY))
    assert line.known()["x"].retired


def test_a_retired_export_that_is_corrected_is_shown_again() -> None:
    """A proper answer with another state, or a later time, undoes its retirement."""
    line = Line(retention=DAY)
    line.watch({"b": ["x"]})
    line.hear(completed("x", line.clock.time() - DAY))
    line.hear(failed("x"))
    assert not line.known()["x"].retired
    line.hear(completed("x", line.clock.time()))
    assert not line.known()["x"].retired
    line.clock.pass_by(DAY)
    line.expire()
    assert line.known()["x"].retired


def test_a_correction_of_the_time_moves_the_retirement() -> None:
    """After a new finish time, the old one does not retire the export."""
    line = Line(retention=DAY)
    line.watch({"b": ["x"]})
    line.hear(completed("x", line.clock.time()))
    line.hear(completed("x", line.clock.time() + 100))
    line.clock.pass_by(DAY)
    line.expire()
    assert not line.known()["x"].retired
    line.clock.pass_by(100)
    line.expire()
    assert line.known()["x"].retired


def test_a_wall_clock_that_was_wrong_takes_no_series_for_good() -> None:
    """What retired too early is shown again as soon as the API says the same again."""
    line = Line(retention=DAY)
    line.watch({"b": ["x"]})
    done = completed("x", line.clock.time())
    line.hear(done)
    line.clock.unix += 2 * DAY
    line.expire()
    assert line.known()["x"].retired
    line.clock.unix -= 2 * DAY
    line.hear(done)
    assert not line.known()["x"].retired
    line.clock.pass_by(DAY)
    line.expire()
    assert line.known()["x"].retired


def test_a_retired_export_that_changed_while_the_clock_was_back_retires_again() -> None:
    """Its series come back with the change, and go when the clock is right again."""
    line = Line(retention=DAY)
    line.watch({"b": ["x"]})
    done = completed("x", line.clock.time() - DAY)
    line.hear(done)
    line.clock.unix -= DAY
    line.hear(replace(done, size=5))
    assert not line.known()["x"].retired
    line.clock.unix += DAY
    line.expire()
    assert line.known()["x"].retired


def test_an_export_that_is_no_longer_watched_does_not_retire() -> None:
    """Nothing is kept of an ID that left, and one that comes back begins anew."""
    line = Line(retention=DAY)
    line.watch({"b": ["x", "y"]})
    line.hear(completed("x", line.clock.time()))
    line.watch({"b": ["y"]})
    line.clock.pass_by(2 * DAY)
    line.expire()
    line.watch({"b": ["x", "y"]})
    assert line.states() == {"x": "UNKNOWN", "y": "UNKNOWN"}


@pytest.mark.slow
def test_thousands_of_scrapes_leave_nothing_behind() -> None:
    """Re-checks, ageing, retirement and a clock that goes back need no more memory with time."""
    line = Line(max_age=0, retention=DAY)
    # CPython keeps up to 2,000 freed tuples of each length below 20 for later: not these.
    line.watch({"b": ids(24)})

    def scrape(number: int) -> None:
        line.clock.pass_by(30)
        line.clock.unix -= 29 if number % 3 else 0
        done = [completed(f"e0000{i}", 1_700_000_000.0) for i in range(8)]
        done[0] = replace(done[0], size=number)
        line.hear(*done, running("e00008"), completed("e00009", None))
        line.record({"e00010": BROKEN, "e00011": NOT_FOUND})
        line.expire()
        line.batch()

    tracemalloc.start()
    try:
        # After a thousand, CPython 3.10 has taken all that it keeps for later.
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
def test_times_that_change_with_every_answer_take_no_memory() -> None:
    """An API that names another time of finish on each scrape does not fill the memory."""
    line = Line(retention=DAY)
    line.watch({"b": ids(100)})
    line.hear(*map(completed, ids(100)))

    def scrape(number: int) -> None:
        line.clock.pass_by(1)
        line.hear(*(completed(i, line.clock.time() - number % 7) for i in ids(100)))
        line.expire()
        line.batch()

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
    line.clock.pass_by(DAY + 1)
    line.expire()
    assert all(watched.retired for watched in line.known().values())


# A changed watchlist.


def objects(line: Line) -> dict[str, list[Block]]:
    """Return the blocks of each batch."""
    return {batch.name: list(batch.blocks) for batch in line.tracked.batches()}


def test_exports_stand_in_blocks_of_one_batch() -> None:
    """Batches come in order of names, their exports in the order of the files."""
    line = Line()
    line.watch({"two": ids(BLOCK_SIZE + 1), "none": [], "one": ["x"]})
    blocks = objects(line)
    assert list(blocks) == ["none", "one", "two"]
    assert all(0 < len(block.exports) <= BLOCK_SIZE for block in blocks["two"])
    assert tuple(w.id for block in blocks["two"] for w in block.exports) == ids(BLOCK_SIZE + 1)
    assert {block.batch for block in blocks["two"]} == {"two"}
    assert blocks["none"] == []
    assert line.batch("none").totals.watched == 0
    assert line.batch("two").totals.watched == BLOCK_SIZE + 1


def test_blocks_are_neither_many_nor_few() -> None:
    """On average they are half as large as the largest: each costs memory, and each change all."""
    line = Line()
    line.watch({"b": ids(10_000)})
    sizes = [len(block.exports) for block in objects(line)["b"]]
    assert 0.4 * BLOCK_SIZE < sum(sizes) / len(sizes) < 0.6 * BLOCK_SIZE
    assert min(sizes[:-1]) >= BLOCK_SIZE / 4
    assert max(sizes) <= BLOCK_SIZE


@pytest.mark.parametrize("edited", [ids(5000)[1:], ("new", *ids(5000))])
def test_an_id_that_comes_or_goes_at_the_top_of_a_long_list_changes_few_blocks(
    edited: Sequence[str],
) -> None:
    """All other blocks are the same objects, although every ID is at another position."""
    line = Line()
    line.watch({"b": ids(5000)})
    before = objects(line)["b"]
    line.watch({"b": edited})
    after = objects(line)["b"]
    assert sum(block not in before for block in after) <= 3
    assert [watched.id for block in after for watched in block.exports] == [*edited]


def test_an_export_that_changes_replaces_its_block_only() -> None:
    """Every other block and batch is the same object in the next snapshot."""
    line = Line()
    line.watch({"a": ids(2 * BLOCK_SIZE, "a"), "b": ["x"]})
    blocks, other = objects(line), line.batch("b")
    line.hear(running("a00000"))
    changed = objects(line)
    assert changed["a"][0] is not blocks["a"][0]
    assert changed["a"][1] is blocks["a"][1]
    assert line.batch("b") is other


def test_an_answer_that_says_the_same_again_changes_nothing() -> None:
    """Equal answers, and errors as before, leave every block as it is."""
    line = Line(retention=DAY)
    line.watch({"b": ["c", "d", "r", "x"]})
    answer: dict[str, Outcome] = {
        "c": completed("c", None),
        "d": completed("d", line.clock.time() - DAY),
        "r": running("r"),
        "x": NOT_FOUND,
    }
    line.record(answer)
    before = line.batch()
    line.clock.pass_by(60)
    line.record(answer)
    line.expire()
    assert line.batch() is before


def test_a_watchlist_that_says_the_same_again_changes_nothing() -> None:
    """The same watchlist again changes no block."""
    line = Line()
    line.watch({"a": ids(BLOCK_SIZE + 1), "b": ["x"], "c": []}, ["x"])
    line.hear(failed("x"))
    before = line.tracked.batches()
    line.watch({"a": ids(BLOCK_SIZE + 1), "b": ["x"], "c": []}, ["x"])
    assert all(now is then for now, then in zip(line.tracked.batches(), before, strict=True))


def test_an_added_id_changes_the_last_block_of_its_batch_only() -> None:
    """What is known of the others stays, and their blocks are the same objects."""
    line = Line()
    line.watch({"a": ids(BLOCK_SIZE + 1), "b": ["x"]})
    line.hear(failed("x"))
    blocks = objects(line)
    line.watch({"a": [*ids(BLOCK_SIZE + 1), "new"], "b": ["x"], "c": ["y"]})
    changed = objects(line)
    *others, last = blocks["a"]
    assert changed["a"][: len(others)] == others
    assert last not in changed["a"]
    assert changed["b"] == blocks["b"]
    assert line.states()["new"] == line.states()["y"] == "UNKNOWN"


def test_what_changed_before_the_watchlist_did_is_shown() -> None:
    """An answer and an edit between two looks at the batches both have their effect."""
    line = Line()
    line.watch({"a": ["x"], "b": ["y"]})
    line.record({"x": failed("x")})
    line.watch({"a": ["x"], "b": ["y"], "c": ["z"]})
    assert line.states() == {"x": "FAILED", "y": "UNKNOWN", "z": "UNKNOWN"}
    assert line.batch("a").totals.states["FAILED"] == 1


def test_an_id_that_left_is_gone_at_once() -> None:
    """It is in no total, has no series and is not asked any more."""
    line = Line()
    line.watch({"a": ["x", "y", "z"], "b": ["w"]})
    line.hear(running("x"), completed("y"))
    line.watch({"a": ["z"]})
    assert line.states() == {"z": "UNKNOWN"}
    assert line.batch("a").totals.watched == 1
    assert line.asked() == [["z"]]
    assert line.oldest_answers() == {}


def test_an_id_that_comes_back_soon_is_known() -> None:
    """A file that is replaced, renamed or moved costs no state and no time of a failure."""
    line = Line(retention=DAY)
    line.watch({"a": ["x", "y", "f", "z"]})
    old = completed("y", line.clock.time() - 2 * DAY)
    line.hear(running("x"), old, failed("f", None))
    line.expire()
    before = line.known()
    answered, seen = line.oldest_answers()["a"], line.clock.time()
    line.watch({"a": ["z"]})
    line.clock.pass_by(60)
    line.watch({"a": ["z"], "b": ["x", "y", "f"]}, acknowledged=["f"])
    line.expire()
    after = line.known()
    assert after.pop("f") == replace(before.pop("f"), acknowledged=True)
    assert after == before
    assert line.oldest_answers() == {"b": answered}
    assert line.asked(size=2) == [["x", "z"]]
    line.hear(failed("f", None))
    assert line.known()["f"].finished == seen


def test_an_id_that_comes_back_is_not_fresher_than_its_last_answer() -> None:
    """For an ID that comes back, the time since its last answer counts."""
    line = Line(max_age=300)
    line.watch({"b": ["x", "y"]})
    line.hear(running("x"), running("y"))
    line.watch({"b": ["y"]})
    line.clock.pass_by(301)
    line.watch({"b": ["x", "y"]})
    line.expire()
    assert line.states() == {"x": "UNKNOWN", "y": "UNKNOWN"}


def test_an_id_that_was_away_for_over_an_hour_begins_anew() -> None:
    """After an hour, nothing is remembered of an ID that is not watched."""
    line = Line()
    for seconds in (REMEMBER_SECONDS, REMEMBER_SECONDS + 1):
        line.watch({"b": ["x", "y"]})
        line.hear(completed("x"))
        line.watch({"b": ["y"]})
        line.clock.pass_by(seconds)
        line.watch({"b": ["x", "y"]})
        known = seconds == REMEMBER_SECONDS
        assert line.states()["x"] == ("COMPLETED" if known else "UNKNOWN")
    line.hear(completed("x"))
    line.watch({"b": ["y"]})
    line.clock.pass_by(REMEMBER_SECONDS + 1)
    line.watch({"b": ["y", "z"]})
    line.clock.pass_by(-2)
    line.watch({"b": ["x", "y", "z"]})
    assert line.states()["x"] == "UNKNOWN"


def test_what_left_is_told_for_the_state_file_for_as_long_as_it_is_remembered() -> None:
    """It is the same object if nothing changed, and nothing is kept for good."""
    line = Line()
    all_ids = ids(2 * BLOCK_SIZE + 1)
    line.watch({"b": [*all_ids, "stays"]})
    line.hear(*map(completed, all_ids))
    line.watch({"b": ["stays"]})
    now = line.clock.monotonic()
    departed = line.tracked.departed(now)
    assert [len(block.exports) for block in departed] == [BLOCK_SIZE, BLOCK_SIZE, 1]
    assert tuple(each.id for block in departed for each in block.exports) == all_ids
    assert line.tracked.departed(now + REMEMBER_SECONDS) is departed
    line.watch({"b": ["stays", *all_ids[1:]]})
    assert [each.id for [each] in (b.exports for b in line.tracked.departed(now))] == [all_ids[0]]
    assert line.tracked.departed(now + REMEMBER_SECONDS + 1) == ()


def test_what_is_restored_is_known_and_asked_in_free_places() -> None:
    """Restored exports are known and asked for in free places; unwatched ones are not shown."""
    line = Line(retention=DAY)
    day_before = line.clock.time() - 2 * DAY
    line.tracked.restore(
        [
            WatchedExport("c", "COMPLETED", completed("c", day_before)),
            WatchedExport("f", "FAILED", failed("f")),
            WatchedExport("gone", "COMPLETED", completed("gone")),
        ]
    )
    line.watch({"b": ["c", "n", "f"]}, acknowledged=["f"])
    line.expire()
    assert line.states() == {"c": "COMPLETED", "n": "UNKNOWN", "f": "FAILED"}
    assert line.known()["c"].retired
    assert line.known()["f"].acknowledged
    assert line.asked() == [["n", "c", "f"]]


def departed(line: Line) -> list[str]:
    """Return the IDs that are not watched, and stored nevertheless."""
    blocks = line.tracked.departed(line.clock.monotonic())
    return [each.id for block in blocks for each in block.exports]


def test_what_is_restored_is_stored_until_an_hour_after_it_is_known_to_have_left() -> None:
    """While an ID file cannot be read, it may have it."""
    line = Line()
    line.tracked.restore([WatchedExport(i, "FAILED", failed(i)) for i in "xyz"])
    line.watch({"b": ["x"]}, error="a file that cannot be read")
    assert departed(line) == ["y", "z"]
    line.clock.pass_by(REMEMBER_SECONDS + 1)
    line.watch({"b": ["x", "y"]}, error="a file that cannot be read")
    assert departed(line) == ["z"]
    assert line.states() == {"x": "FAILED", "y": "FAILED"}
    line.watch({"b": ["x", "y"]})
    line.clock.pass_by(1)
    line.watch({"b": ["x"]})
    assert departed(line) == ["z", "y"]
    line.clock.pass_by(REMEMBER_SECONDS)
    assert departed(line) == ["y"]
    line.clock.pass_by(1.1)
    assert departed(line) == []


@pytest.mark.parametrize("error", [None, "a file that cannot be read"])
def test_processes_that_live_for_a_moment_remember_for_an_hour_too(error: str | None) -> None:
    """Each restores what the last one stored: an ID that left keeps the time."""
    stored = [WatchedExport(i, "FAILED", failed(i)) for i in "wxyz"]
    clock = FakeClock()

    def live(*watched: str, error: str | None = None) -> dict[str, tuple[str, float | None]]:
        nonlocal stored
        line = Line()
        line.clock.unix = clock.unix
        line.tracked.restore(stored)
        line.watch({"b": watched}, error=error)
        blocks = line.tracked.departed(line.clock.monotonic())
        stored = [*line.known().values(), *(each for block in blocks for each in block.exports)]
        return {each.id: (each.state, each.left) for each in stored}

    began = clock.unix
    known, left = ("FAILED", None), ("FAILED", began)
    assert live("w", "x") == {"w": known, "x": known, "y": left, "z": left}
    clock.unix += REMEMBER_SECONDS / 2
    later = clock.unix
    assert live("w", "y") == {"w": known, "y": known, "z": left, "x": ("FAILED", later)}
    clock.unix = began + REMEMBER_SECONDS
    assert live("w", error=error)["z"] == left
    clock.unix += 1
    assert live("w", error=error).keys() == {"w", "x", "y"}
    clock.unix = began
    assert live("w")["x"] == left, "the clock was set back"


def test_of_two_that_left_the_older_one_is_forgotten_first() -> None:
    """Also if it was restored after the other one left."""
    line = Line()
    line.tracked.restore([WatchedExport(i, "FAILED", failed(i)) for i in "xy"])
    line.watch({"b": ["x"]}, error="a file that cannot be read")
    line.watch({}, error="a file that cannot be read")
    line.clock.pass_by(10)
    line.watch({})
    assert departed(line) == ["x", "y"]
    line.clock.pass_by(REMEMBER_SECONDS - 5)
    assert departed(line) == ["y"]


@pytest.mark.parametrize("late", [False, True])
def test_what_is_restored_and_not_watched_is_known_for_an_hour(*, late: bool) -> None:
    """A directory may be mounted after the start."""
    line = Line()
    line.tracked.restore([WatchedExport("x", "FAILED", failed("x"))])
    line.watch({})
    line.clock.pass_by(REMEMBER_SECONDS + late)
    line.watch({"b": ["x"]})
    assert line.states() == {"x": "UNKNOWN" if late else "FAILED"}


def test_an_answer_for_an_id_that_left_is_dropped() -> None:
    """A call that was made before an edit may be answered after it."""
    line = Line()
    line.watch({"b": ["x", "y"]})
    line.watch({"b": ["y"]})
    line.record({"x": running("x"), "y": running("y")})
    assert line.states() == {"y": "RUNNING"}


def test_the_answer_to_a_later_call_stays() -> None:
    """Of two calls in flight the one that began first may be answered last."""
    line = Line()
    line.watch({"b": ["x"]})
    line.plan(100)
    began = line.clock.monotonic()
    line.clock.pass_by(1)
    line.record({"x": completed("x")})
    line.clock.pass_by(1)
    now, unix = line.clock.monotonic(), line.clock.time()

    def late(*, overlaps: bool) -> str:
        line.tracked.record(
            {"x": failed("x")}, asked=began, overlaps=overlaps, monotonic=now, unix=unix
        )
        return line.states()["x"]

    assert late(overlaps=True) == "COMPLETED"
    line.tracked.plan(100, overlaps=True)
    assert late(overlaps=False) == "COMPLETED"
    # Without another scrape in flight, no call can have been overtaken.
    line.tracked.plan(100, overlaps=False)
    assert late(overlaps=False) == "FAILED"


def test_an_id_that_moves_to_another_batch_takes_with_it_what_is_known() -> None:
    """Its state and its turn stay; the totals of both batches change."""
    line = Line()
    line.watch({"a": ["x", "y"], "b": ["z"]})
    line.hear(running("x"), completed("y"), running("z"))
    line.watch({"a": [], "b": ["x", "y", "z"]})
    assert line.states() == {"x": "RUNNING", "y": "COMPLETED", "z": "RUNNING"}
    assert line.batch("a").totals.watched == 0
    assert line.batch("b").totals.states["RUNNING"] == 2
    assert line.oldest_answers() == {"b": line.clock.time()}
    assert line.asked() == [["x", "z", "y"]]


def test_acknowledging_changes_one_block() -> None:
    """It is shown in the export and, for a failure, in the total; it can be taken back."""
    line = Line()
    line.watch({"a": ids(2 * BLOCK_SIZE)})
    line.hear(failed("e00000"))
    blocks = objects(line)
    line.watch({"a": ids(2 * BLOCK_SIZE)}, ["e00000", "never-watched"])
    changed = objects(line)
    assert line.known()["e00000"].acknowledged
    assert line.batch("a").totals.acknowledged == 1
    assert changed["a"][0] is not blocks["a"][0]
    assert changed["a"][1] is blocks["a"][1]
    line.watch({"a": ids(2 * BLOCK_SIZE)})
    assert not line.known()["e00000"].acknowledged
    assert line.batch("a").totals.acknowledged == 0
