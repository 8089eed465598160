"""When exports were first seen finished, which is their finish time where the API gives none.

The times come from the machine's clock, which may be wrong, and be set later.
"""

from collections.abc import Container
from dataclasses import replace
from typing import Final

from exporter.cavatica.export import Export
from exporter.tracker.snapshot import WatchedExport

# Corrections of less than this do not matter.
_STEP_SECONDS: Final = 60.0


class FirstSeen:
    """The exports whose finish time this process took from its clock."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        # Unix time less monotonic time: it changes when the clock is set.
        self._offset: float | None = None

    def keep(self, watched: Container[str]) -> None:
        """Drop what is not `watched`."""
        self._ids = {i for i in self._ids if i in watched}

    def time(self, export: Export, known: float | None, unix: float) -> float:
        """Return the finish time of an export to which the API gives none.

        Args:
            export: The export as just answered.
            known: The time that is known already. It may be that of another process, whose clock
                was wrong: a time before the start of the export or in the future cannot be right.
            unix: Now.
        """
        if known is not None and (export.started or 0.0) <= known <= unix:
            return known
        self._ids.add(export.id)
        return unix

    def discard(self, export_id: str) -> None:
        """Note that an export has its time from the API, or is not finished."""
        self._ids.discard(export_id)

    def earlier(self, watched: WatchedExport, stored: WatchedExport) -> WatchedExport:
        """Return `watched` with the time of the state file, if that saw it finished first."""
        started = (watched.export and watched.export.started) or 0.0
        at = stored.finished
        if at is not None and started <= at < (watched.seen_finished or 0.0):
            self._ids.discard(watched.id)
            return replace(watched, seen_finished=at)
        return watched

    def step(self, *, monotonic: float, unix: float) -> float:
        """Return by how many seconds the clock was set since the last step; 0 for next to nothing.

        A pause of a virtual machine looks the same.
        """
        offset = unix - monotonic
        if self._offset is None:
            self._offset = offset
        step = offset - self._offset
        if abs(step) < _STEP_SECONDS:
            return 0.0
        self._offset = offset
        return step

    def moved(self, watched: WatchedExport, step: float) -> WatchedExport:
        """Return `watched` with its time moved by `step`, if that is from this process's clock."""
        if watched.id not in self._ids:
            return watched
        return replace(watched, seen_finished=max((watched.seen_finished or 0.0) + step, 0.0))
