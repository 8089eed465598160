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
from tests.support.hypothesis_examples import examples

PATIENCE = 10.0
"""How long tests wait for another thread, in seconds."""


class Scene:
    """A tracker between a watchlist and an API that do what the test says."""

    def __init__(self, api: FakeApi | None = None, *, max_age: float = 300) -> None:
        self.clock = FakeClock()
        self.api = api or FakeApi()
        self.watchlist = watch({"b": ["x"]})
        self.tracker = self.track(self.load, self.api, max_age=max_age)

    def track(
        self, load: Callable[[float], Watchlist], bulk_get: BulkGet, *, max_age: float = 300
    ) -> Tracker:
        """Make a tracker with the scene's clock and a quota share of one half."""
        return Tracker(
            load,
            bulk_get,
            ExportStates(max_age, 0),
            quota_share=0.5,
            render_seconds=40e-6,
            clock=self.clock,
        )

    def load(self, _: float) -> Watchlist:
        """Return the watchlist."""
        return self.watchlist

    def watch(self, batches: Mapping[str, Sequence[str]], acknowledged: Sequence[str] = ()) -> None:
        """Edit the watchlist."""
        self.watchlist = watch(batches, acknowledged)

    def scrape(self, seconds: float = 10) -> Snapshot:
        """Scrape with a deadline so far away."""
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
    """Return what a snapshot says, by ID."""
    return {
        watched.id: watched
        for batch in snapshot.batches
        for block in batch.blocks
        for watched in block.exports
    }


def states(snapshot: Snapshot) -> dict[str, str]:
    """Return the states of a snapshot, by ID."""
    return {export_id: watched.state for export_id, watched in known(snapshot).items()}


# The calls of a scrape.


def test_up_to_100_ids_are_one_call_on_every_scrape(scene: Scene) -> None:
    """Every ID is asked every time, finished or not."""
    scene.watch({"a": ids(60, "a"), "b": ids(40, "b")})
    scene.api.say(*map(completed, ids(60, "a")))
    for _ in range(3):
        assert scene.scrape().api_calls == 1
    assert [sorted(call) for call in scene.api.calls] == [[*ids(60, "a"), *ids(40, "b")]] * 3


def test_finished_exports_cost_no_further_call(scene: Scene) -> None:
    """250 finished and 30 unfinished exports are one call a scrape."""
    scene.watch({"b": ids(280)})
    scene.api.say(*map(completed, ids(280)[30:]))
    assert scene.scrape().api_calls == 3
    for _ in range(3):
        scene.api.calls.clear()
        assert scene.scrape().api_calls == 1
        assert len(scene.api.calls[0]) == 100
        assert set(ids(30)) <= set(scene.api.calls[0])


def test_250_unfinished_exports_are_three_calls(scene: Scene) -> None:
    """Every unfinished export is asked on every scrape, by as few calls as can be."""
    scene.watch({"b": ids(250)})
    for _ in range(2):
        scene.api.calls.clear()
        assert scene.scrape().up
        assert sorted(map(len, scene.api.calls)) == [50, 100, 100]
        assert sorted(i for call in scene.api.calls for i in call) == list(ids(250))


def test_with_nothing_watched_the_api_is_not_asked(scene: Scene) -> None:
    """An empty watchlist is a good scrape without a call."""
    scene.watch({"b": []})
    snapshot = scene.scrape()
    assert (snapshot.up, snapshot.api_calls, scene.api.calls) == (True, 0, [])
    assert snapshot.last_success == scene.clock.time()


def test_history_costs_no_calls(scene: Scene) -> None:
    """API use follows the unfinished exports, not history; the re-checks go round all of them."""
    scene.watch({"b": ids(1000)})
    scene.api.say(*map(completed, ids(1000)))
    scene.scrape()
    scene.api.calls.clear()
    for _ in range(10):
        assert scene.scrape().api_calls == 1
    assert sorted(i for call in scene.api.calls for i in call) == list(ids(1000))


# States over several scrapes.


def test_a_life_from_pending_to_failed_is_right_in_every_scrape(scene: Scene) -> None:
    """Totals and export agree in each of the three scrapes."""
    for export in (pending("x"), running("x"), failed("x")):
        scene.api.say(export)
        snapshot = scene.scrape()
        assert known(snapshot) == {"x": WatchedExport("x", export.state, export)}
        [batch] = snapshot.batches
        assert {state: n for state, n in batch.totals.states.items() if n} == {export.state: 1}
        assert batch.totals.errors == ({"9103": 1} if export.state == "FAILED" else {})
        scene.clock.pass_by(60)


