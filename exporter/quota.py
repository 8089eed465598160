"""The account's rate limit, which everything else that uses the account shares."""

import math
from dataclasses import replace

from exporter.api import RateLimit
from exporter.clock import Clock

# How long a window is taken to last where the reset is in the past, or further away than any.
_DEFAULT_WINDOW_SECONDS = 60.0
_LONGEST_WINDOW_SECONDS = 3600.0
_NOTHING = RateLimit(None, None, None)


class Quota:
    """Says whether another call may be made.

    Args:
        share: The part of the rate limit that may be used up, from 0 to 1.
        clock: Both kinds of time.
    """

    def __init__(self, share: float, clock: Clock) -> None:
        self._share = share
        self._clock = clock
        self._rate_limit: RateLimit | None = None
        # On the monotonic clock: the other one may be wrong, and it may jump.
        self._window_ends = -math.inf
        self._held_until = -math.inf

    @property
    def rate_limit(self) -> RateLimit | None:
        """What the API said last; None before it said anything."""
        return self._rate_limit

    def allows_first_call(self) -> bool:
        """Whether a scrape may ask at all: always, but while the account has no calls left."""
        return self._clock.monotonic() >= self._held_until

    def allows_further_call(self, under_way: int) -> bool:
        """Whether one more may be sent while `under_way` calls are not answered yet."""
        if not self.allows_first_call():
            return False
        known = self._rate_limit
        if known is None or self._clock.monotonic() >= self._window_ends:
            # The next answer tells what is left in this window.
            return under_way == 0
        if known.limit is None or known.remaining is None:
            return True
        return known.remaining - under_way > (1 - self._share) * known.limit

    def learn(self, told: RateLimit, *, refused: bool) -> None:
        """Take over what an answer's headers say; `refused` if it was a 429."""
        wait = (told.reset or 0) - self._clock.time()
        makes_sense = 0 < wait <= _LONGEST_WINDOW_SECONDS
        ends = self._clock.monotonic() + (wait if makes_sense else _DEFAULT_WINDOW_SECONDS)
        known = self._rate_limit
        if known is None or told != _NOTHING:
            if (
                makes_sense
                and known is not None
                and known.reset == told.reset
                and known.remaining is not None
                and told.remaining is not None
            ):
                # Answers of calls side by side arrive in any order.
                told = replace(told, remaining=min(known.remaining, told.remaining))
            self._rate_limit = told
            self._window_ends = ends
        if refused or told.remaining == 0:
            self._held_until = max(self._held_until, ends)
