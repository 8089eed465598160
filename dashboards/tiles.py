"""The tiles of the first dashboard: what needs attention, and the progress of the exports.

A tile says "none" only where every state is known. While states are missing it says "not known", or
"not all known" where some are known. So does a tile that would be calm, or all done, while no
exporter of a job answers.
"""

from dashboards.fields import (
    CALM,
    SAME_TARGETS,
    Json,
    fixed_colour,
    link,
    thresholds,
    tile_mappings,
    value_mappings,
)
from dashboards.panels import query, stat
from dashboards.promql import (
    BATCH,
    DAY,
    DOWN_JOBS,
    EXPORTER_TIME,
    FAILURES,
    NO_ANSWER,
    NONE_KNOWN,
    NONE_OF_THEM,
    NOT_KNOWN,
    NOT_OF_ALL_JOBS,
    NOT_STARTED,
    NOTHING,
    SOURCE,
    STATES_MISSING,
    UNKNOWN,
    UP,
    WATCHED,
    WITHIN_A_DAY,
    ZERO,
    counts,
    first_of,
    in_batches,
    in_state,
    known_or_zero,
    max_by,
    select,
)

HOUR = 60 * 60.0

REFUSED = max_by(in_batches("cavatica_refused_exports"), f"{BATCH}, code")
ACKNOWLEDGED_REFUSALS = max_by(in_batches("cavatica_acknowledged_refusals"), BATCH)
EXPECTED = max_by(in_batches("cavatica_expected_exports"), BATCH)

TOLD = f"sum by ({BATCH}) ({max_by(WATCHED, BATCH)} or {REFUSED} or 0 * {EXPECTED})"
"""How many exports of each batch are in the ID files, refused ones included."""

MISSING = f"({EXPECTED} - {TOLD} > 0)"


_ANSWERED = counts("cavatica_exports_oldest_answer_timestamp_seconds")
ANSWER_AGE = f"({EXPORTER_TIME} - on ({SOURCE}, instance) group_right () {_ANSWERED})"
"""How old the oldest answer about an unfinished export of each batch is."""


THE_EXPORTER = link(
    "The exporter",
    f"/d/cavatica-exporter?{SAME_TARGETS}&${{batch:queryparam}}&${{__url_time_range}}",
)


def first_tiles() -> list[Json]:
    """Return the tiles that are coloured when something needs attention."""
    alarm_words = tile_mappings(none="nothing watched", calm=CALM)
    return [
        stat(
            "Failed in the last 24 h",
            "Exports that failed within 24 hours, neither acknowledged nor superseded by a later "
            "export to the same destination. The table below names them.",
            query(known_or_zero(f"count({FAILURES} > time() - {DAY:.0f})"), now=True),
            alarm={1: "red"},
            unit="locale",
            mappings=alarm_words,
        ),
        stat(
            "Failed earlier",
            "Exports that failed more than 24 hours ago, neither acknowledged nor superseded: no "
            "alert fires for them any more. Acknowledge them, or start them again.",
            query(known_or_zero(f"count({FAILURES} <= time() - {DAY:.0f})"), now=True),
            alarm={1: "orange"},
            unit="locale",
            mappings=alarm_words,
        ),
        stat(
            "Refused at the start",
            "Files that CAVATICA refused to export when their batch was started, by the saved "
            "answers. They have no ID and are never watched; the exporter's status page lists "
            "them. `refusals_acknowledged: true` in an ID file of the batch acknowledges them.",
            query(
                first_of(
                    f"sum({REFUSED}) - ({first_of(f'sum({ACKNOWLEDGED_REFUSALS})', ZERO)}) > 0",
                    NONE_OF_THEM,
                ),
                now=True,
            ),
            alarm={1: "orange"},
            unit="locale",
            mappings=alarm_words,
        ),
        stat(
            "Missing in the ID files",
            "How many exports of a batch no ID file lists, of the number that an ID file expects "
            "(`expected`). Their IDs are known to CAVATICA alone: `cavatica-exports discover` "
            "finds them.",
            query(
                first_of(f"sum({MISSING})", NOT_OF_ALL_JOBS, f"0 * sum({EXPECTED})", NOTHING),
                now=True,
            ),
            alarm={1: "orange"},
            unit="locale",
            mappings=tile_mappings(none="no number given", calm=CALM),
        ),
        stat(
            "State unknown",
            "Exports without an answer yet or for too long, and IDs that CAVATICA does not know. A "
            "click shows the exporter.",
            query(first_of(f"count({UNKNOWN})", NONE_OF_THEM), now=True),
            alarm={1: "purple"},
            links=[THE_EXPORTER],
            unit="locale",
            mappings=alarm_words,
        ),
        stat(
            "Exporter problems",
            "Exporters that are down or lack answers of CAVATICA, ID files that cannot be read, "
            "rejected IDs and state files in error. What an exporter watches that is down is in no "
            "other panel. A click shows the exporter.",
            query(_problems(), now=True),
            alarm={1: "red"},
            links=[THE_EXPORTER],
            unit="locale",
            mappings=value_mappings({0: ("none", CALM)}),
        ),
    ]


