"""The state of everything watched, fetched until all is known."""

from collections.abc import Callable, Iterator

from exporter.clock import Clock
from exporter.tracker.snapshot import Snapshot, WatchedExport
from exporter.tracker.tracker import Tracker

# Longer than a rate-limit window: calls that one window does not allow are made in the next.
_PATIENCE_SECONDS = 400.0
_PAUSE_SECONDS = 1.0


class NoAnswerError(Exception):
    """The API did not answer for every ID; the text says why."""


def ask_all(
    tracker: Tracker, *, timeout: float, clock: Clock, pause: Callable[[float], None]
) -> Snapshot:
    """Return the state of every watched export.

    Raises:
        NoAnswerError: the API fails, or the rate limit allows no call for too long.
    """
    waiting = -1
    ends = clock.monotonic() + _PATIENCE_SECONDS
    while True:
        snapshot = tracker.scrape(clock.monotonic() + timeout)
        before, waiting = waiting, sum(_is_unanswered(each) for each in exports(snapshot))
        if not waiting and snapshot.up:
            return snapshot
        if waiting != before:
            ends = clock.monotonic() + _PATIENCE_SECONDS
        held_back = snapshot.up or (snapshot.problem or "").startswith("rate_limited")
        if not held_back or clock.monotonic() >= ends:
            raise NoAnswerError(snapshot.problem or "no answer for every export in time")
        pause(_PAUSE_SECONDS)


def exports(snapshot: Snapshot) -> Iterator[WatchedExport]:
    """Return every watched export, batch by batch."""
    return (each for batch in snapshot.batches for block in batch.blocks for each in block.exports)


def _is_unanswered(export: WatchedExport) -> bool:
    return export.export is None and export.failure is None
