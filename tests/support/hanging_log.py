"""A log that hangs, as standard error does while nobody reads a full pipe."""

import contextlib
import logging
import threading
from collections.abc import Iterator


class _HangingHandler(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.hangs = threading.Event()
        self.released = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        del record
        self.hangs.set()
        self.released.wait()


@contextlib.contextmanager
def hanging_log(name: str) -> Iterator[threading.Event]:
    """Hold up every line of the logger `name`; yield an event that the first line sets."""
    handler = _HangingHandler()
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield handler.hangs
    finally:
        logger.removeHandler(handler)
        handler.released.set()
