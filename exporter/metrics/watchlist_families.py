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
        "Number of files that the API refused to export at the start of the batch, by error code.",
        ("batch", "code"),
        _refused,
    ),
    Family(
        "cavatica_refused_exports_timestamp_seconds",
        "Unix time in seconds at which the batch's newest ID file with refused files was modified.",
        ("batch",),
        lambda snapshot: labelled(
            (batch, refusals.written) for batch, refusals in snapshot.watchlist.refused.items()
        ),
    ),
    Family(
        "cavatica_acknowledged_refusals",
        "Number of refused files of the batch that are acknowledged in an ID file.",
        ("batch",),
        lambda snapshot: labelled(
            (batch, refusals.count if refusals.acknowledged else 0)
            for batch, refusals in snapshot.watchlist.refused.items()
        ),
    ),
    Family(
        "cavatica_expected_exports",
        "Number of exports that the batch should have, according to its ID files.",
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
        "Unix time in seconds of the last change of the ID files that left no error.",
        (),
        lambda snapshot: single(snapshot.watchlist.reloaded),
    ),
    Family(
        "cavatica_exporter_watchlist_file_error",
        "Result of the last load of the ID file: 1 if it is invalid or unreadable, 0 otherwise.",
        ("file",),
        lambda snapshot: labelled(
            (file.name, file.error is not None) for file in snapshot.watchlist.files
        ),
    ),
    Family(
        "cavatica_exporter_watchlist_file_mtime_timestamp_seconds",
        "Unix modification time in seconds of the ID file content in effect.",
        ("file",),
        lambda snapshot: labelled(
            (file.name, file.mtime) for file in snapshot.watchlist.files if file.mtime is not None
        ),
    ),
    Family(
        "cavatica_exporter_watchlist_duplicate_ids",
        "Number of entries in the ID files that repeat an export ID.",
        (),
        lambda snapshot: single(snapshot.watchlist.duplicates),
    ),
    Family(
        "cavatica_exporter_watchlist_rejected_ids",
        "Number of entries in the ID files that are not valid export IDs.",
        (),
        lambda snapshot: single(snapshot.watchlist.rejected),
    ),
    Family(
        "cavatica_exporter_watchlist_ignored_files",
        "Number of entries in the directory that are ignored because they are not ID files.",
        (),
        lambda snapshot: single(len(snapshot.watchlist.ignored)),
    ),
)