@pytest.mark.parametrize("max_age", [0, 300])
def test_in_an_outage_finished_exports_stay_and_others_become_unknown(max_age: float) -> None:
    """A failed call changes nothing but `up`, until max-age has passed."""
    scene = Scene(max_age=max_age)
    scene.watch({"b": ["c", "f", "r"]})
    scene.api.say(completed("c"), failed("f"))
    assert scene.scrape().up
    scene.api.failure = error("connection", requests=2)
    for _ in range(int(max_age) // 60):
        scene.clock.pass_by(60)
        snapshot = scene.scrape()
        assert states(snapshot) == {"c": "COMPLETED", "f": "FAILED", "r": "RUNNING"}
        assert (snapshot.up, snapshot.api_calls) == (False, 2)
    scene.clock.pass_by(1)
    snapshot = scene.scrape()
    assert states(snapshot) == {"c": "COMPLETED", "f": "FAILED", "r": "UNKNOWN"}
    assert known(snapshot)["r"].export == running("r")
    scene.api.failure = None
    snapshot = scene.scrape()
    assert states(snapshot) == {"c": "COMPLETED", "f": "FAILED", "r": "RUNNING"}
    assert snapshot.up


def test_the_last_success_is_the_end_of_the_last_good_scrape(scene: Scene) -> None:
    """It is missing before the first one, and stays through failures."""
    scene.api.failure = error("timeout")
    assert scene.scrape().last_success is None
    scene.api.failure = None
    scene.clock.pass_by(60)
    good = scene.clock.time()
    assert scene.scrape().last_success == good
    scene.api.failure = error("timeout")
    scene.clock.pass_by(60)
    assert scene.scrape().last_success == good


def test_the_age_of_the_last_success_does_not_depend_on_the_system_clock(scene: Scene) -> None:
    """It is missing before the first success, and counts on through a jump of the clock."""
    scene.api.failure = error("timeout")
    assert scene.scrape().last_success_age is None
    scene.api.failure = None
    assert scene.scrape().last_success_age == 0
    scene.api.failure = error("timeout")
    scene.clock.pass_by(60)
    scene.clock.unix -= 7200
    assert scene.scrape().last_success_age == 60


@pytest.mark.parametrize("jump", [-7200, 7200])
def test_a_wall_clock_that_is_set_changes_nothing_that_is_known(scene: Scene, jump: int) -> None:
    """States, failures and what made them good stay; times of the exporter's own follow the clock.

    A time in the future would look young for hours.
    """
    scene.watch({"b": ["old", "new", "timeless", "x"]}, ["timeless"])
    refusals = Refusals({"9006": 1}, written=1e9, acknowledged=True)
    scene.watchlist = replace(scene.watchlist, refused={"b": refusals})
    scene.api.say(
        replace(failed("old"), destination=7),
        replace(completed("new", 1_699_999_600.0), destination=7),
        failed("timeless", None),
    )
    before = scene.scrape()
    scene.clock.pass_by(60)
    scene.clock.unix += jump
    scene.api.failure = error("timeout")
    after = scene.scrape()
    assert known(after) == known(before)
    assert [each for each in known(after).values() if each.superseded] == [known(after)["old"]]
    assert after.watchlist.refused == before.watchlist.refused
    now = scene.clock.time()
    assert (after.last_success, after.last_success_age) == (now - 60, 60)
    assert after.oldest_answers == {"b": now - 60}
    scene.api.failure = None
    again = scene.scrape()
    assert known(again) == known(before)
    assert (again.last_success, again.oldest_answers) == (now, {"b": now})


def test_the_rest_of_the_rate_limits_window_counts_down(scene: Scene) -> None:
    """It is missing until the API names a limit, and 0 after the window."""
    assert scene.scrape().rate_limit_window is None
    scene.limit(990, reset_in=300)
    assert scene.scrape().rate_limit_window == 300
    scene.api.failure = error("timeout")
    scene.clock.pass_by(60)
    assert scene.scrape().rate_limit_window == 240
    scene.clock.pass_by(600)
    assert scene.scrape().rate_limit_window == 0


def test_the_duration_is_that_of_the_scrape(scene: Scene) -> None:
    """The duration is measured on the monotonic clock."""

    def load(_: float) -> Watchlist:
        scene.clock.pass_by(0.25)
        scene.clock.unix -= 3600
        return scene.watchlist

    assert scene.track(load, scene.api).scrape(scene.clock.monotonic() + 10).duration == 0.25


def test_an_edit_of_the_watchlist_has_its_effect_in_the_next_scrape(scene: Scene) -> None:
    """IDs come, move, are acknowledged and go, and what is known of them stays while they do."""
    scene.api.say(failed("x"))
    scene.scrape()
    scene.watch({"a": ["x"], "b": ["y"]}, ["x"])
    snapshot = scene.scrape()
    assert [batch.name for batch in snapshot.batches] == ["a", "b"]
    assert known(snapshot)["x"].acknowledged
    assert states(snapshot) == {"x": "FAILED", "y": "RUNNING"}
    assert snapshot.watchlist is scene.watchlist
    scene.watch({"b": ["y"]})
    assert states(scene.scrape()) == {"y": "RUNNING"}


def test_files_are_parsed_when_they_change_and_not_when_they_are_scraped(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A scrape over unchanged files parses none, and makes no block anew."""
    caplog.set_level(logging.INFO)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yml").write_text(f"- {name}")
    # Files that changed a moment ago are read again, so the loader lives a day later.
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


# When API requests fail.


def test_an_answer_that_is_not_complete_is_used_as_far_as_it_goes(scene: Scene) -> None:
    """An ID that the answer does not mention keeps its state, and the scrape is not up."""
    scene.watch({"b": ["x", "y"]})
    scene.api.say(pending("x"), pending("y"))
    scene.scrape()
    scene.api.say(running("x"), running("y"))
    scene.api.silent = {"y"}
    snapshot = scene.scrape()
    assert states(snapshot) == {"x": "RUNNING", "y": "PENDING"}
    assert not snapshot.up


@pytest.mark.parametrize("answer", [NOT_FOUND, BROKEN])
def test_an_error_item_is_a_proper_answer(scene: Scene, answer: Outcome) -> None:
    """The API did answer: the ID is UNKNOWN, and the scrape was good."""
    scene.scrape()
    scene.api.outcomes["x"] = answer
    snapshot = scene.scrape()
    assert states(snapshot) == {"x": "UNKNOWN"}
    assert snapshot.up


@pytest.mark.parametrize("reason", ["auth", "rate_limited", "maintenance"])
def test_after_a_failure_that_concerns_all_calls_no_other_is_made(
    scene: Scene, reason: Reason
) -> None:
    """After a wrong token, a rate limit or maintenance, no further call is made."""
    scene.watch({"b": ids(950)})
    scene.api.failure = error(reason)
    snapshot = scene.scrape()
    assert (len(scene.api.calls), snapshot.up) == (1, False)
    scene.api.failure = None
    scene.clock.pass_by(60)
    scene.scrape()
    assert scene.api.calls[1] == list(ids(950))[100:200]


def test_after_such_a_failure_a_scrape_asks_once_until_one_is_answered(scene: Scene) -> None:
    """An expired token costs one call a scrape."""
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


def test_such_a_failure_is_not_undone_by_another_one_beside_it(scene: Scene) -> None:
    """Four calls that began together end with a wrong token and three timeouts: no fifth."""
    scene.watch({"b": ids(950)})
    scene.limit(remaining=999)
    never = threading.Event()

    def fail_after_one(ids: Sequence[str], deadline: float) -> BulkResponse:
        answer = scene.api(ids, deadline)
        if len(scene.api.calls) == 1:
            return answer
        if ids[0] == "e00100":
            raise error("auth")
        # The wrong token is noticed first.
        never.wait(0.1)
        raise error("timeout")

    scene.track(scene.load, fail_after_one).scrape(scene.clock.monotonic() + 10)
    assert len(scene.api.calls) <= 1 + MAX_CALLS


def test_one_incomplete_answer_of_several_is_enough(scene: Scene) -> None:
    """That the others account for all their IDs does not make up for it."""
    everyone = ids(250)
    scene.watch({"b": everyone})
    scene.api.silent = {everyone[0]}
    assert not scene.scrape().up


@pytest.mark.parametrize("reason", ["timeout", "connection", "server_error", "invalid_response"])
def test_after_another_failure_the_other_calls_are_made(scene: Scene, reason: Reason) -> None:
    """One call's bad luck does not take the others' answers."""
    scene.watch({"b": ids(250)})
    scene.api.failure = error(reason)
    assert not scene.scrape().up
    assert len(scene.api.calls) == 3


@pytest.mark.usefixtures("no_threads")
def test_at_the_deadline_no_further_call_is_made(scene: Scene) -> None:
    """What a scrape could not ask in time is asked first by the next one."""
    everyone = ids(250)
    scene.watch({"b": everyone})

    def slow(ids: Sequence[str], deadline: float) -> BulkResponse:
        scene.clock.steady = deadline
        return scene.api(ids, deadline)

    tracker = scene.track(scene.load, slow)
    for asked in (range(100), range(100, 200), range(200, 250)):
        snapshot = tracker.scrape(scene.clock.monotonic() + 10)
        assert not snapshot.up
        assert snapshot.api_calls == 1
        assert {everyone[number] for number in asked} <= set(scene.api.calls[-1])


@pytest.mark.usefixtures("no_threads")
def test_the_calls_end_before_the_deadline_by_the_time_that_rendering_takes() -> None:
    """The scraper is answered in time, too, when much was learned."""
    scene = Scene()
    scene.watch({"b": ids(10_000)})
    deadlines = []

    def note(ids: Sequence[str], deadline: float) -> BulkResponse:
        deadlines.append(deadline - scene.clock.monotonic())
        scene.clock.steady += 0.01
        return scene.api(ids, deadline)

    scene.track(scene.load, note).scrape(scene.clock.monotonic() + 1)
    # After n calls of 10 ms, those exports take 4 ms to render.
    assert len(deadlines) == pytest.approx(1 / 0.014, abs=MAX_CALLS)
    assert deadlines[0] == pytest.approx(1 - 0.004)


@pytest.mark.usefixtures("no_threads")
def test_without_a_thread_for_a_call_it_is_made_in_the_scrapes_own(scene: Scene) -> None:
    """Without a new thread, a call is made in the scrape's own thread."""
    snapshot = scene.scrape()
    assert (snapshot.up, snapshot.api_calls, states(snapshot)) == (True, 1, {"x": "RUNNING"})


def test_a_scrape_without_any_time_asks_nobody(scene: Scene) -> None:
    """With a deadline that has passed it answers with what is known."""
    scene.scrape()
    scene.api.calls.clear()
    snapshot = scene.scrape(seconds=0)
    assert (snapshot.up, snapshot.api_calls, scene.api.calls) == (False, 0, [])
    assert states(snapshot) == {"x": "RUNNING"}


# The quota.


def test_calls_beyond_the_first_stop_at_the_quota_share(scene: Scene) -> None:
    """What the share puts off does not count against `up`, and comes first next time."""
    scene.watch({"b": ids(250)})
    scene.limit(remaining=500)
    for number in range(3):
        snapshot = scene.scrape()
        assert (snapshot.up, snapshot.api_calls) == (True, 1)
        assert ids(250)[number * 100] == scene.api.calls[-1][0]
    assert snapshot.rate_limit == scene.api.rate_limit
    assert "UNKNOWN" not in states(snapshot).values()


def test_at_0_remaining_there_is_no_call_until_the_reset(scene: Scene) -> None:
    """A scrape on hold shows what is known and is not up."""
    scene.limit(remaining=0, reset_in=100)
    assert scene.scrape().up
    scene.limit(remaining=999)
    scene.clock.pass_by(99)
    snapshot = scene.scrape()
    assert (snapshot.up, snapshot.api_calls, states(snapshot)) == (False, 0, {"x": "RUNNING"})
    scene.clock.pass_by(1)
    assert scene.scrape().up
    assert len(scene.api.calls) == 2


@pytest.mark.parametrize(("reset_in", "hold"), [(100, 100), (None, 60), (-5, 60)])
def test_after_a_429_there_is_no_call_until_the_reset(
    scene: Scene, reset_in: float | None, hold: float
) -> None:
    """After a 429 no call is made until the reset time, or for 60 s without a valid one."""
    reset = None if reset_in is None else scene.clock.time() + reset_in
    scene.api.failure = error("rate_limited", RateLimit(1000, None, reset))
    assert not scene.scrape().up
    scene.api.failure = None
    scene.clock.pass_by(hold - 1)
    assert not scene.scrape().up
    assert len(scene.api.calls) == 1
    scene.clock.pass_by(1)
    assert scene.scrape().up


def test_headers_of_a_failed_call_are_believed(scene: Scene) -> None:
    """A 500 counts against the limit as any other answer, and says what remains."""
    told = RateLimit(1000, 300, scene.clock.time() + 100)
    scene.api.failure = error("server_error", told)
    snapshot = scene.scrape()
    assert snapshot.rate_limit == told


class CountingApi(FakeApi):
    """Counts down what remains, and answers when several calls are there, the last one first."""

    def __init__(self, clock: FakeClock, limit: int) -> None:
        super().__init__()
        self.remaining = limit
        self.under_way = 0
        self.most = 0
        self._limit = limit
        self._reset = clock.time() + 300
        self._counter = threading.Condition()
        self._answered = 0

    def __call__(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Answer with what remained when the call arrived."""
        with self._counter:
            self.remaining -= 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            told = RateLimit(self._limit, self.remaining, self._reset)
            self._counter.notify_all()
            # Beside others it lets one that came later go first, if there is one.
            self._counter.wait_for(lambda: self.under_way == MAX_CALLS, timeout=0.005)
            self.under_way -= 1
        return replace(super().__call__(ids, deadline), rate_limit=told)


def test_a_big_start_never_uses_more_than_the_share() -> None:
    """3,000 new IDs are known as soon as the share allows, by concurrent calls."""
    scene = Scene()
    api = CountingApi(scene.clock, limit=40)
    scene.watch({"b": ids(3000)})
    tracker = scene.track(scene.load, api)
    snapshot = tracker.scrape(scene.clock.monotonic() + 10)
    assert api.remaining == 20
    assert 1 < api.most <= MAX_CALLS
    assert snapshot.batches[0].totals.states["UNKNOWN"] == 1000
    assert snapshot.up
    for used in (1, 2, 3):
        snapshot = tracker.scrape(scene.clock.monotonic() + 10)
        assert api.remaining == 20 - used
        assert snapshot.batches[0].totals.states["UNKNOWN"] == max(1000 - used * 100, 0)


class HeldApi(FakeApi):
    """Answers every call when the test lets it."""

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
def held() -> HeldApi:
    """Return an API that waits."""
    return HeldApi()


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    """Return threads for scrapes that wait."""
    with ThreadPoolExecutor() as pool:
        yield pool


def test_before_the_quota_is_known_the_first_call_goes_alone(
    held: HeldApi, elsewhere: ThreadPoolExecutor
) -> None:
    """The first call goes alone; after its answer, four go concurrently."""
    scene = Scene(held)
    scene.watch({"b": ids(900)})
    scene.limit(remaining=999)
    scrape = elsewhere.submit(scene.scrape)
    assert held.arrived.acquire(timeout=PATIENCE)
    assert not held.arrived.acquire(timeout=0.02)
    held.go.release()
    for _ in range(2):
        for _ in range(MAX_CALLS):
            assert held.arrived.acquire(timeout=PATIENCE)
        assert not held.arrived.acquire(timeout=0.02)
        held.go.release(MAX_CALLS)
    assert scrape.result(PATIENCE).api_calls == 9


# Concurrent scrapes.


def waiting(scene: Scene, elsewhere: ThreadPoolExecutor, api: HeldApi) -> Future[Snapshot]:
    """Start a scrape and wait until it asks."""
    scrape = elsewhere.submit(scene.scrape)
    assert api.arrived.acquire(timeout=PATIENCE)
    return scrape


class Deadline(float):
    """A deadline that records when a waiter computes its time."""

    def __init__(self, _: float) -> None:
        self.reckoned = threading.Event()

    def __sub__(self, other: float) -> float:
        """Return the time that is left."""
        self.reckoned.set()
        return float(self) - other


def test_scrapes_that_arrive_meanwhile_share_the_result(
    held: HeldApi, elsewhere: ThreadPoolExecutor
) -> None:
    """Concurrent scrapes share their calls."""
    scene = Scene(held)
    first = waiting(scene, elsewhere, held)
    others = []
    for _ in range(2):
        deadline = Deadline(scene.clock.monotonic() + PATIENCE)
        others.append(elsewhere.submit(scene.tracker.scrape, deadline))
        assert deadline.reckoned.wait(PATIENCE)
    held.go.release()
    assert [scrape.result(PATIENCE) for scrape in others] == [first.result(PATIENCE)] * 2
    assert len(held.calls) == 1


@pytest.mark.parametrize(
    ("seconds", "calls"), [(PATIENCE, 2), (1.1, 1)], ids=["much time left", "none to speak of"]
)
def test_who_shared_a_scrape_that_had_too_little_time_asks_itself(
    held: HeldApi, elsewhere: ThreadPoolExecutor, seconds: float, calls: int
) -> None:
    """A scraper that waits a second spoils nothing for one that waits for ten."""
    scene = Scene(held)
    held.go.release()
    scene.scrape()
    assert held.arrived.acquire(timeout=PATIENCE)
    held.calls.clear()

    def hurried(ids: Sequence[str], deadline: float) -> BulkResponse:
        held(ids, deadline)
        if len(held.calls) == 1:
            raise error("timeout")
        return held(ids, deadline)

    tracker = scene.track(scene.load, hurried)
    first = elsewhere.submit(tracker.scrape, scene.clock.monotonic() + 1)
    assert held.arrived.acquire(timeout=PATIENCE)
    deadline = Deadline(scene.clock.monotonic() + seconds)
    second = elsewhere.submit(tracker.scrape, deadline)
    assert deadline.reckoned.wait(PATIENCE)
    scene.clock.pass_by(1)
    held.go.release(3)
    assert not first.result(PATIENCE).up
    assert second.result(PATIENCE).up == (calls > 1)


def test_who_shared_a_scrape_that_ran_out_of_calls_in_time_asks_itself(
    held: HeldApi, elsewhere: ThreadPoolExecutor
) -> None:
    """Where no call failed, but the deadline kept some from being made."""
    scene = Scene(held)
    scene.watch({"b": ids(150)})
    held.rate_limit = NO_LIMIT

    def slow(ids: Sequence[str], deadline: float) -> BulkResponse:
        answer = held(ids, deadline)
        if len(held.calls) == 1:
            scene.clock.pass_by(1)
        return answer

    tracker = scene.track(scene.load, slow)
    first = elsewhere.submit(tracker.scrape, scene.clock.monotonic() + 1)
    assert held.arrived.acquire(timeout=PATIENCE)
    deadline = Deadline(scene.clock.monotonic() + PATIENCE)
    second = elsewhere.submit(tracker.scrape, deadline)
    assert deadline.reckoned.wait(PATIENCE)
    held.go.release(3)
    assert (first.result(PATIENCE).up, first.result(PATIENCE).api_calls) == (False, 1)
    assert (second.result(PATIENCE).up, second.result(PATIENCE).api_calls) == (True, 2)


@pytest.mark.usefixtures("no_threads")
def test_what_the_quota_put_off_was_not_prevented_by_the_deadline(scene: Scene) -> None:
    """A slow call and a share that is used up are a good scrape."""
    scene.watch({"b": ids(250)})
    scene.limit(remaining=500)

    def slow(ids: Sequence[str], deadline: float) -> BulkResponse:
        scene.clock.steady = deadline
        return scene.api(ids, deadline)

    snapshot = scene.track(scene.load, slow).scrape(scene.clock.monotonic() + 10)
    assert (snapshot.up, snapshot.api_calls) == (True, 1)


def test_with_nine_of_ten_calls_put_off_it_shows_how_old_its_answers_are(scene: Scene) -> None:
    """The scrape is up; that states are old is in the totals and in the oldest answer."""
    scene.watch({"b": ids(1000)})
    scene.limit(remaining=500, reset_in=3600)
    begin = scene.clock.time()
    for number in range(12):
        snapshot = scene.scrape()
        assert (snapshot.up, snapshot.api_calls) == (True, 1)
        asked = min(100 * (number + 1), 1000)
        # After max-age, five minutes, what was asked first is UNKNOWN until its turn comes again.
        assert snapshot.batches[0].totals.states["UNKNOWN"] == 1000 - min(asked, 600)
        turns_ago = min(number, 9)
        assert snapshot.oldest_answers == {"b": begin + 60 * (number - turns_ago)}
        scene.clock.pass_by(60)
        scene.limit(remaining=500, reset_in=3600)


def test_those_who_ask_again_share_that_scrape(
    held: HeldApi, elsewhere: ThreadPoolExecutor
) -> None:
    """Scrapes that query again after a scrape without enough time share one."""
    scene = Scene(held)

    def hurried(ids: Sequence[str], deadline: float) -> BulkResponse:
        answer = held(ids, deadline)
        if len(held.calls) == 1:
            raise error("timeout")
        return answer

    tracker = scene.track(scene.load, hurried)
    first = elsewhere.submit(tracker.scrape, scene.clock.monotonic() + 1)
    assert held.arrived.acquire(timeout=PATIENCE)
    deadlines = [Deadline(scene.clock.monotonic() + PATIENCE) for _ in range(3)]
    others = [elsewhere.submit(tracker.scrape, deadline) for deadline in deadlines]
    for deadline in deadlines:
        assert deadline.reckoned.wait(PATIENCE)
        deadline.reckoned.clear()
    scene.clock.pass_by(1)
    held.go.release()
    for deadline in deadlines:
        assert deadline.reckoned.wait(PATIENCE)
    held.go.release()
    assert not first.result(PATIENCE).up
    assert [scrape.result(PATIENCE).up for scrape in others] == [True] * 3
    assert len(held.calls) == 2


def test_an_impatient_scrape_answers_with_what_is_known(
    held: HeldApi, elsewhere: ThreadPoolExecutor
) -> None:
    """Its own deadline counts; it made no call, and it is not up."""
    scene = Scene(held)
    scene.watch({"b": ids(250)})
    scene.limit(remaining=1)
    held.go.release()
    scene.scrape()
    assert held.arrived.acquire(timeout=PATIENCE)
    first = waiting(scene, elsewhere, held)
    scene.clock.pass_by(1)
    snapshot = scene.scrape(seconds=0)
    assert (snapshot.up, snapshot.api_calls, snapshot.duration) == (False, 0, 0)
    assert snapshot.batches[0].totals.states["RUNNING"] == 100
    held.go.release()
    assert first.result(PATIENCE).batches[0].totals.states["RUNNING"] == 200
    assert first.result(PATIENCE).last_success == scene.clock.time()


def test_an_impatient_scrape_does_not_age_what_the_running_one_has_heard(
    held: HeldApi, elsewhere: ThreadPoolExecutor
) -> None:
    """With a max-age of 0s too, an answer lives to the end of the scrape that asked."""
    scene = Scene(held, max_age=0)
    scene.watch({"b": ids(200)})
    scene.limit(remaining=999)
    first = waiting(scene, elsewhere, held)
    held.go.release()
    assert held.arrived.acquire(timeout=PATIENCE)
    scene.clock.pass_by(1)
    assert scene.scrape(seconds=0).batches[0].totals.states["RUNNING"] == 100
    held.go.release()
    assert first.result(PATIENCE).batches[0].totals.states["RUNNING"] == 200


def test_an_impatient_scrape_lets_old_states_be_unknown(
    held: HeldApi, elsewhere: ThreadPoolExecutor
) -> None:
    """A state is never older than max-age, also in a scrape with a short timeout."""
    scene = Scene(held)
    held.go.release()
    scene.scrape()
    assert held.arrived.acquire(timeout=PATIENCE)
    scene.clock.pass_by(301)
    first = waiting(scene, elsewhere, held)
    assert states(scene.scrape(seconds=0)) == {"x": "UNKNOWN"}
    held.go.release()
    assert states(first.result(PATIENCE)) == {"x": "RUNNING"}


class StuckApi(FakeApi):
    """Never answers the first call before the test lets it; treats others as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = threading.Event()
        self.free = threading.Event()
        self.other: Callable[[], None] = lambda: None

    def __call__(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Answer, or wait to be let go."""
        answer = super().__call__(ids, deadline)
        if len(self.calls) > 1:
            self.other()
        else:
            self.stuck.set()
            assert self.free.wait(PATIENCE)
        return answer


@pytest.fixture
def stuck(elsewhere: ThreadPoolExecutor) -> Iterator[StuckApi]:
    """Return an API whose first call hangs until the end of the test."""
    del elsewhere  # ends after this one
    api = StuckApi()
    yield api
    api.free.set()


# Long enough for another thread, short enough to wait for.
SHORT = 0.2


def stuck_scrape(
    stuck: StuckApi, elsewhere: ThreadPoolExecutor, watched: Sequence[str] = "x"
) -> tuple[Scene, Future[Snapshot]]:
    """Return a scene in which the call of a patient scraper hangs."""
    scene = Scene(stuck)
    scene.watch({"b": list(watched)})
    patient = elsewhere.submit(scene.scrape, 30)
    assert stuck.stuck.wait(PATIENCE)
    return scene, patient


def test_an_impatient_scraper_makes_a_call_of_its_own(
    stuck: StuckApi, elsewhere: ThreadPoolExecutor
) -> None:
    """Where the call of a patient one hangs, it learns whether the API answers, and what."""
    scene, patient = stuck_scrape(stuck, elsewhere)
    scene.clock.pass_by(1)
    stuck.say(completed("x"))
    snapshot = scene.scrape(SHORT)
    assert (snapshot.up, snapshot.api_calls, states(snapshot)) == (True, 1, {"x": "COMPLETED"})
    assert snapshot.last_success == scene.clock.time()
    # Each impatient scrape has its own.
    assert scene.scrape(SHORT).api_calls == 1
    scene.clock.pass_by(1)
    assert not patient.done()
    stuck.free.set()
    # The hanging call began first: its answer is older.
    assert states(patient.result(PATIENCE)) == {"x": "COMPLETED"}


def test_an_impatient_scraper_has_a_verdict_of_its_own(
    stuck: StuckApi, elsewhere: ThreadPoolExecutor
) -> None:
    """A failure of its call is its own, and shows what is known."""
    scene, _ = stuck_scrape(stuck, elsewhere)
    stuck.failure = error("timeout")
    snapshot = scene.scrape(SHORT)
    assert (snapshot.up, snapshot.api_calls, states(snapshot)) == (False, 1, {"x": "UNKNOWN"})


def test_an_impatient_scraper_makes_one_call_at_most(
    stuck: StuckApi, elsewhere: ThreadPoolExecutor
) -> None:
    """It asks for the first hundred IDs, and makes no call if nothing is watched."""
    scene, _ = stuck_scrape(stuck, elsewhere, ids(150))
    assert scene.scrape(SHORT).up
    assert stuck.calls[1] == list(ids(100))

    def load(_: float) -> Watchlist:
        loading.set()
        assert stuck.free.wait(PATIENCE)
        return scene.watchlist

    loading = threading.Event()
    tracker = scene.track(load, stuck)
    elsewhere.submit(tracker.scrape, scene.clock.monotonic() + 30)
    assert loading.wait(PATIENCE)
    snapshot = tracker.scrape(scene.clock.monotonic() + SHORT)
    assert (snapshot.up, snapshot.api_calls, snapshot.batches) == (True, 0, ())


def test_impatient_scrapers_share_a_call(stuck: StuckApi, elsewhere: ThreadPoolExecutor) -> None:
    """Impatient scrapes share one call beside the hanging one."""
    scene, _ = stuck_scrape(stuck, elsewhere)
    began, go = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert go.wait(PATIENCE)

    stuck.other = wait
    first = elsewhere.submit(scene.scrape, SHORT)
    assert began.wait(PATIENCE)
    # This one cannot wait for it.
    assert not scene.scrape(0).up
    deadline = Deadline(scene.clock.monotonic() + 1)
    second = elsewhere.submit(scene.tracker.scrape, deadline)
    for _ in range(2):
        # First it waits for the patient scrape, then for the impatient one.
        assert deadline.reckoned.wait(PATIENCE)
        deadline.reckoned.clear()
    go.set()
    assert first.result(PATIENCE).api_calls == 1
    assert (second.result(PATIENCE).up, second.result(PATIENCE).api_calls) == (True, 0)
    assert len(stuck.calls) == 2


def test_a_defect_in_a_call_beside_another_wedges_nothing(
    stuck: StuckApi, elsewhere: ThreadPoolExecutor
) -> None:
    """After an error in a call beside another one, the next scrape makes its call."""
    scene, _ = stuck_scrape(stuck, elsewhere)
    stuck.failure = RuntimeError("a defect")
    with pytest.raises(RuntimeError, match="a defect"):
        scene.scrape(SHORT)
    stuck.failure = None
    assert scene.scrape(SHORT).up


def test_a_preview_asks_nobody(scene: Scene) -> None:
    """It loads the watchlist, so that what is known can be rendered before the first scrape."""
    snapshot = scene.tracker.preview()
    assert (snapshot.up, snapshot.api_calls, states(snapshot)) == (False, 0, {"x": "UNKNOWN"})
    assert (scene.api.calls, snapshot.watchlist) == ([], scene.watchlist)


def test_a_scrape_after_another_is_one_of_its_own(scene: Scene) -> None:
    """Results are shared with those who wait, and never kept for those who come later."""
    assert scene.scrape() is not scene.scrape()
    assert len(scene.api.calls) == 2


def test_an_error_of_the_watchlist_does_not_wedge_the_tracker(scene: Scene) -> None:
    """An error of the watchlist fails one scrape; the next one asks for every ID."""
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


def test_a_defect_while_asking_does_not_wedge_the_tracker(scene: Scene) -> None:
    """Raise the same error in all scrapes that share one; the next scrape asks everyone again."""
    scene.watch({"b": ["x", "y"]})
    scene.api.say(completed("y"))
    scene.scrape()
    scene.api.failure = RuntimeError("a defect")
    with pytest.raises(RuntimeError, match="a defect"):
        scene.scrape()
    scene.api.failure = None
    scene.api.calls.clear()
    assert scene.scrape().up
    assert scene.api.calls == [["x", "y"]]


def test_those_who_share_a_scrape_share_its_error(
    held: HeldApi, elsewhere: ThreadPoolExecutor
) -> None:
    """Scrapes that share one get its error."""
    began, go = threading.Event(), threading.Event()
    scene = Scene(held)

    def load(_: float) -> Watchlist:
        began.set()
        assert go.wait(PATIENCE)
        raise RuntimeError("a defect")

    tracker = scene.track(load, held)
    deadline = scene.clock.monotonic() + PATIENCE
    first = elsewhere.submit(tracker.scrape, deadline)
    assert began.wait(PATIENCE)
    patient = Deadline(deadline)
    second = elsewhere.submit(tracker.scrape, patient)
    assert patient.reckoned.wait(PATIENCE)
    assert tracker.scrape(scene.clock.monotonic()).batches == ()
    go.set()
    for scrape in (first, second):
        with pytest.raises(RuntimeError, match="a defect"):
            scrape.result(PATIENCE)


# The log.


def test_a_failure_is_logged_when_it_begins_and_when_it_ends(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage of a day is two lines, not thousands."""
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


def test_during_a_hold_nothing_is_said_to_be_well(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """A scrape without a call does not report that requests succeed again."""
    caplog.set_level(logging.INFO)
    scene.api.failure = error("rate_limited", NO_LIMIT)
    for _ in range(3):
        scene.scrape()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_hold_without_a_refusal_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A used-up limit is logged also if no call was refused."""
    caplog.set_level(logging.INFO)
    scene.limit(remaining=0)
    for _ in range(3):
        scene.scrape()
    [record] = caplog.records
    assert record.__dict__["err"] == "rate_limited: the account has no calls left in this window"
    scene.clock.pass_by(301)
    scene.scrape()
    assert caplog.records[-1].getMessage() == "API requests succeed again"


def test_an_answer_that_is_not_complete_is_logged(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """An incomplete answer is logged as the reason of `cavatica_up` 0."""
    scene.api.silent = {"x"}
    scene.scrape()
    [record] = caplog.records
    assert "account for every requested ID" in record.__dict__["err"]


# Everything at once.


@dataclass
class Naive:
    """What should be known of an ID, without any of the tracker's structures."""

    state: str = "UNKNOWN"
    export: Export | None = None
    failure: LookupFailure | None = None
    answered: float | None = None

    def hear(self, outcome: Outcome, now: float) -> None:
        """Record an outcome."""
        finished = self.state in FINISHED
        if isinstance(outcome, Export):
            if not (finished and outcome.state == "UNKNOWN"):
                self.state, self.export, self.failure = outcome.state, outcome, None
                self.answered = now
        elif not finished:
            self.state, self.failure = "UNKNOWN", outcome

    def age(self, now: float) -> None:
        """Forget a state that is too old."""
        if self.state not in FINISHED and (self.answered is None or now - self.answered > 300):
            self.state = "UNKNOWN"


NAMES = st.sampled_from([f"e{number}" for number in range(8)])
OUTCOMES = st.sampled_from([pending, running, completed, failed]) | st.sampled_from(
    [NOT_FOUND, BROKEN, None, "ABORTED", "UNKNOWN"]
)


class Life(RuleBasedStateMachine):
    """Answers, failures, edits and time, in any order."""

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
        """Edit the watchlist: IDs in batches, and acknowledged ones."""
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
        self.scene.api.silent = {name} if silent else set()

    @rule(reason=st.sampled_from(["timeout", "auth", None]))
    def fail(self, reason: Reason | None) -> None:
        """Make the API's calls fail, or succeed again."""
        self.scene.api.failure = None if reason is None else error(reason)

    @rule(seconds=st.sampled_from([1, 60, 299, 301, 3601]), jump=st.sampled_from([0, -7200, 7200]))
    def wait(self, seconds: float, jump: float) -> None:
        """Pass time, and set the wall clock."""
        self.scene.clock.pass_by(seconds)
        self.scene.clock.unix += jump

    @rule()
    def scrape(self) -> None:
        """Compare a scrape with what should be known."""
        api, now = self.scene.api, self.scene.clock.monotonic()
        snapshot = self.scene.scrape()
        # An ID that is gone and back between two scrapes was never away, and one that is back
        # within an hour is known.
        watched = {export_id for ids in self.batches.values() for export_id in ids}
        for name in self.naive.keys() - watched:
            self.gone[name] = (self.naive.pop(name), now)
        for name in watched - self.naive.keys():
            kept, left = self.gone.pop(name, (Naive(), now))
            self.naive[name] = kept if now - left <= REMEMBER_SECONDS else Naive()
        if api.failure is None:
            for name, naive in self.naive.items():
                if name not in api.silent:
                    naive.hear(api.outcomes.get(name, running(name)), now)
        for naive in self.naive.values():
            naive.age(now)
        assert known(snapshot) == {
            name: WatchedExport(
                name, naive.state, naive.export, naive.failure, name in self.acknowledged
            )
            for name, naive in self.naive.items()
        }
        self.check_totals(snapshot)

    def check_totals(self, snapshot: Snapshot) -> None:
        """Compare the totals with what the exports say."""
        assert {batch.name: batch.totals.watched for batch in snapshot.batches} == {
            name: len(batch) for name, batch in sorted(self.batches.items())
        }
        for batch in snapshot.batches:
            states = Counter(self.naive[name].state for name in self.batches[batch.name])
            assert {state: n for state, n in batch.totals.states.items() if n} == states
            assert sum(batch.totals.states.values()) == batch.totals.watched


TestLife = Life.TestCase
TestLife.__doc__ = "Whatever happens, a scrape shows what a naive model of the specification knows."
TestLife.settings = settings(examples(25), stateful_step_count=15)


def test_a_snapshot_tells_when_it_was_taken_and_what_was_wrong_with_the_api(scene: Scene) -> None:
    """The problem is the last failure's until a call succeeds."""
    assert scene.scrape().problem is None
    scene.clock.pass_by(60)
    scene.api.failure = error("auth")
    snapshot = scene.scrape()
    assert snapshot.problem == "auth: as the test wants it"
    assert snapshot.time == scene.clock.time()
    scene.api.failure = None
    assert scene.scrape().problem is None
