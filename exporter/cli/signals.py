"""Signals: a thread waits for them, so that no other work can delay them.

Nothing that hangs (a file server, a full log pipe, a slow start) keeps the process from ending:
after a signal to end, it has `GRACE_SECONDS` for a graceful shutdown, then it exits.
"""

import os
import queue
import signal
import threading
from collections.abc import Callable
from typing import Final

#: Seconds from the signal to the exit, even if something hangs; a busy machine may add a second.
GRACE_SECONDS: Final = 4.0

_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_SERVING: Final = _ENDING | {signal.SIGHUP}


class Signals:
    """The signals of a process that serves.

    Create it before other threads start: it blocks the signals, and new threads inherit that.

    Args:
        leave: Ends the process at once; an argument for tests.
    """

    def __init__(self, leave: Callable[[int], object] = os._exit) -> None:
        self._leave = leave
        self._received: queue.SimpleQueue[signal.Signals] = queue.SimpleQueue()
        self._closed = threading.Event()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SERVING)
        threading.Thread(target=self._wait, name="signals", daemon=True).start()

    def close(self) -> None:
        """Disarm the forced exit: the process is ending by itself."""
        self._closed.set()

    def next(self, timeout: float | None = None) -> signal.Signals | None:
        """Return the next signal, or None if there is none within `timeout` seconds."""
        try:
            return self._received.get(timeout=timeout)
        except queue.Empty:
            return None

    def _wait(self) -> None:
        received = signal.SIGHUP
        while received not in _ENDING:
            received = signal.Signals(signal.sigwait(_SERVING))
            self._received.put(received)
        if not self._closed.wait(GRACE_SECONDS):
            self._leave(0)


def end_at_once() -> None:
    """End the process on SIGHUP, too, and let Ctrl-C clean up; `loading.guard` did neither."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
