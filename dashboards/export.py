"""What happened to this one export?"""

from dashboards.attention import RETRY
from dashboards.fields import (
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
    NONE,
    NOTHING,
    OTHER_STATE,
    SOURCE,
    STATES,
    TARGET,
    ZERO,
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

NOT_WATCHED = NONE


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
                    PanelRow(
                        4, [_error(), _dealt_with(), _volume(), _size()], widths=[12, 4, 4, 4]
                    ),
                    PanelRow(4, [_labels()]),
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
        query(first_of(_here(_state_number()), f"{NOT_WATCHED} * {ALIVE}"), "{{job}}", now=True),
        unit="none",
        mappings=[*value_mappings(STATE_NUMBERS), *tile_mappings(none="not watched")],
    )


def _times() -> list[Json]:
    known = tile_mappings(none="not known")
    return [
        stat(
            title,
            description,
            query(first_of(f"1000 * {_here(time)}", NOTHING), "{{job}}", now=True),
            unit="dateTimeAsIso",
            thresholds=thresholds("text"),
            mappings=known,
        )
        for title, description, time in (
            ("Started", "When CAVATICA started the export.", STARTED),
            ("Finished", "When the export completed or failed.", FINISHED),
        )
    ] + [
        stat(
            "Duration",
            "From start to finish, or until the end of the time range. Red from 24 hours on.",
            query(
                first_of(
                    f"({_here(FINISHED)} - {_here(STARTED)} or time() - {_here(STARTED)})", NOTHING
                ),
                "{{job}}",
                now=True,
            ),
            unit="s",
            decimals=1,
            thresholds=thresholds("text", {DAY: "red"}),
            mappings=known,
        )
    ]


def _size() -> Json:
    size = of_best(one("cavatica_export_size_bytes"), "export_id")
    return stat(
        "Size",
        "The size of the resulting file.",
        query(first_of(_here(size), NOTHING), "{{job}}", now=True),
        unit="bytes",
        thresholds=thresholds("text"),
        mappings=tile_mappings(none="not known"),
    )


def _error() -> Json:
    explained = with_meaning(max_by(ERROR, f"{EXPORT}, code"), within=f"{EXPORT}, code")
    state = one("cavatica_export_state", 'state="UNKNOWN"')
    nobody_knows = _here(of_best(f"{state} == 1", "export_id", "state"))
    unknown = f'label_replace(0 * {nobody_knows}, "code", "not known", "", "")'
    none = f'label_replace({ZERO}, "code", "none", "", "")'
    return stat(
        "Error",
        "CAVATICA's error code and what it means, of a failed export or an ID that it does not "
        "know.",
        query(
            first_of(max_by(explained, f"{SOURCE}, code, meaning"), unknown, none),
            "{{code}} {{meaning}}",
            now=True,
        ),
        as_name=True,
        unit="none",
        thresholds=thresholds("text", {1: "red"}),
    )


def _volume() -> Json:
    volume = max_by(VOLUME, f"{SOURCE}, volume")
    named = f'label_replace({volume}, "volume", "not known", "volume", "")'
    unknown = f'label_replace({ZERO}, "volume", "not known", "", "")'
    return stat(
        "Volume",
        "The volume that the export goes to.",
        query(first_of(named, unknown), "{{volume}}", now=True),
        as_name=True,
        unit="none",
        thresholds=thresholds("text"),
    )


def _dealt_with() -> Json:
    acknowledged = of_best(one("cavatica_export_acknowledged"), "export_id")
    superseded = of_best(one("cavatica_export_superseded"), "export_id")
    return stat(
        "Dealt with",
        "Whether an ID file acknowledges this failure, or a later export to the same destination "
        "completed: then no alert fires for it.",
        query(first_of(f"2 * {_here(superseded)}", _here(acknowledged), ZERO), "{{job}}", now=True),
        unit="none",
        mappings=[
            *value_mappings(
                {
                    0: ("no", "text"),
                    1: ("acknowledged", "green"),
                    2: ("made good by a later export", "green"),
                }
            ),
            *tile_mappings(),
        ],
    )


def _labels() -> Json:
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
        "Labels",
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
        empty="Not watched, or no exporter answers.",
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
            override("Start it again", mappings=RETRY, custom__width=130),
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
        "Whether CAVATICA answered every call. While it did not, a state can be late or UNKNOWN.",
        query(select("cavatica_up"), "{{job}} {{instance}}"),
        mappings=value_mappings({0: ("answers missing", "orange"), 1: ("complete", "green")}),
    )


def _batch() -> Json:
    states = of_best(select("cavatica_exports"), "state")
    here = f"{states} and on ({BATCH}) {one('cavatica_export_state')}"
    return graph(
        "The rest of its batch",
        "The states of the export's batch: was this export the only one with problems?",
        query(f"sum by (state) ({here})", "{{state}}"),
        stacked=True,
        overrides=state_colours(),
        color={"mode": "fixed", "fixedColor": OTHER_COLOUR},
        unit="locale",
    )
