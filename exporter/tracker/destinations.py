"""Which FAILED exports are superseded by a later COMPLETED export to the same destination.

In doubt a failure is not superseded.
"""

from collections.abc import Iterable, Mapping
from math import inf

from exporter.cavatica.export import FINISHED, arrived_at, failed_at
from exporter.tracker.snapshot import WatchedExport


class Destinations:
    """The finished exports of every destination."""

    def __init__(self) -> None:
        # Nearly every destination has one export, so a set is kept only for those with more. A
        # dict is a set here whose order does not change from run to run.
        self._finished: dict[int, str | dict[str, None]] = {}
        self._changed: set[int] = set()

    def rebuild(self, exports: Iterable[WatchedExport]) -> None:
        """Replace all exports by these."""
        self._finished = {}
        self._changed.clear()
        for watched in exports:
            self._add(watched)

    def replace(self, before: WatchedExport, after: WatchedExport) -> None:
        """Note that an export changed."""
        old, new = _destination(before), _destination(after)
        if old != new:
            self._discard(before)
            self._add(after)
        elif new is not None and isinstance(self._finished[new], dict):
            self._changed.add(new)

    def changes(self, states: Mapping[str, WatchedExport]) -> list[tuple[WatchedExport, bool]]:
        """Return the FAILED exports that became superseded, or no longer are."""
        changes = []
        for destination in self._changed:
            ids = self._finished.get(destination, {})
            exports = [states[i] for i in ([ids] if isinstance(ids, str) else ids)]
            arrived = max((arrived_at(each.export) for each in exports), default=-inf)
            for each in exports:
                superseded = failed_at(each.export) < arrived
                if each.superseded != superseded:
                    changes.append((each, superseded))
        self._changed.clear()
        return changes

    def _add(self, watched: WatchedExport) -> None:
        if (destination := _destination(watched)) is None:
            return
        if watched.superseded:
            # The export that superseded it may be gone.
            self._changed.add(destination)
        others = self._finished.setdefault(destination, watched.id)
        if isinstance(others, str):
            if others == watched.id:
                return
            others = self._finished[destination] = {others: None}
        others[watched.id] = None
        self._changed.add(destination)

    def _discard(self, watched: WatchedExport) -> None:
        if (destination := _destination(watched)) is None:
            return
        ids = self._finished[destination]
        if isinstance(ids, dict):
            del ids[watched.id]
            self._changed.add(destination)
        if not isinstance(ids, dict) or not ids:
            del self._finished[destination]


def _destination(watched: WatchedExport) -> int | None:
    """Return the destination of a finished export."""
    if watched.export is None or watched.state not in FINISHED:
        return None
    return watched.export.destination
