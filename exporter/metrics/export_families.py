"""The families of every export."""

from typing import Final

from exporter.cavatica.export import FAILED, STATES, ErrorDetail
from exporter.metrics.family import Family, Samples, single
from exporter.tracker.snapshot import WatchedExport

EXPORT_LABELS: Final = ("batch", "export_id")


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
            "Unix time in seconds at which the export started.",
            (),
            lambda watched: single(watched.export.started if watched.export else None),
        ),
        Family(
            "cavatica_export_finished_timestamp_seconds",
            "Unix time in seconds at which the export finished.",
            (),
            lambda watched: single(watched.finished),
        ),
        Family(
            "cavatica_export_size_bytes",
            "Size of the exported file in bytes.",
            (),
            lambda watched: single(watched.export.size if watched.export else None),
        ),
        Family(
            "cavatica_export_acknowledged",
            "Export that is acknowledged in an ID file, always 1; absent for others.",
            (),
            lambda watched: single(1 if watched.acknowledged else None),
        ),
        Family(
            "cavatica_export_superseded",
            "FAILED export superseded by a later COMPLETED one to the same destination, always 1;"
            " absent for others.",
            (),
            lambda watched: single(1 if watched.superseded else None),
        ),
        Family(
            "cavatica_export_info",
            "Destination volume of the export, always 1.",
            ("volume",),
            _info,
        ),
        Family(
            "cavatica_export_error_info",
            "Error of a FAILED export, or error that the API returned for the ID, always 1; absent"
            " for others.",
            ("code", "status", "message") if expose_error_messages else ("code", "status"),
            lambda watched: _error_info(watched, with_message=expose_error_messages),
        ),
    )


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
