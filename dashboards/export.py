"""What happened to this one export?"""

from dashboards.attention import RETRY
from dashboards.fields import (
    ANSWERS,
    OTHER_COLOUR,
    SAME_TARGETS,
    STATE_NUMBERS,
    Json,
    link,
    override,
    state_colours,
    state_mappings,
    thresholds,
    tile_mappings,
    value_mappings,
)
from dashboards.frame import PanelRow, Section, variable
from dashboards.frame import dashboard as frame
from dashboards.panels import graph, query, stat, table, timeline
from dashboards.promql import (
    ALIVE,
    BATCH,
    DAY,
    EXPORT,
    EXPORTER_DOWN,
    NONE,
    NOT_KNOWN,
    NOT_STARTED,
    OTHER_STATE,
    SOURCE,
    STATES,
    TARGET,
    answers_over_time,
    first_of,
    max_by,
    of_best,
    one,
    rows,
    select,
    with_meaning,
)

STATE = of_best(f"({one('cavatica_export_state')} == 1)", "export_id", "state")
STARTED = of_best(one("cavatica_export_started_timestamp_seconds"), "export_id")
FINISHED = of_best(one("cavatica_export_finished_timestamp_seconds"), "export_id")
VOLUME = of_best(one("cavatica_export_info"), "export_id", "volume")
ERROR = of_best(one("cavatica_export_error_info"), "export_id", "code", "status", "message")
ERROR_LABELS = f"{EXPORT}, code, status, message"

NOT_WATCHED, NOTHING_FAILED = -7, -8

WORDS = [
    *tile_mappings(),
    *value_mappings({NOT_WATCHED: ("not watched", "text"), NOTHING_FAILED: ("not failed", "text")}),
]


def dashboard() -> Json:
    """Return the dashboard that a click on an export opens."""
    return frame(
        "cavatica-export",
        "CAVATICA / One export",
        "What happened to this one?",
        [
            Section(
                "What is known",
                [
                    PanelRow(4, [_state(), *_times()]),
                    PanelRow(4, [_error(), _dealt_with(), _size()], widths=[12, 6, 6]),
                    PanelRow(5, [_details()]),
                ],
            ),
            Section(
                "What happened",
                [PanelRow(5, [_states()]), PanelRow(5, [_view()]), PanelRow(8, [_batch()])],
            ),
        ],
        since="now-24h",
        variables=[
            # Of the five states' series, the one that every export has, once.
            variable(
                "export_id",
                "Export",
                f'cavatica_export_state{{{TARGET},state="UNKNOWN"}}, export_id',
                several=False,
            )
        ],
    )


def _here(expr: str) -> str:
    """Return one value for each job that watches the export."""
    return max_by(expr, SOURCE)


def _in(states: str) -> str:
    """Return 0 for each job that says that the export is in one of these states."""
    matcher = f'state=~"{states}"'
    state = of_best(f"({one('cavatica_export_state', matcher)} == 1)", "export_id", "state")
    return f"0 * {_here(state)}"


def _for_each_job(*terms: str) -> str:
    """Return the first of several values for each job: what one job says, no other says, too.

    A job that watches the export always has a value, also while its exporter is down.
    """
    lately = f"last_over_time({one('cavatica_export_state')}[1d])"
    alive = _here(select("cavatica_exporter_build_info"))
    down = f"({EXPORTER_DOWN} + 0 * {_here(lately)} unless on ({SOURCE}) {alive})"
    every = f" or on ({SOURCE}) ".join((*terms, f"({NOT_KNOWN} + 0 * {_here(STATE)})", down))
    # The tile that shows names needs one here, too.
    not_watched = f'label_replace({NOT_WATCHED} * {ALIVE}, "job", "-", "", "")'
    return first_of(f"({every})", not_watched)


def _state_number() -> str:
    matchers = {f'state="{state}"': number for state, number in STATES.items()}
    documented = "|".join(STATES)
    matchers[f'state!~"{documented}"'] = OTHER_STATE
    terms = (
        f"{number} * ({one('cavatica_export_state', matcher)} == 1)"
        for matcher, number in matchers.items()
    )
    return of_best(f"({' or '.join(terms)})", "export_id", "state")


