"""The background loader: the watchlist of a scrape, even if reading the files takes too long."""

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter import background
from exporter.watchlist.background_loader import BackgroundLoader
from exporter.watchlist.loader import WatchlistLoader
from exporter.watchlist.watchlist import Watchlist
from tests.support.fakes import FakeClock
from tests.support.timing import within
from tests.support.waits import recorded_waits, wait_until

LATE = (
    "exports: not read in time; the last known IDs stay in effect: the file system does not"
    " answer, or there is too much to read"
)


NO_THREAD = (
    "exports: not read; the last known IDs stay in effect: the system can start no thread (ulimit"
    " -u, the container's limit of processes)"
)


class SlowLoader(WatchlistLoader):
    """A loader whose file server hangs while the test wants it to.

    Attributes:
        answers: Set while the file server answers.
        watched: The watchlist that a load finds when it begins.
        readings: The argument `afresh` of every load so far.
    """

    def __init__(self) -> None:
        """Start with a file server that answers at once."""
        super().__init__(Path("exports"), time.time)
        self.answers = threading.Event()
        self.answers.set()
        self.watched = Watchlist(batches={"a": ("x",)})
        self.readings: list[bool] = []

    def load(self, *, afresh: bool = False) -> Watchlist:
        """Return the watchlist once the file server answers."""
        self.readings.append(afresh)
        watched = self.watched
        self.answers.wait()
        return watched


@pytest.fixture
def slow_loader() -> Iterator[SlowLoader]:
    """Yield a loader whose thread is released at the end."""
    loader = SlowLoader()
    yield loader
    loader.answers.set()


@pytest.fixture
def loader(slow_loader: SlowLoader) -> BackgroundLoader:
    """Return a background loader that has loaded once.

    By its clock each load takes a second, so that one that is not done is late at once.
    """
    loader = BackgroundLoader(slow_loader, itertools.count().__next__)
    loader.load(10)
    return loader


def test_load_in_time_returns_the_watchlist(
    slow_loader: SlowLoader, loader: BackgroundLoader
) -> None:
    """Each call loads the files, and returns the same object while nothing changes."""
    assert loader.load(10) is slow_loader.watched is loader.watchlist
    assert slow_loader.readings == [False, False]


