"""Work in a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from exporter import background


def start(work: Callable[[], int]) -> Future[int]:
    """Start the work under a name."""
    return background.start(work, "some-work")


def fail() -> int:
    """Fail as nothing in the exporter does."""
    raise SystemExit(3)


def run(work: Callable[[], int]) -> Future[int]:
    """Run work in this thread: the system has none left."""
    before = threading.stack_size(1 << 46)
    try:
        return background.start_or_run(work, "some-work")
    finally:
        threading.stack_size(before)


@pytest.mark.parametrize("begin", [start, run])
def test_the_future_has_the_result(begin: Callable[[Callable[[], int]], Future[int]]) -> None:
    """The future has the result, with or without a new thread."""
    assert begin(lambda: 7).result(5) == 7


@pytest.mark.parametrize("begin", [start, run])
def test_the_future_has_the_exception(begin: Callable[[Callable[[], int]], Future[int]]) -> None:
    """The future raises the exception of the work."""
    with pytest.raises(SystemExit):
        begin(fail).result(5)


def test_the_process_does_not_wait_for_the_thread() -> None:
    """The thread has the name that it was given, and is a daemon."""
    thread = background.start(threading.current_thread, "some-work").result(5)
    assert (thread.name, thread.daemon) == ("some-work", True)


def test_a_system_without_threads_is_told_to_the_caller() -> None:
    """Without a thread, an error is raised and the work is not started."""
    before = threading.stack_size(1 << 46)
    try:
        with pytest.raises(RuntimeError):
            start(lambda: 7)
    finally:
        threading.stack_size(before)
