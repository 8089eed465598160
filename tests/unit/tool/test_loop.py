"""The loop of rounds: errors, signals, metrics and progress."""

import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.cli.signals import Signals
from exporter.clock import SystemClock
from exporter.tool import loop
from exporter.tool.discover import Round
from exporter.tool.ledger import LedgerError
from exporter.tool.loop import Loop, ProgressBar
from exporter.tool.program import StoppedError, pause_until
from exporter.tool.watched import NoAnswerError, ask_all
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from tests.support.fakes import FakeApi, FakeClock, error, ids, watch


class Rounds:
    """Rounds that fail one after the other; the last one is a signal's work."""

    def __init__(self, *failures: Exception) -> None:
        """Fail with these."""
        self.failures = [*failures]
        self.stop = threading.Event()

    def run(self) -> Round:
        """Fail."""
        raise self.failures.pop(0)

    def loop(self, leave: Callable[[int], object] = print) -> Loop:
        """Return the loop of these rounds."""
        return Loop(
            *(self.run, lambda: 0, None),
            clock=SystemClock(),
            report=print,
            stop=self.stop,
            leave=leave,
        )


class Received(Signals):
    """Signals that come at once."""

    def __init__(self, rounds: Rounds, *numbers: int) -> None:
        """Receive these, once all rounds have failed."""
        self._rounds = rounds
        self._numbers = [*numbers]

    def next(self) -> signal.Signals:
        """Return the next one."""
        while self._rounds.failures:
            threading.Event().wait(0.01)
        return signal.Signals(self._numbers.pop(0))


def test_no_error_ends_the_rounds_but_a_signal(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error is logged like others, and rounds go on; SIGHUP changes nothing."""
    rounds = Rounds(LedgerError("no space"), ZeroDivisionError("oops"), StoppedError())
    with caplog.at_level(logging.ERROR):
        assert rounds.loop().every(0.0, Received(rounds, 1, 15)) == 0
    problems = [getattr(record, "err", None) for record in caplog.records]
    assert problems == ["no space", "unexpected error: ZeroDivisionError"]


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
        rounds.loop(left.append).every(0.0, Received(rounds, signal.SIGTERM))
        assert left == [0]
        assert rounds.stop.is_set()
    finally:
        released.set()


def test_an_unexpected_error_is_in_the_metrics(tmp_path: Path) -> None:
    """An unexpected error sets cavatica_discover_up to 0."""
    metrics = tmp_path / "discover.prom"
    metrics.write_text("cavatica_discover_up 1\n")
    rounds = Rounds(ZeroDivisionError("oops"))
    clock = SystemClock()
    once = Loop(rounds.run, lambda: 0, metrics, clock=clock, report=print, stop=rounds.stop).once
    assert once() == "unexpected error: ZeroDivisionError"
    assert "cavatica_discover_up 0\n" in metrics.read_text()


def test_a_pause_ends_with_the_work() -> None:
    """A signal ends a wait for the rate limit."""
    stop = threading.Event()
    pause = pause_until(stop)
    pause(0.0)
    stop.set()
    with pytest.raises(StoppedError):
        pause(60.0)


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


def tracker(api: FakeApi, clock: FakeClock, count: int) -> Tracker:
    """Return a tracker of so many exports."""
    watchlist = watch({"b": ids(count)})
    return Tracker(lambda *_: watchlist, api, ExportStates(1e9, 0), quota_share=0.01, clock=clock)


def test_all_are_asked_for_window_by_window() -> None:
    """What the share of the rate limit holds back is asked in the next window."""
    api, clock = FakeApi(), FakeClock()
    snapshot = ask_all(tracker(api, clock, 1500), timeout=10, clock=clock, pause=clock.pass_by)
    assert snapshot.batches[0].totals.states["RUNNING"] == 1500


def test_nobody_waits_for_ever() -> None:
    """Where the account has no call left for long, that is the answer."""
    api, clock = FakeApi(), FakeClock()
    api.failure = error("rate_limited")
    with pytest.raises(NoAnswerError, match="rate_limited"):
        ask_all(tracker(api, clock, 1), timeout=10, clock=clock, pause=clock.pass_by)
    assert clock.steady - 5000 >= 400