def test_hanging_file_server_keeps_the_last_watchlist(
    slow_loader: SlowLoader, loader: BackgroundLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """While the file server hangs, a call spends only a part of its time on the files.

    It returns the last watchlist with an error. The delay and its end are logged once.
    """
    caplog.set_level(logging.INFO)
    slow_loader.answers.clear()
    with within(5):
        late = loader.load(0.2)
    assert late.batches == slow_loader.watched.batches
    assert late.errors == (LATE,)
    assert loader.load(0.02) is late
    wait_until(lambda: slow_loader.readings == [False, False], "a reading is in flight")
    assert caplog.messages == ["ID files not loaded in time"]
    caplog.clear()
    slow_loader.answers.set()
    assert loader.load(10) is slow_loader.watched
    loader.load(10)
    assert caplog.messages == ["ID files loaded in time again"]


def test_scrape_without_patience_reports_no_delay(
    slow_loader: SlowLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """A client cannot fill the log: a load is late only after half a second.

    That counts from the first scrape that waits for it, so the scrapes of a client with a short
    timeout show the delay as well. Until its end, all do.
    """
    caplog.set_level(logging.INFO)
    clock = FakeClock()
    loader = BackgroundLoader(slow_loader, clock.monotonic)
    loader.load(10)
    slow_loader.answers.clear()
    assert loader.load(0.001) is slow_loader.watched
    wait_until(lambda: len(slow_loader.readings) == 2, "a reading is in flight")
    clock.advance(60)
    assert loader.load(0.001) is slow_loader.watched
    clock.advance(0.4)
    assert loader.load(0.001) is slow_loader.watched
    assert caplog.messages == []
    clock.advance(0.2)
    late = loader.load(0.001)
    assert late.errors == (LATE,)
    assert caplog.messages == ["ID files not loaded in time"]
    assert loader.load(0.001) is late


def test_late_load_is_used_by_a_later_scrape(
    slow_loader: SlowLoader, loader: BackgroundLoader
) -> None:
    """A late load continues between scrapes, and a later scrape has its result."""
    slow_loader.answers.clear()
    slow_loader.watched = Watchlist(batches={"b": ("y",)})
    assert loader.load(0.02).batches == {"a": ("x",)}
    reading = loader.reload()
    slow_loader.answers.set()
    reading.result(10)
    slow_loader.answers.clear()
    late = loader.load(0.02)
    assert (late.batches, late.errors) == ({"b": ("y",)}, (LATE,))


def test_load_without_time_reads_nothing(slow_loader: SlowLoader, loader: BackgroundLoader) -> None:
    """If no time is left, the last known watchlist is returned at once."""
    assert loader.load(0) is slow_loader.watched
    assert slow_loader.readings == [False]


def test_scrape_during_a_load_waits_for_another_load(
    slow_loader: SlowLoader, loader: BackgroundLoader
) -> None:
    """A load that is in flight may have missed a change, so the files are loaded once more."""
    slow_loader.answers.clear()
    loader.reload()
    slow_loader.watched = Watchlist(batches={"new": ("z",)})
    threading.Timer(0.05, slow_loader.answers.set).start()
    assert loader.load(10).batches == {"new": ("z",)}


def test_reload_while_the_file_server_hangs_is_the_next_load(
    slow_loader: SlowLoader, loader: BackgroundLoader
) -> None:
    """`reload` does not wait for a load that hangs; the next load reads every file afresh."""
    slow_loader.answers.clear()
    loader.load(0.02)
    wait_until(lambda: len(slow_loader.readings) == 2, "a reading is in flight")
    reading = loader.reload()
    assert not reading.done()
    slow_loader.answers.set()
    reading.result(10)
    assert slow_loader.readings == [False, False, True]
    loader.load(10)
    assert slow_loader.readings == [False, False, True, False]


def test_concurrent_scrapes_share_the_next_load(
    slow_loader: SlowLoader, loader: BackgroundLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scrapes that begin during a load share the next one.

    The load in flight may have missed the latest change, the next one cannot: no scrape waits for
    more than two loads.
    """
    slow_loader.answers.clear()
    loader.reload()
    wait_until(lambda: len(slow_loader.readings) == 2, "a reading is in flight")
    slow_loader.watched = Watchlist(batches={"new": ("z",)})
    waiting = recorded_waits(monkeypatch)
    scrapes = [background.start(lambda: loader.load(10), "scrape") for _ in range(4)]
    assert all(waiting.acquire(timeout=10) for _ in scrapes)
    slow_loader.answers.set()
    assert all(scrape.result(10) is slow_loader.watched for scrape in scrapes)
    assert len(slow_loader.readings) == 3


def test_last_watchlist_is_kept_if_no_thread_can_be_started(
    loader: BackgroundLoader,
    slow_loader: SlowLoader,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If no thread can be started, the last watchlist stays in effect with an error.

    A load in the scrape's own thread could hang, and block all other scrapes. A reload that failed
    is done by the next load.
    """
    caplog.set_level(logging.INFO)

    def fail(*_: object) -> None:
        raise RuntimeError

    slow_loader.answers.clear()
    with monkeypatch.context() as patch:
        patch.setattr(background, "start", fail)
        late = loader.load(10)
        assert loader.load(10) is late
        with pytest.raises(RuntimeError):
            loader.reload()
    assert late.batches == slow_loader.watched.batches
    assert late.errors == (NO_THREAD,)
    assert slow_loader.readings == [False]
    assert loader.load(0.02).errors == (LATE,)
    slow_loader.answers.set()
    assert loader.load(10) is slow_loader.watched
    assert slow_loader.readings[:2] == [False, True]
    assert caplog.messages == [
        "ID files not loaded, as no thread can be started",
        "ID files not loaded in time",
        "ID files loaded in time again",
    ]
