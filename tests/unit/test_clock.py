"""The system's clock."""

import sys
import time

import pytest

from exporter.clock import SystemClock

# Seconds between two readings of the clock on a busy machine, at most.
MAX_DIFFERENCE = 1.0


def test_unix_time_is_that_of_the_system() -> None:
    """`time` returns the system's Unix time."""
    assert SystemClock().time() == pytest.approx(time.time(), abs=MAX_DIFFERENCE)


def test_monotonic_time_never_goes_back() -> None:
    """Later readings of `monotonic` are never smaller than earlier ones."""
    clock = SystemClock()
    times = [clock.monotonic() for _ in range(100)]
    assert times == sorted(times)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such clock")
def test_monotonic_time_includes_suspend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Linux's two monotonic clocks, the one that does not stop during suspend is used.

    With the other, a state from before a night's suspend would look fresh in the morning.
    """
    after_a_night = {time.CLOCK_MONOTONIC: 100.0, time.CLOCK_BOOTTIME: 100.0 + 8 * 3600}
    monkeypatch.setattr(time, "clock_gettime", after_a_night.__getitem__)
    assert SystemClock().monotonic() == 100.0 + 8 * 3600
