"""The table of batches."""

from dashboards.fields import (
    Json,
    cell_words,
    count_column,
    hidden,
    link,
    override,
    thresholds,
    value_mappings,
)
from dashboards.panels import query, table
from dashboards.promql import (
    BATCH,
    DEALT_WITH,
    FAILURES,
    NONE,
    NONE_SO_FAR,
    NOT_KNOWN,
    UNANSWERED,
    UNKNOWN,
    WATCHED,
    WITHOUT_ANSWER,
    bytes_if_known,
    counts,
    in_batches,
    in_state,
    job_column,
    of_best,
    rows,
)
from dashboards.tiles import ACKNOWLEDGED_REFUSALS, EXPECTED, MISSING, REFUSED, TOLD

NOT_IN_SIGHT, COMPLETE, NOT_COMPLETE, ALL_DEALT_WITH = -11, -12, -13, -14
_ALARMS = {"Failed": "red", "Unknown": "purple", "Refused": "orange", "Missing": "orange"}
PACE = 6 * 60 * 60
"""Seconds over which the pace of a batch is measured: as long as the alert on stalled ones."""


def batches() -> Json:
    """Return the table."""
    unanswered = f"count by ({BATCH}) ({UNANSWERED})"
    none_known = _none_known()

    def column(expr: str, otherwise: int = 0) -> Json:
        # Every column is there and full: an empty cell could mean anything.
        return query(rows(f"({expr} or {otherwise} + 0 * {TOLD})", BATCH), table=True)

    def known(expr: str) -> Json:
        # Where states are missing, none is not 0.
        some = f"{NONE_SO_FAR} + 0 * {unanswered} unless {none_known}"
        zero = f"0 * {TOLD} unless {unanswered} unless {none_known}"
        return column(f"{expr} > 0 or {some} or {zero}", otherwise=NOT_KNOWN)

    completed = _sum(in_state('state="COMPLETED"'))
    failed = f"count by ({BATCH}) ({FAILURES})"
    dealt_with = f"(count by ({BATCH}) ({DEALT_WITH}) or 0 * {TOLD})"
    watched = _sum(WATCHED)
    # Rounded down: 9,999 of 10,000 are not 100 %.
    done = f"(floor(1000 * {completed} / ({watched} > 0)) / 1000 unless {none_known})"
    most_to_do = f"1e9 * ({failed} or 0 * {TOLD}) + {watched} - {completed}"
    done = f"{done} or {NOT_KNOWN} + 0 * ({watched} > 0)"
    exported = f"sum by ({BATCH}) ({bytes_if_known(counts('cavatica_exported_bytes'))})"
    exported = f"{exported} or {NOT_KNOWN} + 0 * ({watched} > 0)"
    only = link(
        "Only ${__data.fields.Batch}",
        "/d/cavatica-exports?${datasource:queryparam}&${instance:queryparam}"
        "&var-job=${__data.fields.job:percentencode}"
        "&var-batch=${__data.fields.Batch:percentencode}&${__url_time_range}",
    )
    return table(
        "Batches",
        "Batches with the most to deal with first. `Done`: the share of the watched exports that "
        "are completed. `Failed`, `Unknown` and `Refused` are without acknowledged and superseded "
        "ones; `Dealt with` counts these. `Missing` are exports that an ID file expects and none "
        "lists. `Estimated end`: from the pace of the last six hours. A click shows the batch "
        "alone.",
        query(rows(f"({most_to_do} or {TOLD})", BATCH, "job", "batch"), table=True),
        query(job_column(TOLD, BATCH), table=True),
        column(done, otherwise=NONE),
        column(watched),
        known(failed),
        known(f"({dealt_with} + ({ACKNOWLEDGED_REFUSALS} or 0 * {TOLD}))"),
        known(_sum(in_state('state="RUNNING"'))),
        known(_sum(in_state('state="PENDING"'))),
        column(f"count by ({BATCH}) ({UNKNOWN})"),
        column(OPEN_REFUSALS),
        column(f"{MISSING} or 0 * {EXPECTED}", otherwise=NONE),
        column(exported, otherwise=NONE),
        column(_estimated_end(), otherwise=NONE),
        join="row",
        columns={
            "batch": "Batch",
            "source": "Job",
            "Value #C": "Done",
            "Value #D": "Watched",
            "Value #E": "Failed",
            "Value #F": "Dealt with",
            "Value #G": "Running",
            "Value #H": "Pending",
            "Value #I": "Unknown",
            "Value #J": "Refused",
            "Value #K": "Missing",
            "Value #L": "Exported",
            "Value #M": "Estimated end",
            "job": "job",
        },
        sort="Value #A",
        empty="No batch is watched, or no exporter answers: the tiles above say which.",
        overrides=[
            override("Batch", links=[only], custom__width=170),
            override("Job", custom__width=110),
            # Not as a bar: new versions of Grafana draw 92 % of one as all of it.
            override(
                "Done",
                unit="percentunit",
                decimals=1,
                mappings=cell_words(),
                thresholds=thresholds("blue", {1: "green"}),
                custom__cellOptions={"type": "color-text"},
                custom__width=90,
            ),
            *(count_column(name, 90) for name in ("Watched", "Dealt with", "Running", "Pending")),
            *(count_column(name, 90, alarm) for name, alarm in _ALARMS.items()),
            override(
                "Exported",
                unit="bytes",
                mappings=cell_words(),
                thresholds=thresholds("text"),
                custom__cellOptions={"type": "color-text"},
                custom__width=95,
            ),
            override(
                "Estimated end",
                unit="dateTimeAsIso",
                mappings=[
                    *value_mappings(
                        {
                            NOT_IN_SIGHT: ("not in sight", "orange"),
                            COMPLETE: ("complete", "text"),
                            NOT_COMPLETE: ("ended, not complete", "red"),
                            ALL_DEALT_WITH: ("ended, failures dealt with", "text"),
                        }
                    ),
                    *cell_words(),
                ],
                thresholds=thresholds("text"),
                custom__cellOptions={"type": "color-text"},
            ),
            hidden("job"),
        ],
    )