def _problems() -> str:
    error = max_by(select("cavatica_exporter_watchlist_file_error"), f"{SOURCE}, file")
    # In error without a file in error: the path itself cannot be read.
    unreadable = max_by(
        f"1 - {select('cavatica_exporter_watchlist_last_reload_successful')}", SOURCE
    )
    state_file = max_by(select("cavatica_exporter_state_file_error"), SOURCE)
    rejected = max_by(select("cavatica_exporter_watchlist_rejected_ids"), SOURCE)
    terms = (
        first_of(f"count({UP} == 0)", f"count({DOWN_JOBS})"),
        f"count({select('cavatica_up')} == 0)",
        f"sum({error} or {unreadable} unless on ({SOURCE}) {error} == 1)",
        f"sum({rejected})",
        f"sum({state_file})",
    )
    return " + ".join(f"({first_of(each, f'0 * {WITHIN_A_DAY}')})" for each in terms)


def second_tiles() -> list[Json]:
    """Return the tiles about progress."""
    return [
        _done(),
        _count("COMPLETED", "Exports that are done.", "green"),
        _count("RUNNING", "Exports that CAVATICA is copying.", "blue"),
        _count("PENDING", "Exports that wait for CAVATICA to begin.", "blue"),
        _oldest(),
        _last(),
        _age(),
    ]


def _done() -> Json:
    completed = in_state('state="COMPLETED"')
    # Rounded down: 9,999 of 10,000 are not 100 %.
    share = f"floor(1000 * sum({completed}) / (sum({WATCHED}) > 0)) / 1000"
    failures = "with failures"
    marked = f'label_replace({share} and count({FAILURES}) > 0, "kind", "{failures}", "", "")'
    return stat(
        "Done",
        "The share of the watched exports that are completed. Red while there are failures that "
        "are neither acknowledged nor superseded.",
        query(first_of(marked, NONE_KNOWN, NOT_OF_ALL_JOBS, share, NOTHING), "{{kind}}", now=True),
        unit="percentunit",
        decimals=1,
        thresholds=thresholds("blue", {1: "green"}),
        mappings=tile_mappings(none="nothing watched"),
        overrides=[fixed_colour(failures, "red")],
    )


def _count(state: str, text: str, colour: str) -> Json:
    matcher = f'state="{state}"'
    return stat(
        state.capitalize(),
        text,
        query(known_or_zero(f"sum({in_state(matcher)})"), now=True),
        unit="locale",
        thresholds=thresholds("text", {1: colour}),
        mappings=tile_mappings(none="nothing watched"),
    )


def _oldest() -> Json:
    started = counts("cavatica_exports_oldest_unfinished_timestamp_seconds", own="state")
    oldest = f"clamp_min(time() - min({started}), 0)"
    pending = in_state('state="PENDING"')
    waiting = f"{NOT_STARTED} + 0 * (sum({pending}) > 0)"
    return stat(
        "Oldest unfinished export",
        "How long ago the oldest pending or running export started. Yellow from 12 hours on; "
        "over 24 hours, where the alert on stuck exports begins, red.",
        query(
            first_of(
                f"{oldest} >= {12 * HOUR:.0f}",
                NONE_KNOWN,
                NOT_OF_ALL_JOBS,
                oldest,
                waiting,
                NO_ANSWER,
                NOTHING,
            ),
            now=True,
        ),
        unit="s",
        decimals=1,
        thresholds=thresholds("text", {12 * HOUR: "orange", 24 * HOUR: "red"}),
        mappings=tile_mappings(none="none unfinished"),
    )


def _last() -> Json:
    latest = counts("cavatica_exports_last_finished_timestamp_seconds", own="state")
    return stat(
        "Since the last one finished",
        "How long ago the latest export completed or failed.",
        query(
            first_of(
                f"clamp_min(time() - max({latest}), 0)", STATES_MISSING, NOT_OF_ALL_JOBS, NOTHING
            ),
            now=True,
        ),
        unit="s",
        decimals=1,
        thresholds=thresholds("text"),
        mappings=tile_mappings(none="none yet"),
    )


def _age() -> Json:
    age = f"clamp_min(max({ANSWER_AGE}), 0)"
    return stat(
        "Age of the data",
        "The age of the oldest answer about an unfinished export: nothing shown is older. Red "
        "from one hour on, when the alert on stale data fires. A click shows the exporter.",
        query(
            first_of(
                f"{age} >= {HOUR / 4:.0f}",
                f"{NOT_KNOWN} + 0 * ({NOT_OF_ALL_JOBS})",
                age,
                NO_ANSWER,
                NOTHING,
            ),
            now=True,
        ),
        alarm={HOUR / 4: "orange", HOUR: "red"},
        links=[THE_EXPORTER],
        unit="s",
        decimals=0,
        mappings=tile_mappings(none="nothing unfinished", calm=CALM),
    )
