"""The table of unfinished and failed exports."""

from dashboards.fields import (
    DOWN_ROW,
    NO_ROW,
    NOT_WATCHED_ROW,
    Json,
    cell_words,
    hidden,
    link,
    override,
    state_mappings,
    thresholds,
    value_mappings,
)
from dashboards.panels import note, query, table
from dashboards.promql import (
    ALIVE,
    DAY,
    EXPORT,
    NONE,
    SOURCE,
    WATCHED,
    ZERO,
    down_jobs,
    first_of,
    in_batches,
    job_column,
    max_by,
    of_best,
    rows,
    with_meaning,
)

STATE = "cavatica_export_state"
ACKNOWLEDGED = in_batches("cavatica_export_acknowledged")
SUPERSEDED = in_batches("cavatica_export_superseded")

STARTED = max_by(
    of_best(in_batches("cavatica_export_started_timestamp_seconds"), "export_id"), EXPORT
)
FINISHED = max_by(
    of_best(in_batches("cavatica_export_finished_timestamp_seconds"), "export_id"), EXPORT
)
SINCE = f"({FINISHED} or {STARTED})"

_COMPLETED = in_batches(STATE, 'state="COMPLETED"')
_DEALT_WITH = f"unless ignoring (state) {ACKNOWLEDGED} unless ignoring (state) {SUPERSEDED}"

# Of the states' series only one: there are five of them for each of very many exports.
OPEN = max_by(of_best(f"{_COMPLETED} == 0 {_DEALT_WITH}", "export_id", "state"), EXPORT)
"""0 for each export that is neither completed nor dealt with."""


def exports_needing_attention() -> Json:
    """Return the table."""

    def about(expr: str, *keep: str) -> Json:
        # Every column is there, also if none of its cells has a value.
        otherwise = f"{NONE} + {only}"
        for label in keep:
            otherwise = f'label_replace({otherwise}, "{label}", "-", "", "")'
        known = f"{rows(expr, EXPORT, *keep)} and on (row) {only}"
        return query(f"{known} or on (row) {otherwise}", table=True)

    only = rows(OPEN, EXPORT)
    # A link has to say when to begin, also for an ID that never got an answer: a day ago.
    begin = f"round(1000 * ({STARTED} - 300 or time() - {DAY:.0f} + 0 * {OPEN}))"
    error = of_best(
        in_batches("cavatica_export_error_info"), "export_id", "code", "status", "message"
    )
    volume = of_best(in_batches("cavatica_export_info"), "export_id", "volume")
    details = link(
        "What happened to ${__data.fields.Export}",
        "/d/cavatica-export?${datasource:queryparam}&${instance:queryparam}"
        "&var-job=${__data.fields.job:percentencode}"
        "&var-export_id=${__data.fields.Export:percentencode}"
        "&from=${__data.fields.Begin.numeric}&to=now",
    )
    # What waits longest is what may be stuck.
    in_order = f"{_ranked()} + on ({EXPORT}) group_left () ({FINISHED} or -{STARTED} or 0 * {OPEN})"
    exports = rows(in_order, EXPORT, "job", "batch", "export_id", "state")
    nothing = first_of(
        f'label_replace(0 * sum({WATCHED}), "state", "{NO_ROW}", "", "")',
        f'label_replace({ZERO}, "state", "{NOT_WATCHED_ROW}", "", "")',
    )
    nothing = f'label_replace({nothing}, "row", "-", "", "")'
    # Rows without an export have an empty cell for a link, and its address has to be one.
    a_day_ago = f"round(1000 * (time() - {DAY:.0f} + 0 * {ALIVE}))"
    begin_of_nothing = f'label_replace({a_day_ago}, "row", "-", "", "")'
    begin_of_down = f"round(1000 * (time() - {DAY:.0f} + 0 * {_down_jobs()}))"
    return table(
        "Failed, unknown and unfinished exports",
        "Failures first, the newest on top, then exports whose state is unknown, then unfinished "
        "ones, the oldest on top; acknowledged and superseded ones are left out. `Ended or "
        "started`: when a failed export ended, and when any other started. A click on an export "
        "shows its details. A job of which no exporter answers has a row of its own.",
        query(
            first_of(f"({exports} or {_down_jobs('job', 'batch', 'state')})", nothing), table=True
        ),
        query(job_column(OPEN, EXPORT), table=True),
        about(f"1000 * {SINCE}"),
        about(f"{FINISHED} - {STARTED} or time() - {STARTED}"),
        about(
            with_meaning(max_by(error, f"{EXPORT}, code"), within=f"{EXPORT}, code"),
            *("code", "meaning", "retry"),
        ),
        about(max_by(volume, f"{EXPORT}, volume"), "volume"),
        query(
            first_of(
                f"({rows(begin, EXPORT)} and on (row) {only} or {begin_of_down})", begin_of_nothing
            ),
            table=True,
        ),
        join="row",
        columns={
            "state": "State",
            "export_id": "Export",
            "source": "Job",
            "batch": "Batch",
            "Value #C": "Ended or started",
            "Value #D": "Duration",
            "code": "Code",
            "meaning": "Meaning of the code",
            "retry": "Start it again",
            "volume": "Volume",
            "job": "job",
            "Value #G": "Begin",
        },
        sort="Value #A",
        overrides=[
            override(
                "State",
                mappings=state_mappings(),
                custom__cellOptions={"type": "color-background"},
                custom__width=115,
            ),
            override("Export", links=[details], custom__width=300),
            override("Job", custom__width=120),
            override("Batch", custom__width=150),
            override(
                "Ended or started",
                unit="dateTimeFromNow",
                mappings=cell_words(),
                custom__width=130,
            ),
            override(
                "Duration",
                unit="s",
                decimals=1,
                mappings=cell_words(),
                thresholds=thresholds("text", {DAY: "red"}),
                custom__cellOptions={"type": "color-text"},
                custom__width=90,
            ),
            override("Code", custom__width=60),
            override("Start it again", mappings=RETRY, custom__width=140),
            override("Volume", custom__width=105),
            hidden("job"),
            hidden("Begin"),
        ],
    )


