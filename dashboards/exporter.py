"""Can I trust the exporter?"""

from dashboards.fields import (
    ANSWERS,
    DOWN_ROW,
    Json,
    cell_words,
    fixed_colour,
    override,
    override_all,
    thresholds,
    tile_mappings,
    value_mappings,
)
from dashboards.frame import PanelRow, Section, batch_variable
from dashboards.frame import dashboard as frame
from dashboards.panels import bars, graph, note, query, source, stat, table, timeline
from dashboards.promql import (
    BATCH,
    DOWN_JOBS,
    EXPORTER_DOWN,
    NOT_OF_ALL_JOBS,
    NOTHING,
    OURS,
    SEVERAL,
    SINCE_SUCCESS,
    SOURCE,
    UP,
    WATCHED,
    ZERO,
    answers_over_time,
    down_jobs,
    first_of,
    max_by,
    select,
    zero_of_all_jobs,
)

HOUR = 60 * 60.0

INSTANCE = f"{SOURCE}, instance"

_LITTLE = 0.3
"""The part of the rate limit below which what is left is coloured."""

_FILE_DOWN = 2
"""In place of whether a file loads: no exporter of its job answers."""


def dashboard() -> Json:
    """Return the dashboard for operators of the exporter."""
    return frame(
        "cavatica-exporter",
        "CAVATICA / Exporter",
        "Can I trust the exporter?",
        [
            Section(
                "Can I trust it?",
                [
                    PanelRow(4, [*_health(), *_watchlist(), _rate_limit_left()]),
                    PanelRow(1, [_where_the_names_are()]),
                    PanelRow(6, [_exporters()]),
                ],
            ),
            Section("Scrapes", [PanelRow(7, [_outcome(), _duration()], widths=[14, 10])]),
            Section(
                "The API",
                [
                    PanelRow(8, [_requests(), _failures(), _latency()]),
                    PanelRow(8, [_rate_limit(), _calls()]),
                ],
            ),
            Section("ID files", [PanelRow(8, [_files(), _watched()], widths=[14, 10])]),
            Section("The process", [PanelRow(7, [_memory(), _cpu()])]),
        ],
        since="now-6h",
        variables=[batch_variable()],
        annotations=[_restarts()],
    )


def _health() -> list[Json]:
    oldest = f"max(min by ({SOURCE}) ({SINCE_SUCCESS}))"
    return [
        stat(
            "Exporters down",
            "Exporters that Prometheus scraped within a day and cannot reach now, or jobs of which "
            "no exporter is left.",
            query(
                first_of(f"count({UP} == 0)", f"count({DOWN_JOBS})", f"0 * count({UP})"), now=True
            ),
            alarm={1: "red"},
            unit="locale",
        ),
        stat(
            "Answers missing",
            "Exporters in whose last scrape not every call to CAVATICA succeeded.",
            query(zero_of_all_jobs(f"count({select('cavatica_up')} == 0)"), now=True),
            alarm={1: "red"},
            unit="locale",
            mappings=tile_mappings(),
        ),
        stat(
            "Since full scrape",
            "How long ago every call of a scrape succeeded; of several jobs, the longest. Red from "
            "one hour on, when the alert on stale data fires.",
            query(
                first_of(f"{oldest} >= {HOUR / 4:.0f}", NOT_OF_ALL_JOBS, oldest, NOTHING), now=True
            ),
            alarm={HOUR / 4: "orange", HOUR: "red"},
            unit="s",
            decimals=0,
            mappings=tile_mappings(none="none yet", calm="red"),
        ),
    ]


