"""The signals of the tests' own process, around code that changes them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_signals() -> Iterator[None]:
    """Put back, at the end, which signals this process blocks, and what others do to it."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
