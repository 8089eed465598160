"""Scrapes: read the watchlist, query the API, publish a snapshot; one at a time."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass

from exporter.cavatica.answer import MAX_IDS, BulkResponse
from exporter.cavatica.export import Export, LookupFailure
from exporter.clock import Clock
from exporter.tracker.calls import BulkGet, Caller, ScrapeCalls
from exporter.tracker.snapshot import Snapshot, WatchedExport
from exporter.tracker.states import ExportStates
from exporter.watchlist.watchlist import Watchlist


@dataclass(frozen=True, slots=True, eq=False)
class _Scrape:
    """A scrape in flight.

    Attributes:
        began: Monotonic time of its start.
        deadline: Monotonic time of its end.
        result: Its snapshot, and whether more time could have completed it.
    """

    began: float
    deadline: float
    result: "futures.Future[tuple[Snapshot, bool]]"


class Tracker:
    """Keeps the state of every watched export.

    Args:
        load: Returns the watchlist; the same object while it is unchanged. Its argument is the
            time of the scrape, in seconds; with 0 it returns the last known watchlist.
        bulk_get: Queries the API for up to `MAX_IDS` exports.
        states: Empty, and the tracker's own from now on.
        recall: Returns what was read from the state file since it was last called.
        quota_share: The part of the account's rate limit that may be used, from 0 to 1.
        render_seconds: Seconds that rendering one changed export takes.
        clock: Wall clock and monotonic clock.
    """

    def __init__(
        self,
        load: Callable[[float], Watchlist],
        bulk_get: BulkGet,
        states: ExportStates,
        *,
        recall: Callable[[], Sequence[WatchedExport]] = tuple,
        quota_share: float,
        render_seconds: float = 0.0,
        clock: Clock,
    ) -> None:
        self._load = load
        self._recall = recall
        self._states = states
        self._clock = clock
        self._caller = Caller(
            bulk_get,
            self._record_answer,
            quota_share=quota_share,
            render_seconds=render_seconds,
            clock=clock,
        )
        self._watchlist = Watchlist()
        self._has_stored = False
        # Monotonic time: the Unix time may jump, or be wrong.
        self._last_success: float | None = None
        # Protects the states; never held while the API is queried.
        self._lock = threading.Lock()
        self._in_flight_lock = threading.Lock()
        self._in_flight: _Scrape | None = None
        # A scrape of one call, for a scraper that cannot wait for the scrape in flight.
        self._short_in_flight: _Scrape | None = None

    def end(self) -> None:
        """Answer a scrape in flight at once with what is known; to be called once."""
        self._caller.end()

    def preview(self) -> Snapshot:
        """Load the watchlist and return what is known, without an API call."""
        began = self._clock.monotonic()
        self._update_watchlist(0)
        with self._lock:
            return self._publish(began, up=False, requests=0, since=began)

    def scrape(self, deadline: float) -> Snapshot:
        """Query the API as far as `deadline` (monotonic) allows, and return what is known.

        A scrape that arrives while another is in flight shares its result (single-flight). If
        that scrape hit its deadline and this one has time left, it queries the API again. If that
        scrape may last longer than this one can wait, this one makes a call of its own.
        """
        arrived = self._clock.monotonic()
        while True:
            with self._in_flight_lock:
                running = self._in_flight
                if running is None:
                    mine = self._in_flight = _Scrape(arrived, deadline, futures.Future())
            if running is None:
                return self._run_shared(mine)
            left = deadline - self._clock.monotonic()
            # Half of the time is left for a call of its own.
            patience = left if running.deadline <= deadline else left / 2
            if not futures.wait([running.result], max(patience, 0)).done:
                return self._scrape_beside(running, arrived, deadline)
            snapshot, out_of_time = running.result.result()
            # Of two scrapes with the same timeout, the second has almost no time left.
            if not out_of_time or self._clock.monotonic() > (arrived + deadline) / 2:
                return snapshot

    def _run_shared(self, scrape: _Scrape) -> Snapshot:
        """Run a scrape, and pass its result to the callers that share it."""
        try:
            snapshot, out_of_time = self._run(scrape)
        except BaseException as error:
            with self._in_flight_lock:
                self._in_flight = None
            scrape.result.set_exception(error)
            raise
        # Before the result is set: a waiter that queries again must not find this scrape.
        with self._in_flight_lock:
            self._in_flight = None
        scrape.result.set_result((snapshot, out_of_time))
        return snapshot

    def _run(self, scrape: _Scrape) -> tuple[Snapshot, bool]:
        self._update_watchlist(scrape.deadline - self._clock.monotonic())
        with self._lock:
            plan = self._states.plan(MAX_IDS, overlaps=self._short_in_flight is not None)
        calls = ScrapeCalls(deque(plan), scrape.deadline)
        try:
            self._caller.make(calls)
        finally:
            with self._lock:
                self._states.requeue(
                    calls.asked,
                    calls.not_asked,
                    refused=[ids for ids, _ in calls.refused],
                    answered=calls.answered,
                    monotonic=self._clock.monotonic(),
                )
        with self._lock:
            self._record(calls.bad_ids, scrape.began)
            snapshot = self._publish(
                scrape.began, up=calls.up, requests=calls.requests, since=scrape.began
            )
        return snapshot, calls.out_of_time

    def _scrape_beside(self, running: _Scrape, arrived: float, deadline: float) -> Snapshot:
        """Make one call beside `running`, and return what is known by then.

        A scraper with a short timeout learns whether the API answers, even if another scrape's call
        hangs. There is one such call at a time.
        """
        with self._in_flight_lock:
            other = self._short_in_flight
            if other is None:
                mine = self._short_in_flight = _Scrape(arrived, deadline, futures.Future())
        if other is not None:
            left = deadline - self._clock.monotonic()
            is_done = futures.wait([other.result], max(left, 0)).done
            up = bool(is_done) and other.result.result()[0].up
            with self._lock:
                return self._publish(arrived, up=up, requests=0, since=running.began)
        with self._lock:
            plan = self._states.next_call(MAX_IDS)
        calls = ScrapeCalls(deque(plan), deadline)
        try:
            self._caller.make(calls)
            with self._lock:
                snapshot = self._publish(
                    arrived, up=calls.up, requests=calls.requests, since=running.began
                )
            mine.result.set_result((snapshot, calls.out_of_time))
        except BaseException as error:
            mine.result.set_exception(error)
            raise
        finally:
            with self._in_flight_lock:
                self._short_in_flight = None
        return snapshot

    def _update_watchlist(self, seconds: float) -> None:
        watchlist = self._load(seconds)
        stored = self._recall()
        if stored or watchlist is not self._watchlist:
            with self._lock:
                if stored:
                    self._states.restore(stored)
                    self._has_stored = True
                self._watchlist = watchlist
                self._states.update_watchlist(
                    watchlist, monotonic=self._clock.monotonic(), unix=self._clock.time()
                )

    def _record_answer(self, answer: BulkResponse, asked: float) -> None:
        with self._lock:
            self._record(answer.outcomes, asked)

    def _record(self, outcomes: Mapping[str, Export | LookupFailure | None], asked: float) -> None:
        self._states.record(
            outcomes,
            asked=asked,
            overlaps=None not in {self._in_flight, self._short_in_flight},
            monotonic=self._clock.monotonic(),
            unix=self._clock.time(),
        )

    def _publish(self, began: float, *, up: bool, requests: int, since: float) -> Snapshot:
        """Return a snapshot; answers since `since` are not too old."""
        monotonic, unix = self._clock.monotonic(), self._clock.time()
        if up:
            self._last_success = monotonic
        self._states.expire(since=since, monotonic=monotonic, unix=unix)
        last = self._last_success

        def at_unix(at: float) -> float:
            """Return a monotonic time as Unix time, to the millisecond: the two clocks jitter."""
            return round(unix - (monotonic - at), 3)

        return Snapshot(
            watchlist=self._watchlist,
            batches=self._states.batches(),
            oldest_answers={
                name: at_unix(at) for name, at in self._states.oldest_answers().items()
            },
            up=up,
            duration=monotonic - began,
            api_calls=requests,
            last_success=None if last is None else at_unix(last),
            last_success_age=None if last is None else monotonic - last,
            rate_limit=self._caller.rate_limiter.rate_limit,
            rate_limit_window=self._caller.rate_limiter.window_seconds,
            time=unix,
            problem=self._caller.problem,
            departed=self._states.departed(monotonic),
            has_stored=self._has_stored,
        )
