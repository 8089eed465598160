"""Work in a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from exporter import background
from tests.support.waits import wait_until


def start(work: Callable[[], int]) -> Future[int]:
    """Start the work in a thread."""
    return background.start(work, "some-work")


def fail() -> int:
    """Raise an exception that is not a subclass of `Exception`."""
    raise SystemExit(3)


def run(work: Callable[[], int]) -> Future[int]:
    """Run the work in this thread, because the system cannot start another."""
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


def refuse(*_: object) -> None:
    """Fail as if the system cannot start another thread."""
    raise RuntimeError


class BlockingWork:
    """Work whose runs end when the test allows it."""

    def __init__(self) -> None:
        self.runs = 0
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def __call__(self) -> int:
        """Wait for the test, and return the number of the run."""
        self.runs += 1
        run = self.runs
        self.began.release()
        assert self.may_end.acquire(timeout=5)
        return run


def test_callers_share_the_run_that_begins_after_their_call() -> None:
    """Callers during a run share the next run, because this one may have begun too early."""
    work = BlockingWork()
    repeated = background.Repeated(work, "some-work")
    first = repeated.begin()
    assert work.began.acquire(timeout=5)
    later = [repeated.begin() for _ in range(9)]
    work.may_end.release()
    assert first.result(5) == 1
    assert work.began.acquire(timeout=5)
    assert not any(call.done() for call in later)
    last = repeated.begin()
    work.may_end.release(2)
    assert [call.result(5) for call in (*later, last)] == [*[2] * 9, 3]
    assert work.runs == 3


def test_repeated_work_ends_its_thread_and_starts_another() -> None:
    """The thread ends after a run, even one that fails; the next call starts another thread."""
    results = [5, 0]
    repeated = background.Repeated(lambda: 10 // results.pop(), "some-work")
    with pytest.raises(ZeroDivisionError):
        repeated.begin().result(5)
    wait_until(lambda: not repeated.is_running, "the thread ends")
    assert repeated.begin().result(5) == 2
    wait_until(lambda: not repeated.is_running, "the thread ends")


def test_repeated_work_without_a_thread_is_an_error_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a thread each call fails and does no work; the next call with a thread succeeds."""
    work = BlockingWork()
    repeated = background.Repeated(work, "some-work")
    with monkeypatch.context() as patch:
        patch.setattr(background, "start", refuse)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                repeated.begin()
    assert (work.runs, repeated.is_running) == (0, False)
    work.may_end.release()
    assert repeated.begin().result(5) == 1


def test_the_process_does_not_wait_for_the_thread() -> None:
    """The thread has the given name and is a daemon thread, which the process does not wait for."""
    thread = background.start(threading.current_thread, "some-work").result(5)
    assert (thread.name, thread.daemon) == ("some-work", True)


def test_start_without_a_thread_is_an_error() -> None:
    """If no thread can be started, `start` raises an error and does not run the work."""
    before = threading.stack_size(1 << 46)
    try:
        with pytest.raises(RuntimeError):
            start(lambda: 7)
    finally:
        threading.stack_size(before)
