"""Are my exports done, and what needs me?"""

from dashboards.blocks import (
    SAME_VIEW,
    STATE_WORDS,
    Json,
    bars,
    firing_alerts,
    graph,
    link,
    override,
    query,
    stat,
    state_colours,
    steps,
    table,
    words,
)
from dashboards.frame import Line, Section
from dashboards.frame import dashboard as frame
from dashboards.promql import (
    EXPORT,
    OR_NOTHING,
    OR_ZERO,
    chosen,
    largest,
    or_label,
    state_number,
    total,
)

HOUR = 60 * 60.0

STARTED = largest(chosen("cavatica_export_started_timestamp_seconds"), EXPORT)
FINISHED = largest(chosen("cavatica_export_finished_timestamp_seconds"), EXPORT)


def dashboard() -> Json:
    """The dashboard to begin with."""
    return frame(
        "cavatica-exports",
        "CAVATICA / Exports",
        "Are my exports done, and what needs me?",
        [
            Section(
                "What needs me",
                [
                    Line(4, [_to_deal_with(), *_counts(), _share()]),
                    Line(4, [*_times(), _exported()]),
                    Line(10, [_open_exports(), _alerts()], widths=[18, 6]),
                ],
            ),
            Section("Progress", [Line(9, [_batches(), _states()], widths=[8, 16])]),
            Section("Volume", [Line(8, [_bytes(), _throughput()])]),
            Section("Errors", [Line(8, [_errors(), _unknown_ids()])]),
        ],
        since="now-24h",
    )


def _to_deal_with() -> Json:
    failed = total("cavatica_exports", 'state="FAILED"', by="batch, state")
    return stat(
        "Failed, to deal with",
        "Failed exports that nobody has acknowledged in their ID file. The table below names them.",
        query(f"{failed} - {total('cavatica_acknowledged_exports')}{OR_ZERO}", now=True),
        loud=True,
        unit="none",
        thresholds=steps("green", {1: "red"}),
    )


def _counts() -> list[Json]:
    texts = {
        "UNKNOWN": "No answer yet, none for too long, or CAVATICA does not know the ID.",
        "PENDING": "Exports that wait for CAVATICA to begin.",
        "RUNNING": "Exports that CAVATICA is copying.",
        "COMPLETED": "Exports that are done.",
    }
    grounds = {
        "UNKNOWN": steps("green", {1: "purple"}),
        "PENDING": steps("super-light-blue"),
        "RUNNING": steps("blue"),
        "COMPLETED": steps("green"),
    }
    return [
        stat(
            state.capitalize(),
            text,
            query(
                total("cavatica_exports", f'state="{state}"', by="batch, state") + OR_ZERO, now=True
            ),
            loud=True,
            unit="none",
            thresholds=grounds[state],
        )
        for state, text in texts.items()
    ]


def _share() -> Json:
    finished = total("cavatica_exports", 'state=~"COMPLETED|FAILED"', by="batch, state")
    watched = total("cavatica_watched_exports")
    return stat(
        "Finished",
        "The share of the watched exports that are completed or failed.",
        query(f"{finished} / ({watched} > 0){OR_NOTHING}", now=True),
        loud=True,
        unit="percentunit",
        thresholds=steps("blue", {1: "green"}),
        mappings=words({-1: ("nothing watched", "text")}),
    )


def _times() -> list[Json]:
    oldest = chosen("cavatica_exports_oldest_unfinished_timestamp_seconds")
    latest = chosen("cavatica_exports_last_finished_timestamp_seconds")
    answer = chosen("cavatica_exports_oldest_answer_timestamp_seconds")
    return [
        stat(
            "Oldest unfinished export",
            "How long ago the oldest pending or running export started. Yellow from 12 hours on; "
            "over 24 hours, where the alert on stuck exports begins, red.",
            query(f"time() - min({largest(oldest, 'batch, state')}){OR_NOTHING}", now=True),
            unit="s",
            decimals=1,
            thresholds=steps("green", {12 * HOUR: "yellow", 24 * HOUR: "red"}),
            mappings=words({-1: ("none unfinished", "green")}),
        ),
        stat(
            "Last finished",
            "How long ago the latest export completed or failed.",
            query(f"time() - max({latest}){OR_NOTHING}", now=True),
            unit="s",
            decimals=1,
            thresholds=steps("blue"),
            mappings=words({-1: ("none yet", "text")}),
        ),
        stat(
            "Oldest answer",
            "How old CAVATICA's answer about an unfinished export is at most: what you see is no "
            "older. Red from one hour on, where the alert on stale data begins.",
            query(f"time() - min({largest(answer, 'batch')}){OR_NOTHING}", now=True),
            unit="s",
            decimals=1,
            thresholds=steps("green", {HOUR / 4: "yellow", HOUR: "red"}),
            mappings=words({-1: ("none unfinished", "green")}),
        ),
    ]


