"""The account's rate limit, which all programs of the account share."""

import math
from dataclasses import replace
from typing import Final

from exporter.cavatica.answer import ApiError, BulkResponse, ListResponse, OrdersResponse, RateLimit
from exporter.clock import Clock

#: Calls in a window and its length in seconds, as documented on the API's page on rate limits.
LIMIT: Final = 1000
WINDOW_SECONDS: Final = 300

# The assumed length of a window whose reset is in the past or farther away than any window's: this
# machine's clock is wrong. Until the window ends, that costs a refused call a minute.
_DEFAULT_WINDOW_SECONDS = 60.0
_LONGEST_WINDOW_SECONDS = WINDOW_SECONDS + 60.0
_NO_HEADERS = RateLimit(None, None, None)
# 0.29 * 100 is a little less than 29.
_ROUNDING = 1e-9


def allowed_calls(share: float, limit: int) -> int:
    """Return how many calls of a window `share` allows, which is at least one."""
    # With none, discovery would wait for ever.
    return max(math.floor(share * limit + _ROUNDING), 1)


class RateLimiter:
    """Decides whether another call may be made.

    Args:
        share: The part of the rate limit that may be used, from 0 to 1.
        clock: Wall clock and monotonic clock.
    """

    def __init__(self, share: float, clock: Clock) -> None:
        self._share = share
        self._clock = clock
        self._rate_limit: RateLimit | None = None
        # Requests that may count against the limit but were not confirmed by a response.
        self._unconfirmed = 0
        # Monotonic times: the wall clock may be wrong, and it may jump.
        self._window_ends = -math.inf
        self._blocked_until = -math.inf

    @property
    def rate_limit(self) -> RateLimit | None:
        """The rate limit as last reported by the API, or None."""
        return self._rate_limit

    @property
    def blocked_for(self) -> float:
        """Seconds for which no call is allowed, because the account has none left."""
        return max(self._blocked_until - self._clock.monotonic(), 0.0)

    @property
    def window_seconds(self) -> float | None:
        """Seconds until the window ends; None before the API reported a limit."""
        if self._rate_limit is None or self._rate_limit.limit is None:
            return None
        ends = max(self._window_ends, self._blocked_until)
        return max(ends - self._clock.monotonic(), 0.0)

    def allows_first_call(self) -> bool:
        """Return whether a scrape may make its first call: if the account has any left."""
        return not self.blocked_for

    def allows_additional_call(self, in_flight: int) -> bool:
        """Return whether one more call may be sent beside `in_flight` unanswered ones."""
        if not self.allows_first_call():
            return False
        is_over = self._clock.monotonic() >= self._window_ends
        if is_over and in_flight:
            # The next answer says how many calls are left in this window.
            return False
        known = self._rate_limit or RateLimit(LIMIT, None, None)
        remaining = known.limit if is_over else known.remaining
        if known.limit is None or remaining is None:
            return True
        left = remaining - self._unconfirmed - in_flight
        return left > known.limit - allowed_calls(self._share, known.limit)

    def update(self, call: BulkResponse | ListResponse | OrdersResponse | ApiError) -> None:
        """Update the limits from the headers of a call.

        A failure without them comes from a proxy, or the call never reached the API: it says
        nothing about the account's limit. A good answer without them means that there is none.
        """
        headers = call.rate_limit or _NO_HEADERS
        wait = (headers.reset or 0) - self._clock.time()
        makes_sense = 0 < wait <= _LONGEST_WINDOW_SECONDS
        ends = self._clock.monotonic() + (wait if makes_sense else _DEFAULT_WINDOW_SECONDS)
        if self._is_news(headers, is_failure=isinstance(call, ApiError)):
            known = self._rate_limit
            if known is None or known.reset != headers.reset or not makes_sense:
                self._unconfirmed = 0
            elif known.remaining is not None and headers.remaining is not None:
                # Concurrent calls are answered in any order.
                remaining = min(known.remaining, headers.remaining)
                # The API may have counted the unconfirmed requests by now.
                self._unconfirmed = max(self._unconfirmed - (known.remaining - remaining), 0)
                headers = replace(headers, remaining=remaining)
            self._rate_limit = headers
            self._window_ends = ends
        else:
            self._unconfirmed += call.requests
        refused = isinstance(call, ApiError) and call.reason == "rate_limited"
        if refused or headers.remaining == 0:
            self._blocked_until = max(self._blocked_until, ends)

    def _is_news(self, headers: RateLimit, *, is_failure: bool) -> bool:
        if is_failure:
            return headers.limit is not None and headers.remaining is not None
        is_over = self._clock.monotonic() >= self._window_ends
        return headers != _NO_HEADERS or self._rate_limit is None or is_over
