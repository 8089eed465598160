"""How tests wait for what another thread or process is about to do."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent import futures
from typing import TypeVar

import pytest

PATIENCE = 20.0
"""Timeout, in seconds, of everything that a test waits for and that is usually there at once."""

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """Return the first true result of `condition`; fail after `timeout` seconds, naming `what`."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout:g} s: {what} (last answer: {answer!r})")
        time.sleep(pause)
        pause = min(2 * pause, 0.05)  # A server that is asked has work to do, too.
    return answer


def recorded_waits(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Return a semaphore that each call of `futures.wait` releases as it begins."""
    waiting = threading.Semaphore(0)
    wait = futures.wait

    def recorded(
        awaited: Iterable[futures.Future[object]], timeout: float | None = None
    ) -> futures._base.DoneAndNotDoneFutures[object]:
        waiting.release()
        return wait(awaited, timeout)

    monkeypatch.setattr(futures, "wait", recorded)
    return waiting
