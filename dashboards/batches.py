"""The table of batches."""

from dashboards.fields import CALM, Json, hidden, link, override, thresholds, value_mappings
from dashboards.panels import query, table
from dashboards.promql import (
    BATCH,
    FAILURES,
    NONE,
    NOT_KNOWN,
    UNANSWERED,
    UNKNOWN,
    WATCHED,
    counts,
    in_batches,
    in_state,
    job_column,
    of_best,
    rows,
)
from dashboards.tiles import ACKNOWLEDGED_REFUSALS, MISSING, REFUSED, TOLD

NOT_IN_SIGHT = -5
PACE = 6 * 60 * 60
"""Seconds over which the pace of a batch is measured: as long as the alert on stalled ones."""


def batches() -> Json:
    """Return the table."""
    unanswered = f"count by ({BATCH}) ({UNANSWERED})"

    def column(expr: str) -> Json:
        return query(rows(f"({expr} or 0 * {TOLD})", BATCH), table=True)

    def known(expr: str) -> Json:
        # Where states are missing, none is not 0.
        return query(rows(f"({expr} > 0 or 0 * {TOLD} unless {unanswered})", BATCH), table=True)

    completed = _sum(in_state('state="COMPLETED"'))
    failed = f"count by ({BATCH}) ({FAILURES})"
    watched = _sum(WATCHED)
    # Rounded down: 9,999 of 10,000 are not 100 %.
    done = f"(floor(1000 * {completed} / ({watched} > 0)) / 1000 unless {unanswered} >= {watched})"
    most_to_do = f"1e9 * ({failed} or 0 * {TOLD}) + {watched} - {completed}"
    refused = f"sum by ({BATCH}) ({REFUSED}) - ({ACKNOWLEDGED_REFUSALS} or 0 * {TOLD})"
    only = link(
        "Only ${__data.fields.Batch}",
        "/d/cavatica-exports?${datasource:queryparam}&${instance:queryparam}"
        "&var-job=${__data.fields.job:percentencode}"
        "&var-batch=${__data.fields.Batch:percentencode}&${__url_time_range}",
    )
    return table(
        "Batches",
        "Batches with the most to deal with first. `Done`: the share of the watched exports that "
        "are completed. `Failed` and `Refused` are without acknowledged and superseded ones; "
        "`Missing` are exports that an ID file expects and none lists. `About done` is estimated "
        "from the last six hours. A click shows the batch alone.",
        query(rows(f"({most_to_do} or {TOLD})", BATCH, "job", "batch"), table=True),
        query(job_column(TOLD, BATCH), table=True),
        query(rows(done, BATCH), table=True),
        query(rows(watched, BATCH), table=True),
        known(failed),
        known(_sum(in_state('state="RUNNING"'))),
        known(_sum(in_state('state="PENDING"'))),
        column(f"count by ({BATCH}) ({UNKNOWN})"),
        column(refused),
        query(rows(MISSING, BATCH), table=True),
        query(rows(_sum(counts("cavatica_exported_bytes")), BATCH), table=True),
        query(rows(_about_done(), BATCH), table=True),
        join="row",
        columns={
            "batch": "Batch",
            "source": "Job",
            "Value #C": "Done",
            "Value #D": "Watched",
            "Value #E": "Failed",
            "Value #F": "Running",
            "Value #G": "Pending",
            "Value #H": "Unknown",
            "Value #I": "Refused",
            "Value #J": "Missing",
            "Value #K": "Exported",
            "Value #L": "About done",
            "job": "job",
        },
        sort="Value #A",
        empty="No exporter answers, or no batch is watched: the tiles above say which.",
        overrides=[
            override("Batch", links=[only], custom__width=220),
            override(
                "Done",
                unit="percentunit",
                decimals=1,
                min=0,
                max=1,
                thresholds=thresholds("blue", {1: "green"}),
                custom__cellOptions={"type": "gauge", "mode": "basic"},
                custom__width=180,
            ),
            *(
                override(name, unit="locale", custom__width=90)
                for name in ("Watched", "Running", "Pending")
            ),
            *map(_alarm, ("Failed", "Unknown", "Refused", "Missing")),
            override("Exported", unit="bytes", custom__width=110),
            override(
                "About done",
                unit="dateTimeAsIsoNoDateIfToday",
                mappings=value_mappings(
                    {
                        NOT_KNOWN: ("not known", "purple"),
                        NOT_IN_SIGHT: ("not in sight", "orange"),
                        NONE: ("finished", "text"),
                    }
                ),
                thresholds=thresholds("text"),
                custom__cellOptions={"type": "color-text"},
            ),
            hidden("job"),
        ],
    )


def _sum(expr: str) -> str:
    return f"sum by ({BATCH}) ({expr})"


def _alarm(name: str) -> Json:
    colours = {"Failed": "red", "Unknown": "purple"}
    return override(
        name,
        unit="locale",
        thresholds=thresholds(CALM, {1: colours.get(name, "orange")}),
        custom__cellOptions={"type": "color-background"},
        custom__width=90,
    )


def _about_done() -> str:
    """Return when each batch is about done, in milliseconds, or a number for a word."""
    finished = of_best(in_batches("cavatica_export_finished_timestamp_seconds"), "export_id")
    started = of_best(in_batches("cavatica_export_started_timestamp_seconds"), "export_id")
    lately = f"count by ({BATCH}) ({finished} > time() - {PACE})"
    # A young batch has not had all of that time.
    seconds = f"clamp(time() - min by ({BATCH}) ({started}), 60, {PACE})"
    unanswered = f"count by ({BATCH}) ({UNANSWERED})"
    running = in_state('state=~"PENDING|RUNNING"')
    left = f"({_sum(running)} + ({unanswered} or 0 * {_sum(WATCHED)}))"
    minute = 60_000
    return (
        f"{minute} * round((time() + ({left} > 0) * {seconds} / {lately}) / 60)"
        f" or {NOT_KNOWN} + 0 * {unanswered}"
        f" or {NOT_IN_SIGHT} + 0 * ({left} > 0)"
        f" or {NONE} + 0 * {left}"
    )