def _watchlist() -> list[Json]:
    def count(title: str, description: str, expr: str, colour: str) -> Json:
        return stat(
            title,
            description,
            query(zero_of_all_jobs(expr), now=True),
            alarm={1: colour},
            unit="locale",
            mappings=tile_mappings(),
        )

    def most(metric: str) -> str:
        # Replicas read the same files.
        return f"sum({max_by(select(metric), SOURCE)})"

    error = max_by(select("cavatica_exporter_watchlist_file_error"), f"{SOURCE}, file")
    return [
        count(
            "ID files in error",
            "Files that do not load: their last good content stays in effect, and exports added "
            "since are not watched. The exporter's log names line and key.",
            f"sum({error})",
            "red",
        ),
        count(
            "IDs rejected",
            "Entries that are not valid export IDs and are skipped. The exporter's log names them.",
            most("cavatica_exporter_watchlist_rejected_ids"),
            "red",
        ),
        count(
            "Files passed over",
            "Entries in the directory that are not ID files: another extension, a directory, an "
            "editor's backup. The exporter's log names them.",
            most("cavatica_exporter_watchlist_ignored_files"),
            "orange",
        ),
        count(
            "IDs listed twice",
            "Repeated entries: each ID is watched once, in the first file that lists it.",
            most("cavatica_exporter_watchlist_duplicate_ids"),
            "orange",
        ),
    ]


def _where_the_names_are() -> Json:
    """Return the line below the tiles."""
    return note(
        "",
        "",
        "**Which files and IDs?** The exporter's log names them with their lines, and so does "
        "`cavatica-exporter --config.check`; its status page lists the files in error.",
    )


def _rate_limit_left() -> Json:
    left = select("cavatica_api_rate_limit_remaining_requests")
    limit = select("cavatica_api_rate_limit_requests")
    least = f"min({left} / ({limit} > 0))"
    return stat(
        "Rate limit left",
        "The part of the account's rate limit that is left. Other programs of the account use it, "
        "too; the exporter stops at its own share. Under 10 % the alert on rate limiting fires.",
        query(first_of(f"{least} < {_LITTLE}", NOT_OF_ALL_JOBS, least, NOTHING), now=True),
        unit="percentunit",
        decimals=0,
        thresholds=thresholds("red", {0.1: "orange", _LITTLE: "text"}),
        mappings=tile_mappings(none="not told"),
    )


def _exporters() -> Json:
    build = select("cavatica_exporter_build_info")
    started = f"{select('process_start_time_seconds')} {OURS}"
    watched = f"sum by ({INSTANCE}) ({select('cavatica_watched_exports')})"

    def column(expr: str, *keep: str) -> Json:
        return query(_by_instance(expr, *keep), table=True)

    return table(
        "Exporters",
        "Every exporter that Prometheus knew within a day: whether it can be scraped, and whether "
        "CAVATICA answered the last scrape's calls. `State file`, if one is set: in error, a "
        "restart has to ask for every export again; the exporter's log says why.",
        column(UP, "instance", "job"),
        column(select("cavatica_up")),
        column(SINCE_SUCCESS),
        column(watched),
        column(build, "version", "revision", "python"),
        column(f"1000 * ({started})"),
        column(select("cavatica_exporter_state_file_error")),
        join="row",
        columns={
            "instance": "Exporter",
            "job": "Job",
            "Value #A": "Scraped",
            "Value #B": "Answers",
            "Value #C": "Since full scrape",
            "Value #D": "IDs watched",
            "Value #G": "State file",
            "version": "Version",
            "revision": "Revision",
            "python": "Python",
            "Value #F": "Started",
        },
        sort="instance",
        ascending=True,
        empty="No exporter within a day. Is the Job right?",
        overrides=[
            override("Exporter", custom__width=230),
            override("Job", custom__width=140),
            override(
                "Scraped",
                mappings=value_mappings({0: ("down", "red"), 1: ("up", "green")}),
                custom__cellOptions={"type": "color-text"},
                custom__width=90,
            ),
            override(
                "Answers",
                mappings=ANSWERS,
                custom__cellOptions={"type": "color-text"},
                custom__width=150,
            ),
            override(
                "Since full scrape",
                unit="s",
                decimals=0,
                thresholds=thresholds("text", {HOUR / 4: "orange", HOUR: "red"}),
                custom__cellOptions={"type": "color-text"},
                custom__width=170,
            ),
            override("IDs watched", unit="locale", custom__width=110),
            override(
                "State file",
                mappings=value_mappings({0: ("fine", "text"), 1: ("error", "red")}),
                custom__cellOptions={"type": "color-text"},
                custom__width=100,
            ),
            override("Version", custom__width=100),
            override("Revision", custom__width=110),
            override("Python", custom__width=100),
            override("Started", unit="dateTimeFromNow"),
        ],
    )


