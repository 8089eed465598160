"""Loading the watchlist in a background thread, so that no scrape waits for a file server."""

import functools
import logging
import threading
import time
from concurrent import futures
from dataclasses import replace
from typing import Final

from exporter import background
from exporter.watchlist.loader import WatchlistLoader
from exporter.watchlist.watchlist import Watchlist

#: Maximum wait of a scrape for the files, so that the process can exit within its 5 s.
MAX_WAIT_SECONDS: Final = 3.0

_log = logging.getLogger(__name__)


class BackgroundLoader:
    """Loads the watchlist, one load at a time; may be called by several threads.

    Args:
        loader: From now on used only by this object.
    """

    def __init__(self, loader: WatchlistLoader) -> None:
        self._loader = loader
        self._lock = threading.Lock()
        self._reading: futures.Future[None] | None = None
        self._afresh = False
        self._watchlist = Watchlist()
        # The watchlist with the error about the delay, and the watchlist that it was made from.
        self._late: tuple[Watchlist, Watchlist] | None = None

    def load(self, seconds: float) -> Watchlist:
        """Return the current watchlist; the same object if nothing changed.

        If loading takes too long, the last known watchlist stays in effect, with an error. The load
        continues, and a later call returns its result.

        Args:
            seconds: The time of the scrape. At most half of it is spent here; with none, the last
                known watchlist is returned at once.
        """
        if seconds <= 0:
            return self._watchlist
        end = time.monotonic() + min(seconds / 2, MAX_WAIT_SECONDS)
        is_new = False
        while not is_new:
            # A load that began before this call may have missed the latest change.
            reading, is_new = self._begin()
            if not futures.wait([reading], max(end - time.monotonic(), 0)).done:
                return self._report_late()
        with self._lock:
            if self._late is not None:
                _log.info("ID files loaded in time again")
            self._late = None
            return self._watchlist

    def reload(self) -> "futures.Future[None]":
        """Load every file again, even if it looks unchanged; return the future of the load.

        If a load is in flight, the next one does so.
        """
        with self._lock:
            self._afresh = True
        return self._begin()[0]

    @property
    def watchlist(self) -> Watchlist:
        """The last known watchlist."""
        return self._watchlist

    def _begin(self) -> "tuple[futures.Future[None], bool]":
        """Return the load in flight, or a new one, and whether it is new."""
        with self._lock:
            if self._reading is not None and not self._reading.done():
                return self._reading, False
            afresh, self._afresh = self._afresh, False
            read = functools.partial(self._read, afresh=afresh)
            self._reading = background.start_or_run(read, "ID files")
            return self._reading, True

    def _read(self, *, afresh: bool) -> None:
        self._watchlist = self._loader.load(afresh=afresh)

    def _report_late(self) -> Watchlist:
        with self._lock:
            base = self._watchlist
            if self._late is None:
                _log.error("ID files not loaded in time", extra={"path": self._loader.name})
            if self._late is None or self._late[1] is not base:
                error = (
                    f"{self._loader.name}: not read in time; the last known IDs stay in"
                    " effect: the file system does not answer, or there is too much to read"
                )
                self._late = (replace(base, error=error), base)
            return self._late[0]
