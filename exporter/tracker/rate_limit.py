"""The account's rate limit, which everything else that uses the account shares."""

import math
from dataclasses import replace
from typing import Final

from exporter.cavatica.answer import ApiError, BulkResponse, ListResponse, RateLimit
from exporter.clock import Clock

#: Calls in a window, and its seconds, as the API's page on rate limits says.
LIMIT: Final = 1000
WINDOW_SECONDS: Final = 300

# How long a window is taken to last where the reset is in the past, or further away than any.
_DEFAULT_WINDOW_SECONDS = 60.0
_LONGEST_WINDOW_SECONDS = 3600.0
_NOTHING = RateLimit(None, None, None)
# 0.29 * 100 is a little less than 29.
_ROUNDING = 1e-9


def allowed_calls(share: float, limit: int) -> int:
    """Give how many of a window's calls `share` is."""
    return math.floor(share * limit + _ROUNDING)


class RateLimiter:
    """Says whether another call may be made.

    Args:
        share: The part of the rate limit that may be used up, from 0 to 1.
        clock: Both kinds of time.
    """

    def __init__(self, share: float, clock: Clock) -> None:
        self._share = share
        self._clock = clock
        self._rate_limit: RateLimit | None = None
        # Requests that the account may have paid for, though nobody said so.
        self._untold = 0
        # On the monotonic clock: the other one may be wrong, and it may jump.
        self._window_ends = -math.inf
        self._held_until = -math.inf

    @property
    def rate_limit(self) -> RateLimit | None:
        """What the API said last; None before it said anything."""
        return self._rate_limit

    @property
    def held_seconds(self) -> float:
        """For how long there must be no call, because the account has none left."""
        return max(self._held_until - self._clock.monotonic(), 0.0)

    def allows_first_call(self) -> bool:
        """Whether a scrape may ask at all: always, but while the account has no calls left."""
        return not self.held_seconds

    def allows_further_call(self, under_way: int) -> bool:
        """Whether one more may be sent while `under_way` calls are not answered yet."""
        if not self.allows_first_call():
            return False
        is_over = self._clock.monotonic() >= self._window_ends
        if is_over and under_way:
            # The next answer tells what is left in this window.
            return False
        known = self._rate_limit or RateLimit(LIMIT, None, None)
        remaining = known.limit if is_over else known.remaining
        if known.limit is None or remaining is None:
            return True
        left = remaining - self._untold - under_way
        return left > known.limit - allowed_calls(self._share, known.limit)

    def learn(self, call: BulkResponse | ListResponse | ApiError) -> None:
        """Take over what a call's headers say, or that they say nothing.

        A failure without them is a proxy's, or the call never got there: it says nothing about
        the account's limit. A good answer without them says that there is none.
        """
        told = call.rate_limit or _NOTHING
        wait = (told.reset or 0) - self._clock.time()
        makes_sense = 0 < wait <= _LONGEST_WINDOW_SECONDS
        ends = self._clock.monotonic() + (wait if makes_sense else _DEFAULT_WINDOW_SECONDS)
        if self._is_news(told, is_failure=isinstance(call, ApiError)):
            known = self._rate_limit
            if known is None or known.reset != told.reset or not makes_sense:
                self._untold = 0
            elif known.remaining is not None and told.remaining is not None:
                # Answers of calls side by side arrive in any order.
                remaining = min(known.remaining, told.remaining)
                # What was taken off for requests that told nothing may be told of now.
                self._untold = max(self._untold - (known.remaining - remaining), 0)
                told = replace(told, remaining=remaining)
            self._rate_limit = told
            self._window_ends = ends
        else:
            self._untold += call.requests
        refused = isinstance(call, ApiError) and call.reason == "rate_limited"
        if refused or told.remaining == 0:
            self._held_until = max(self._held_until, ends)

    def _is_news(self, told: RateLimit, *, is_failure: bool) -> bool:
        if is_failure:
            return told.limit is not None and told.remaining is not None
        is_over = self._clock.monotonic() >= self._window_ends
        return told != _NOTHING or self._rate_limit is None or is_over
