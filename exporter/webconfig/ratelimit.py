"""`rate_limit`: a token bucket in front of a WSGI application."""

import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exporter.webconfig.section import Section

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

RATE_KEYS: Final = ("interval", "burst")

#: Go's units of durations, which exporter-toolkit reads.
_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "\N{MICRO SIGN}s": 1e-6,
    "\N{GREEK SMALL LETTER MU}s": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART: Final = re.compile(rf"([0-9]{{1,15}}(?:\.[0-9]{{0,15}})?)({'|'.join(_UNITS)})")
_COUNT: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Rate:
    """The rate at which requests are answered.

    Attributes:
        interval: Seconds per additional request.
        burst: Maximum requests at once; 0: every request is refused, as in exporter-toolkit.
    """

    interval: float
    burst: int

    @classmethod
    def parse(cls, section: Section) -> "Rate | None":
        """Parse the section `rate_limit`; None if there is no limit.

        Raises:
            WebConfigError: It is not valid.
        """
        interval = _seconds(section)
        burst = section.text("burst") or "0"
        if not _COUNT.fullmatch(burst):
            raise section.error("burst", "must be a whole number")
        return cls(interval, int(burst)) if interval else None


class TokenBucket:
    """A token bucket; full at the start.

    Args:
        rate: Its size, and how fast it fills.
        monotonic: The clock.
    """

    def __init__(self, rate: Rate, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._tokens = float(rate.burst)
        self._filled = monotonic()

    def take(self) -> bool:
        """Take a token; return whether there was one."""
        with self._lock:
            now = self._monotonic()
            tokens = self._tokens + (now - self._filled) / self.rate.interval
            self._tokens = min(tokens, float(self.rate.burst))
            self._filled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


class RateLimited:
    """WSGI middleware that answers requests beyond the limit with 429.

    Args:
        app: The application behind it.
        bucket: Called for each request; None: no limit.
    """

    def __init__(self, app: "WSGIApplication", bucket: Callable[[], TokenBucket | None]) -> None:
        self._app = app
        self._bucket = bucket

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request, or pass it on."""
        bucket = self._bucket()
        if bucket is None or bucket.take():
            return self._app(environ, start_response)
        start_response("429 Too Many Requests", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"Too Many Requests\n"]


def _seconds(section: Section) -> float:
    """Return `interval`; 0 if there is none."""
    text = section.text("interval") or "0"
    if text == "0":
        return 0.0
    parts = list(_PART.finditer(text))
    if "".join(part[0] for part in parts) != text:
        raise section.error("interval", "must be a duration such as 500ms, 1s or 1m30s, or 0")
    return sum(float(part[1]) * _UNITS[part[2]] for part in parts)
