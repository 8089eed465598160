"""The system's clock."""

import sys
import time

import pytest

from exporter.clock import SystemClock

# Two looks at a clock on a busy machine.
APART = 1.0


def test_unix_time_is_the_systems() -> None:
    """The Unix time is the system's."""
    assert SystemClock().time() == pytest.approx(time.time(), abs=APART)


def test_steady_time_goes_on() -> None:
    """The monotonic time never goes back."""
    clock = SystemClock()
    times = [clock.monotonic() for _ in range(100)]
    assert times == sorted(times)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such clock")
def test_steady_time_counts_the_machines_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux has one clock that stands still while the machine is suspended, and one that does not.

    A state that was known before a night's sleep is not a few seconds old in the morning.
    """
    after_a_night = {time.CLOCK_MONOTONIC: 100.0, time.CLOCK_BOOTTIME: 100.0 + 8 * 3600}
    monkeypatch.setattr(time, "clock_gettime", after_a_night.__getitem__)
    assert SystemClock().monotonic() == 100.0 + 8 * 3600
