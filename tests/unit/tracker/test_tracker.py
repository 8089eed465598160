"""Scrapes: the watchlist is read, the API is queried, and a snapshot is published."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from exporter.cavatica.answer import MAX_CALLS, BulkResponse, RateLimit, Reason
from exporter.cavatica.export import FINISHED, Export, LookupFailure
from exporter.tracker.calls import BulkGet
from exporter.tracker.departed import REMEMBER_SECONDS
from exporter.tracker.snapshot import Snapshot, WatchedExport
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from exporter.watchlist.loader import WatchlistLoader
from exporter.watchlist.watchlist import Refusals, Watchlist
from tests.support.fakes import (
    BROKEN,
    NO_LIMIT,
    NOT_FOUND,
    FakeApi,
    FakeClock,
    Outcome,
    completed,
    error,
    failed,
    ids,
    pending,
    running,
    watch,
)
from tests.support.hanging_log import hanging_log
from tests.support.hypothesis_examples import examples
from tests.support.waits import PATIENCE


class Scene:
    """A tracker with a watchlist and an API that the test controls."""

    def __init__(self, api: FakeApi | None = None, *, max_age: float = 300) -> None:
        self.clock = FakeClock()
        self.api = api or FakeApi()
        self.watchlist = watch({"b": ["x"]})
        self.stored: list[WatchedExport] = []
        self.tracker = self.track(self.load, self.api, max_age=max_age)

    def track(
        self, load: Callable[[float], Watchlist], bulk_get: BulkGet, *, max_age: float = 300
    ) -> Tracker:
        """Make a tracker with the scene's clock and a quota share of one half."""
        return Tracker(
            load,
            bulk_get,
            ExportStates(max_age, 0),
            recall=self.recall,
            quota_share=0.5,
            render_seconds=40e-6,
            clock=self.clock,
        )

    def load(self, _: float) -> Watchlist:
        """Return the watchlist."""
        return self.watchlist

    def recall(self) -> list[WatchedExport]:
        """Return the exports of the state file, once."""
        stored, self.stored = self.stored, []
        return stored

    def watch(self, batches: Mapping[str, Sequence[str]], acknowledged: Sequence[str] = ()) -> None:
        """Replace the watchlist by one with these batches."""
        self.watchlist = watch(batches, acknowledged)

    def scrape(self, seconds: float = 10) -> Snapshot:
        """Scrape with a deadline that is `seconds` away."""
        return self.tracker.scrape(self.clock.monotonic() + seconds)

    def limit(self, remaining: int, limit: int = 1000, reset_in: float = 300) -> None:
        """Set the rate limit in the API's headers."""
        self.api.rate_limit = RateLimit(limit, remaining, self.clock.time() + reset_in)


@pytest.fixture
def scene() -> Scene:
    """Return a scene in which one ID is watched."""
    return Scene()


@pytest.fixture
def no_threads() -> Iterator[None]:
    """Prevent new threads: calls run one after the other, in the thread of the scrape."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


def known(snapshot: Snapshot) -> dict[str, WatchedExport]:
    """Return the watched exports of a snapshot, by ID."""
    return {
        watched.id: watched
        for batch in snapshot.batches
        for block in batch.blocks
        for watched in block.exports
    }


def states(snapshot: Snapshot) -> dict[str, str]:
    """Return the states of a snapshot, by ID."""
    return {export_id: watched.state for export_id, watched in known(snapshot).items()}


# The calls of a scrape


def test_up_to_100_ids_are_one_call_on_every_scrape(scene: Scene) -> None:
    """Each scrape asks for all IDs, finished or not, if one call has places for them."""
    scene.watch({"a": ids(60, "a"), "b": ids(40, "b")})
    scene.api.answer_with(*map(completed, ids(60, "a")))
    for _ in range(3):
        assert scene.scrape().api_calls == 1
    assert [sorted(call) for call in scene.api.calls] == [[*ids(60, "a"), *ids(40, "b")]] * 3


def test_finished_exports_cost_no_further_call(scene: Scene) -> None:
    """250 finished and 30 unfinished exports need a single call, once all were answered."""
    scene.watch({"b": ids(280)})
    scene.api.answer_with(*map(completed, ids(280)[30:]))
    assert scene.scrape().api_calls == 3
    for _ in range(3):
        scene.api.calls.clear()
        assert scene.scrape().api_calls == 1
        assert len(scene.api.calls[0]) == 100
        assert set(ids(30)) <= set(scene.api.calls[0])


def test_250_unfinished_exports_are_three_calls(scene: Scene) -> None:
    """Every unfinished export is asked for on every scrape, by as few calls as possible."""
    scene.watch({"b": ids(250)})
    for _ in range(2):
        scene.api.calls.clear()
        assert scene.scrape().up
        assert sorted(map(len, scene.api.calls)) == [50, 100, 100]
        assert sorted(i for call in scene.api.calls for i in call) == list(ids(250))


def test_empty_watchlist_makes_no_call(scene: Scene) -> None:
    """A scrape of an empty watchlist makes no call, and is `up`."""
    scene.watch({"b": []})
    snapshot = scene.scrape()
    assert (snapshot.up, snapshot.api_calls, scene.api.calls) == (True, 0, [])
    assert snapshot.last_success == scene.clock.time()


def test_finished_exports_take_turns_in_one_call(scene: Scene) -> None:
    """A thousand finished exports need one call a scrape, which asks for them in turn."""
    scene.watch({"b": ids(1000)})
    scene.api.answer_with(*map(completed, ids(1000)))
    scene.scrape()
    scene.api.calls.clear()
    for _ in range(10):
        assert scene.scrape().api_calls == 1
    assert sorted(i for call in scene.api.calls for i in call) == list(ids(1000))


# States over several scrapes


def test_export_and_totals_agree_from_pending_to_failed(scene: Scene) -> None:
    """Each of three scrapes shows the export's new state, also in the totals of its batch."""
    for export in (pending("x"), running("x"), failed("x")):
        scene.api.answer_with(export)
        snapshot = scene.scrape()
        assert known(snapshot) == {"x": WatchedExport("x", export.state, export)}
        [batch] = snapshot.batches
        assert {state: n for state, n in batch.totals.states.items() if n} == {export.state: 1}
        assert batch.totals.errors == ({"9103": 1} if export.state == "FAILED" else {})
        scene.clock.advance(60)


