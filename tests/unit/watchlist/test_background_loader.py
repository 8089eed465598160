"""The watchlist of a scrape while reading the files takes too long."""

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
from tests.support.raw_server import wait_for
from tests.support.waits import noted_waits

LATE = (
    "exports: not read in time; the last known IDs stay in effect: the file system does not"
    " answer, or there is too much to read"
)


NO_THREAD = (
    "exports: not read; the last known IDs stay in effect: the system can start no thread (ulimit"
    " -u, the container's limit of processes)"
)


class SlowLoader(WatchlistLoader):
    """A loader whose file server answers when the test says so."""

    def __init__(self) -> None:
        """Answer at once, at first."""
        super().__init__(Path("exports"), time.time)
        self.answers = threading.Event()
        self.answers.set()
        self.watched = Watchlist(batches={"a": ("x",)})
        self.readings: list[bool] = []

    def load(self, *, afresh: bool = False) -> Watchlist:
        """Wait for the file server."""
        self.readings.append(afresh)
        watched = self.watched
        self.answers.wait()
        return watched


@pytest.fixture
def slow() -> Iterator[SlowLoader]:
    """Yield a loader whose thread is released at the end."""
    loader = SlowLoader()
    yield loader
    loader.answers.set()


@pytest.fixture
def loader(slow: SlowLoader) -> BackgroundLoader:
    """Return a background loader that has loaded once."""
    loader = BackgroundLoader(slow)
    loader.load(10)
    return loader


def test_files_that_are_read_in_time_are_the_watchlist(
    slow: SlowLoader, loader: BackgroundLoader
) -> None:
    """Each call reads; the same object is the same."""
    assert loader.load(10) is slow.watched is loader.watchlist
    assert slow.readings == [False, False]


def test_a_file_server_that_hangs_costs_a_part_of_the_time(
    slow: SlowLoader, loader: BackgroundLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """The last watchlist stays in effect with an error; the end of the delay is logged."""
    caplog.set_level(logging.INFO)
    slow.answers.clear()
    before = time.monotonic()
    late = loader.load(0.2)
    assert time.monotonic() - before < 5
    assert late.batches == slow.watched.batches
    assert late.errors == (LATE,)
    assert loader.load(0.02) is late
    wait_for(lambda: slow.readings == [False, False], "a reading is in flight")
    assert caplog.messages == ["ID files not loaded in time"]
    caplog.clear()
    slow.answers.set()
    assert loader.load(10) is slow.watched
    loader.load(10)
    assert caplog.messages == ["ID files loaded in time again"]


def test_a_reading_that_was_late_counts_in_the_end(
    slow: SlowLoader, loader: BackgroundLoader
) -> None:
    """A late load continues between scrapes, and a later scrape has its result."""
    slow.answers.clear()
    slow.watched = Watchlist(batches={"b": ("y",)})
    assert loader.load(0.02).batches == {"a": ("x",)}
    reading = loader.reload()
    slow.answers.set()
    reading.result(10)
    slow.answers.clear()
    late = loader.load(0.02)
    assert (late.batches, late.errors) == ({"b": ("y",)}, (LATE,))


def test_without_time_nothing_is_read(slow: SlowLoader, loader: BackgroundLoader) -> None:
    """Without time, the last known watchlist is returned."""
    assert loader.load(0) is slow.watched
    assert slow.readings == [False]


def test_a_reading_that_began_before_may_have_missed_a_change(
    slow: SlowLoader, loader: BackgroundLoader
) -> None:
    """Its result is waited for, and the files are read once more."""
    slow.answers.clear()
    loader.reload()
    slow.watched = Watchlist(batches={"new": ("z",)})
    threading.Timer(0.05, slow.answers.set).start()
    assert loader.load(10).batches == {"new": ("z",)}


def test_a_reload_while_the_file_server_hangs_is_made_up_for(
    slow: SlowLoader, loader: BackgroundLoader
) -> None:
    """It does not wait, and the next reading is the one that was asked for."""
    slow.answers.clear()
    loader.load(0.02)
    wait_for(lambda: len(slow.readings) == 2, "a reading is in flight")
    reading = loader.reload()
    assert not reading.done()
    slow.answers.set()
    reading.result(10)
    assert slow.readings == [False, False, True]
    loader.load(10)
    assert slow.readings == [False, False, True, False]


def test_any_number_of_scrapes_take_two_readings(
    slow: SlowLoader, loader: BackgroundLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may have missed the latest change, the next not: no scrape waits for more."""
    slow.answers.clear()
    loader.reload()
    wait_for(lambda: len(slow.readings) == 2, "a reading is in flight")
    slow.watched = Watchlist(batches={"new": ("z",)})
    waiting = noted_waits(monkeypatch)
    scrapes = [background.start(lambda: loader.load(10), "scrape") for _ in range(4)]
    assert all(waiting.acquire(timeout=10) for _ in scrapes)
    slow.answers.set()
    assert all(scrape.result(10) is slow.watched for scrape in scrapes)
    assert len(slow.readings) == 3


def test_a_system_without_threads_keeps_the_last_watchlist(
    loader: BackgroundLoader,
    slow: SlowLoader,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A reading in this thread could hang, with all others behind it; a reload is made up for."""
    caplog.set_level(logging.INFO)

    def fail(*_: object) -> None:
        raise RuntimeError

    slow.answers.clear()
    with monkeypatch.context() as patch:
        patch.setattr(background, "start", fail)
        late = loader.load(10)
        assert loader.load(10) is late
        with pytest.raises(RuntimeError):
            loader.reload()
    assert late.batches == slow.watched.batches
    assert late.errors == (NO_THREAD,)
    assert slow.readings == [False]
    assert loader.load(0.02).errors == (LATE,)
    slow.answers.set()
    assert loader.load(10) is slow.watched
    assert slow.readings[:2] == [False, True]
    assert caplog.messages == [
        "ID files not loaded, as no thread can be started",
        "ID files not loaded in time",
        "ID files loaded in time again",
    ]
