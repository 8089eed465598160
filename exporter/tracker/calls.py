"""The API calls of one scrape: concurrent, within the deadline and the rate limit."""

import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from exporter import background
from exporter.cavatica.answer import MAX_CALLS, ApiError, BulkResponse
from exporter.cavatica.export import LookupFailure
from exporter.clock import Clock
from exporter.tracker.rate_limit import RateLimiter

# After these failures further calls are pointless until one succeeds.
_HOPELESS: Final = frozenset({"auth", "rate_limited", "maintenance", "proxy"})

# Calls with less time may time out although the API is well. How much time there is, is up to the
# scraper's client, who could fill the log otherwise: such a failure is reported once it has lasted.
_AMPLE_SECONDS: Final = 1.0
_LASTING_SECONDS: Final = 30.0

_INCOMPLETE: Final = "invalid_response: the items do not account for every requested ID"
_BAD_ID: Final = "the API refuses a call with this ID"
_ON_HOLD: Final = "rate_limited: the account has no calls left in this window"

_log = logging.getLogger(__name__)


class BulkGet(Protocol):
    """Queries the API: `exporter.cavatica.client.Client.bulk_get`."""

    def __call__(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Raise `ApiError` if there is no usable answer."""


@dataclass(slots=True)
class ScrapeCalls:
    """The calls of one scrape.

    Attributes:
        pending: Calls that were not made yet.
        deadline: Monotonic time at which the answer to the scraper must be ready.
        asked: The IDs of the calls that were made.
        answered: The IDs of each call that the API answered.
        refused: The IDs of each call that it refused because of them, and the error.
        failures: Other failures of the calls.
        complete: Whether the other answers accounted for every ID.
        hit_deadline: Whether the deadline prevented calls.
        requests: HTTP requests sent.
    """

    pending: deque[list[str]]
    deadline: float
    asked: list[str] = field(default_factory=list)
    answered: list[list[str]] = field(default_factory=list)
    refused: list[tuple[list[str], ApiError]] = field(default_factory=list)
    failures: list[ApiError] = field(default_factory=list)
    complete: bool = True
    hit_deadline: bool = False
    requests: int = 0

    @property
    def not_asked(self) -> list[str]:
        """The IDs of the calls that were not made."""
        return [export_id for ids in self.pending for export_id in ids]

    @property
    def rate_limited(self) -> bool:
        """Whether there was no call because the account has none left."""
        return bool(self.pending) and not self.asked and not self.hit_deadline

    @property
    def bad_ids(self) -> dict[str, LookupFailure]:
        """The IDs that the API refused alone while it answered other calls."""
        if not self.answered:
            return {}
        return {
            ids[0]: LookupFailure(error.code, error.status, _BAD_ID)
            for ids, error in self.refused
            if len(ids) == 1
        }

    @property
    def problems(self) -> list[ApiError]:
        """The failures that are not the fault of a single ID."""
        bad_ids = self.bad_ids
        return self.failures + [error for ids, error in self.refused if ids[0] not in bad_ids]

    @property
    def up(self) -> bool:
        """Whether all went well; calls postponed by the quota share do not count."""
        return self.complete and not (self.problems or self.hit_deadline or self.rate_limited)

    @property
    def out_of_time(self) -> bool:
        """Whether more time could have helped."""
        return self.hit_deadline or any(failure.reason == "timeout" for failure in self.failures)


class Caller:
    """Makes the calls of scrapes.

    Args:
        bulk_get: Queries the API for up to `MAX_IDS` exports.
        record: Called with each answer and the monotonic time at which its call began.
        quota_share: The part of the account's rate limit that may be used, from 0 to 1.
        render_seconds: Seconds that rendering one export takes: calls end so much earlier.
        clock: Wall clock and monotonic clock.
    """

    def __init__(
        self,
        bulk_get: BulkGet,
        record: Callable[[BulkResponse, float], None],
        *,
        quota_share: float,
        render_seconds: float,
        clock: Clock,
    ) -> None:
        self._bulk_get = bulk_get
        self._record = record
        self._render_seconds = render_seconds
        self._clock = clock
        self._is_hopeless = False
        # Completed by `end`: calls are no longer waited for.
        self._ended: futures.Future[None] = futures.Future()
        # Two scrapes may make calls at the same time.
        self._lock = threading.Lock()
        self.rate_limiter = RateLimiter(quota_share, clock)
        # Monotonic time of the first timeout of a short scrape since the last success.
        self._timeouts_began: float | None = None
        #: Why the last calls failed, as a text that is safe to show, or None.
        self.problem: str | None = None

    def end(self) -> None:
        """Stop waiting for calls, now and in later scrapes; to be called once."""
        self._ended.set_result(None)

    def make(self, calls: ScrapeCalls) -> None:
        """Make the calls, several at the same time."""
        in_flight: dict[futures.Future[BulkResponse], tuple[list[str], float]] = {}
        is_short = calls.deadline - self._clock.monotonic() < _AMPLE_SECONDS
        while True:
            while self._may_ask(calls, len(in_flight)):
                ids = calls.pending.popleft()
                calls.asked += ids
                began = self._clock.monotonic()
                in_flight[self._start(ids, self._end_of_calls(calls))] = ids, began
            if not in_flight:
                break
            awaited: list[futures.Future[Any]] = [*in_flight, self._ended]
            futures.wait(awaited, return_when=futures.FIRST_COMPLETED)
            done = [future for future in in_flight if future.done()]
            if not done:
                calls.hit_deadline = True
                break
            for future in done:
                self._take(calls, future, *in_flight.pop(future))
        if calls.asked or calls.rate_limited:
            self._report(calls, is_short=is_short)

    def _start(self, ids: Sequence[str], deadline: float) -> "futures.Future[BulkResponse]":
        """Make a call in a thread that the process does not wait for at its end."""
        return background.start_or_run(functools.partial(self._bulk_get, ids, deadline), "scrape")

    def _may_ask(self, calls: ScrapeCalls, in_flight: int) -> bool:
        # Until the API answers a call, refused ones count as unanswered: if it refuses all calls,
        # only the first few are made.
        unanswered = in_flight if calls.answered else in_flight + len(calls.refused)
        if not calls.pending or unanswered >= MAX_CALLS:
            return False
        if calls.asked:
            limiter = self.rate_limiter
            allowed = not self._is_hopeless and limiter.allows_additional_call(in_flight)
        else:
            allowed = self.rate_limiter.allows_first_call()
        is_over = self._clock.monotonic() >= self._end_of_calls(calls)
        calls.hit_deadline = allowed and (self._ended.done() or is_over)
        return allowed and not calls.hit_deadline

    def _take(
        self,
        calls: ScrapeCalls,
        future: "futures.Future[BulkResponse]",
        ids: list[str],
        began: float,
    ) -> None:
        try:
            answer = future.result()
        except ApiError as error:
            if error.blames_ids:
                calls.refused.append((ids, error))
            else:
                calls.failures.append(error)
            calls.requests += error.requests
            with self._lock:
                self._is_hopeless |= error.reason in _HOPELESS
                self.rate_limiter.update(error)
            return
        calls.answered.append(ids)
        calls.requests += answer.requests
        calls.complete &= answer.complete
        with self._lock:
            self._is_hopeless = False
            self.rate_limiter.update(answer)
        self._record(answer, began)

    def _end_of_calls(self, calls: ScrapeCalls) -> float:
        return calls.deadline - self._render_seconds * len(calls.asked)

    def _report(self, calls: ScrapeCalls, *, is_short: bool) -> None:
        """Log a failure when it begins or changes, and its end."""
        problem = None if calls.complete else _INCOMPLETE
        before, problems = self.problem, calls.problems
        if calls.rate_limited:
            # The API's refusal says more; another problem hides why there is no call.
            is_refusal = before is not None and before.startswith("rate_limited")
            problem = before if is_refusal else _ON_HOLD
        elif problems:
            problem = problems[0].problem
            if is_short and all(each.reason == "timeout" for each in problems):
                now = self._clock.monotonic()
                if self._timeouts_began is None:
                    self._timeouts_began = now
                if before is not None or now - self._timeouts_began < _LASTING_SECONDS:
                    return
        if problem is None:
            self._timeouts_began = None
        # Before it is logged: a log pipe that hangs holds up this scrape only.
        self.problem = problem
        if problem is not None and problem != before:
            _log.warning("API request failed", extra={"err": problem})
        if problem is None and before is not None:
            _log.info("API requests succeed again")
