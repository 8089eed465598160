"""The table of metric families: a snapshot as Prometheus samples.

All families are gauges. A value that the API did not give is left out, never 0.
"""

from typing import Any, Final

from exporter.cavatica.codes import explain
from exporter.metrics.export_families import export_families
from exporter.metrics.family import Family, Samples, labelled, single
from exporter.metrics.watchlist_families import WATCHLIST_FAMILIES
from exporter.tracker.snapshot import Batch, Snapshot

BATCH_LABELS: Final = ("batch",)


#: Families of every batch; the label `batch` comes first.
BATCH_FAMILIES: Final[tuple[Family[Batch], ...]] = (
    Family(
        "cavatica_watched_exports",
        "Number of watched export IDs, each counted once.",
        (),
        lambda batch: single(batch.totals.watched),
    ),
    Family(
        "cavatica_exports",
        "Number of watched exports by state.",
        ("state",),
        lambda batch: labelled(batch.totals.states.items()),
    ),
    Family(
        "cavatica_export_errors",
        "Number of FAILED exports by the API's error code, or none without a code.",
        ("code",),
        lambda batch: labelled(sorted(batch.totals.errors.items())),
    ),
    Family(
        "cavatica_export_lookup_errors",
        "Number of export IDs for which the API returned an error instead of an export, by error"
        " code; COMPLETED and FAILED exports are not counted.",
        ("code",),
        lambda batch: labelled(sorted(batch.totals.lookup_errors.items())),
    ),
    Family(
        "cavatica_acknowledged_exports",
        "Number of FAILED exports that are acknowledged in an ID file.",
        (),
        lambda batch: single(batch.totals.acknowledged),
    ),
    Family(
        "cavatica_superseded_exports",
        "Number of FAILED exports superseded by a later COMPLETED one to the same destination.",
        (),
        lambda batch: single(batch.totals.superseded),
    ),
    Family(
        "cavatica_exported_bytes",
        "Total size of the files of COMPLETED exports in bytes.",
        (),
        lambda batch: single(batch.totals.exported_bytes),
    ),
    Family(
        "cavatica_exports_last_finished_timestamp_seconds",
        "Unix time in seconds of the latest finish among exports in this state.",
        ("state",),
        lambda batch: labelled(sorted(batch.totals.last_finished.items())),
    ),
    Family(
        "cavatica_exports_oldest_unfinished_timestamp_seconds",
        "Unix time in seconds of the earliest start among exports in this state.",
        ("state",),
        lambda batch: labelled(sorted(batch.totals.oldest_unfinished.items())),
    ),
)


def _rate_limit(snapshot: Snapshot, name: str) -> Samples:
    return single(getattr(snapshot.rate_limit, name, None))


def _code_infos(snapshot: Snapshot) -> Samples:
    """Return the meanings of the codes in the totals, as far as the table has them."""
    codes: set[str] = set()
    for batch in snapshot.batches:
        codes.update(batch.totals.errors, batch.totals.lookup_errors)
    for refusals in snapshot.watchlist.refused.values():
        codes.update(refusals.codes)
    meanings = filter(None, map(explain, sorted(codes)))
    return tuple(((each.code, each.meaning, each.retry), 1) for each in meanings)


#: Families of the scrape, the API and the watchlist.
SCRAPE_FAMILIES: Final[tuple[Family[Snapshot], ...]] = (
    Family(
        "cavatica_exports_oldest_answer_timestamp_seconds",
        "Unix time in seconds of the oldest API answer among unfinished exports.",
        ("batch",),
        lambda snapshot: labelled(sorted(snapshot.oldest_answers.items())),
    ),
    Family(
        "cavatica_error_code_info",
        "Meaning of an error code in the totals, and whether a retry helps (now, after a repair,"
        " or never), always 1.",
        ("code", "meaning", "retry"),
        _code_infos,
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
        "Number of API calls made by this scrape.",
        (),
        lambda snapshot: single(snapshot.api_calls),
    ),
    Family(
        "cavatica_last_success_timestamp_seconds",
        "Unix time in seconds at the end of the last scrape with cavatica_up 1.",
        (),
        lambda snapshot: single(snapshot.last_success),
    ),
    Family(
        "cavatica_last_success_age_seconds",
        "Seconds since the last scrape with cavatica_up 1 on a monotonic clock.",
        (),
        lambda snapshot: single(snapshot.last_success_age),
    ),
    Family(
        "cavatica_api_rate_limit_requests",
        "Number of API calls that the account may make in a rate-limit window.",
        (),
        lambda snapshot: _rate_limit(snapshot, "limit"),
    ),
    Family(
        "cavatica_api_rate_limit_remaining_requests",
        "Number of API calls left to the account in the current rate-limit window.",
        (),
        lambda snapshot: _rate_limit(snapshot, "remaining"),
    ),
    Family(
        "cavatica_api_rate_limit_reset_timestamp_seconds",
        "Unix time in seconds at which the next rate-limit window begins, according to the API.",
        (),
        lambda snapshot: _rate_limit(snapshot, "reset"),
    ),
    Family(
        "cavatica_api_rate_limit_window_remaining_seconds",
        "Seconds until the current rate-limit window ends on a monotonic clock; 0 after its end.",
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