TARGET_LEGEND = "{{job}} {{instance}}"


def _by_instance(expr: str, *keep: str) -> str:
    labels = '"cluster", "namespace", "job", "instance"'
    joined = f'label_join({expr}, "row", "\\u001f", {labels})'
    return max_by(joined, ", ".join(["row", *keep]))


def _outcome() -> Json:
    return timeline(
        "Answers over time",
        "Whether Prometheus reached the exporter, and CAVATICA answered every call of a "
        "scrape; of a long time the worst moment of each piece.",
        query(answers_over_time(), TARGET_LEGEND),
        mappings=ANSWERS,
    )


def _duration() -> Json:
    return graph(
        "Duration of a scrape",
        "It has to stay below the scrape timeout set in Prometheus.",
        query(select("cavatica_scrape_duration_seconds"), TARGET_LEGEND),
        unit="s",
    )


def _requests() -> Json:
    rate = f"rate({select('cavatica_api_requests_total')}[$__rate_interval])"
    answers = f'label_replace({rate}, "code", "no answer", "code", "none")'
    return graph(
        "Requests by answer",
        "HTTP requests to CAVATICA a minute, by the status of the answer.",
        query(f"60 * sum by (code) ({answers})", "{{code}}"),
        stacked=True,
        overrides=[
            fixed_colour("200", "green"),
            fixed_colour("429", "orange"),
            fixed_colour("no answer", "red"),
        ],
        unit="reqpm",
    )


def _failures() -> Json:
    rate = f"rate({select('cavatica_api_request_failures_total')}[$__rate_interval])"
    none = f'label_replace({ZERO}, "reason", "no failures", "", "")'
    return graph(
        "Failures by reason",
        "Failed requests to CAVATICA a minute; reasons that did not occur are left out. `auth`: "
        "the token is refused or expired; `maintenance`: CAVATICA is under maintenance, wait.",
        query(first_of(f"60 * sum by (reason) ({rate}) > 0", none), "{{reason}}"),
        stacked=True,
        overrides=[
            fixed_colour("no failures", "green"),
            # Without it, the axis of no failures at all goes up to 100.
            override_all(custom__axisSoftMax=1),
        ],
        unit="reqpm",
    )


def _latency() -> Json:
    rate = f"rate({select('cavatica_api_request_duration_seconds_bucket')}[$__rate_interval])"
    return graph(
        "API latency",
        "How long CAVATICA takes to answer: half, 90 % and 99 % of the requests are faster.",
        *(
            query(f"histogram_quantile({quantile}, sum by (le) ({rate}))", f"{quantile:.0%}")
            for quantile in (0.5, 0.9, 0.99)
        ),
        unit="s",
    )


def _rate_limit() -> Json:
    return graph(
        "Rate limit",
        "Requests that the account may make until its rate limit begins anew, and the limit.",
        query(f"min({select('cavatica_api_rate_limit_remaining_requests')})", "left"),
        query(f"max({select('cavatica_api_rate_limit_requests')})", "limit"),
        empty="CAVATICA has not told its rate limit, or no exporter answers.",
        overrides=[fixed_colour("left", "blue"), fixed_colour("limit", "red")],
        unit="locale",
    )


