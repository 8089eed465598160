"""The clock, passed as an argument wherever time matters."""

import time
from typing import Final, Protocol


class Clock(Protocol):
    """Wall-clock and monotonic time."""

    def time(self) -> float:
        """Return Unix time in seconds; it may jump."""

    def monotonic(self) -> float:
        """Return monotonic time in seconds; it never jumps."""


# CLOCK_MONOTONIC stops during suspend on Linux, so old states would look fresh.
_STEADY: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clock; its monotonic time includes suspend where the system supports that."""

    def time(self) -> float:
        """Return Unix time in seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since the machine was started."""
        return time.clock_gettime(_STEADY)