@pytest.mark.parametrize("max_age", [0, 300])
def test_outage_keeps_finished_exports_and_expires_others(max_age: float) -> None:
    """A failed call changes only `up`; after max-age, unfinished exports become UNKNOWN."""
    scene = Scene(max_age=max_age)
    scene.watch({"b": ["c", "f", "r"]})
    scene.api.answer_with(completed("c"), failed("f"))
    assert scene.scrape().up
    scene.api.failure = error("connection", requests=2)
    for _ in range(int(max_age) // 60):
        scene.clock.advance(60)
        snapshot = scene.scrape()
        assert states(snapshot) == {"c": "COMPLETED", "f": "FAILED", "r": "RUNNING"}
        assert (snapshot.up, snapshot.api_calls) == (False, 2)
    scene.clock.advance(1)
    snapshot = scene.scrape()
    assert states(snapshot) == {"c": "COMPLETED", "f": "FAILED", "r": "UNKNOWN"}
    assert known(snapshot)["r"].export == running("r")
    scene.api.failure = None
    snapshot = scene.scrape()
    assert states(snapshot) == {"c": "COMPLETED", "f": "FAILED", "r": "RUNNING"}
    assert snapshot.up


def test_last_success_is_the_end_of_the_last_successful_scrape(scene: Scene) -> None:
    """The time is None before the first successful scrape, and stays during failures."""
    scene.api.failure = error("timeout")
    assert scene.scrape().last_success is None
    scene.api.failure = None
    scene.clock.advance(60)
    good = scene.clock.time()
    assert scene.scrape().last_success == good
    scene.api.failure = error("timeout")
    scene.clock.advance(60)
    assert scene.scrape().last_success == good


def test_age_of_the_last_success_does_not_depend_on_the_wall_clock(scene: Scene) -> None:
    """The age is None before the first success, and correct after a jump of the wall clock."""
    scene.api.failure = error("timeout")
    assert scene.scrape().last_success_age is None
    scene.api.failure = None
    assert scene.scrape().last_success_age == 0
    scene.api.failure = error("timeout")
    scene.clock.advance(60)
    scene.clock.unix -= 7200
    assert scene.scrape().last_success_age == 60


def test_stored_states_are_known_from_the_next_scrape_on(scene: Scene) -> None:
    """Exports of a state file that is read late are known even if no ID file changed."""
    scene.api.outcomes = {"x": NOT_FOUND}
    before = scene.scrape()
    assert (states(before), before.has_stored) == ({"x": "UNKNOWN"}, False)
    scene.stored = [WatchedExport("x", "FAILED", failed("x"))]
    for _ in range(2):
        after = scene.scrape()
        assert (states(after), after.has_stored) == ({"x": "FAILED"}, True)


@pytest.mark.parametrize("jump", [-7200, 7200])
def test_jump_of_the_wall_clock_changes_no_state(scene: Scene, jump: int) -> None:
    """States, superseded failures and refusals stay; times that the exporter took are adjusted.

    Without that, a time in the future would look recent for hours.
    """
    scene.watch({"b": ["old", "new", "timeless", "x"]}, ["timeless"])
    refusals = Refusals({"9006": 1}, written=1e9, acknowledged=True)
    scene.watchlist = replace(scene.watchlist, refused={"b": refusals})
    scene.api.answer_with(
        replace(failed("old"), destination=7),
        replace(completed("new", 1_699_999_600.0), destination=7),
        failed("timeless", None),
    )
    before = scene.scrape()
    scene.clock.advance(60)
    scene.clock.unix += jump
    scene.api.failure = error("timeout")
    after = scene.scrape()
    timeless = known(before)["timeless"]
    assert timeless.seen_finished is not None
    moved = replace(timeless, seen_finished=timeless.seen_finished + jump)
    assert known(after) == known(before) | {"timeless": moved}
    assert [each for each in known(after).values() if each.superseded] == [known(after)["old"]]
    assert after.watchlist.refused == before.watchlist.refused
    now = scene.clock.time()
    assert (after.last_success, after.last_success_age) == (now - 60, 60)
    assert after.oldest_answers == {"b": now - 60}
    scene.api.failure = None
    again = scene.scrape()
    assert known(again) == known(after)
    assert (again.last_success, again.oldest_answers) == (now, {"b": now})


def test_remaining_time_of_the_rate_limit_window_counts_down(scene: Scene) -> None:
    """The time is None until the API reports a limit, and 0 after the window."""
    assert scene.scrape().rate_limit_window is None
    scene.limit(990, reset_in=300)
    assert scene.scrape().rate_limit_window == 300
    scene.api.failure = error("timeout")
    scene.clock.advance(60)
    assert scene.scrape().rate_limit_window == 240
    scene.clock.advance(600)
    assert scene.scrape().rate_limit_window == 0


def test_duration_is_that_of_the_scrape(scene: Scene) -> None:
    """The duration includes the load of the watchlist, and is measured on the monotonic clock."""

    def load(_: float) -> Watchlist:
        scene.clock.advance(0.25)
        scene.clock.unix -= 3600
        return scene.watchlist

    assert scene.track(load, scene.api).scrape(scene.clock.monotonic() + 10).duration == 0.25


def test_change_of_the_watchlist_takes_effect_in_the_next_scrape(scene: Scene) -> None:
    """IDs can be added, moved, acknowledged and removed; those that are watched keep states."""
    scene.api.answer_with(failed("x"))
    scene.scrape()
    scene.watch({"a": ["x"], "b": ["y"]}, ["x"])
    snapshot = scene.scrape()
    assert [batch.name for batch in snapshot.batches] == ["a", "b"]
    assert known(snapshot)["x"].acknowledged
    assert states(snapshot) == {"x": "FAILED", "y": "RUNNING"}
    assert snapshot.watchlist is scene.watchlist
    scene.watch({"b": ["y"]})
    assert states(scene.scrape()) == {"y": "RUNNING"}


def test_scrape_parses_only_changed_files(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A scrape over unchanged files parses none, and its batches are the same objects."""
    caplog.set_level(logging.INFO)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yml").write_text(f"- {name}")
    # Files that changed recently are read again, so the loader's clock is far ahead.
    loader = WatchlistLoader(tmp_path, lambda: 4e9)
    tracker = scene.track(lambda _: loader.load(), scene.api)

    def parsed() -> int:
        count = caplog.messages.count("ID file loaded")
        caplog.clear()
        return count

    first = tracker.scrape(scene.clock.monotonic() + 10)
    assert parsed() == 2
    second = tracker.scrape(scene.clock.monotonic() + 10)
    assert parsed() == 0
    assert [batch is old for batch, old in zip(second.batches, first.batches, strict=True)] == [
        True,
        True,
    ]
    (tmp_path / "b.yml").write_text("- b\n- c")
    third = tracker.scrape(scene.clock.monotonic() + 10)
    assert parsed() == 1
    assert third.batches[0] is first.batches[0]
    assert states(third) == {"a": "RUNNING", "b": "RUNNING", "c": "RUNNING"}


# Failures of API requests


def test_incomplete_answer_is_used_as_far_as_it_goes(scene: Scene) -> None:
    """An ID that the answer does not mention keeps its state, and the scrape is not `up`."""
    scene.watch({"b": ["x", "y"]})
    scene.api.answer_with(pending("x"), pending("y"))
    scene.scrape()
    scene.api.answer_with(running("x"), running("y"))
    scene.api.omitted = {"y"}
    snapshot = scene.scrape()
    assert states(snapshot) == {"x": "RUNNING", "y": "PENDING"}
    assert not snapshot.up


@pytest.mark.parametrize("answer", [NOT_FOUND, BROKEN])
def test_error_item_is_an_answer(scene: Scene, answer: Outcome) -> None:
    """If the API returns an error for an ID, it is UNKNOWN; the scrape is `up`."""
    scene.scrape()
    scene.api.outcomes["x"] = answer
    snapshot = scene.scrape()
    assert states(snapshot) == {"x": "UNKNOWN"}
    assert snapshot.up


@pytest.mark.parametrize("reason", ["auth", "rate_limited", "maintenance"])
def test_failure_that_concerns_all_calls_ends_the_scrape(scene: Scene, reason: Reason) -> None:
    """After a refused token, a 429 or maintenance, a scrape makes no further call.

    The next scrape begins with the IDs that were not asked for.
    """
    scene.watch({"b": ids(950)})
    scene.api.failure = error(reason)
    snapshot = scene.scrape()
    assert (len(scene.api.calls), snapshot.up) == (1, False)
    scene.api.failure = None
    scene.clock.advance(60)
    scene.scrape()
    assert scene.api.calls[1] == list(ids(950))[100:200]


def test_refused_token_costs_one_call_a_scrape(scene: Scene) -> None:
    """While the token is refused, a scrape makes one call; after an answer, it makes all."""
    scene.watch({"b": ids(950)})
    scene.limit(remaining=999)
    scene.scrape()
    scene.api.failure = error("auth")
    scene.scrape()
    for _ in range(2):
        scene.api.calls.clear()
        scene.scrape()
        assert len(scene.api.calls) == 1
    scene.api.failure = None
    scene.api.calls.clear()
    assert scene.scrape().up
    assert len(scene.api.calls) == 10


def test_timeouts_of_concurrent_calls_do_not_hide_a_refused_token(scene: Scene) -> None:
    """If one of four concurrent calls has a refused token, and three time out, no fifth is made."""
    scene.watch({"b": ids(950)})
    scene.limit(remaining=999)
    never = threading.Event()

    def fail_after_one(ids: Sequence[str], deadline: float) -> BulkResponse:
        answer = scene.api(ids, deadline)
        if len(scene.api.calls) == 1:
            return answer
        if ids[0] == "e00100":
            raise error("auth")
        # So that the refused token is handled first.
        never.wait(0.1)
        raise error("timeout")

    scene.track(scene.load, fail_after_one).scrape(scene.clock.monotonic() + 10)
    assert len(scene.api.calls) <= 1 + MAX_CALLS


def test_scrape_with_one_incomplete_answer_is_not_up(scene: Scene) -> None:
    """One incomplete answer is enough, even if all others account for all their IDs."""
    all_ids = ids(250)
    scene.watch({"b": all_ids})
    scene.api.omitted = {all_ids[0]}
    assert not scene.scrape().up


@pytest.mark.parametrize("reason", ["timeout", "connection", "server_error", "invalid_response"])
def test_failure_of_one_call_does_not_prevent_the_others(scene: Scene, reason: Reason) -> None:
    """After a failure that concerns one call only, the other calls are made."""
    scene.watch({"b": ids(250)})
    scene.api.failure = error(reason)
    assert not scene.scrape().up
    assert len(scene.api.calls) == 3


@pytest.mark.usefixtures("no_threads")
def test_no_call_is_made_after_the_deadline(scene: Scene) -> None:
    """IDs that a scrape had no time to ask for come first in the next one."""
    all_ids = ids(250)
    scene.watch({"b": all_ids})

    def slow(ids: Sequence[str], deadline: float) -> BulkResponse:
        scene.clock.steady = deadline
        return scene.api(ids, deadline)

    tracker = scene.track(scene.load, slow)
    for asked in (range(100), range(100, 200), range(200, 250)):
        snapshot = tracker.scrape(scene.clock.monotonic() + 10)
        assert not snapshot.up
        assert snapshot.api_calls == 1
        assert {all_ids[number] for number in asked} <= set(scene.api.calls[-1])


@pytest.mark.usefixtures("no_threads")
def test_calls_leave_time_to_render_their_answers() -> None:
    """The more exports are asked for, the earlier the calls end, so that rendering ends in time."""
    scene = Scene()
    scene.watch({"b": ids(10_000)})
    deadlines = []

    def record(ids: Sequence[str], deadline: float) -> BulkResponse:
        deadlines.append(deadline - scene.clock.monotonic())
        scene.clock.steady += 0.01
        return scene.api(ids, deadline)

    scene.track(scene.load, record).scrape(scene.clock.monotonic() + 1)
    # A call takes 10 ms, and rendering its 100 exports takes 4 ms.
    assert len(deadlines) == pytest.approx(1 / 0.014, abs=MAX_CALLS)
    assert deadlines[0] == pytest.approx(1 - 0.004)


@pytest.mark.usefixtures("no_threads")
def test_call_is_made_in_the_scrapes_own_thread_if_no_other_can_be_started(scene: Scene) -> None:
    """If the system allows no more threads, a scrape still succeeds."""
    snapshot = scene.scrape()
    assert (snapshot.up, snapshot.api_calls, states(snapshot)) == (True, 1, {"x": "RUNNING"})


def test_scrape_past_its_deadline_makes_no_call(scene: Scene) -> None:
    """A scrape whose deadline has passed returns what is known, and is not `up`."""
    scene.scrape()
    scene.api.calls.clear()
    snapshot = scene.scrape(seconds=0)
    assert (snapshot.up, snapshot.api_calls, scene.api.calls) == (False, 0, [])
    assert states(snapshot) == {"x": "RUNNING"}


# The rate limit


def test_additional_calls_stop_at_the_quota_share(scene: Scene) -> None:
    """Calls that the share postpones do not count against `up`, and come first next time."""
    scene.watch({"b": ids(250)})
    scene.limit(remaining=500)
    for number in range(3):
        snapshot = scene.scrape()
        assert (snapshot.up, snapshot.api_calls) == (True, 1)
        assert ids(250)[number * 100] == scene.api.calls[-1][0]
    assert snapshot.rate_limit == scene.api.rate_limit
    assert "UNKNOWN" not in states(snapshot).values()


def test_without_calls_left_no_call_is_made_until_the_reset(scene: Scene) -> None:
    """While the account has no calls left, a scrape shows what is known, and is not `up`."""
    scene.limit(remaining=0, reset_in=100)
    assert scene.scrape().up
    scene.limit(remaining=999)
    scene.clock.advance(99)
    snapshot = scene.scrape()
    assert (snapshot.up, snapshot.api_calls, states(snapshot)) == (False, 0, {"x": "RUNNING"})
    scene.clock.advance(1)
    assert scene.scrape().up
    assert len(scene.api.calls) == 2


@pytest.mark.parametrize(("reset_in", "blocked_for"), [(100, 100), (None, 60), (-5, 60)])
def test_no_call_is_made_between_a_429_and_the_reset(
    scene: Scene, reset_in: float | None, blocked_for: float
) -> None:
    """After a 429 no call is made until the reset, or for 60 s without a valid reset."""
    reset = None if reset_in is None else scene.clock.time() + reset_in
    scene.api.failure = error("rate_limited", RateLimit(1000, None, reset))
    assert not scene.scrape().up
    scene.api.failure = None
    scene.clock.advance(blocked_for - 1)
    assert not scene.scrape().up
    assert len(scene.api.calls) == 1
    scene.clock.advance(1)
    assert scene.scrape().up


def test_rate_limit_of_a_failed_call_is_used(scene: Scene) -> None:
    """An answer with status 500 counts against the limit, and its headers say what is left."""
    headers = RateLimit(1000, 300, scene.clock.time() + 100)
    scene.api.failure = error("server_error", headers)
    snapshot = scene.scrape()
    assert snapshot.rate_limit == headers


class CountingApi(FakeApi):
    """Counts down the calls that are left, and answers concurrent calls in reverse order."""

    def __init__(self, clock: FakeClock, limit: int) -> None:
        super().__init__()
        self.remaining = limit
        self.in_flight = 0
        self.max_in_flight = 0
        self._limit = limit
        self._reset = clock.time() + 300
        self._counter = threading.Condition()
        self._answered = 0

    def __call__(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Answer with the number of calls that were left when this one arrived."""
        with self._counter:
            self.remaining -= 1
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            headers = RateLimit(self._limit, self.remaining, self._reset)
            self._counter.notify_all()
            # Wait a moment for a later call, which is then answered first.
            self._counter.wait_for(lambda: self.in_flight == MAX_CALLS, timeout=0.005)
            self.in_flight -= 1
        return replace(super().__call__(ids, deadline), rate_limit=headers)


def test_first_scrape_of_many_ids_stays_within_the_share() -> None:
    """3,000 new IDs are asked for by concurrent calls, as far and as soon as the share allows."""
    scene = Scene()
    api = CountingApi(scene.clock, limit=40)
    scene.watch({"b": ids(3000)})
    tracker = scene.track(scene.load, api)
    snapshot = tracker.scrape(scene.clock.monotonic() + 10)
    assert api.remaining == 20
    assert 1 < api.max_in_flight <= MAX_CALLS
    assert snapshot.batches[0].totals.states["UNKNOWN"] == 1000
    assert snapshot.up
    for used in (1, 2, 3):
        snapshot = tracker.scrape(scene.clock.monotonic() + 10)
        assert api.remaining == 20 - used
        assert snapshot.batches[0].totals.states["UNKNOWN"] == max(1000 - used * 100, 0)


class HeldApi(FakeApi):
    """Answers each call when the test releases `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Signal that the call has arrived, and wait."""
        answer = super().__call__(ids, deadline)
        self.arrived.release()
        assert self.go.acquire(timeout=PATIENCE)
        return answer


@pytest.fixture
def held_api() -> HeldApi:
    """Return an API whose calls wait for the test."""
    return HeldApi()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Yield an executor for scrapes that wait."""
    with ThreadPoolExecutor() as pool:
        yield pool


def test_first_call_is_made_alone_until_a_limit_is_known(
    held_api: HeldApi, executor: ThreadPoolExecutor
) -> None:
    """The first call is made alone; after its answer, four calls are made at the same time."""
    scene = Scene(held_api)
    scene.watch({"b": ids(900)})
    scene.limit(remaining=999)
    scrape = executor.submit(scene.scrape)
    assert held_api.arrived.acquire(timeout=PATIENCE)
    assert not held_api.arrived.acquire(timeout=0.02)
    held_api.go.release()
    for _ in range(2):
        for _ in range(MAX_CALLS):
            assert held_api.arrived.acquire(timeout=PATIENCE)
        assert not held_api.arrived.acquire(timeout=0.02)
        held_api.go.release(MAX_CALLS)
    assert scrape.result(PATIENCE).api_calls == 9


# Concurrent scrapes. A short one has an earlier deadline than the long one in flight.


def start_scrape(scene: Scene, executor: ThreadPoolExecutor, api: HeldApi) -> Future[Snapshot]:
    """Start a scrape, and wait until its call has arrived."""
    scrape = executor.submit(scene.scrape)
    assert api.arrived.acquire(timeout=PATIENCE)
    return scrape


class Deadline(float):
    """A deadline that records when a waiting scrape computes the time that is left."""

    def __init__(self, _: float) -> None:
        self.computed = threading.Event()

    def __sub__(self, other: float) -> float:
        """Return the time that is left."""
        self.computed.set()
        return float(self) - other


def test_concurrent_scrapes_share_the_result(
    held_api: HeldApi, executor: ThreadPoolExecutor
) -> None:
    """A scrape that arrives while another is in flight has its result, without a call."""
    scene = Scene(held_api)
    first = start_scrape(scene, executor, held_api)
    others = []
    for _ in range(2):
        deadline = Deadline(scene.clock.monotonic() + PATIENCE)
        others.append(executor.submit(scene.tracker.scrape, deadline))
        assert deadline.computed.wait(PATIENCE)
    held_api.go.release()
    assert [scrape.result(PATIENCE) for scrape in others] == [first.result(PATIENCE)] * 2
    assert len(held_api.calls) == 1


@pytest.mark.parametrize(
    ("seconds", "calls"), [(PATIENCE, 2), (1.1, 1)], ids=["much time left", "little time left"]
)
def test_scrape_with_time_left_queries_again_after_a_shared_timeout(
    held_api: HeldApi, executor: ThreadPoolExecutor, seconds: float, calls: int
) -> None:
    """A scraper with a timeout of a second does not spoil the scrape of one that waits longer."""
    scene = Scene(held_api)
    held_api.go.release()
    scene.scrape()
    assert held_api.arrived.acquire(timeout=PATIENCE)
    held_api.calls.clear()

    def hurried(ids: Sequence[str], deadline: float) -> BulkResponse:
        held_api(ids, deadline)
        if len(held_api.calls) == 1:
            raise error("timeout")
        return held_api(ids, deadline)

    tracker = scene.track(scene.load, hurried)
    first = executor.submit(tracker.scrape, scene.clock.monotonic() + 1)
    assert held_api.arrived.acquire(timeout=PATIENCE)
    deadline = Deadline(scene.clock.monotonic() + seconds)
    second = executor.submit(tracker.scrape, deadline)
    assert deadline.computed.wait(PATIENCE)
    scene.clock.advance(1)
    held_api.go.release(3)
    assert not first.result(PATIENCE).up
    assert second.result(PATIENCE).up == (calls > 1)


def test_scrape_with_time_left_queries_again_after_a_shared_deadline(
    held_api: HeldApi, executor: ThreadPoolExecutor
) -> None:
    """If a shared scrape had no time for some calls, a scrape with time left makes them."""
    scene = Scene(held_api)
    scene.watch({"b": ids(150)})
    held_api.rate_limit = NO_LIMIT

    def slow(ids: Sequence[str], deadline: float) -> BulkResponse:
        answer = held_api(ids, deadline)
        if len(held_api.calls) == 1:
            scene.clock.advance(1)
        return answer

    tracker = scene.track(scene.load, slow)
    first = executor.submit(tracker.scrape, scene.clock.monotonic() + 1)
    assert held_api.arrived.acquire(timeout=PATIENCE)
    deadline = Deadline(scene.clock.monotonic() + PATIENCE)
    second = executor.submit(tracker.scrape, deadline)
    assert deadline.computed.wait(PATIENCE)
    held_api.go.release(3)
    assert (first.result(PATIENCE).up, first.result(PATIENCE).api_calls) == (False, 1)
    assert (second.result(PATIENCE).up, second.result(PATIENCE).api_calls) == (True, 2)


@pytest.mark.usefixtures("no_threads")
def test_calls_that_the_share_postpones_do_not_count_as_missed(scene: Scene) -> None:
    """A scrape with a used-up share is `up`, even if its only call lasted until the deadline."""
    scene.watch({"b": ids(250)})
    scene.limit(remaining=500)

    def slow(ids: Sequence[str], deadline: float) -> BulkResponse:
        scene.clock.steady = deadline
        return scene.api(ids, deadline)

    snapshot = scene.track(scene.load, slow).scrape(scene.clock.monotonic() + 10)
    assert (snapshot.up, snapshot.api_calls) == (True, 1)


def test_postponed_calls_show_in_the_oldest_answer(scene: Scene) -> None:
    """If the share postpones nine of ten calls, the scrape is `up`.

    That states are old shows in the totals and in the time of the oldest answer.
    """
    scene.watch({"b": ids(1000)})
    scene.limit(remaining=500, reset_in=3600)
    begin = scene.clock.time()
    for number in range(12):
        snapshot = scene.scrape()
        assert (snapshot.up, snapshot.api_calls) == (True, 1)
        asked = min(100 * (number + 1), 1000)
        # After max-age (five minutes), an export is UNKNOWN until its next turn.
        assert snapshot.batches[0].totals.states["UNKNOWN"] == 1000 - min(asked, 600)
        turns_ago = min(number, 9)
        assert snapshot.oldest_answers == {"b": begin + 60 * (number - turns_ago)}
        scene.clock.advance(60)
        scene.limit(remaining=500, reset_in=3600)


def test_scrapes_that_query_again_share_a_scrape(
    held_api: HeldApi, executor: ThreadPoolExecutor
) -> None:
    """If several scrapes query again after a shared timeout, they share that scrape, too."""
    scene = Scene(held_api)

    def hurried(ids: Sequence[str], deadline: float) -> BulkResponse:
        answer = held_api(ids, deadline)
        if len(held_api.calls) == 1:
            raise error("timeout")
        return answer

    tracker = scene.track(scene.load, hurried)
    first = executor.submit(tracker.scrape, scene.clock.monotonic() + 1)
    assert held_api.arrived.acquire(timeout=PATIENCE)
    deadlines = [Deadline(scene.clock.monotonic() + PATIENCE) for _ in range(3)]
    others = [executor.submit(tracker.scrape, deadline) for deadline in deadlines]
    for deadline in deadlines:
        assert deadline.computed.wait(PATIENCE)
        deadline.computed.clear()
    scene.clock.advance(1)
    held_api.go.release()
    for deadline in deadlines:
        assert deadline.computed.wait(PATIENCE)
    held_api.go.release()
    assert not first.result(PATIENCE).up
    assert [scrape.result(PATIENCE).up for scrape in others] == [True] * 3
    assert len(held_api.calls) == 2


def test_short_scrape_returns_what_is_known(
    held_api: HeldApi, executor: ThreadPoolExecutor
) -> None:
    """A scrape that cannot wait for the one in flight makes no call, and is not `up`."""
    scene = Scene(held_api)
    scene.watch({"b": ids(250)})
    scene.limit(remaining=1)
    held_api.go.release()
    scene.scrape()
    assert held_api.arrived.acquire(timeout=PATIENCE)
    first = start_scrape(scene, executor, held_api)
    scene.clock.advance(1)
    snapshot = scene.scrape(seconds=0)
    assert (snapshot.up, snapshot.api_calls, snapshot.duration) == (False, 0, 0)
    assert snapshot.batches[0].totals.states["RUNNING"] == 100
    held_api.go.release()
    assert first.result(PATIENCE).batches[0].totals.states["RUNNING"] == 200
    assert first.result(PATIENCE).last_success == scene.clock.time()


def test_short_scrape_does_not_expire_answers_of_the_one_in_flight(
    held_api: HeldApi, executor: ThreadPoolExecutor
) -> None:
    """Even with a max-age of 0s, an answer is shown until the end of the scrape that called."""
    scene = Scene(held_api, max_age=0)
    scene.watch({"b": ids(200)})
    scene.limit(remaining=999)
    first = start_scrape(scene, executor, held_api)
    held_api.go.release()
    assert held_api.arrived.acquire(timeout=PATIENCE)
    scene.clock.advance(1)
    assert scene.scrape(seconds=0).batches[0].totals.states["RUNNING"] == 100
    held_api.go.release()
    assert first.result(PATIENCE).batches[0].totals.states["RUNNING"] == 200


def test_short_scrape_expires_old_states(held_api: HeldApi, executor: ThreadPoolExecutor) -> None:
    """A state that is older than max-age is UNKNOWN, also in a scrape with a short timeout."""
    scene = Scene(held_api)
    held_api.go.release()
    scene.scrape()
    assert held_api.arrived.acquire(timeout=PATIENCE)
    scene.clock.advance(301)
    first = start_scrape(scene, executor, held_api)
    assert states(scene.scrape(seconds=0)) == {"x": "UNKNOWN"}
    held_api.go.release()
    assert states(first.result(PATIENCE)) == {"x": "RUNNING"}


class StuckApi(FakeApi):
    """Answers the first call when the test sets `free`, and all others after calling `other`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_stuck = threading.Event()
        self.free = threading.Event()
        self.other: Callable[[], None] = lambda: None

    def __call__(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Answer the call after the wait."""
        answer = super().__call__(ids, deadline)
        if len(self.calls) > 1:
            self.other()
        else:
            self.is_stuck.set()
            assert self.free.wait(PATIENCE)
        return answer


@pytest.fixture
def stuck_api(executor: ThreadPoolExecutor) -> Iterator[StuckApi]:
    """Yield an API whose first call hangs until the end of the test."""
    del executor  # its fixture ends after this one
    api = StuckApi()
    yield api
    api.free.set()


# A short timeout in seconds: enough for another thread to run, and little to wait for.
SHORT = 0.2


def stuck_scrape(
    stuck_api: StuckApi,
    executor: ThreadPoolExecutor,
    watched: Sequence[str] = "x",
    *,
    stored: Sequence[WatchedExport] = (),
) -> tuple[Scene, Future[Snapshot]]:
    """Return a scene in which the call of a scrape with a long timeout hangs, and that scrape."""
    scene = Scene(stuck_api)
    scene.stored = [*stored]
    scene.watch({"b": list(watched)})
    long_scrape = executor.submit(scene.scrape, 30)
    assert stuck_api.is_stuck.wait(PATIENCE)
    return scene, long_scrape


def test_short_scrape_makes_its_own_call_while_another_hangs(
    stuck_api: StuckApi, executor: ThreadPoolExecutor
) -> None:
    """While the call of a long scrape hangs, a short one finds out whether the API answers."""
    scene, long_scrape = stuck_scrape(stuck_api, executor)
    scene.clock.advance(1)
    stuck_api.answer_with(completed("x"))
    snapshot = scene.scrape(SHORT)
    assert (snapshot.up, snapshot.api_calls, states(snapshot)) == (True, 1, {"x": "COMPLETED"})
    assert snapshot.last_success == scene.clock.time()
    # Each short scrape makes its own call.
    assert scene.scrape(SHORT).api_calls == 1
    scene.clock.advance(1)
    assert not long_scrape.done()
    stuck_api.free.set()
    # The hanging call began first: its answer is older.
    assert states(long_scrape.result(PATIENCE)) == {"x": "COMPLETED"}


def test_short_scrape_is_not_up_if_its_own_call_fails(
    stuck_api: StuckApi, executor: ThreadPoolExecutor
) -> None:
    """A short scrape whose own call fails is not `up`, and shows what is known."""
    scene, _ = stuck_scrape(stuck_api, executor)
    stuck_api.failure = error("timeout")
    snapshot = scene.scrape(SHORT)
    assert (snapshot.up, snapshot.api_calls, states(snapshot)) == (False, 1, {"x": "UNKNOWN"})


@pytest.mark.parametrize(
    "stored",
    [
        WatchedExport("x", "COMPLETED", completed("x")),
        WatchedExport("x", "UNKNOWN", failure=NOT_FOUND),
    ],
)
def test_short_scrape_makes_its_own_call_if_all_ids_are_asked_for(
    stuck_api: StuckApi, executor: ThreadPoolExecutor, stored: WatchedExport
) -> None:
    """Without a call it would say that an API that hangs is `up`."""
    scene, _ = stuck_scrape(stuck_api, executor, stored=[stored])
    stuck_api.failure = error("timeout")
    snapshot = scene.scrape(SHORT)
    assert (snapshot.up, snapshot.api_calls, stuck_api.calls) == (False, 1, [["x"], ["x"]])


def test_short_scrape_makes_one_call_at_most(
    stuck_api: StuckApi, executor: ThreadPoolExecutor
) -> None:
    """A short scrape asks for the first hundred IDs, or makes no call if nothing is watched."""
    scene, _ = stuck_scrape(stuck_api, executor, ids(150))
    assert scene.scrape(SHORT).up
    assert stuck_api.calls[1] == list(ids(100))

    def load(_: float) -> Watchlist:
        loading.set()
        assert stuck_api.free.wait(PATIENCE)
        return scene.watchlist

    loading = threading.Event()
    tracker = scene.track(load, stuck_api)
    executor.submit(tracker.scrape, scene.clock.monotonic() + 30)
    assert loading.wait(PATIENCE)
    snapshot = tracker.scrape(scene.clock.monotonic() + SHORT)
    assert (snapshot.up, snapshot.api_calls, snapshot.batches) == (True, 0, ())


def test_short_scrapes_share_a_call(stuck_api: StuckApi, executor: ThreadPoolExecutor) -> None:
    """Concurrent short scrapes share one call beside the hanging one."""
    scene, _ = stuck_scrape(stuck_api, executor)
    began, go = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert go.wait(PATIENCE)

    stuck_api.other = wait
    first = executor.submit(scene.scrape, SHORT)
    assert began.wait(PATIENCE)
    # This scrape cannot wait for that call.
    assert not scene.scrape(0).up
    deadline = Deadline(scene.clock.monotonic() + 1)
    second = executor.submit(scene.tracker.scrape, deadline)
    for _ in range(2):
        # It waits for the long scrape first, then for the short one.
        assert deadline.computed.wait(PATIENCE)
        deadline.computed.clear()
    go.set()
    assert first.result(PATIENCE).api_calls == 1
    assert (second.result(PATIENCE).up, second.result(PATIENCE).api_calls) == (True, 0)
    assert len(stuck_api.calls) == 2


def test_short_scrape_makes_its_call_after_an_exception_in_another(
    stuck_api: StuckApi, executor: ThreadPoolExecutor
) -> None:
    """After an unexpected exception in a short scrape, the next one makes its own call."""
    scene, _ = stuck_scrape(stuck_api, executor)
    stuck_api.failure = RuntimeError("a defect")
    with pytest.raises(RuntimeError, match="a defect"):
        scene.scrape(SHORT)
    stuck_api.failure = None
    assert scene.scrape(SHORT).up


def test_preview_makes_no_call(scene: Scene) -> None:
    """`preview` loads the watchlist, so that known states can be rendered before a scrape."""
    snapshot = scene.tracker.preview()
    assert (snapshot.up, snapshot.api_calls, states(snapshot)) == (False, 0, {"x": "UNKNOWN"})
    assert (scene.api.calls, snapshot.watchlist) == ([], scene.watchlist)


def test_later_scrape_does_not_share_the_result(scene: Scene) -> None:
    """Only scrapes that wait for a result share it; a later one makes its own call."""
    assert scene.scrape() is not scene.scrape()
    assert len(scene.api.calls) == 2


def test_scrapes_continue_after_an_exception_of_the_watchlist(scene: Scene) -> None:
    """An exception while the watchlist is loaded fails one scrape, and not the next one."""
    broken = [True]

    def load(_: float) -> Watchlist:
        if broken.pop():
            raise RuntimeError("a defect")
        broken.append(False)
        return scene.watchlist

    tracker = scene.track(load, scene.api)
    with pytest.raises(RuntimeError, match="a defect"):
        tracker.scrape(scene.clock.monotonic() + 10)
    broken.append(False)
    assert states(tracker.scrape(scene.clock.monotonic() + 10)) == {"x": "RUNNING"}


def test_scrapes_continue_after_an_exception_in_a_call(scene: Scene) -> None:
    """An unexpected exception in a call fails one scrape; the next one asks for all IDs again."""
    scene.watch({"b": ["x", "y"]})
    scene.api.answer_with(completed("y"))
    scene.scrape()
    scene.api.failure = RuntimeError("a defect")
    with pytest.raises(RuntimeError, match="a defect"):
        scene.scrape()
    scene.api.failure = None
    scene.api.calls.clear()
    assert scene.scrape().up
    assert scene.api.calls == [["x", "y"]]


def test_scrapes_that_share_a_scrape_raise_its_exception(
    held_api: HeldApi, executor: ThreadPoolExecutor
) -> None:
    """An exception is raised in all scrapes that wait; one that cannot wait shows what is known."""
    began, go = threading.Event(), threading.Event()
    scene = Scene(held_api)

    def load(_: float) -> Watchlist:
        began.set()
        assert go.wait(PATIENCE)
        raise RuntimeError("a defect")

    tracker = scene.track(load, held_api)
    deadline = scene.clock.monotonic() + PATIENCE
    first = executor.submit(tracker.scrape, deadline)
    assert began.wait(PATIENCE)
    second_deadline = Deadline(deadline)
    second = executor.submit(tracker.scrape, second_deadline)
    assert second_deadline.computed.wait(PATIENCE)
    assert tracker.scrape(scene.clock.monotonic()).batches == ()
    go.set()
    for scrape in (first, second):
        with pytest.raises(RuntimeError, match="a defect"):
            scrape.result(PATIENCE)


# The log


def test_failure_is_logged_when_it_begins_and_when_it_ends(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure is logged when it begins, changes and ends: a day's outage is two lines."""
    caplog.set_level(logging.INFO)
    scene.scrape()
    scene.api.failure = error("timeout")
    scene.scrape()
    scene.scrape()
    scene.api.failure = error("auth")
    scene.scrape()
    scene.api.failure = None
    scene.scrape()
    scene.scrape()
    assert [(record.levelname, record.__dict__.get("err")) for record in caplog.records] == [
        ("WARNING", "timeout: as the test wants it"),
        ("WARNING", "auth: as the test wants it"),
        ("INFO", None),
    ]


def test_scrape_without_a_call_logs_no_success(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """After a 429, scrapes without a call do not log that requests succeed again."""
    caplog.set_level(logging.INFO)
    scene.api.failure = error("rate_limited", NO_LIMIT)
    for _ in range(3):
        scene.scrape()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_used_up_limit_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A used-up limit is logged even if no call was refused."""
    caplog.set_level(logging.INFO)
    scene.limit(remaining=0)
    for _ in range(3):
        scene.scrape()
    [record] = caplog.records
    assert record.__dict__["err"] == "rate_limited: the account has no calls left in this window"
    scene.clock.advance(301)
    scene.scrape()
    assert caplog.records[-1].getMessage() == "API requests succeed again"


def test_used_up_limit_replaces_another_problem(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """If the last call failed for another reason, the snapshot and the log name the limit."""
    scene.api.failure = error("timeout", RateLimit(1000, 0, scene.clock.time() + 300))
    assert scene.scrape().problem == "timeout: as the test wants it"
    expected = "rate_limited: the account has no calls left in this window"
    assert [scene.scrape().problem for _ in range(2)] == [expected, expected]
    assert [vars(record)["err"] for record in caplog.records][1:] == [expected]


def test_refusal_stays_the_problem_while_no_call_is_made(scene: Scene) -> None:
    """While the limit is used up, what the API said when it refused a call is shown."""
    scene.api.failure = error("rate_limited")
    scene.scrape()
    assert scene.scrape().problem == "rate_limited: as the test wants it"


def test_short_timeouts_do_not_fill_the_log(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Scrapes with very little time time out although the API is well: that is no problem of it."""
    caplog.set_level(logging.INFO)
    for _ in range(5):
        scene.clock.advance(10)
        scene.api.failure = error("timeout")
        assert not scene.scrape(0.9).up
        scene.api.failure = None
        assert scene.scrape().problem is None
    assert caplog.messages == []


def test_short_timeouts_that_last_are_logged(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """A scraper that never has time enough for the API is told why, once."""
    scene.api.failure = error("timeout")
    problems = []
    for _ in range(5):
        problems.append(scene.scrape(0.9).problem)
        scene.clock.advance(15)
    assert problems == [None, None, *["timeout: as the test wants it"] * 3]
    assert caplog.messages == ["API request failed"]


def test_short_timeout_replaces_no_other_problem(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """While calls fail for another reason, that stays the problem."""
    for _ in range(5):
        scene.api.failure = error("server_error")
        scene.scrape()
        scene.api.failure = error("timeout")
        assert scene.scrape(0.9).problem == "server_error: as the test wants it"
        scene.clock.advance(60)
    assert caplog.messages == ["API request failed"]


def test_a_log_that_hangs_holds_up_one_scrape(scene: Scene) -> None:
    """While a failure cannot be logged, the next scrapes with that failure are answered."""
    scene.api.failure = error("server_error")
    with ThreadPoolExecutor() as pool, hanging_log("exporter.tracker.calls") as hangs:
        first = pool.submit(scene.scrape)
        assert hangs.wait(PATIENCE)
        for _ in range(2):
            snapshot = pool.submit(scene.scrape, 0.1).result(PATIENCE)
            assert (snapshot.up, snapshot.api_calls) == (False, 1)
        assert not first.done()


def test_incomplete_answer_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """An incomplete answer is logged as the reason of `cavatica_up` 0."""
    scene.api.omitted = {"x"}
    scene.scrape()
    [record] = caplog.records
    assert "account for every requested ID" in record.__dict__["err"]


# Everything, in any order


@dataclass
class Naive:
    """A naive model of one ID: what should be known of it."""

    state: str = "UNKNOWN"
    export: Export | None = None
    failure: LookupFailure | None = None
    answered: float | None = None

    def record(self, outcome: Outcome, now: float) -> None:
        """Record an outcome."""
        finished = self.state in FINISHED
        if isinstance(outcome, Export):
            if not (finished and outcome.state == "UNKNOWN"):
                self.state, self.export, self.failure = outcome.state, outcome, None
                self.answered = now
        elif not finished:
            self.state, self.failure = "UNKNOWN", outcome

    def expire(self, now: float) -> None:
        """Turn a state that is too old into UNKNOWN."""
        if self.state not in FINISHED and (self.answered is None or now - self.answered > 300):
            self.state = "UNKNOWN"


NAMES = st.sampled_from([f"e{number}" for number in range(8)])
OUTCOMES = st.sampled_from([pending, running, completed, failed]) | st.sampled_from(
    [NOT_FOUND, BROKEN, None, "ABORTED", "UNKNOWN"]
)


class ScrapeMachine(RuleBasedStateMachine):
    """Runs scrapes, answers, failures, changes of the watchlist and time in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()
        self.naive: dict[str, Naive] = {}
        self.gone: dict[str, tuple[Naive, float]] = {}
        self.batches: dict[str, tuple[str, ...]] = {}
        self.acknowledged: list[str] = []

    @initialize()
    def begin(self) -> None:
        """Watch one ID."""
        self.edit([("e0", "a")], [])

    @rule(
        division=st.lists(st.tuples(NAMES, st.sampled_from("abc")), unique_by=lambda pair: pair[0]),
        acknowledged=st.lists(NAMES),
    )
    def edit(self, division: list[tuple[str, str]], acknowledged: list[str]) -> None:
        """Replace the watchlist: IDs in batches, and acknowledged ones."""
        self.batches = {"b": ()} | {
            name: tuple(i for i, batch in division if batch == name) for _, name in division
        }
        self.acknowledged = acknowledged
        self.scene.watch(self.batches, acknowledged)

    @rule(name=NAMES, outcome=OUTCOMES, silent=st.booleans())
    def say(
        self,
        name: str,
        outcome: Callable[[str], Export] | LookupFailure | str | None,
        *,
        silent: bool,
    ) -> None:
        """Set the API's answer for an ID from now on."""
        if isinstance(outcome, str):
            self.scene.api.outcomes[name] = Export(name, outcome)
        else:
            self.scene.api.outcomes[name] = outcome(name) if callable(outcome) else outcome
        self.scene.api.omitted = {name} if silent else set()

    @rule(reason=st.sampled_from(["timeout", "auth", None]))
    def fail(self, reason: Reason | None) -> None:
        """Make the API's calls fail, or succeed again."""
        self.scene.api.failure = None if reason is None else error(reason)

    @rule(seconds=st.sampled_from([1, 60, 299, 301, 3601]), jump=st.sampled_from([0, -7200, 7200]))
    def wait(self, seconds: float, jump: float) -> None:
        """Pass time, and set the wall clock."""
        self.scene.clock.advance(seconds)
        self.scene.clock.unix += jump

    @rule()
    def scrape(self) -> None:
        """Compare a scrape with the naive model."""
        api, now = self.scene.api, self.scene.clock.monotonic()
        snapshot = self.scene.scrape()
        # An ID that left and returned between two scrapes counts as watched all the time, and
        # one that returned within an hour is known.
        watched = {export_id for ids in self.batches.values() for export_id in ids}
        for name in self.naive.keys() - watched:
            self.gone[name] = (self.naive.pop(name), now)
        for name in watched - self.naive.keys():
            kept, left = self.gone.pop(name, (Naive(), now))
            self.naive[name] = kept if now - left <= REMEMBER_SECONDS else Naive()
        if api.failure is None:
            for name, naive in self.naive.items():
                if name not in api.omitted:
                    naive.record(api.outcomes.get(name, running(name)), now)
        for naive in self.naive.values():
            naive.expire(now)
        assert known(snapshot) == {
            name: WatchedExport(
                name, naive.state, naive.export, naive.failure, name in self.acknowledged
            )
            for name, naive in self.naive.items()
        }
        self.check_totals(snapshot)

    def check_totals(self, snapshot: Snapshot) -> None:
        """Compare the totals with those of the naive model."""
        assert {batch.name: batch.totals.watched for batch in snapshot.batches} == {
            name: len(batch) for name, batch in sorted(self.batches.items())
        }
        for batch in snapshot.batches:
            states = Counter(self.naive[name].state for name in self.batches[batch.name])
            assert {state: n for state, n in batch.totals.states.items() if n} == states
            assert sum(batch.totals.states.values()) == batch.totals.watched


TestScrapesInAnyOrder = ScrapeMachine.TestCase
TestScrapesInAnyOrder.__doc__ = (
    "After any sequence of events, a scrape shows what a naive model says."
)
TestScrapesInAnyOrder.settings = settings(examples(25), stateful_step_count=15)


def test_snapshot_has_its_time_and_the_last_problem_of_the_api(scene: Scene) -> None:
    """The problem of a snapshot is that of the last failure, until a call succeeds."""
    assert scene.scrape().problem is None
    scene.clock.advance(60)
    scene.api.failure = error("auth")
    snapshot = scene.scrape()
    assert snapshot.problem == "auth: as the test wants it"
    assert snapshot.time == scene.clock.time()
    scene.api.failure = None
    assert scene.scrape().problem is None
