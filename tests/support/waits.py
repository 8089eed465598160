"""Knowing that threads wait for a future, so that a test can go on just then."""

import threading
from collections.abc import Iterable
from concurrent import futures

import pytest


def noted_waits(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Return a semaphore that each call of `futures.wait` releases as it begins."""
    waiting = threading.Semaphore(0)
    wait = futures.wait

    def note(
        awaited: Iterable[futures.Future[object]], timeout: float | None = None
    ) -> futures._base.DoneAndNotDoneFutures[object]:
        waiting.release()
        return wait(awaited, timeout)

    monkeypatch.setattr(futures, "wait", note)
    return waiting
