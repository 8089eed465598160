"""Can I trust the exporter?"""

from dashboards.blocks import (
    Json,
    bars,
    colour_of,
    graph,
    override,
    query,
    stat,
    steps,
    table,
    timeline,
    words,
)
from dashboards.frame import Line, Section
from dashboards.frame import dashboard as frame
from dashboards.promql import OR_NOTHING, OR_ZERO, chosen, largest, or_label, select, total

HOUR = 60 * 60.0

# `up` and `process_*` are everybody's, and "All" jobs is `.+`: keep to targets that are exporters,
# or were within a day.
OURS = f"and on (job, instance) present_over_time({select('cavatica_exporter_build_info')}[1d])"


def dashboard() -> Json:
    """The dashboard for whoever runs the exporter."""
    return frame(
        "cavatica-exporter",
        "CAVATICA / Exporter",
        "Can I trust the exporter?",
        [
            Section("Can I trust it?", [Line(4, [*_health(), *_watchlist(), _quota_share()])]),
            Section(
                "The API",
                [
                    Line(8, [_requests(), _failures(), _latency()]),
                    Line(8, [_quota(), _calls()]),
                ],
            ),
            Section("Scrapes", [Line(7, [_outcome(), _duration()])]),
            Section("ID files", [Line(8, [_files(), _watched()], widths=[16, 8])]),
            Section("The process", [Line(7, [_memory(), _cpu(), _versions()])]),
        ],
        since="now-6h",
        annotations=[_restarts()],
    )


def _health() -> list[Json]:
    last = f"max({select('cavatica_last_success_timestamp_seconds')})"
    return [
        stat(
            "Scraped",
            "Whether Prometheus reaches each exporter that it knew within a day.",
            query(f"{select('up')} {OURS}", "{{instance}}", now=True),
            unit="none",
            loud=True,
            mappings=words({0: ("down", "red"), 1: ("up", "green")}),
        ),
        stat(
            "Answers",
            "Whether CAVATICA answered every question of the last scrape properly.",
            query(select("cavatica_up"), "{{instance}}", now=True),
            unit="none",
            loud=True,
            mappings=words({0: ("missing", "red"), 1: ("complete", "green")}),
        ),
        stat(
            "Last complete scrape",
            "How long ago a scrape had every answer that it needed. Red from one hour on, where "
            "the alert on stale data begins.",
            query(f"time() - {last}{OR_NOTHING}", now=True),
            unit="s",
            decimals=1,
            thresholds=steps("green", {HOUR / 4: "yellow", HOUR: "red"}),
            mappings=words({-1: ("none yet", "red")}),
        ),
    ]


def _watchlist() -> list[Json]:
    def count(title: str, description: str, expr: str, colour: str) -> Json:
        return stat(
            title,
            description,
            query(expr + OR_ZERO, now=True),
            loud=True,
            unit="none",
            thresholds=steps("green", {1: colour}),
        )

    return [
        count(
            "ID files in error",
            "Files that do not load: their last good content stays in force, and what was added "
            "since is not watched. The exporter's log names line and key.",
            f"sum({largest(select('cavatica_exporter_watchlist_file_error'), 'file')})",
            "red",
        ),
        count(
            "IDs refused",
            "Lines that cannot be an ID: they are not watched. The exporter's log names them.",
            f"max({select('cavatica_exporter_watchlist_rejected_ids')})",
            "red",
        ),
        count(
            "IDs listed twice",
            "Such an ID is watched once, in the first file that has it.",
            f"max({select('cavatica_exporter_watchlist_duplicate_ids')})",
            "yellow",
        ),
        stat(
            "Watched",
            "Export IDs that are watched.",
            query(total("cavatica_watched_exports") + OR_ZERO, now=True),
            unit="none",
            thresholds=steps("blue"),
        ),
    ]


def _quota_share() -> Json:
    left = select("cavatica_api_rate_limit_remaining_requests")
    limit = select("cavatica_api_rate_limit_requests")
    return stat(
        "Quota left",
        "The part of the account's rate limit that is left. Others use the same account: the "
        "exporter itself stops at its own share. Under 10 % the alert on rate limiting begins.",
        query(f"min({left} / ({limit} > 0)){OR_NOTHING}", now=True),
        unit="percentunit",
        thresholds=steps("red", {0.1: "yellow", 0.3: "green"}),
        mappings=words({-1: ("not told", "text")}),
    )


def _requests() -> Json:
    rate = f"rate({select('cavatica_api_requests_total')}[$__rate_interval])"
    return graph(
        "Requests by answer",
        "HTTP requests to CAVATICA a minute, by status; `none`: no answer.",
        query(f"60 * sum by (code) ({rate})", "{{code}}"),
        stacked=True,
        overrides=[colour_of("200", "green"), colour_of("429", "orange"), colour_of("none", "red")],
        unit="cpm",
    )


