"""Notice when a thread begins to wait for a future, so that a test can continue at that moment."""

import threading
from collections.abc import Iterable
from concurrent import futures

import pytest


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
