"""The loop of rounds: errors, signals, metrics and progress."""

import errno
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import click
import pytest

from exporter.cavatica.answer import BulkResponse, RateLimit
from exporter.cavatica.client import Client
from exporter.cli.signals import Signals
from exporter.clock import SystemClock
from exporter.tool import loop
from exporter.tool.api import PacedApi
from exporter.tool.discover import Round
from exporter.tool.ledger import LedgerError
from exporter.tool.loop import Loop, ProgressBar
from exporter.tool.program import StoppedError, pause_until
from exporter.tool.watched import NoAnswerError, ask_all, refused_ids
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from tests.support.fakes import FakeApi, FakeClock, bad_request, error, ids, watch
from tests.support.waits import wait_until
from tests.unit.tool.conftest import TOKEN, Account


def unexpected(name: str) -> str:
    """Return what is said of an error that nobody thought of."""
    return f"unexpected error: {name} (for details use --log.level=debug)"


class Rounds:
    """Rounds that fail one after the other; the last one is a signal's work."""

    def __init__(self, *failures: Exception | None) -> None:
        """Fail with these; None: a good round."""
        self.failures = [*failures]
        self.stop = threading.Event()

    def run(self) -> Round:
        """Run the next one."""
        self.fail()
        numbers = {each.name: 0 for each in fields(Round) if each.type is int}
        return Round(**numbers, first=False, whole=True, reselected=False, warning=None)

    def loop(self, metrics: Path | None = None, leave: Callable[[int], object] = print) -> Loop:
        """Return the loop of these rounds."""
        return Loop(
            *(self.run, "https://api.example/v2", lambda: 0, metrics),
            clock=SystemClock(),
            report=self.fail,
            stop=self.stop,
            leave=leave,
        )

    def fail(self, _: Round | None = None) -> None:
        """Fail, as a round or as the report of one."""
        if failure := self.failures.pop(0):
            raise failure


class Received(Signals):
    """Signals that come at once."""

    def __init__(
        self, rounds: Rounds, *numbers: int, is_due: Callable[[int], bool] = lambda _: True
    ) -> None:
        """Receive these once all rounds have failed, and `is_due` for so many received signals."""
        self._rounds = rounds
        self._numbers = [*numbers]
        self._is_due = is_due
        self._returned = 0

    def next(self, timeout: float | None = None) -> signal.Signals | None:
        """Return the next one."""
        del timeout  # it comes in time
        wait_until(lambda: not self._rounds.failures and self._is_due(self._returned), "it is due")
        self._returned += 1
        return signal.Signals(self._numbers.pop(0))


