"""When COMPLETED exports retire: they lose their own series and stay in the totals."""

import heapq
from collections.abc import Iterable, Iterator

from exporter.cavatica.export import COMPLETED
from exporter.tracker.snapshot import WatchedExport

# Number of outdated entries that are kept before a rebuild is worthwhile.
_SLACK = 1000


class Retirement:
    """The order in which COMPLETED exports retire.

    Args:
        retention: Seconds after which a COMPLETED export retires; 0 for never.
    """

    def __init__(self, retention: float) -> None:
        self._retention = retention
        # Times and IDs. An export whose time changed has several entries.
        self._queue: list[tuple[float, str]] = []
        self._limit = _SLACK

    def retires_at(self, watched: WatchedExport) -> float | None:
        """Return the Unix time at which an export retires or has retired; None for never."""
        if not self._retention or watched.state != COMPLETED or watched.finished is None:
            return None
        return watched.finished + self._retention

    def rebuild(self, exports: Iterable[WatchedExport]) -> None:
        """Schedule these exports and no others."""
        self._queue = [
            (due, watched.id)
            for watched in exports
            if not watched.retired and (due := self.retires_at(watched)) is not None
        ]
        heapq.heapify(self._queue)
        self._limit = 2 * len(self._queue) + _SLACK

    def schedule(self, due: float, export_id: str) -> bool:
        """Add an export; return whether so many entries are outdated that a rebuild is due."""
        heapq.heappush(self._queue, (due, export_id))
        return len(self._queue) > self._limit

    def due(self, unix: float) -> Iterator[tuple[float, str]]:
        """Yield and forget the entries up to `unix`; an export may have another time by now."""
        while self._queue and self._queue[0][0] <= unix:
            yield heapq.heappop(self._queue)