def _failures() -> Json:
    rate = f"rate({select('cavatica_api_request_failures_total')}[$__rate_interval])"
    return graph(
        "Failures by reason",
        "Failed questions to CAVATICA a minute. `auth`: the token is refused or expired; "
        "`maintenance`: CAVATICA says so itself, wait.",
        query(f"60 * sum by (reason) ({rate})", "{{reason}}"),
        stacked=True,
        unit="cpm",
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


def _quota() -> Json:
    return graph(
        "Quota",
        "Requests that the account may make until its rate limit begins anew, and the limit.",
        query(f"min({select('cavatica_api_rate_limit_remaining_requests')})", "left"),
        query(f"max({select('cavatica_api_rate_limit_requests')})", "limit"),
        overrides=[colour_of("left", "blue"), colour_of("limit", "red")],
        unit="short",
    )


def _calls() -> Json:
    return graph(
        "API calls of a scrape",
        "One call asks for 100 exports; more than one means that more than 100 are unfinished.",
        query(select("cavatica_scrape_api_calls"), "{{instance}}"),
        unit="short",
    )


def _outcome() -> Json:
    return timeline(
        "Answers over time",
        "Whether CAVATICA answered every question of a scrape. A gap: nobody answered the scrape.",
        query(select("cavatica_up"), "{{instance}}"),
        mappings=words({0: ("missing", "red"), 1: ("complete", "green")}),
    )


def _duration() -> Json:
    return graph(
        "Duration of a scrape",
        "It has to stay below the scrape timeout set in Prometheus.",
        query(select("cavatica_scrape_duration_seconds"), "{{instance}}"),
        unit="s",
    )


def _files() -> Json:
    error = largest(select("cavatica_exporter_watchlist_file_error"), "file")
    changed = largest(select("cavatica_exporter_watchlist_file_mtime_timestamp_seconds"), "file")
    return table(
        "ID files",
        "Every ID file, whether it loads, and when it was changed.",
        query(error, table=True),
        query(f"1000 * {changed}", table=True),
        join="file",
        columns={"Value #A": "Loads", "file": "File", "Value #B": "Changed"},
        overrides=[
            override(
                "Loads",
                mappings=words({0: ("yes", "green"), 1: ("error", "red")}),
                custom__cellOptions={"type": "color-background"},
                custom__width=90,
            ),
            override("Changed", unit="dateTimeFromNow"),
        ],
        sort="Loads",
        noValue="Nothing to show, if the exporter is up",
    )


def _watched() -> Json:
    watched = largest(chosen("cavatica_watched_exports"), "batch")
    return bars(
        "IDs of each batch",
        "Export IDs that are watched; of more than 20 batches, the 20 largest.",
        query(
            f"sort_desc(topk(20, {watched})){or_label('batch', 'nothing watched')}",
            "{{batch}}",
            now=True,
        ),
        unit="none",
        thresholds=steps("blue"),
    )


def _memory() -> Json:
    return graph(
        "Memory",
        "Resident memory. Empty if the exporter's own metrics are switched off.",
        query(f"{select('process_resident_memory_bytes')} {OURS}", "{{instance}}"),
        unit="bytes",
    )


def _cpu() -> Json:
    rate = f"rate({select('process_cpu_seconds_total')}[$__rate_interval])"
    return graph(
        "CPU",
        "CPU time by second: 100 % is one core. Empty if the exporter's own metrics are off.",
        query(f"{rate} {OURS}", "{{instance}}"),
        unit="percentunit",
    )


def _versions() -> Json:
    build = "job, instance, version, revision, python"
    started = f"{select('process_start_time_seconds')} {OURS}"
    return table(
        "Versions",
        "What runs where, and since when.",
        query(largest(select("cavatica_exporter_build_info"), build), table=True),
        query(f"1000 * {largest(started, 'instance')}", table=True),
        join="instance",
        columns={
            "instance": "Instance",
            "version": "Version",
            "revision": "Revision",
            "python": "Python",
            "Value #B": "Started",
        },
        overrides=[override("Started", unit="dateTimeFromNow")],
    )


def _restarts() -> Json:
    started = select("process_start_time_seconds")
    return {
        "name": "Restarts",
        "enable": True,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "expr": f"1000 * ({started} {OURS})",
        "iconColor": "orange",
        "titleFormat": "Exporter started",
        "textFormat": "{{instance}}",
        "useValueForTime": "on",
    }
