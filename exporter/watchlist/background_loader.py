"""Loading the watchlist in a background thread, so that no scrape waits for a file server."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import replace
from typing import Final

from exporter import background
from exporter.watchlist.loader import WatchlistLoader
from exporter.watchlist.watchlist import Watchlist

#: Maximum wait of a scrape for the files, so that the process can exit within its 5 s.
MAX_WAIT_SECONDS: Final = 3.0

# A load in flight for less than this is not late: how long a scrape waits is up to its client, who
# could fill the log otherwise.
_LATE_SECONDS: Final = 0.5
_LATE: Final = (
    "not read in time; the last known IDs stay in effect: the file system does not answer, or there"
    " is too much to read"
)
_NO_THREAD: Final = (
    "not read; the last known IDs stay in effect: the system can start no thread (ulimit -u, the"
    " container's limit of processes)"
)

_log = logging.getLogger(__name__)


class BackgroundLoader:
    """Loads the watchlist, one load at a time; may be called by several threads.

    Args:
        loader: From now on used only by this object.
        monotonic: The clock.
    """

    def __init__(
        self, loader: WatchlistLoader, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._loader = loader
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._loads = background.Repeated(self._read, "ID files")
        self._afresh = False
        self._watchlist = Watchlist()
        # The load that was last waited for, and when that began.
        self._awaited: tuple[futures.Future[None], float] | None = None
        # The watchlist with the error, the watchlist that it was made from, and what was logged.
        self._late: tuple[Watchlist, Watchlist, str] | None = None

    def load(self, seconds: float) -> Watchlist:
        """Return the current watchlist; the same object if nothing changed.

        If the load does not end in time, or no thread can be started, the last known watchlist
        stays in effect; with an error once the load has taken half a second. The load continues,
        and a later call returns its result.

        Args:
            seconds: The time of the scrape. At most half of it is spent here; with none, the last
                known watchlist is returned at once.
        """
        if seconds <= 0:
            return self._watchlist
        try:
            load = self._loads.begin()
        except RuntimeError:
            return self._report_late("ID files not loaded, as no thread can be started", _NO_THREAD)
        with self._lock:
            # Calls that begin while a load hangs share the next one.
            if self._awaited is None or self._awaited[0] is not load:
                self._awaited = load, self._monotonic()
            began = self._awaited[1]
        if not futures.wait([load], min(seconds / 2, MAX_WAIT_SECONDS)).done:
            if self._late is None and self._monotonic() - began < _LATE_SECONDS:
                return self._watchlist
            return self._report_late("ID files not loaded in time", _LATE)
        with self._lock:
            was_late, self._late = self._late is not None, None
            watchlist = self._watchlist
        if was_late:
            _log.info("ID files loaded in time again")
        return watchlist

    def reload(self) -> "futures.Future[None]":
        """Load every file again, even if it looks unchanged; return the future of the load.

        If a load is in flight, another one follows it.

        Raises:
            RuntimeError: no thread can be started; the next load does so.
        """
        with self._lock:
            self._afresh = True
        return self._loads.begin()

    @property
    def watchlist(self) -> Watchlist:
        """The last known watchlist."""
        return self._watchlist

    def _read(self) -> None:
        with self._lock:
            afresh, self._afresh = self._afresh, False
        self._watchlist = self._loader.load(afresh=afresh)

    def _report_late(self, message: str, problem: str) -> Watchlist:
        with self._lock:
            base = self._watchlist
            is_new = self._late is None or self._late[2] != message
            if self._late is None or is_new or self._late[1] is not base:
                error = f"{self._loader.name}: {problem}"
                self._late = (replace(base, error=error), base, message)
            watchlist = self._late[0]
        # Outside the lock: a log pipe that hangs holds up this scrape only.
        if is_new:
            _log.error(message, extra={"path": self._loader.name})
        return watchlist
