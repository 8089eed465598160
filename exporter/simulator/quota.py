"""The account's rate limit: a number of calls in a window, then none until it ends."""

import math
from dataclasses import dataclass, field


@dataclass(slots=True)
class Quota:
    """The calls of one account. Not thread-safe: its owner holds a lock.

    Attributes:
        limit: calls in one window.
        window: length of a window in seconds; it begins with the first call after the last window.

    """

    limit: int
    window: float
    _used: int = field(default=0, init=False)
    _ends: float = field(default=-math.inf, init=False)

    def spend(self, now: float, calls: int) -> bool:
        """Count calls at the Unix time `now`; return False if none were left."""
        if self.remaining(now) == 0:
            return False
        self._used = min(self.limit, self._used + calls)
        return True

    def remaining(self, now: float) -> int:
        """Return the calls left in the window of the Unix time `now`."""
        # The upper bound matters after the clock was set back: the window would never end.
        if not now < self._ends <= now + self.window + 1:
            self._ends = math.ceil(now + self.window)
            self._used = 0
        return self.limit - self._used

    def headers(self, now: float) -> dict[str, str]:
        """Return the three headers of every answer; the reset time is in Unix seconds."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining(now)),
            "X-RateLimit-Reset": str(int(self._ends)),
        }

    def page(self, now: float) -> dict[str, object]:
        """Return the answer of `GET /rate_limit`; its reset time is in Unix milliseconds."""
        remaining = self.remaining(now)
        reset = int(self._ends) * 1000
        return {"rate": {"limit": self.limit, "remaining": remaining, "reset": reset}}
