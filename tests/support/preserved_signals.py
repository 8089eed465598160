"""The signal mask and handlers of the test's process, for tests of code that changes them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def preserved_signals() -> Iterator[None]:
    """Restore the blocked signals and the handlers of SIGTERM and SIGINT after the block."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