RETRY = value_mappings(
    {
        "now": ("yes", "text"),
        "repair": ("after the repair", "text"),
        "never": ("no, change it first", "text"),
    }
)
"""Whether an export with an error code can simply be started again."""


def how_to_acknowledge() -> Json:
    """Return the line below the table."""
    return note(
        "",
        "",
        "**[What each code means, and what to do]"
        "(https://git.example/cavatica-export-exporter/blob/main/docs/error-codes.md)**. "
        "**Dealt with a failure?** "
        "Write its ID below `acknowledged:` in an ID file of its batch: the failure leaves this "
        "table, and its alert ends within two minutes. A failure also leaves when a later export "
        "to the same destination completes.",
    )


def _down_jobs(*keep: str) -> str:
    """Return a row for each job whose exports are not known: the first rows of the table."""
    named = down_jobs("every batch of", "batch")
    named = f'label_replace({named}, "state", "{DOWN_ROW}", "", "")'
    return f"6e10 * {rows(named, SOURCE, *keep)}"


def _ranked() -> str:
    """Return the exports to show, with the label `state`: a number that puts failures first."""
    known = "UNKNOWN|PENDING|RUNNING|COMPLETED|FAILED"
    terms = (
        f"{rank}e10 * ({in_batches(STATE, matcher)} == 1)"
        for matcher, rank in (
            ('state="FAILED"', 5),
            (f'state!~"{known}"', 4),
            ('state="UNKNOWN"', 3),
            ('state="RUNNING"', 2),
            ('state="PENDING"', 1),
        )
    )
    shown = f"({' or '.join(terms)}) {_DEALT_WITH}"
    return max_by(of_best(shown, "export_id", "state"), f"{EXPORT}, state")
