"""The table of the exports that somebody may have to look at."""

from dashboards.blocks import (
    SAME_VIEW,
    STATE_WORDS,
    Json,
    link,
    override,
    query,
    steps,
    table,
    words,
)
from dashboards.promql import EXPORT, chosen, largest, state_number

DAY = 24 * 60 * 60

STARTED = largest(chosen("cavatica_export_started_timestamp_seconds"), EXPORT)
FINISHED = largest(chosen("cavatica_export_finished_timestamp_seconds"), EXPORT)


def open_exports() -> Json:
    """The panel."""

    def rows(expr: str) -> Json:
        return query(f"({expr}) and on ({EXPORT}) {_open()}", table=True)

    # A link has to say when to begin, also for an ID that never got an answer: a day ago.
    begin = f"round(1000 * ({STARTED} - 300 or time() - {DAY} + {_open()}))"
    code = largest(chosen("cavatica_export_error_info"), f"{EXPORT}, code")
    volume = largest(chosen("cavatica_export_info"), f"{EXPORT}, volume")
    details = link(
        "What happened to ${__data.fields.Export}",
        f"/d/cavatica-export?{SAME_VIEW}&var-batch=${{__data.fields.Batch:percentencode}}"
        "&var-export_id=${__data.fields.Export:percentencode}"
        "&from=${__data.fields.Details.numeric}&to=now",
    )
    opened = {"from": 0, "to": 1e15, "result": {"text": "open", "color": "blue", "index": 0}}
    return table(
        "Unfinished and failed exports",
        "Failures first; those that were acknowledged are left out. `Since` is the end of a failed "
        "export and the start of any other. A click on an export opens its story since it began.",
        rows(state_number(chosen)),
        rows(f"1000 * {FINISHED} or 1000 * {STARTED}"),
        rows(f"{FINISHED} - {STARTED} or time() - {STARTED}"),
        rows(code),
        rows(volume),
        rows(begin),
        join="export_id",
        columns={
            "Value #A": "State",
            "export_id": "Export",
            "batch 1": "Batch",
            "Value #B": "Since",
            "Value #C": "Duration",
            "code": "Error code",
            "volume": "Volume",
            "Value #F": "Details",
        },
        overrides=[
            override(
                "State",
                mappings=words(STATE_WORDS),
                custom__cellOptions={"type": "color-background"},
                custom__width=110,
            ),
            override("Export", links=[details], custom__width=310),
            override("Since", unit="dateTimeFromNow"),
            override(
                "Duration",
                unit="s",
                decimals=1,
                thresholds=steps("text", {DAY: "red"}),
                custom__cellOptions={"type": "color-text"},
            ),
            override(
                "Details",
                links=[details],
                mappings=[{"type": "range", "options": opened}],
                custom__width=80,
            ),
        ],
        sort="State",
        noValue="Nothing to show, if the exporter is up",
    )


def _open() -> str:
    """A 0 for what is neither completed nor an acknowledged failure.

    What one replica knows to be completed is completed, whatever another one still thinks. Of the
    states' series only this one is asked: there are five of them for each of very many exports.
    """
    completed = largest(chosen("cavatica_export_state", 'state="COMPLETED"'), EXPORT)
    acknowledged = chosen("cavatica_export_acknowledged")
    return f"({completed} == 0 unless on ({EXPORT}) {acknowledged})"
