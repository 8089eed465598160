"""Signals: nothing that hangs keeps the process."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from exporter.cli import signals
from exporter.cli.signals import Signals

PATIENCE = 10.0


def in_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread: it blocks signals, which the tests' own thread must not."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 # raised again below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    if errors:
        raise errors[0]
    assert not thread.is_alive()


def send(number: signal.Signals) -> threading.Thread:
    """Send a signal to the newest thread that waits for signals; return that thread."""
    [*_, waiting] = [each for each in threading.enumerate() if each.name == "signals"]
    assert waiting.ident
    signal.pthread_kill(waiting.ident, number)
    return waiting


def test_signals_come_in_their_order() -> None:
    """Signals are returned in their order."""

    def work() -> None:
        received = Signals(lambda _: None)
        send(signal.SIGHUP)
        assert received.next() == signal.SIGHUP
        send(signal.SIGINT)
        assert received.next() == signal.SIGINT
        received.close()

    in_thread(work)


@pytest.mark.parametrize("hangs", [True, False])
def test_a_process_that_hangs_is_left_after_the_grace(
    *, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that closes in time ends by itself, with the status that it chooses."""
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.2)
    left: list[int] = []
    waiting: list[threading.Thread] = []

    def work() -> None:
        received = Signals(left.append)
        if not hangs:
            received.close()
        waiting.append(send(signal.SIGTERM))

    in_thread(work)
    waiting[0].join(PATIENCE)
    assert left == ([0] if hangs else [])


def test_sigterm_ends_a_single_run_with_the_status_of_shells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also as PID 1 of a container, for which Linux has no default."""
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    before = signal.getsignal(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        signals.end_at_once()
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert left == [143]
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
