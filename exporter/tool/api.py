"""Sequential calls within a share of the account's rate limit."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from exporter.cavatica.answer import (
    ApiError,
    BulkResponse,
    ListResponse,
    OrdersResponse,
    RateLimit,
)
from exporter.clock import Clock
from exporter.tracker.rate_limit import WINDOW_SECONDS, RateLimiter

R = TypeVar("R", BulkResponse, ListResponse, OrdersResponse)

# Seconds between checks whether the rate limit allows another call.
_PAUSE_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Calls(Protocol):
    """The calls of `exporter.cavatica.client.Client`."""

    def bulk_get(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Fetch exports by ID."""

    def list_exports(
        self, *, offset: int, limit: int, states: Sequence[str] = (), deadline: float
    ) -> ListResponse:
        """Fetch a part of the list."""

    def get_orders(self, ids: Sequence[str], deadline: float) -> OrdersResponse:
        """Fetch the orders of exports."""


class PacedApi:
    """Makes calls, and waits when the share of the rate limit is used up.

    Args:
        client: Makes the calls.
        quota_share: The maximum share of the account's rate limit to use.
        timeout: Seconds for one call.
        clock: Wall clock and monotonic clock.
        pause: Waits for some seconds; may raise an error to stop the work.

    Attributes:
        calls: Number of requests sent.
    """

    def __init__(
        self,
        client: Calls,
        *,
        quota_share: float,
        timeout: float,
        clock: Clock,
        pause: Callable[[float], object],
    ) -> None:
        self.calls = 0
        self._client = client
        self._timeout = timeout
        self._clock = clock
        self._pause = pause
        self._limiter = RateLimiter(quota_share, clock)

    @property
    def rate_limit(self) -> RateLimit | None:
        """The rate limit as last reported by the API."""
        return self._limiter.rate_limit

    def list_exports(self, *, offset: int, limit: int, states: Sequence[str] = ()) -> ListResponse:
        """Return a part of the list.

        Raises:
            ApiError: there is no usable answer.
        """
        return self._call(
            lambda deadline: self._client.list_exports(
                offset=offset, limit=limit, states=states, deadline=deadline
            )
        )

    def bulk_get(self, ids: Sequence[str]) -> BulkResponse:
        """Return up to 100 exports.

        Raises:
            ApiError: there is no usable answer.
        """
        return self._call(lambda deadline: self._client.bulk_get(ids, deadline))

    def get_orders(self, ids: Sequence[str]) -> OrdersResponse:
        """Return the orders of up to 100 exports.

        Raises:
            ApiError: there is no usable answer.
        """
        return self._call(lambda deadline: self._client.get_orders(ids, deadline))

    def _call(self, call: Callable[[float], R]) -> R:
        gives_up = math.inf
        while True:
            self._wait()
            try:
                return self._call_once(call)
            except ApiError as error:
                # Other programs may use up the limit at any time: a long round must not be lost.
                if error.reason != "rate_limited" or self._clock.monotonic() >= gives_up:
                    raise
            # With a wrong clock, waiting for the end of the window takes several attempts.
            gives_up = min(gives_up, self._clock.monotonic() + WINDOW_SECONDS)

    def _wait(self) -> None:
        # After a signal, there are no more calls.
        self._pause(0.0)
        if not self._limiter.allows_additional_call(0):
            seconds = round(self._limiter.window_seconds or self._limiter.blocked_for)
            _log.info("Waiting for the rate limit", extra={"calls": self.calls, "seconds": seconds})
        while not self._limiter.allows_additional_call(0):
            self._pause(_PAUSE_SECONDS)

    def _call_once(self, call: Callable[[float], R]) -> R:
        try:
            response = call(self._clock.monotonic() + self._timeout)
        except ApiError as error:
            self.calls += error.requests
            self._limiter.update(error)
            raise
        self.calls += response.requests
        self._limiter.update(response)
        return response
