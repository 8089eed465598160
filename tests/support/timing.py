"""Time limits for tests, which may run on a busy machine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_MEASURED_SECONDS = 0.1


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes `seconds` or longer, or `seconds * slowdown()` on a busy machine.

    So the limit can be strict, and still hold while other tests run.
    """
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert is_within(took, seconds), f"took {took:.2f} s instead of less than {seconds:g} s"


def is_within(took: float, seconds: float) -> bool:
    """Return whether something that has just taken `took` seconds is within the limit `seconds`."""
    return took < seconds or took < seconds * slowdown()


def slowdown() -> float:
    """Return how many times longer than on an idle machine a thread takes now; at least 1."""
    began, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < _MEASURED_SECONDS:
        pass
    return max((time.monotonic() - began) / (time.thread_time() - used), 1.0)
