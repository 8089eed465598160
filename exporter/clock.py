"""The clock that is passed in where time matters."""

from typing import Protocol


class Clock(Protocol):
    """Both kinds of time, as the module `time` has them."""

    def time(self) -> float:
        """Give Unix time in seconds; it may jump."""

    def monotonic(self) -> float:
        """Give seconds since some moment; it never jumps."""