def _state() -> Json:
    return stat(
        "State",
        "The state at the end of the chosen time range.",
        query(_for_each_job(_here(_state_number())), "{{job}}", now=True),
        unit="none",
        mappings=[*value_mappings(STATE_NUMBERS), *WORDS],
    )


def _times() -> list[Json]:
    waiting = f"({NOT_STARTED} + {_in('PENDING')})"
    unfinished = f"({NONE} + {_in('PENDING|RUNNING')})"
    words = [*value_mappings({NONE: ("not finished", "text")}), *WORDS]
    duration = f"({_here(FINISHED)} - {_here(STARTED)} or time() - {_here(STARTED)})"
    return [
        stat(
            title,
            description,
            query(_for_each_job(*terms), "{{job}}", now=True),
            unit=unit,
            decimals=decimals,
            thresholds=steps,
            mappings=words,
        )
        for title, description, terms, unit, decimals, steps in (
            (
                "Started",
                "When CAVATICA started the export.",
                (f"1000 * {_here(STARTED)}", waiting),
                "dateTimeAsIso",
                None,
                thresholds("text"),
            ),
            (
                "Finished",
                "When the export completed or failed.",
                (f"1000 * {_here(FINISHED)}", unfinished),
                "dateTimeAsIso",
                None,
                thresholds("text"),
            ),
            (
                "Duration",
                "From start to finish, or until the end of the time range. Red from 24 hours on.",
                (duration, waiting),
                "s",
                1,
                thresholds("text", {DAY: "red"}),
            ),
        )
    ]


def _size() -> Json:
    size = of_best(one("cavatica_export_size_bytes"), "export_id")
    not_completed = f"({NONE} + {_in('PENDING|RUNNING|FAILED')})"
    return stat(
        "Size",
        "The size of the resulting file.",
        query(_for_each_job(_here(size), not_completed), "{{job}}", now=True),
        unit="bytes",
        thresholds=thresholds("text"),
        mappings=[*value_mappings({NONE: ("not completed", "text")}), *WORDS],
    )


def _error() -> Json:
    by = f"{SOURCE}, code"
    explained = max_by(with_meaning(max_by(ERROR, by), within=by), f"{by}, meaning")
    named = f'label_join({explained}, "error", " ", "code", "meaning")'
    error = max_by(named, f"{SOURCE}, error")
    failed = f"({error} + on ({SOURCE}) group_left () {_in('FAILED')})"
    lookup = f"(1 + {error})"
    return stat(
        "Error",
        "CAVATICA's error code and what it means, of a failed export or an ID for which it answers "
        "an error. The table below says whether to start it again.",
        query(
            _for_each_job(failed, lookup, f"({NONE} + {_in('PENDING|RUNNING|COMPLETED')})"),
            "{{job}} {{error}}",
            now=True,
        ),
        named=True,
        unit="none",
        mappings=[
            *value_mappings({1: ("failed", "red"), 2: ("lookup error", "purple")}),
            *WORDS,
        ],
    )


def _dealt_with() -> Json:
    acknowledged = of_best(one("cavatica_export_acknowledged"), "export_id")
    superseded = of_best(one("cavatica_export_superseded"), "export_id")
    return stat(
        "Dealt with",
        "Whether an ID file acknowledges this failure, or a later export to the same destination "
        "completed: then no alert fires for it.",
        query(
            _for_each_job(
                f"2 * {_here(superseded)}",
                _here(acknowledged),
                _in("FAILED"),
                f"0 * {_here(ERROR)}",
                f"({NOTHING_FAILED} + {_in('PENDING|RUNNING|COMPLETED')})",
            ),
            "{{job}}",
            now=True,
        ),
        unit="none",
        mappings=[
            *value_mappings(
                {
                    0: ("no", "text"),
                    1: ("acknowledged", "green"),
                    2: ("made good by a later export", "green"),
                }
            ),
            *WORDS,
        ],
    )