def _calls() -> Json:
    return graph(
        "API calls of a scrape",
        "One call asks for 100 exports; more than one means that more than 100 are unfinished.",
        query(select("cavatica_scrape_api_calls"), TARGET_LEGEND),
        decimals=0,
        unit="locale",
    )


def _files() -> Json:
    def column(expr: str, *keep: str) -> Json:
        labels = '"cluster", "namespace", "job", "file"'
        joined = f'label_join({expr}, "row", "\\u001f", {labels})'
        return query(max_by(joined, ", ".join(["row", *keep])), table=True)

    no_file = f'label_replace({NOTHING}, "file", "no ID file", "", "")'
    listed = column(select("cavatica_exporter_watchlist_file_error"), "file")
    down = column(f"{_FILE_DOWN} * {down_jobs('every file of', 'file')}", "file")["expr"]
    listed["expr"] = first_of(
        f"({listed['expr']} or {down})", f'label_replace({no_file}, "row", "-", "", "")'
    )
    return table(
        "ID files",
        "Every ID file, whether it loads, and when it was changed. Those in error first. A job of "
        "which no exporter answers has a row of its own.",
        listed,
        column(f"{select('cavatica_exporter_watchlist_file_error')} and on () {SEVERAL}", "job"),
        column(f"1000 * {select('cavatica_exporter_watchlist_file_mtime_timestamp_seconds')}"),
        join="row",
        columns={"Value #A": "Loads", "file": "File", "job": "Job", "Value #C": "Changed"},
        sort="Value #A",
        overrides=[
            override(
                "Loads",
                mappings=[
                    *value_mappings(
                        {
                            0: ("yes", "green"),
                            1: ("error", "red"),
                            _FILE_DOWN: (DOWN_ROW, "red"),
                        }
                    ),
                    *cell_words(),
                ],
                custom__cellOptions={"type": "color-text"},
                custom__width=120,
            ),
            override("Changed", unit="dateTimeFromNow", custom__width=150),
        ],
    )


def _watched() -> Json:
    watched = max_by(WATCHED, BATCH)
    named = f'label_join({watched}, "name", "", "batch")'
    several = f'label_join({watched} and on () {SEVERAL}, "name", " / ", "job", "batch")'
    nothing = f'label_replace({ZERO}, "name", "nothing watched", "", "")'
    largest = f"sort_desc(topk(20, {several} or on ({BATCH}) {named}))"
    down = f"{EXPORTER_DOWN} * {down_jobs('every batch of', 'name')}"
    return bars(
        "IDs of each batch",
        "Export IDs that are watched; of more than 20 batches, the 20 largest. A job of which no "
        "exporter answers has a line of its own.",
        query(
            first_of(f"({largest} or {down})", nothing),
            "{{name}}",
            now=True,
        ),
        unit="locale",
        thresholds=thresholds("blue"),
    )


NO_OWN_METRICS = "No exporter answers, or its own metrics are switched off."


def _memory() -> Json:
    return graph(
        "Memory",
        "Resident memory. Empty if the exporter's own metrics are switched off.",
        query(f"{select('process_resident_memory_bytes')} {OURS}", TARGET_LEGEND),
        empty=NO_OWN_METRICS,
        unit="bytes",
    )


def _cpu() -> Json:
    rate = f"rate({select('process_cpu_seconds_total')}[$__rate_interval])"
    return graph(
        "CPU",
        "CPU time by second: 100 % is one core. Empty if the exporter's own metrics are off.",
        query(f"{rate} {OURS}", TARGET_LEGEND),
        empty=NO_OWN_METRICS,
        unit="percentunit",
    )


def _restarts() -> Json:
    started = select("process_start_time_seconds")
    return {
        "name": "Restarts",
        "enable": True,
        "datasource": source(),
        "expr": f"1000 * ({started} {OURS})",
        "iconColor": "orange",
        "titleFormat": "Exporter started",
        "textFormat": "{{instance}}",
        "useValueForTime": "on",
    }
