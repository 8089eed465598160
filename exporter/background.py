"""Work in daemon threads, which the process does not wait for when it exits."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


def start(work: Callable[[], _Result], name: str) -> futures.Future[_Result]:
    """Run `work` in a daemon thread and return the future of its result.

    Raises:
        RuntimeError: no thread can be started.
    """
    future: futures.Future[_Result] = futures.Future()
    threading.Thread(target=_complete, args=(future, work), name=name, daemon=True).start()
    return future


def start_or_run(work: Callable[[], _Result], name: str) -> futures.Future[_Result]:
    """Run `work` in a daemon thread or, if none can be started, in the calling thread."""
    try:
        return start(work, name)
    except RuntimeError:
        future: futures.Future[_Result] = futures.Future()
        _complete(future, work)
        return future


class Repeated(Generic[_Result]):
    """Work that is done on demand in a daemon thread, one run at a time.

    Args:
        work: Does the work; its result is that of the run.
        name: The name of the thread.
    """

    def __init__(self, work: Callable[[], _Result], name: str) -> None:
        self._work = work
        self._name = name
        self._lock = threading.Lock()
        self._is_running = False
        self._next: futures.Future[_Result] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run has not ended."""
        return self._is_running

    def begin(self) -> futures.Future[_Result]:
        """Return the future of a run that begins after this call.

        If a run is in flight, that is the next one, which all callers meanwhile share: the run in
        flight may have missed the latest change.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._lock:
            if self._next is None:
                if not self._is_running:
                    # It waits for the lock before it looks for the next run.
                    start(self._run, self._name)
                    self._is_running = True
                self._next = futures.Future()
            return self._next

    def _run(self) -> None:
        while (future := self._take()) is not None:
            _complete(future, self._work)

    def _take(self) -> futures.Future[_Result] | None:
        with self._lock:
            future, self._next = self._next, None
            self._is_running = future is not None
            return future


def _complete(future: futures.Future[_Result], work: Callable[[], _Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 # passed on: `result()` raises it
        future.set_exception(error)
