"""Rate-limited log lines for events that clients can cause."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

_SECONDS_BETWEEN: Final = 60.0


class OccasionalLog:
    """Logs each event at most once a minute, so that clients cannot fill the log.

    Args:
        log: The logger.
        monotonic: The clock.
    """

    def __init__(
        self, log: logging.Logger, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # When each event was last logged, and how often it was left out since then.
        self._events: dict[tuple[str, type | None], tuple[float, int]] = {}

    def warning(self, event: str, **fields: object) -> None:
        """Log a warning, unless the same event was logged within the last minute."""
        self._write(logging.WARNING, event, None, fields)

    def error(self, event: str, exc_info: "OptExcInfo", **fields: object) -> None:
        """Log an error with its traceback, unless the same one was logged in the last minute."""
        self._write(logging.ERROR, event, exc_info, fields)

    def _write(
        self, level: int, event: str, exc_info: "OptExcInfo | None", fields: dict[str, object]
    ) -> None:
        key = (event, exc_info[0] if exc_info else None)
        now = self._monotonic()
        with self._lock:
            logged, left_out = self._events.get(key, (-_SECONDS_BETWEEN, 0))
            if now - logged < _SECONDS_BETWEEN:
                self._events[key] = (logged, left_out + 1)
                return
            self._events[key] = (now, 0)
        if left_out:
            fields["left_out"] = left_out
        self._log.log(level, event, exc_info=exc_info, extra=fields)
