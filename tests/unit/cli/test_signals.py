"""Signals: nothing that hangs keeps the process."""

import signal
import threading
from collections.abc import Callable

import pytest

from exporter.cli import signals
from exporter.cli.signals import Signals
from tests.support.preserved_signals import preserved_signals
from tests.support.waits import PATIENCE


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
        assert received.next(0.01) is None
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


def test_a_single_run_is_ended_by_signals() -> None:
    """SIGHUP ends it, too, and Ctrl-C lets it clean up."""
    with preserved_signals():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signals.end_at_once()
        assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_single_run_in_the_background_ignores_ctrl_c() -> None:
    """A shell ignores SIGINT for a program that it starts with `&` in a script."""
    with preserved_signals():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signals.end_at_once()
        signal.raise_signal(signal.SIGINT)
