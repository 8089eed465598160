"""The table of metric families: what a snapshot says, in Prometheus' terms.

All of them are gauges. A value that the API did not give is left out, never 0.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from exporter.cavatica.export import FAILED, STATES, ErrorDetail
from exporter.tracker.snapshot import Batch, Snapshot, WatchedExport

T = TypeVar("T")

#: Of each sample the values of the family's own labels, and the value.
Samples = tuple[tuple[tuple[str, ...], float], ...]

BATCH_LABELS: Final = ("batch",)
EXPORT_LABELS: Final = ("batch", "export_id")


@dataclass(frozen=True, slots=True)
class Family(Generic[T]):
    """One metric family.

    Attributes:
        name: The metric's name.
        help: One sentence, without anything that needs escaping.
        labels: The family's own labels, behind those that every family of its table has.
        samples: Gives the samples of a batch, an export or a snapshot.
    """

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[T], Samples]


def _one(value: float | None) -> Samples:
    return () if value is None else (((), value),)


def _by(values: Iterable[tuple[str, float]]) -> Samples:
    return tuple(((label,), value) for label, value in values)


def _state(current: str) -> Samples:
    states = STATES if current in STATES else (*STATES, current)
    return tuple(((state,), 1 if state == current else 0) for state in states)


# Nearly every export is in one of these: its samples need not be made anew.
_STATE_SAMPLES: Final = {state: _state(state) for state in STATES}


def _states(watched: WatchedExport) -> Samples:
    return _STATE_SAMPLES.get(watched.state) or _state(watched.state)


def _info(watched: WatchedExport) -> Samples:
    return () if watched.export is None else (((watched.export.volume,), 1),)


def _error_info(watched: WatchedExport, *, with_message: bool) -> Samples:
    if watched.state == FAILED:
        error = watched.export.error if watched.export else None
    elif watched.failure is not None:
        error = watched.failure
    else:
        return ()
    error = error or ErrorDetail("", None, "")
    status = "" if error.status is None else str(error.status)
    labels = (error.code, status, error.message)
    return ((labels if with_message else labels[:2], 1),)


#: Of every batch; the label `batch` comes first.
BATCH_FAMILIES: Final[tuple[Family[Batch], ...]] = (
    Family(
        "cavatica_watched_exports",
        "Unique export IDs that are watched.",
        (),
        lambda batch: _one(batch.totals.watched),
    ),
    Family(
        "cavatica_exports",
        "Watched exports in each state.",
        ("state",),
        lambda batch: _by(batch.totals.states.items()),
    ),
    Family(
        "cavatica_export_errors",
        "FAILED exports by the error code of the API.",
        ("code",),
        lambda batch: _by(sorted(batch.totals.errors.items())),
    ),
    Family(
        "cavatica_export_lookup_errors",
        "Export IDs for which the API answered an error, but for finished exports.",
        ("code",),
        lambda batch: _by(sorted(batch.totals.lookup_errors.items())),
    ),
    Family(
        "cavatica_acknowledged_exports",
        "FAILED exports that are acknowledged.",
        (),
        lambda batch: _one(batch.totals.acknowledged),
    ),
    Family(
        "cavatica_exported_bytes",
        "Size of the resulting files of all COMPLETED exports.",
        (),
        lambda batch: _one(batch.totals.exported_bytes),
    ),
    Family(
        "cavatica_exports_last_finished_timestamp_seconds",
        "When the latest export finished in this state.",
        ("state",),
        lambda batch: _by(sorted(batch.totals.last_finished.items())),
    ),
    Family(
        "cavatica_exports_oldest_unfinished_timestamp_seconds",
        "When the oldest export that is in this state started.",
        ("state",),
        lambda batch: _by(sorted(batch.totals.oldest_unfinished.items())),
    ),
)


def export_families(*, expose_error_messages: bool) -> tuple[Family[WatchedExport], ...]:
    """Give the families of every export; the labels `batch` and `export_id` come first.

    Args:
        expose_error_messages: Whether `cavatica_export_error_info` has the label `message`.
    """
    return (
        Family(
            "cavatica_export_state",
            "1 for the current state of the export, 0 for the others.",
            ("state",),
            _states,
        ),
        Family(
            "cavatica_export_started_timestamp_seconds",
            "When the export started.",
            (),
            lambda watched: _one(watched.export.started if watched.export else None),
        ),
        Family(
            "cavatica_export_finished_timestamp_seconds",
            "When the export finished.",
            (),
            lambda watched: _one(watched.export.finished if watched.export else None),
        ),
        Family(
            "cavatica_export_size_bytes",
            "Size of the resulting file.",
            (),
            lambda watched: _one(watched.export.size if watched.export else None),
        ),
        Family(
            "cavatica_export_acknowledged",
            "1 for an export whose failure somebody has dealt with.",
            (),
            lambda watched: _one(1 if watched.acknowledged else None),
        ),
        Family(
            "cavatica_export_info",
            "1, with the volume that the export goes to.",
            ("volume",),
            _info,
        ),
        Family(
            "cavatica_export_error_info",
            "1, with the error of a FAILED export or of an ID that the API does not know.",
            ("code", "status", "message") if expose_error_messages else ("code", "status"),
            lambda watched: _error_info(watched, with_message=expose_error_messages),
        ),
    )


def _rate_limit(snapshot: Snapshot, name: str) -> Samples:
    return _one(getattr(snapshot.rate_limit, name, None))


#: Of the scrape, the API and the watchlist.
SCRAPE_FAMILIES: Final[tuple[Family[Snapshot], ...]] = (
    Family(
        "cavatica_exports_oldest_answer_timestamp_seconds",
        "When the unfinished export that was answered for longest ago was answered for.",
        ("batch",),
        lambda snapshot: _by(sorted(snapshot.oldest_answers.items())),
    ),
    Family(
        "cavatica_up",
        "1 if every call that this scrape needed was made and answered properly.",
        (),
        lambda snapshot: _one(snapshot.up),
    ),
    Family(
        "cavatica_scrape_duration_seconds",
        "How long this scrape took.",
        (),
        lambda snapshot: _one(snapshot.duration),
    ),
    Family(
        "cavatica_scrape_api_calls",
        "Calls of the API that this scrape made.",
        (),
        lambda snapshot: _one(snapshot.api_calls),
    ),
    Family(
        "cavatica_last_success_timestamp_seconds",
        "End of the last scrape with cavatica_up 1.",
        (),
        lambda snapshot: _one(snapshot.last_success),
    ),
    Family(
        "cavatica_api_rate_limit_requests",
        "Calls that the account may make in a window.",
        (),
        lambda snapshot: _rate_limit(snapshot, "limit"),
    ),
    Family(
        "cavatica_api_rate_limit_remaining_requests",
        "Calls that are left to the account in the window.",
        (),
        lambda snapshot: _rate_limit(snapshot, "remaining"),
    ),
    Family(
        "cavatica_api_rate_limit_reset_timestamp_seconds",
        "When the next window begins.",
        (),
        lambda snapshot: _rate_limit(snapshot, "reset"),
    ),
    Family(
        "cavatica_exporter_watchlist_last_reload_successful",
        "1 if no ID file is in error.",
        (),
        lambda snapshot: _one(not snapshot.watchlist.errors),
    ),
    Family(
        "cavatica_exporter_watchlist_last_reload_success_timestamp_seconds",
        "When the ID files last changed and left no error.",
        (),
        lambda snapshot: _one(snapshot.watchlist.reloaded),
    ),
    Family(
        "cavatica_exporter_watchlist_file_error",
        "1 for an ID file that is in error.",
        ("file",),
        lambda snapshot: _by(
            (file.name, file.error is not None) for file in snapshot.watchlist.files
        ),
    ),
    Family(
        "cavatica_exporter_watchlist_file_mtime_timestamp_seconds",
        "When the content of the ID file that is in force was written.",
        ("file",),
        lambda snapshot: _by(
            (file.name, file.mtime) for file in snapshot.watchlist.files if file.mtime is not None
        ),
    ),
    Family(
        "cavatica_exporter_watchlist_duplicate_ids",
        "Listings of export IDs that were listed before.",
        (),
        lambda snapshot: _one(snapshot.watchlist.duplicates),
    ),
    Family(
        "cavatica_exporter_watchlist_rejected_ids",
        "Listed IDs that do not have the form of one.",
        (),
        lambda snapshot: _one(snapshot.watchlist.rejected),
    ),
)

#: Every family that is made of a snapshot.
FAMILIES: Final[tuple[Family[Any], ...]] = (
    *BATCH_FAMILIES,
    *export_families(expose_error_messages=True),
    *SCRAPE_FAMILIES,
)
