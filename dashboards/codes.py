"""The table of error codes: how often, and what they mean."""

from dashboards.attention import RETRY
from dashboards.fields import Json, count_column, override
from dashboards.panels import query, table
from dashboards.promql import (
    BATCH,
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

FAILED = max_by(counts("cavatica_export_errors", own="code"), f"{BATCH}, code")
LOOKUPS = max_by(counts("cavatica_export_lookup_errors", own="code"), f"{BATCH}, code")


def error_codes() -> Json:
    """Return the table."""
    error = of_best(
        in_batches("cavatica_export_error_info"), "export_id", "code", "status", "message"
    )
    coded = f'label_replace({max_by(error, f"{EXPORT}, code")}, "code", "none", "code", "")'
    open_errors = f"{coded} and on ({EXPORT}) ({FAILURES} or {UNKNOWN})"
    open_refusals = f"{REFUSED} unless on ({BATCH}) {ACKNOWLEDGED_REFUSALS} > 0"
    any_of_them = max_by(f"{FAILED} or {LOOKUPS} or {REFUSED}", f"{SOURCE}, code")
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
        "errors`), and for files that it refused; `none` without a code. `To deal with`: those of "
        "them that are neither acknowledged nor superseded.",
        query(first_of(f"({one_of_them} or {meaningless})", no_errors), table=True),
        query(count(max_by(open_errors, f"{EXPORT}, code"), open_refusals), table=True),
        query(count(FAILED), table=True),
        query(count(LOOKUPS), table=True),
        query(count(REFUSED), table=True),
        join="code",
        columns={
            "code": "Code",
            "meaning": "Meaning",
            "retry": "Start it again",
            "Value #B": "To deal with",
            "Value #C": "Failed",
            "Value #D": "Lookup errors",
            "Value #E": "Refused",
        },
        sort="Value #B",
        overrides=[
            override("Code", custom__width=90),
            override("Start it again", mappings=RETRY, custom__width=140),
            count_column("To deal with", 110, "red"),
            count_column("Failed", 85),
            count_column("Lookup errors", 110),
            count_column("Refused", 85),
        ],
    )
