"""One scrape at a time: look at the watchlist, ask the API, publish what is known."""

import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from exporter import background
from exporter.cavatica.answer import MAX_CALLS, MAX_IDS, ApiError, BulkResponse
from exporter.clock import Clock
from exporter.tracker.rate_limit import RateLimiter
from exporter.tracker.snapshot import Snapshot
from exporter.tracker.states import ExportStates
from exporter.watchlist.watchlist import Watchlist

# After these, another call fares no better, until one was answered.
_HOPELESS: Final = frozenset({"auth", "rate_limited", "maintenance"})
# What was learned of an export is rendered after the calls and before the scraper gives up: that
# takes 20 microseconds, and a busy machine longer (docs/performance.md).
_RENDER_SECONDS: Final = 40e-6

_INCOMPLETE: Final = "invalid_response: the items do not account for every ID asked"
_ON_HOLD: Final = "rate_limited: no call until the account has some left"

_log = logging.getLogger(__name__)


class BulkGet(Protocol):
    """Asks the API: `exporter.cavatica.client.Client.bulk_get`."""

    def __call__(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Raise `ApiError` where there is no answer to use."""


@dataclass(slots=True)
class _Round:
    """The calls of one scrape.

    Attributes:
        waiting: Calls that were not made yet.
        asked: The IDs of those that were.
        failures: Of calls that were made.
        complete: Whether the others' answers accounted for every ID.
        late: Whether the deadline kept calls from being made.
        requests: HTTP requests sent.
    """

    waiting: deque[list[str]]
    asked: list[str] = field(default_factory=list)
    failures: list[ApiError] = field(default_factory=list)
    complete: bool = True
    late: bool = False
    requests: int = 0

    @property
    def on_hold(self) -> bool:
        """Whether there was no call because the account has none left."""
        return bool(self.waiting) and not self.asked and not self.late

    @property
    def up(self) -> bool:
        """Whether all went well; calls that the quota share put off do not count."""
        return self.complete and not (self.failures or self.late or self.on_hold)

    @property
    def lacked_time(self) -> bool:
        """Whether more time could have made it better."""
        return self.late or any(failure.reason == "timeout" for failure in self.failures)


class Tracker:
    """Knows the state of every watched export.

    Args:
        load: Gives the watchlist; the same object while it is unchanged.
        bulk_get: Asks the API for up to `MAX_IDS` exports.
        knowledge: Empty, and the tracker's own from now on.
        quota_share: The part of the account's rate limit that may be used up, from 0 to 1.
        clock: Both kinds of time.
    """

    def __init__(
        self,
        load: Callable[[], Watchlist],
        bulk_get: BulkGet,
        knowledge: ExportStates,
        *,
        quota_share: float,
        clock: Clock,
    ) -> None:
        self._load = load
        self._bulk_get = bulk_get
        self._knowledge = knowledge
        self._quota = RateLimiter(quota_share, clock)
        self._clock = clock
        self._watchlist = Watchlist()
        self._last_success: float | None = None
        self._failure: str | None = None
        self._is_hopeless = False
        self._began = 0.0
        # Held by whoever touches what is known; never while the API is asked.
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        # Gives the snapshot, and whether more time could have made it better.
        self._running: futures.Future[tuple[Snapshot, bool]] | None = None
        # Done when no call is to be waited for any more.
        self._ended: futures.Future[None] = futures.Future()

    def end(self) -> None:
        """Wait for no call any more: a scrape that is running gives what is known, at once.

        To be called once.
        """
        self._ended.set_result(None)

    def scrape(self, deadline: float) -> Snapshot:
        """Ask the API as far as `deadline` (on the clock's monotonic) allows; give what is known.

        A scrape that arrives while one is running waits for that one, and shares its result. But
        where that one had too little time, and this one has more, it asks itself.
        """
        arrived = self._clock.monotonic()
        while True:
            with self._turn:
                running = self._running
                if running is None:
                    mine = self._running = futures.Future()
                    self._began = arrived
            if running is None:
                return self._lead(mine, arrived, deadline)
            try:
                snapshot, lacked_time = running.result(max(deadline - self._clock.monotonic(), 0))
            except futures.TimeoutError:
                # The other scrape may take longer than this one can wait.
                with self._lock:
                    return self._publish(arrived, up=False, requests=0)
            # Of two that began with the same time, the second has next to nothing left.
            if not lacked_time or self._clock.monotonic() > (arrived + deadline) / 2:
                return snapshot

    def _lead(
        self, mine: "futures.Future[tuple[Snapshot, bool]]", arrived: float, deadline: float
    ) -> Snapshot:
        """Scrape, and tell those who wait for it."""
        try:
            snapshot, lacked_time = self._scrape(arrived, deadline)
        except BaseException as error:
            with self._turn:
                self._running = None
            mine.set_exception(error)
            raise
        # First, or who asks again would find the same scrape.
        with self._turn:
            self._running = None
        mine.set_result((snapshot, lacked_time))
        return snapshot

    def _scrape(self, began: float, deadline: float) -> tuple[Snapshot, bool]:
        watchlist = self._load()
        with self._lock:
            if watchlist is not self._watchlist:
                self._watchlist = watchlist
                self._knowledge.adopt(watchlist)
            this = _Round(deque(self._knowledge.plan(MAX_IDS)))
        try:
            self._ask(this, deadline)
        finally:
            with self._lock:
                self._knowledge.settle(this.asked, [i for ids in this.waiting for i in ids])
        if this.asked or this.on_hold:
            self._report(this)
        with self._lock:
            snapshot = self._publish(began, up=this.up, requests=this.requests)
        return snapshot, this.lacked_time

    def _publish(self, began: float, *, up: bool, requests: int) -> Snapshot:
        monotonic, unix = self._clock.monotonic(), self._clock.time()
        if up:
            self._last_success = unix
        self._knowledge.age(since=self._began, monotonic=monotonic, unix=unix)
        return Snapshot(
            watchlist=self._watchlist,
            batches=self._knowledge.batches(),
            oldest_answers=self._knowledge.oldest_answers(),
            up=up,
            duration=monotonic - began,
            api_calls=requests,
            last_success=self._last_success,
            rate_limit=self._quota.rate_limit,
            time=unix,
            problem=self._failure,
        )

    def _ask(self, this: _Round, deadline: float) -> None:
        """Make the calls, some side by side, as far as deadline and quota allow."""
        under_way: set[futures.Future[BulkResponse]] = set()
        while True:
            while self._may_ask(this, len(under_way), deadline):
                ids = this.waiting.popleft()
                this.asked += ids
                under_way.add(self._begin(ids, _end_of_calls(this, deadline)))
            if not under_way:
                return
            awaited: list[futures.Future[Any]] = [*under_way, self._ended]
            futures.wait(awaited, return_when=futures.FIRST_COMPLETED)
            done = {future for future in under_way if future.done()}
            if not done:
                this.late = True
                return
            under_way -= done
            for future in done:
                self._take(this, future)

    def _begin(self, ids: Sequence[str], deadline: float) -> "futures.Future[BulkResponse]":
        """Make a call in a thread that the process does not wait for at its end."""
        call = functools.partial(self._bulk_get, ids, deadline)
        try:
            return background.start(call, "scrape")
        except RuntimeError:
            # The system has no thread left: make the call in this one, and let others wait.
            return background.run(call)

    def _may_ask(self, this: _Round, under_way: int, deadline: float) -> bool:
        if not this.waiting or under_way == MAX_CALLS:
            return False
        if this.asked:
            allowed = not self._is_hopeless and self._quota.allows_further_call(under_way)
        else:
            allowed = self._quota.allows_first_call()
        is_over = self._clock.monotonic() >= _end_of_calls(this, deadline)
        this.late = allowed and (self._ended.done() or is_over)
        return allowed and not this.late

    def _take(self, this: _Round, future: "futures.Future[BulkResponse]") -> None:
        try:
            answer = future.result()
        except ApiError as error:
            this.failures.append(error)
            this.requests += error.requests
            self._is_hopeless |= error.reason in _HOPELESS
            self._quota.learn(error)
            return
        self._is_hopeless = False
        this.requests += answer.requests
        this.complete &= answer.complete
        self._quota.learn(answer)
        with self._lock:
            self._knowledge.learn(
                answer.outcomes, monotonic=self._clock.monotonic(), unix=self._clock.time()
            )

    def _report(self, this: _Round) -> None:
        """Log a failure when it begins or changes, and its end."""
        failure = None if this.complete else _INCOMPLETE
        if this.on_hold:
            failure = self._failure or _ON_HOLD
        elif this.failures:
            failure = f"{this.failures[0].reason}: {this.failures[0]}"
        if failure is not None and failure != self._failure:
            _log.warning("the API does not answer as it should", extra={"err": failure})
        if failure is None and self._failure is not None:
            _log.info("the API answers again")
        self._failure = failure


def _end_of_calls(this: _Round, deadline: float) -> float:
    return deadline - _RENDER_SECONDS * len(this.asked)