def _details() -> Json:
    zoom = link(
        "Only while it ran",
        f"/d/cavatica-export?{SAME_TARGETS}&${{export_id:queryparam}}"
        "&from=${__data.fields.Started.numeric}&to=${__data.fields.Finished.numeric}",
    )
    batch = link(
        "The batch ${__data.fields.Batch}",
        "/d/cavatica-exports?${datasource:queryparam}&${instance:queryparam}"
        "&var-job=${__data.fields.Job:percentencode}"
        "&var-batch=${__data.fields.Batch:percentencode}&${__url_time_range}",
    )
    explained = with_meaning(max_by(ERROR, ERROR_LABELS), within=ERROR_LABELS)
    return table(
        "Details",
        "Everything the exporter says about the export. A click on `Finished` shows the time from "
        "start to finish only; there is something to see if the exporter was watching then.",
        query(
            rows(max_by(STATE, f"{EXPORT}, state"), EXPORT, "job", "batch", "export_id", "state"),
            table=True,
        ),
        query(rows(max_by(VOLUME, f"{EXPORT}, volume"), EXPORT, "volume"), table=True),
        # Whole milliseconds, as a link needs them.
        query(rows(f"floor(1000 * {max_by(STARTED, EXPORT)})", EXPORT), table=True),
        query(rows(f"ceil(1000 * {max_by(FINISHED, EXPORT)})", EXPORT), table=True),
        query(rows(explained, EXPORT, "code", "retry", "status", "message"), table=True),
        join="row",
        columns={
            "export_id": "Export",
            "state": "State",
            "job": "Job",
            "batch": "Batch",
            "volume": "Volume",
            "Value #C": "Started",
            "Value #D": "Finished",
            "code": "Code",
            "retry": "Start it again",
            "status": "Status",
            "message": "Message",
        },
        empty="No exporter answers, or none watches this ID: the tiles above say which.",
        overrides=[
            override("Export", custom__width=300),
            override(
                "State",
                mappings=state_mappings(),
                custom__cellOptions={"type": "color-text"},
                custom__width=100,
            ),
            override("Job", custom__width=120),
            override("Batch", links=[batch], custom__width=150),
            override("Volume", custom__width=150),
            override("Started", unit="dateTimeAsIso", custom__width=170),
            override("Finished", unit="dateTimeAsIso", links=[zoom], custom__width=170),
            override("Code", custom__width=70),
            override("Start it again", mappings=RETRY, custom__width=140),
        ],
    )


def _states() -> Json:
    return timeline(
        "State over time",
        "The export's state. A gap: the scrape failed, or the ID was not watched.",
        query(max_by(_state_number(), f"{SOURCE}, batch, export_id"), "{{job}}"),
        mappings=value_mappings(STATE_NUMBERS),
    )


def _view() -> Json:
    return timeline(
        "What the exporter could see",
        "Whether Prometheus reached the exporter, and CAVATICA answered every call. While it did "
        "not, a state can be late or UNKNOWN.",
        query(answers_over_time(), "{{job}} {{instance}}"),
        mappings=ANSWERS,
    )


def _batch() -> Json:
    states = of_best(select("cavatica_exports"), "state")
    here = f"sum by ({SOURCE}, state) ({states} and on ({BATCH}) {one('cavatica_export_state')})"
    # The names stay the same while the exporter of one job is down.
    lately = f"last_over_time({one('cavatica_export_state')}[1d])"
    several = f"count({_here(lately)}) > 1"
    by_job = f'label_join({here} and on () {several}, "name", " ", "job", "state")'
    by_state = f'label_join({here}, "name", "", "state")'
    return graph(
        "Its whole batch",
        "The states of the export's batch: was this export the only one with problems?",
        query(f"{by_job} or on ({SOURCE}, state) {by_state}", "{{name}}"),
        stacked=True,
        overrides=state_colours(),
        color={"mode": "fixed", "fixedColor": OTHER_COLOUR},
        decimals=0,
        unit="locale",
    )
