"""Work in daemon threads, which the process does not wait for when it exits."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

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


def _complete(future: futures.Future[_Result], work: Callable[[], _Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 # result() raises it again
        future.set_exception(error)