def test_no_error_ends_the_rounds_but_a_signal(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error is logged like others, and rounds go on."""
    rounds = Rounds(
        LedgerError("no space"), ZeroDivisionError("oops"), None, OSError("report"), StoppedError()
    )
    with caplog.at_level(logging.ERROR):
        assert rounds.loop().every(0.0, Received(rounds, 15), pytest.fail) == 0
    problems = [getattr(record, "err", None) for record in caplog.records]
    assert problems == ["no space", unexpected("ZeroDivisionError"), unexpected("OSError")]


def test_sighup_reloads(caplog: pytest.LogCaptureFixture) -> None:
    """SIGHUP reloads, as often as it comes, even after a reload that failed."""
    rounds = Rounds(StoppedError())
    reloads = [ZeroDivisionError("oops"), None]

    def reload() -> None:
        if problem := reloads.pop(0):
            raise problem

    signals = Received(rounds, 1, 1, 15, is_due=lambda received: len(reloads) == 2 - received)
    with caplog.at_level(logging.ERROR):
        assert rounds.loop().every(0.0, signals, reload) == 0
    [record] = caplog.records
    assert (record.getMessage(), vars(record)["err"]) == (
        "Reload failed; the last good content stays in effect",
        unexpected("ZeroDivisionError"),
    )
    assert reloads == []


def test_a_round_that_hangs_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a signal it has as long as a call may take; then the process ends with status 0."""
    monkeypatch.setattr(loop, "LAST_CALL_SECONDS", 0.2)
    rounds, released = Rounds(), threading.Event()
    left: list[int] = []

    def hang() -> Round:
        released.wait(60)
        raise StoppedError

    monkeypatch.setattr(rounds, "run", hang)
    try:
        rounds.loop(leave=left.append).every(0.0, Received(rounds, signal.SIGTERM), print)
        assert left == [0]
        assert rounds.stop.is_set()
    finally:
        released.set()


def test_an_unexpected_error_is_in_the_metrics(tmp_path: Path) -> None:
    """An unexpected error sets cavatica_discover_up to 0."""
    metrics = tmp_path / "discover.prom"
    metrics.write_text("cavatica_discover_up 1\n")
    rounds = Rounds(ZeroDivisionError("oops"))
    assert rounds.loop(metrics).once() == unexpected("ZeroDivisionError")
    assert "cavatica_discover_up 0\n" in metrics.read_text()


def test_what_a_killed_process_left_beside_the_metrics_goes(tmp_path: Path) -> None:
    """A temporary file of over an hour is of no process that still writes."""
    metrics = tmp_path / "discover.prom"
    for name, age in ((".discover.prom.old_0001.tmp", 3700), (".discover.prom.young_01.tmp", 60)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    Rounds(None, None).loop(metrics).once()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".discover.prom.young_01.tmp", "discover.prom"]


def test_metrics_that_fail_unexpectedly_do_not_end_the_round() -> None:
    """They are told beside what else went wrong."""
    rounds, metrics = Rounds(LedgerError("no space")), Path("a\0b")
    assert rounds.loop(metrics).once() == f"no space; {metrics}: {unexpected('ValueError')}"


def test_metrics_are_written_even_if_nothing_can_be_printed(tmp_path: Path) -> None:
    """Standard output may be a file on a disk that is full."""
    rounds, metrics = Rounds(None, OSError(errno.ENOSPC, "full")), tmp_path / "discover.prom"
    with pytest.raises(OSError, match="full"):
        rounds.loop(metrics).once()
    assert "cavatica_discover_up 1\n" in metrics.read_text()


def test_a_pause_ends_with_the_work() -> None:
    """A signal ends a wait for the rate limit."""
    stop = threading.Event()
    pause = pause_until(stop)
    pause(0.0)
    stop.set()
    with pytest.raises(StoppedError):
        pause(60.0)


def test_no_call_follows_a_signal(account: Account) -> None:
    """A round of many calls ends after the one in flight."""
    stop = threading.Event()
    client = Client(
        account.url,
        lambda: TOKEN,
        user_agent="test",
        observe=lambda _: None,
        monotonic=account.clock.monotonic,
    )
    api = PacedApi(
        client, quota_share=0.5, timeout=10, clock=account.clock, pause=pause_until(stop)
    )
    api.list_exports(offset=0, limit=1)
    stop.set()
    with pytest.raises(StoppedError):
        api.list_exports(offset=0, limit=1)
    assert len(account.simulator.requests) == 1


def test_a_bar_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal, a progress bar is shown and removed."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = ProgressBar()
    bar.show(0, 0)
    bar.show(50, 100)
    bar.clear()
    monkeypatch.undo()
    shown = capsys.readouterr().err
    assert "[###############---------------] 50 of 100 exports" in shown
    assert shown.endswith("\r\x1b[K")


def test_a_terminal_that_is_gone_ends_no_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that was started by hand outlives its terminal, and may have none."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        ProgressBar().show(50, 100)
    shown: list[str] = []

    def fail(text: str, **_: object) -> None:
        shown.append(text)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(sys.stderr, "isatty", lambda: True)
        bar = ProgressBar()
        patch.setattr(click, "echo", fail)
        bar.show(50, 100)
        bar.show(60, 100)
        bar.clear()
    assert len(shown) == 1


def tracker(api: FakeApi, clock: FakeClock, count: int, *, quota_share: float = 0.01) -> Tracker:
    """Return a tracker of so many exports."""
    watchlist = watch({"b": ids(count)})
    states = ExportStates(1e9, 0)
    return Tracker(lambda *_: watchlist, api, states, quota_share=quota_share, clock=clock)


class LimitedApi(FakeApi):
    """Allows a number of calls in each window of 300 s, and says so.

    Attributes:
        windows: Number of calls in each window.
    """

    def __init__(self, clock: FakeClock, limit: int) -> None:
        super().__init__()
        self.windows: Counter[int] = Counter()
        self._clock = clock
        self._limit = limit

    def __call__(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Answer, or refuse with a 429."""
        window = int(self._clock.time() // 300)
        remaining = self._limit - self.windows[window] - 1
        limit = RateLimit(self._limit, max(remaining, 0), 300.0 * (window + 1))
        if remaining < 0:
            raise error("rate_limited", limit)
        self.windows[window] += 1
        self.rate_limit = limit
        return super().__call__(ids, deadline)


def test_all_are_asked_for_window_by_window() -> None:
    """What the rate limit and the share of it hold back is asked for in the next windows."""
    clock = FakeClock()
    api = LimitedApi(clock, 10)
    watched = tracker(api, clock, 2500, quota_share=0.5)
    snapshot = ask_all(watched, timeout=10, clock=clock, pause=clock.advance)
    assert snapshot.batches[0].totals.states["RUNNING"] == 2500
    assert [*api.windows.values()] == [10, 10, 5]


def test_nobody_waits_for_ever() -> None:
    """Where the account has no call left for long, that is the answer."""
    api, clock = FakeApi(), FakeClock()
    api.failure = error("rate_limited")
    with pytest.raises(NoAnswerError, match="rate_limited"):
        ask_all(tracker(api, clock, 1), timeout=10, clock=clock, pause=clock.advance)
    assert clock.steady - 5000 >= 400


@pytest.mark.parametrize("bad", [["e00000"], ["e00007", "e00099"], ["e00001", "e00100", "e00249"]])
def test_ids_that_make_the_api_refuse_calls(bad: list[str]) -> None:
    """They are found, have a lookup error and are named; all others have their state."""
    api, clock = FakeApi(), FakeClock()
    api.malformed = set(bad)
    watched = tracker(api, clock, 250, quota_share=0.5)
    snapshot = ask_all(watched, timeout=10, clock=clock, pause=clock.advance)
    totals = snapshot.batches[0].totals
    assert totals.states["RUNNING"] == 250 - len(bad)
    assert totals.lookup_errors == {"9011": len(bad)}
    assert (refused_ids(snapshot) or "").endswith(f"in the ID files: {', '.join(bad)}")
    assert clock.steady - 5000 < 30


def test_many_ids_that_make_the_api_refuse_calls() -> None:
    """If it takes more rounds to find the first one, it is waited for; twenty are named."""
    api, clock = FakeApi(), FakeClock()
    api.malformed = set(ids(100))
    watched = tracker(api, clock, 101, quota_share=1.0)
    snapshot = ask_all(watched, timeout=10, clock=clock, pause=clock.advance)
    assert snapshot.batches[0].totals.lookup_errors == {"9011": 100}
    assert (refused_ids(snapshot) or "").endswith("e00019 and 80 more")


@pytest.mark.parametrize("count", [1, 250])
def test_an_api_that_refuses_every_call(count: int) -> None:
    """It is an error within 15 seconds, which names IDs to check."""
    api, clock = FakeApi(), FakeClock()
    api.failure = bad_request()
    watched = tracker(api, clock, count, quota_share=0.5)
    with pytest.raises(NoAnswerError, match=r"refuses every call, so check .* exports: e00000"):
        ask_all(watched, timeout=10, clock=clock, pause=clock.advance)
    assert clock.steady - 5000 < 15


def test_an_api_that_begins_to_refuse_every_call() -> None:
    """Where nothing more is found for long, that is the answer."""
    api, clock = FakeApi(), FakeClock()
    api.malformed = {"e00000"}
    watched = tracker(api, clock, 250, quota_share=0.5)

    def pause(seconds: float) -> None:
        clock.advance(seconds)
        api.failure = bad_request()

    with pytest.raises(NoAnswerError, match="client_error: HTTP 400"):
        ask_all(watched, timeout=10, clock=clock, pause=pause)
    assert 400 <= clock.steady - 5000 < 800
