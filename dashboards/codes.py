"""The table of error codes: how often, and what they mean."""

from dashboards.attention import RETRY
from dashboards.fields import CALM, Json, override, thresholds
from dashboards.panels import query, table
from dashboards.promql import (
    BATCH,
    EXPORT,
    FAILURES,
    NO_ANSWER,
    SOURCE,
    ZERO,
    counts,
    first_of,
    in_batches,
    max_by,
    of_best,
    with_meaning,
)
from dashboards.tiles import REFUSED

FAILED = max_by(counts("cavatica_export_errors", own="code"), f"{BATCH}, code")
LOOKUPS = max_by(counts("cavatica_export_lookup_errors", own="code"), f"{BATCH}, code")


def error_codes() -> Json:
    """Return the table."""
    error = of_best(
        in_batches("cavatica_export_error_info"), "export_id", "code", "status", "message"
    )
    coded = f'label_replace({max_by(error, f"{EXPORT}, code")}, "code", "none", "code", "")'
    open_failures = f"{coded} and on ({EXPORT}) {FAILURES}"
    any_of_them = max_by(f"{FAILED} or {LOOKUPS} or {REFUSED}", f"{SOURCE}, code")
    explained = with_meaning(any_of_them, within=f"{SOURCE}, code")
    # Jobs of two versions may word it differently.
    one_of_them = f"topk by (code) (1, {max_by(explained, 'code, meaning, retry')})"
    unknown = f'label_replace({NO_ANSWER}, "code", "not known", "", "")'
    no_errors = f'label_replace({ZERO}, "code", "no errors", "", "")'
    return table(
        "Error codes",
        "CAVATICA's code for every failed export, for IDs that it does not know, and for files "
        "that it refused; `none` without a code. `To deal with`: failures that are neither "
        "acknowledged nor superseded.",
        query(first_of(one_of_them, unknown, no_errors), table=True),
        query(
            f"sum by (code) ({max_by(open_failures, f'{EXPORT}, code')} or 0 * {any_of_them})",
            table=True,
        ),
        query(f"sum by (code) ({FAILED})", table=True),
        query(f"sum by (code) ({LOOKUPS})", table=True),
        query(f"sum by (code) ({REFUSED})", table=True),
        join="code",
        columns={
            "code": "Code",
            "meaning": "Meaning",
            "retry": "Start it again",
            "Value #B": "To deal with",
            "Value #C": "Failed",
            "Value #D": "IDs not known",
            "Value #E": "Refused",
        },
        sort="Value #B",
        empty="No exporter answers.",
        overrides=[
            override("Code", custom__width=70),
            override("Start it again", mappings=RETRY, custom__width=110),
            override(
                "To deal with",
                unit="locale",
                thresholds=thresholds(CALM, {1: "red"}),
                custom__cellOptions={"type": "color-background"},
                custom__width=110,
            ),
            override("Failed", unit="locale", custom__width=80),
            override("IDs not known", unit="locale", custom__width=110),
            override("Refused", unit="locale", custom__width=80),
        ],
    )
