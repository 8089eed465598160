"""The account's rate limit, which everything else that uses the account shares."""

from dataclasses import replace

from exporter.api import RateLimit
from exporter.clock import Clock

# What is waited for where the reset is in the past, or further away than any window.
_DEFAULT_HOLD_SECONDS = 60.0
_LONGEST_HOLD_SECONDS = 3600.0


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
        self._held_until: float | None = None

    @property
    def rate_limit(self) -> RateLimit | None:
        """What the API said last; None before it said anything."""
        return self._rate_limit

    def allows_first_call(self) -> bool:
        """Whether a scrape may ask at all: always, but while the account has no calls left."""
        return self._held_until is None or self._clock.monotonic() >= self._held_until

    def allows_further_call(self, under_way: int) -> bool:
        """Whether one more may be sent while `under_way` calls are not answered yet."""
        if not self.allows_first_call():
            return False
        known = self._rate_limit
        if known is None or (known.reset is not None and known.reset <= self._clock.time()):
            # The next answer tells what is left in this window.
            return under_way == 0
        if known.limit is None or known.remaining is None:
            return True
        return known.remaining - under_way > (1 - self._share) * known.limit

    def learn(self, told: RateLimit, *, refused: bool) -> None:
        """Take over what an answer's headers say; `refused` if it was a 429."""
        known = self._rate_limit
        if known is None or told != RateLimit(None, None, None):
            if (
                known is not None
                and known.reset == told.reset
                and known.remaining is not None
                and told.remaining is not None
            ):
                # Answers of calls side by side arrive in any order.
                told = replace(told, remaining=min(known.remaining, told.remaining))
            self._rate_limit = told
        if refused or told.remaining == 0:
            wait = (told.reset or 0) - self._clock.time()
            if not 0 < wait <= _LONGEST_HOLD_SECONDS:
                wait = _DEFAULT_HOLD_SECONDS
            self._held_until = self._clock.monotonic() + wait
