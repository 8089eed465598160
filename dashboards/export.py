"""What happened to this one export?"""

from dashboards.blocks import (
    SAME_VIEW,
    STATE_WORDS,
    Json,
    graph,
    link,
    override,
    query,
    stat,
    state_colours,
    steps,
    table,
    timeline,
    words,
)
from dashboards.frame import Line, Section, variable
from dashboards.frame import dashboard as frame
from dashboards.promql import (
    EXPORT,
    OR_NOTHING,
    OR_ZERO,
    TARGET,
    chosen,
    largest,
    one,
    or_label,
    select,
    state_number,
)

STARTED = f"max({one('cavatica_export_started_timestamp_seconds')})"
FINISHED = f"max({one('cavatica_export_finished_timestamp_seconds')})"


def dashboard() -> Json:
    """The dashboard that a click on an export opens."""
    return frame(
        "cavatica-export",
        "CAVATICA / One export",
        "What happened to this one?",
        [
            Section(
                "What is known",
                [
                    Line(4, [_state(), *_times()]),
                    Line(4, [_size(), _error(), _volume(), _acknowledged()]),
                ],
            ),
            Section(
                "What happened",
                [Line(4, [_states()]), Line(4, [_view()]), Line(8, [_batch()])],
            ),
            Section("Labels", [Line(5, [_labels()])]),
        ],
        since="now-24h",
        variables=[
            # Of the five states' series, the one that every export has, once.
            variable(
                "export_id",
                "Export",
                f'cavatica_export_state{{{TARGET},batch=~"$batch",state="UNKNOWN"}}, export_id',
                several=False,
            )
        ],
    )


def _state() -> Json:
    return stat(
        "State",
        "The state at the end of the chosen time range.",
        query(f"max({state_number(one)}){OR_NOTHING}", now=True),
        loud=True,
        unit="none",
        mappings=words({**STATE_WORDS, -1: ("not watched", "text")}),
    )


def _times() -> list[Json]:
    return [
        stat(
            "Started",
            "When CAVATICA started the export.",
            query(f"1000 * {STARTED}{OR_NOTHING}", now=True),
            unit="dateTimeAsIso",
            thresholds=steps("text"),
            mappings=words({-1: ("not known", "text")}),
        ),
        stat(
            "Finished",
            "When the export completed or failed.",
            query(f"1000 * {FINISHED}{OR_NOTHING}", now=True),
            unit="dateTimeAsIso",
            thresholds=steps("text"),
            mappings=words({-1: ("not known", "text")}),
        ),
        stat(
            "Duration",
            "From start to finish, or until the end of the time range. Red from 24 hours on.",
            query(f"{FINISHED} - {STARTED} or time() - {STARTED}{OR_NOTHING}", now=True),
            unit="s",
            decimals=1,
            thresholds=steps("text", {24 * 60 * 60: "red"}),
            mappings=words({-1: ("not known", "text")}),
        ),
    ]


def _size() -> Json:
    return stat(
        "Size",
        "The size of the resulting file.",
        query(f"max({one('cavatica_export_size_bytes')}){OR_NOTHING}", now=True),
        unit="bytes",
        thresholds=steps("text"),
        mappings=words({-1: ("not known", "text")}),
    )


def _error() -> Json:
    code = largest(one("cavatica_export_error_info"), "code")
    error = f'label_replace({code}, "code", "none", "code", "")'
    return stat(
        "Error code",
        "CAVATICA's error code; `none` where it gave none. The labels below say more.",
        query(f"{error}{or_label('code', 'none known')}", "{{code}}", now=True),
        as_name=True,
        unit="none",
        thresholds=steps("text", {1: "red"}),
    )


def _volume() -> Json:
    known = largest(one("cavatica_export_info"), "volume")
    volume = f'label_replace({known}, "volume", "not known", "volume", "")'
    return stat(
        "Volume",
        "The volume that the export goes to.",
        query(f"{volume}{or_label('volume', 'not known')}", "{{volume}}", now=True),
        as_name=True,
        unit="none",
        thresholds=steps("text"),
    )


def _acknowledged() -> Json:
    return stat(
        "Acknowledged",
        "Whether the ID file lists this failure as dealt with; then no alert mentions it.",
        query(f"max({one('cavatica_export_acknowledged')}){OR_ZERO}", now=True),
        unit="none",
        mappings=words({0: ("no", "text"), 1: ("yes", "green")}),
    )


def _states() -> Json:
    return timeline(
        "State over time",
        "The export's state. A gap: nobody answered the scrape, or the ID was not watched.",
        query(state_number(one), "{{export_id}}"),
        mappings=words(STATE_WORDS),
    )


def _view() -> Json:
    return timeline(
        "What the exporter could see",
        "Whether every question to CAVATICA was answered. While it was not, a state may have come "
        "late, or be UNKNOWN.",
        query(select("cavatica_up"), "{{instance}}"),
        mappings=words({0: ("answers missing", "orange"), 1: ("complete", "green")}),
    )


def _batch() -> Json:
    states = f"sum by (state) ({largest(chosen('cavatica_exports'), 'batch, state')})"
    return graph(
        "The rest of its batch",
        "The states of the chosen batches: was this export alone with its trouble?",
        query(states, "{{state}}"),
        stacked=True,
        overrides=state_colours(),
        unit="short",
    )


def _labels() -> Json:
    error = largest(one("cavatica_export_error_info"), "export_id, code, status, message")
    volume = largest(one("cavatica_export_info"), "export_id, volume")
    started = largest(one("cavatica_export_started_timestamp_seconds"), "export_id")
    finished = largest(one("cavatica_export_finished_timestamp_seconds"), "export_id")
    zoom = link(
        "Only while it ran",
        f"/d/cavatica-export?{SAME_VIEW}&${{batch:queryparam}}&${{export_id:queryparam}}"
        "&from=${__data.fields.Started.numeric}&to=${__data.fields.Finished.numeric}",
    )
    return table(
        "Labels",
        "Everything the exporter says about the export. A click on `Finished` shows the time from "
        "start to finish only; there is something to see if the exporter was watching then.",
        # The batch comes from this one alone: it always has an answer.
        query(largest(one("cavatica_export_state"), EXPORT), table=True),
        query(volume, table=True),
        # Whole milliseconds, as a link needs them.
        query(f"floor(1000 * {started})", table=True),
        query(f"ceil(1000 * {finished})", table=True),
        query(error, table=True),
        join="export_id",
        columns={
            "export_id": "Export",
            "batch": "Batch",
            "volume": "Volume",
            "Value #C": "Started",
            "Value #D": "Finished",
            "code": "Error code",
            "status": "Error status",
            "message": "Error message",
        },
        overrides=[
            override("Started", unit="dateTimeAsIso"),
            override("Finished", unit="dateTimeAsIso", links=[zoom]),
        ],
    )
