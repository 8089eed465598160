"""Signals while a program loads, which can take a second; imports next to nothing."""

import os
import signal
from typing import NoReturn


def guard() -> None:
    """Hold SIGHUP back, and end without a traceback on SIGINT, also as PID 1.

    SIGHUP would end the process, and systemd does not restart a process that SIGHUP ended. Linux
    protects PID 1 of a container from the default action of the other two; elsewhere that is best,
    because it ends even a process that waits for a file server.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGINT, _end)
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(number: int, _: object) -> NoReturn:
    os._exit(128 + number)