def _sum(expr: str) -> str:
    return f"sum by ({BATCH}) ({expr})"


def _none_known() -> str:
    """Return something for each batch of which no state is known."""
    return f"(count by ({BATCH}) ({WITHOUT_ANSWER}) >= {_sum(WATCHED)})"


OPEN_REFUSALS = f"(sum by ({BATCH}) ({REFUSED}) - ({ACKNOWLEDGED_REFUSALS} or 0 * {TOLD}))"


def _estimated_end() -> str:
    """Return when each batch may end, in milliseconds, or a number for a word."""
    finished = of_best(in_batches("cavatica_export_finished_timestamp_seconds"), "export_id")
    started = of_best(in_batches("cavatica_export_started_timestamp_seconds"), "export_id")
    lately = f"count by ({BATCH}) ({finished} > time() - {PACE})"
    # A young batch has not had all of that time.
    seconds = f"clamp(time() - min by ({BATCH}) ({started}), 60, {PACE})"
    unanswered = f"count by ({BATCH}) ({UNANSWERED})"
    running = in_state('state=~"PENDING|RUNNING"')
    left = f"({_sum(running)} + ({unanswered} or 0 * {_sum(WATCHED)}))"
    minute = 60_000
    to_deal_with = " or ".join(
        (
            f"count by ({BATCH}) ({FAILURES})",
            f"count by ({BATCH}) ({UNKNOWN})",
            f"{OPEN_REFUSALS} > 0",
            MISSING,
        )
    )
    completed = _sum(in_state('state="COMPLETED"'))
    dealt_with = f"count by ({BATCH}) ({DEALT_WITH})"
    return (
        f"{minute} * round((time() + ({left} > 0) * {seconds} / {lately}) / 60)"
        f" or {NOT_KNOWN} + 0 * ({unanswered} or {_none_known()})"
        f" or {NOT_IN_SIGHT} + 0 * ({left} > 0)"
        f" or {NOT_COMPLETE} + 0 * ({to_deal_with})"
        f" or {COMPLETE} + 0 * ({completed} == {_sum(WATCHED)})"
        f" or {ALL_DEALT_WITH} + 0 * ({completed} + {dealt_with} == {_sum(WATCHED)})"
        f" or {NOT_COMPLETE} + 0 * {left}"
    )
