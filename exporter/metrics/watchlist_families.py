"""The table of metric families about the ID files."""

from typing import Final

from exporter.metrics.family import Family, Samples, labelled, single
from exporter.tracker.snapshot import NO_CODE, Snapshot


def _refused(snapshot: Snapshot) -> Samples:
    return tuple(
        ((batch, code or NO_CODE), count)
        for batch, refusals in snapshot.watchlist.refused.items()
        for code, count in refusals.codes.items()
    )


#: Families of what the ID files say, and of the files themselves.
WATCHLIST_FAMILIES: Final[tuple[Family[Snapshot], ...]] = (
    Family(
        "cavatica_refused_exports",
        "Files that the API refused to export at the start of the batch, by error code.",
        ("batch", "code"),
        _refused,
    ),
    Family(
        "cavatica_refused_exports_timestamp_seconds",
        "Modification time of the newest ID file of the batch with refused files.",
        ("batch",),
        lambda snapshot: labelled(
            (batch, refusals.written) for batch, refusals in snapshot.watchlist.refused.items()
        ),
    ),
    Family(
        "cavatica_acknowledged_refusals",
        "Refused files of the batch that are acknowledged.",
        ("batch",),
        lambda snapshot: labelled(
            (batch, refusals.count if refusals.acknowledged else 0)
            for batch, refusals in snapshot.watchlist.refused.items()
        ),
    ),
    Family(
        "cavatica_expected_exports",
        "Exports that the batch should have, as its ID files say.",
        ("batch",),
        lambda snapshot: labelled(snapshot.watchlist.expected.items()),
    ),
    Family(
        "cavatica_exporter_watchlist_last_reload_successful",
        "Result of the last load of the ID files: 1 without errors, 0 otherwise.",
        (),
        lambda snapshot: single(not snapshot.watchlist.errors),
    ),
    Family(
        "cavatica_exporter_watchlist_last_reload_success_timestamp_seconds",
        "Time of the last change of the ID files that left no error.",
        (),
        lambda snapshot: single(snapshot.watchlist.reloaded),
    ),
    Family(
        "cavatica_exporter_watchlist_file_error",
        "Error of the ID file: 1 if it is invalid or unreadable, 0 otherwise.",
        ("file",),
        lambda snapshot: labelled(
            (file.name, file.error is not None) for file in snapshot.watchlist.files
        ),
    ),
    Family(
        "cavatica_exporter_watchlist_file_mtime_timestamp_seconds",
        "Modification time of the ID file content in effect.",
        ("file",),
        lambda snapshot: labelled(
            (file.name, file.mtime) for file in snapshot.watchlist.files if file.mtime is not None
        ),
    ),
    Family(
        "cavatica_exporter_watchlist_duplicate_ids",
        "Repeated entries of export IDs.",
        (),
        lambda snapshot: single(snapshot.watchlist.duplicates),
    ),
    Family(
        "cavatica_exporter_watchlist_rejected_ids",
        "Entries that are not valid export IDs.",
        (),
        lambda snapshot: single(snapshot.watchlist.rejected),
    ),
    Family(
        "cavatica_exporter_watchlist_ignored_files",
        "Entries of the directory that are not ID files.",
        (),
        lambda snapshot: single(len(snapshot.watchlist.ignored)),
    ),
)
