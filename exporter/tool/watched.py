"""The state of everything watched, fetched until all is known."""

from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Final

from exporter.clock import Clock
from exporter.tracker.snapshot import Snapshot, WatchedExport
from exporter.tracker.tracker import Tracker

# Longer than a rate-limit window: calls that one window does not allow are made in the next.
_PATIENCE_SECONDS = 400.0
_PAUSE_SECONDS = 1.0
# The tracker halves refused calls. If every call is refused, these rounds end with calls of one ID.
_REFUSED_ROUNDS = 15
_REFUSED: Final = f"client_error: HTTP {HTTPStatus.BAD_REQUEST.value}"
_MAX_NAMED: Final = 20


class NoAnswerError(Exception):
    """The API did not answer for every ID; the text says why."""


def ask_all(
    tracker: Tracker, *, timeout: float, clock: Clock, pause: Callable[[float], None]
) -> Snapshot:
    """Return the state of every watched export.

    An ID for which the API refuses whole calls is found by the tracker, and has a lookup error.

    Raises:
        NoAnswerError: the API fails or refuses every call, or the rate limit allows no call for too
            long.
    """
    waiting = -1
    refused_rounds = 0
    ends = clock.monotonic() + _PATIENCE_SECONDS
    while True:
        snapshot = tracker.scrape(clock.monotonic() + timeout)
        unanswered = [each.id for each in exports(snapshot) if _is_unanswered(each)]
        before, waiting = waiting, len(unanswered)
        if not waiting and snapshot.up:
            return snapshot
        if waiting != before:
            ends = clock.monotonic() + _PATIENCE_SECONDS
        problem = snapshot.problem or "no answer for every export in time"
        is_refused = not snapshot.up and problem.startswith(_REFUSED)
        if is_refused and waiting == sum(1 for _ in exports(snapshot)):
            refused_rounds += 1
            if refused_rounds == _REFUSED_ROUNDS:
                raise NoAnswerError(
                    f"{problem}; the API refuses every call, so check whether these are the IDs of"
                    f" exports: {_listed(unanswered)}"
                )
        held_back = snapshot.up or is_refused or problem.startswith("rate_limited")
        if not held_back or clock.monotonic() >= ends:
            raise NoAnswerError(problem)
        pause(_PAUSE_SECONDS)


def refused_ids(snapshot: Snapshot) -> str | None:
    """Return a message that names the IDs that the API refuses; None if all are acknowledged."""
    ids = [
        each.id
        for each in exports(snapshot)
        if each.failure and each.failure.status == HTTPStatus.BAD_REQUEST and not each.acknowledged
    ]
    if not ids:
        return None
    return (
        f"API refuses every call with one of these IDs (HTTP {HTTPStatus.BAD_REQUEST.value});"
        f" correct, remove or acknowledge them in the ID files: {_listed(ids)}"
    )


def exports(snapshot: Snapshot) -> Iterator[WatchedExport]:
    """Return every watched export, batch by batch."""
    return (each for batch in snapshot.batches for block in batch.blocks for each in block.exports)


def _is_unanswered(export: WatchedExport) -> bool:
    return export.export is None and export.failure is None


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _MAX_NAMED:,} more" if len(ids) > _MAX_NAMED else ""
    return ", ".join(ids[:_MAX_NAMED]) + more
