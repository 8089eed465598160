"""The table of error codes: how often, and what they mean."""

from dashboards.attention import RETRY
from dashboards.fields import Json, count_column, override
from dashboards.panels import query, table
from dashboards.promql import (
    BATCH,
    DEALT_WITH,
    EXPORT,
    FAILURES,
    NO_ANSWER,
    NOT_KNOWN,
    NOT_OF_ALL_JOBS,
    SOURCE,
    UNKNOWN,
    ZERO,
    counts,
    first_of,
    in_batches,
    max_by,
    of_best,
    with_meaning,
)
from dashboards.tiles import ACKNOWLEDGED_REFUSALS, REFUSED

_FAILED = max_by(counts("cavatica_export_errors", own="code"), f"{BATCH}, code")
_LOOKUPS = max_by(counts("cavatica_export_lookup_errors", own="code"), f"{BATCH}, code")


def error_codes() -> Json:
    """Return the table."""
    error = of_best(
        in_batches("cavatica_export_error_info"), "export_id", "code", "status", "message"
    )
    coded = f'label_replace({max_by(error, f"{EXPORT}, code")}, "code", "none", "code", "")'
    failed, lookups, dealt_with = (
        max_by(f"{coded} and on ({EXPORT}) {each}", f"{EXPORT}, code")
        for each in (FAILURES, UNKNOWN, DEALT_WITH)
    )
    refused = f"{REFUSED} unless on ({BATCH}) {ACKNOWLEDGED_REFUSALS} > 0"
    refused_and_dealt_with = f"{REFUSED} and on ({BATCH}) {ACKNOWLEDGED_REFUSALS} > 0"
    any_of_them = max_by(f"{_FAILED} or {_LOOKUPS} or {REFUSED}", f"{SOURCE}, code")
    explained = with_meaning(any_of_them, within=f"{SOURCE}, code")
    # Jobs of two versions may word it differently.
    one_of_them = f"topk by (code) (1, {max_by(explained, 'code, meaning, retry')})"
    not_known = first_of(NO_ANSWER, f"{NOT_KNOWN} + 0 * ({NOT_OF_ALL_JOBS})")
    unknown = f'label_replace({not_known}, "code", "not known", "", "")'
    no_errors = f'label_replace({ZERO}, "code", "no errors", "", "")'

    def count(expr: str, *more: str) -> str:
        terms = [
            f"(sum by (code) ({each}) or 0 * max by (code) ({any_of_them}))"
            for each in (expr, *more)
        ]
        return first_of(f"{' + '.join(terms)} or on (code) {unknown}", no_errors)

    meaningless = f'label_replace({unknown}, "meaning", "states are missing", "", "")'
    return table(
        "Error codes",
        "CAVATICA's code for every failed export, for IDs that it answers an error for (`Lookup "
        "errors`), and for files that it refused; `none` without a code. These are without "
        "acknowledged and superseded ones, which `Dealt with` counts. Codes with the most to deal "
        "with first.",
        query(first_of(f"({one_of_them} or {meaningless})", no_errors), table=True),
        query(count(failed, lookups, refused), table=True),
        query(count(failed), table=True),
        query(count(lookups), table=True),
        query(count(refused), table=True),
        query(count(dealt_with, refused_and_dealt_with), table=True),
        join="code",
        columns={
            "code": "Code",
            "meaning": "Meaning",
            "retry": "Start it again",
            "Value #C": "Failed",
            "Value #D": "Lookup errors",
            "Value #E": "Refused",
            "Value #F": "Dealt with",
        },
        sort="Value #B",
        overrides=[
            override("Code", custom__width=90),
            override("Start it again", mappings=RETRY, custom__width=140),
            count_column("Failed", 85, "red"),
            count_column("Lookup errors", 110, "purple"),
            count_column("Refused", 85, "orange"),
            count_column("Dealt with", 95),
        ],
    )
