"""Loading the watchlist in a thread of its own, so that no scrape waits for a file server."""

import logging
import threading
import time
from concurrent import futures
from dataclasses import replace
from typing import Final

from exporter import background
from exporter.watchlist.loader import WatchlistLoader
from exporter.watchlist.watchlist import Watchlist

#: A scrape waits no longer for the files, so that the process can end within its 5 s.
MAX_WAIT_SECONDS: Final = 3.0

_log = logging.getLogger(__name__)


class BackgroundLoader:
    """Loads the watchlist, one reading at a time; may be called by several threads.

    Args:
        loader: Used by this object alone from now on.
    """

    def __init__(self, loader: WatchlistLoader) -> None:
        self._loader = loader
        self._lock = threading.Lock()
        self._reading: futures.Future[None] | None = None
        self._afresh = False
        self._watchlist = Watchlist()
        # The watchlist with the error that it is late, and the one that this was made of.
        self._late: tuple[Watchlist, Watchlist] | None = None

    def load(self, seconds: float) -> Watchlist:
        """Return the watchlist as the files are now; the same object when nothing changed.

        If reading them takes too long, the last known watchlist stays in effect, with an error. The
        reading goes on, and a later call has its result.

        Args:
            seconds: The time of the scrape. At most half of it is spent here; with none, the last
                known watchlist is returned at once.
        """
        if seconds <= 0:
            return self._watchlist
        end = time.monotonic() + min(seconds / 2, MAX_WAIT_SECONDS)
        is_new = False
        while not is_new:
            # What began before this call may have missed the latest change.
            reading, is_new = self._begin()
            if not futures.wait([reading], max(end - time.monotonic(), 0)).done:
                return self._report_late()
        with self._lock:
            if self._late is not None:
                _log.info("ID files are read in time again")
            self._late = None
            return self._watchlist

    def reload(self) -> "futures.Future[None]":
        """Read every file again, even if it looks unchanged; return the future of the reading.

        If a reading is under way, the next one does so.
        """
        with self._lock:
            self._afresh = True
        return self._begin()[0]

    @property
    def watchlist(self) -> Watchlist:
        """The last known one."""
        return self._watchlist

    def _begin(self) -> "tuple[futures.Future[None], bool]":
        """Return the reading under way, or a new one, and whether it is new."""
        with self._lock:
            if self._reading is not None and not self._reading.done():
                return self._reading, False
            try:
                self._reading = background.start(self._read, "ID files")
            except RuntimeError:
                # The system has no thread left.
                self._reading = background.run(self._read)
            return self._reading, True

    def _read(self) -> None:
        afresh, self._afresh = self._afresh, False
        self._watchlist = self._loader.load(afresh=afresh)

    def _report_late(self) -> Watchlist:
        with self._lock:
            base = self._watchlist
            if self._late is None:
                _log.error("ID files are not read in time", extra={"path": self._loader.name})
            if self._late is None or self._late[1] is not base:
                error = (
                    f"{self._loader.name}: not read in time, so that the last known IDs stay in"
                    " effect: the file system does not answer, or there is too much to read"
                )
                self._late = (replace(base, error=error), base)
            return self._late[0]
