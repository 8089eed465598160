"""The clock that is passed in where time matters."""

import time
from typing import Final, Protocol


class Clock(Protocol):
    """Both kinds of time."""

    def time(self) -> float:
        """Give Unix time in seconds; it may jump."""

    def monotonic(self) -> float:
        """Give seconds since some moment; it never jumps."""


# What is usual on Linux stands still while the machine sleeps: old states would be shown as new.
_STEADY: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clock; the time that never jumps goes on while it sleeps, where it can."""

    def time(self) -> float:
        """Give Unix time in seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Give seconds since the machine was started."""
        return time.clock_gettime(_STEADY)