def _exported() -> Json:
    return stat(
        "Exported",
        "The size of the files of all completed exports.",
        query(total("cavatica_exported_bytes") + OR_ZERO, now=True),
        unit="bytes",
        thresholds=steps("blue"),
    )


def _open_exports() -> Json:
    def rows(expr: str) -> Json:
        return query(f"({expr}) and on ({EXPORT}) {_open()}", table=True)

    # A link has to say when to begin, also for an ID that never got an answer: a day ago.
    begin = f"round(1000 * ({STARTED} - 300 or time() - {24 * HOUR:g} + {_open()}))"
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
                thresholds=steps("text", {24 * HOUR: "red"}),
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
        noValue="Everything is completed or acknowledged",
    )


def _open() -> str:
    """A 0 for what is neither completed nor an acknowledged failure.

    What one replica knows to be completed is completed, whatever another one still thinks. Of the
    states' series only this one is asked: there are five of them for each of very many exports.
    """
    completed = largest(chosen("cavatica_export_state", 'state="COMPLETED"'), EXPORT)
    acknowledged = chosen("cavatica_export_acknowledged")
    return f"({completed} == 0 unless on ({EXPORT}) {acknowledged})"


def _alerts() -> Json:
    return firing_alerts(
        "Alerts",
        "Alerts about CAVATICA exports that fire, or will unless it gets better. Needs the bundled "
        "rules, and a data source that may show its alerts in Grafana.",
    )


def _batches() -> Json:
    finished = largest(chosen("cavatica_exports", 'state=~"COMPLETED|FAILED"'), "batch, state")
    watched = largest(chosen("cavatica_watched_exports"), "batch")
    share = f"sum by (batch) ({finished}) / ({watched} > 0)"
    narrow = f"/d/cavatica-exports?{SAME_VIEW}&var-batch=${{__field.labels.batch:percentencode}}"
    return bars(
        "Progress of each batch",
        "The share of a batch that is completed or failed; of more than 20 batches, the 20 with "
        "the most to do. A click shows the batch alone.",
        query(
            f"sort(bottomk(20, {share})){or_label('batch', 'nothing watched')}",
            "{{batch}}",
            now=True,
        ),
        unit="percentunit",
        max=1,
        thresholds=steps("blue", {1: "green"}),
        links=[link("Only ${__field.labels.batch}", narrow + "&${__url_time_range}")],
    )


def _states() -> Json:
    return graph(
        "States over time",
        "How many exports were in each state. A gap: nobody answered the scrape.",
        query(
            f"sum by (state) ({largest(chosen('cavatica_exports'), 'batch, state')})", "{{state}}"
        ),
        stacked=True,
        overrides=state_colours(),
        unit="short",
    )


def _bytes() -> Json:
    return graph(
        "Exported volume",
        "The size of the files of all completed exports.",
        query(largest(chosen("cavatica_exported_bytes"), "batch"), "{{batch}}"),
        stacked=True,
        unit="bytes",
    )


def _throughput() -> Json:
    # The size appears when an export completes, and it shrinks when an ID file is removed: not a
    # counter, and smooth only over a long time.
    last_hour = largest(f"delta({chosen('cavatica_exported_bytes')}[1h])", "batch")
    return graph(
        "Throughput",
        "Bytes of the exports that completed within an hour, by second. Too high for an hour after "
        "a batch was added that is partly done, or after an exporter with thousands of exports was "
        "restarted.",
        query(f"clamp_min(sum({last_hour}), 0) / 3600", "all chosen batches"),
        unit="Bps",
    )


def _errors() -> Json:
    errors = largest(chosen("cavatica_export_errors"), "batch, code")
    return bars(
        "Failed exports by error code",
        "CAVATICA's code for every failed export, acknowledged or not; `none` where it gave none.",
        query(
            f"sort_desc(sum by (code) ({errors})){or_label('code', 'no failures')}",
            "{{code}}",
            now=True,
        ),
        unit="none",
        thresholds=steps("green", {1: "red"}),
    )


def _unknown_ids() -> Json:
    unknown = largest(chosen("cavatica_export_lookup_errors"), "batch, code")
    return bars(
        "IDs that the API does not know",
        "IDs for which CAVATICA answers an error instead of an export, by batch and error code: "
        "most often a misspelt ID, or a token of somebody else.",
        query(f"sort_desc({unknown}){or_label('batch', 'none')}", "{{batch}} {{code}}", now=True),
        unit="none",
        thresholds=steps("green", {1: "purple"}),
    )
