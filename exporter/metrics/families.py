"""The table of metric families: a snapshot as Prometheus samples.

All families are gauges. A value that the API did not give is left out, never 0.
"""

from typing import Any, Final

from exporter.cavatica.export import FAILED, STATES, ErrorDetail
from exporter.metrics.family import Family, Samples, labelled, single
from exporter.metrics.watchlist_families import WATCHLIST_FAMILIES
from exporter.tracker.snapshot import Batch, Snapshot, WatchedExport

BATCH_LABELS: Final = ("batch",)
EXPORT_LABELS: Final = ("batch", "export_id")


def _state(current: str) -> Samples:
    states = STATES if current in STATES else (*STATES, current)
    return tuple(((state,), 1 if state == current else 0) for state in states)


# Nearly every export is in one of these states, so their samples are built once.
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


#: Families of every batch; the label `batch` comes first.
BATCH_FAMILIES: Final[tuple[Family[Batch], ...]] = (
    Family(
        "cavatica_watched_exports",
        "Unique watched export IDs.",
        (),
        lambda batch: single(batch.totals.watched),
    ),
    Family(
        "cavatica_exports",
        "Watched exports by state.",
        ("state",),
        lambda batch: labelled(batch.totals.states.items()),
    ),
    Family(
        "cavatica_export_errors",
        "FAILED exports by error code of the API.",
        ("code",),
        lambda batch: labelled(sorted(batch.totals.errors.items())),
    ),
    Family(
        "cavatica_export_lookup_errors",
        "Watched IDs without a finished state for which the API returned an error, by error code.",
        ("code",),
        lambda batch: labelled(sorted(batch.totals.lookup_errors.items())),
    ),
    Family(
        "cavatica_acknowledged_exports",
        "Acknowledged FAILED exports.",
        (),
        lambda batch: single(batch.totals.acknowledged),
    ),
    Family(
        "cavatica_exported_bytes",
        "Total size of the files of COMPLETED exports in bytes.",
        (),
        lambda batch: single(batch.totals.exported_bytes),
    ),
    Family(
        "cavatica_exports_last_finished_timestamp_seconds",
        "Time of the latest finish among exports in this state.",
        ("state",),
        lambda batch: labelled(sorted(batch.totals.last_finished.items())),
    ),
    Family(
        "cavatica_exports_oldest_unfinished_timestamp_seconds",
        "Start time of the oldest unfinished export in this state.",
        ("state",),
        lambda batch: labelled(sorted(batch.totals.oldest_unfinished.items())),
    ),
)


def export_families(*, expose_error_messages: bool) -> tuple[Family[WatchedExport], ...]:
    """Return the families of every export; the labels `batch` and `export_id` come first.

    Args:
        expose_error_messages: Whether `cavatica_export_error_info` has the label `message`.
    """
    return (
        Family(
            "cavatica_export_state",
            "State of the export: 1 for the current state, 0 for the others.",
            ("state",),
            _states,
        ),
        Family(
            "cavatica_export_started_timestamp_seconds",
            "Start time of the export.",
            (),
            lambda watched: single(watched.export.started if watched.export else None),
        ),
        Family(
            "cavatica_export_finished_timestamp_seconds",
            "Finish time of the export.",
            (),
            lambda watched: single(watched.export.finished if watched.export else None),
        ),
        Family(
            "cavatica_export_size_bytes",
            "Size of the exported file in bytes.",
            (),
            lambda watched: single(watched.export.size if watched.export else None),
        ),
        Family(
            "cavatica_export_acknowledged",
            "Acknowledgement of the export in an ID file, always 1.",
            (),
            lambda watched: single(1 if watched.acknowledged else None),
        ),
        Family(
            "cavatica_export_info",
            "Destination volume of the export, always 1.",
            ("volume",),
            _info,
        ),
        Family(
            "cavatica_export_error_info",
            "Error of a FAILED export or of an ID lookup, always 1.",
            ("code", "status", "message") if expose_error_messages else ("code", "status"),
            lambda watched: _error_info(watched, with_message=expose_error_messages),
        ),
    )


def _rate_limit(snapshot: Snapshot, name: str) -> Samples:
    return single(getattr(snapshot.rate_limit, name, None))


#: Families of the scrape, the API and the watchlist.
SCRAPE_FAMILIES: Final[tuple[Family[Snapshot], ...]] = (
    Family(
        "cavatica_exports_oldest_answer_timestamp_seconds",
        "Time of the oldest API answer among unfinished exports.",
        ("batch",),
        lambda snapshot: labelled(sorted(snapshot.oldest_answers.items())),
    ),
    Family(
        "cavatica_up",
        "Result of this scrape: 1 if every API call that it needed succeeded, 0 otherwise.",
        (),
        lambda snapshot: single(snapshot.up),
    ),
    Family(
        "cavatica_scrape_duration_seconds",
        "Duration of this scrape in seconds.",
        (),
        lambda snapshot: single(snapshot.duration),
    ),
    Family(
        "cavatica_scrape_api_calls",
        "API calls made by this scrape.",
        (),
        lambda snapshot: single(snapshot.api_calls),
    ),
    Family(
        "cavatica_last_success_timestamp_seconds",
        "End time of the last scrape with cavatica_up 1.",
        (),
        lambda snapshot: single(snapshot.last_success),
    ),
    Family(
        "cavatica_last_success_age_seconds",
        "Time since the last scrape with cavatica_up 1, independent of the system clock.",
        (),
        lambda snapshot: single(snapshot.last_success_age),
    ),
    Family(
        "cavatica_api_rate_limit_requests",
        "API calls that the account may make in a rate-limit window.",
        (),
        lambda snapshot: _rate_limit(snapshot, "limit"),
    ),
    Family(
        "cavatica_api_rate_limit_remaining_requests",
        "API calls left to the account in the current rate-limit window.",
        (),
        lambda snapshot: _rate_limit(snapshot, "remaining"),
    ),
    Family(
        "cavatica_api_rate_limit_reset_timestamp_seconds",
        "Start time of the next rate-limit window.",
        (),
        lambda snapshot: _rate_limit(snapshot, "reset"),
    ),
    Family(
        "cavatica_api_rate_limit_window_remaining_seconds",
        "Time until the rate limit's window ends, as the exporter counts it; 0 after its end.",
        (),
        lambda snapshot: single(snapshot.rate_limit_window),
    ),
    *WATCHLIST_FAMILIES,
)

#: Every family that is rendered from a snapshot.
FAMILIES: Final[tuple[Family[Any], ...]] = (
    *BATCH_FAMILIES,
    *export_families(expose_error_messages=True),
    *SCRAPE_FAMILIES,
)
