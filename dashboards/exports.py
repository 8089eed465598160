"""Are my exports done, and what needs me?"""

from dashboards.blocks import (
    SAME_VIEW,
    Json,
    bars,
    firing_alerts,
    graph,
    link,
    query,
    stat,
    state_colours,
    steps,
    words,
)
from dashboards.frame import Line, Section
from dashboards.frame import dashboard as frame
from dashboards.open_exports import open_exports
from dashboards.promql import (
    OR_NOTHING,
    OR_ZERO,
    chosen,
    largest,
    or_label,
    total,
)

HOUR = 60 * 60.0


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
                    Line(10, [open_exports(), _alerts()], widths=[18, 6]),
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
