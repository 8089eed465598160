"""The parts of queries that more than one panel needs.

What identifies a batch is `BATCH`, not its name alone: two jobs may watch batches of one name. All
targets of a job are replicas that watch the same exports. Of each batch the replica that knows most
is asked (`of_best`), so that a second one adds nothing, and one that has just been restarted, for
which every export is UNKNOWN, does not count.
"""

TARGET = 'job=~"$job",instance=~"$instance"'

SOURCE = "cluster, namespace, job"
"""The labels that identify who watches, whatever Prometheus or Kubernetes attach."""

BATCH = f"{SOURCE}, batch"
EXPORT = f"{BATCH}, export_id"

STATES = {"UNKNOWN": 0, "PENDING": 1, "RUNNING": 2, "COMPLETED": 4, "FAILED": 5}
"""The number that stands for a state in a timeline."""

OTHER_STATE = 3
"""The number of a state that the API does not document."""

DAY = 24 * 60 * 60.0


def select(metric: str, *matchers: str) -> str:
    """Return a selector of the chosen targets."""
    return f"{metric}{{{','.join([TARGET, *matchers])}}}"


def in_batches(metric: str, *matchers: str) -> str:
    """Return a selector of the chosen batches of the chosen targets."""
    return select(metric, 'batch=~"$batch"', *matchers)


def one(metric: str, *matchers: str) -> str:
    """Return a selector of the chosen export."""
    return select(metric, 'export_id="$export_id"', *matchers)


def max_by(selector: str, by: str) -> str:
    """Return one value for each combination of labels, whatever the number of replicas."""
    return f"max by ({by}) ({selector})"


def of_best(expr: str, *own: str) -> str:
    """Return the part of `expr` that comes from the best replica of each batch.

    The best one knows the states of most exports; of two that know as many, the one that knows
    more of them to be finished.

    Args:
        expr: Keeps the labels of the targets.
        own: The labels of `expr` beside those of the target and `batch`.
    """
    known = select("cavatica_exports", 'state!="UNKNOWN"')
    finished = select("cavatica_exports", 'state=~"COMPLETED|FAILED"')
    rank = f"sum without (state) ({known}) + sum without (state) ({finished})"
    ignoring = f" ignoring ({', '.join(own)})" if own else ""
    return f"({expr} and{ignoring} topk by ({BATCH}) (1, {rank}))"


def counts(metric: str, *matchers: str, own: str = "") -> str:
    """Return a metric of the chosen batches, of the best replica of each."""
    return of_best(in_batches(metric, *matchers), *filter(None, [own]))


def in_state(matcher: str) -> str:
    """Return how many exports of each chosen batch are in the states that `matcher` names."""
    return counts("cavatica_exports", matcher, own="state")


ALIVE = f"max({select('cavatica_exporter_build_info')})"
"""1 while an exporter answers, else nothing."""

ZERO = f"0 * {ALIVE}"
"""0, but only while an exporter answers: `vector(0)` would show a dead one as "0 failed"."""

NOT_KNOWN, NONE_SO_FAR, NOT_STARTED, NONE = -1, -2, -3, -4
"""Numbers that panels show as words."""

NOTHING = f"{NONE} * {ALIVE}"
"""`NONE`, but only while an exporter answers."""

EXPORTER_DOWN = -6
WITHIN_A_DAY = f"max(last_over_time({select('cavatica_exporter_build_info')}[1d]))"
"""1 if an exporter answered within a day, else nothing."""

DOWN = f"({EXPORTER_DOWN} * {WITHIN_A_DAY} unless on () {ALIVE})"
"""`EXPORTER_DOWN` if no exporter answers but one did within a day, else nothing."""

_BY_JOB = f"max by ({SOURCE})"
DOWN_JOBS = (
    f"({_BY_JOB} (last_over_time({select('cavatica_exporter_build_info')}[1d]))"
    f" unless {_BY_JOB} ({select('cavatica_exporter_build_info')}))"
)
"""1 for each job of which no exporter answers but one did within a day."""


def down_jobs(what: str, label: str) -> str:
    """Return `DOWN_JOBS` with a label that names what is not known: `what` and the job."""
    named = f'label_replace({DOWN_JOBS}, "of", "{what}", "", "")'
    return f'label_join({named}, "{label}", " ", "of", "job")'


# `up` and `process_*` are everybody's, and "All" jobs is `.+`: keep to targets that are exporters,
# or were within a day.
OURS = f"and on ({SOURCE}, instance) last_over_time({select('cavatica_exporter_build_info')}[1d])"
UP = f"({select('up')} {OURS})"


def first_of(*terms: str) -> str:
    """Return the first of several single values that there is."""
    return " or on () ".join(terms)


WATCHED = counts("cavatica_watched_exports")

NOT_OF_ALL_JOBS = f"{NONE_SO_FAR} + 0 * count({DOWN_JOBS}) * {ALIVE}"
"""`NONE_SO_FAR` where an exporter answers, but none of another job, else nothing."""


def zero_of_all_jobs(total: str) -> str:
    """Return a total that is 0 only where an exporter of each job answers."""
    return first_of(f"{total} > 0", NOT_OF_ALL_JOBS, ZERO)


NONE_OF_THEM = first_of(NOT_OF_ALL_JOBS, f"0 * sum({WATCHED})", NOTHING)
"""0 of those that are watched; `NOTHING` where no export is."""

_SUCCESS_AGE = select("cavatica_last_success_age_seconds")
SINCE_SUCCESS = f"({_SUCCESS_AGE} + time() - timestamp({_SUCCESS_AGE}))"
"""Seconds since the last complete scrape of each exporter, whatever its clock says."""

EXPORTER_TIME = (
    f"({select('cavatica_last_success_timestamp_seconds')} + {SINCE_SUCCESS}"
    f" or time() + 0 * {select('cavatica_up')})"
)
"""The time on each exporter's clock, as far as it tells."""

_STATE = "cavatica_export_state"
_FAILED = in_batches(_STATE, 'state="FAILED"')
_UNKNOWN = in_batches(_STATE, 'state="UNKNOWN"')
_ACKNOWLEDGED = in_batches("cavatica_export_acknowledged")
_SUPERSEDED = in_batches("cavatica_export_superseded")
_ERROR = in_batches("cavatica_export_error_info")

FAILURES = of_best(
    f"{in_batches('cavatica_export_finished_timestamp_seconds')} "
    f"and ignoring (state) ({_FAILED} == 1) unless {_ACKNOWLEDGED} unless {_SUPERSEDED}",
    "export_id",
)
"""When each failure finished that is neither acknowledged nor superseded."""

UNKNOWN = of_best(
    f"({_UNKNOWN} == 1) unless ignoring (state) {_ACKNOWLEDGED}", "export_id", "state"
)
"""1 for each export without a known state, except acknowledged ones."""

DEALT_WITH = of_best(
    f"({_FAILED} == 1 or {_UNKNOWN} == 1) and ignoring (state) ({_ACKNOWLEDGED} or {_SUPERSEDED})",
    "export_id",
    "state",
)
"""1 for each failed or unknown export that is acknowledged or superseded."""

_NO_ANSWER = f"({_UNKNOWN} == 1) unless ignoring (state, code, status, message) {_ERROR}"
WITHOUT_ANSWER = of_best(_NO_ANSWER, "export_id", "state")
"""1 for each unknown export whose state an answer may still tell.

The others are IDs for which the API answers an error: these stay UNKNOWN for ever.
"""

UNANSWERED = of_best(f"{_NO_ANSWER} unless ignoring (state) {_ACKNOWLEDGED}", "export_id", "state")
"""`WITHOUT_ANSWER`, except acknowledged ones: nothing waits for their state."""

NONE_KNOWN = f"{NOT_KNOWN} + 0 * (count({WITHOUT_ANSWER}) >= sum({WATCHED}))"
"""`NOT_KNOWN` where no state is known, else nothing."""

STATES_MISSING = first_of(NONE_KNOWN, f"{NONE_SO_FAR} + 0 * count({UNANSWERED})")
"""`NONE_SO_FAR` where some states are known, `NOT_KNOWN` where none is, nothing where all are."""

NO_ANSWER = first_of(NONE_KNOWN, f"{NOT_KNOWN} + 0 * count({UNANSWERED})")
"""`NOT_KNOWN` where states are missing, else nothing."""


def bytes_if_known(total: str) -> str:
    """Return bytes of batches without those zeros that only mean that states are missing."""
    missing = in_state('state="UNKNOWN"')
    return f"({total} > 0 or {total} unless on ({BATCH}) ({missing} > 0))"


def known_or_zero(total: str) -> str:
    """Return a total that is 0 only where every state is known, and `NOTHING` of no batch at all.

    A link or a bookmark may name a batch that is not watched, or not any more.
    """
    return first_of(f"{total} > 0", STATES_MISSING, NONE_OF_THEM)


_WITHIN_A_DAY = f"last_over_time({select('cavatica_exporter_build_info')}[1d])"
SEVERAL = f"count(count by ({SOURCE}) ({_WITHIN_A_DAY})) > 1"
"""Something if more than one job is shown, so that batches have to be told apart.

Also while the exporters of one are down: what is left is not all of it.
"""


def rows(expr: str, key: str, *keep: str) -> str:
    """Return values with a label `row` that joins the queries of a table.

    Grafana joins by one field only, and an ID or a batch's name alone does not identify.

    Args:
        expr: One value for each row.
        key: The labels that identify a row: `BATCH` or `EXPORT`.
        keep: Labels to keep as columns.
    """
    labels = ", ".join(f'"{label}"' for label in key.split(", "))
    # U+001F separates fields; no name has it.
    joined = f'label_join({expr}, "row", "\\u001f", {labels})'
    return max_by(joined, ", ".join(["row", *keep]))


def job_column(expr: str, key: str) -> str:
    """Return the rows of `expr` with a label `source`, or nothing where one job is shown."""
    joined = f'label_join({expr}, "source", " ", "cluster", "namespace", "job")'
    trimmed = f'label_replace({joined}, "source", "$1", "source", " *(.*)")'
    return f"{rows(trimmed, key, 'source')} and on () {SEVERAL}"


def with_meaning(expr: str, *, within: str) -> str:
    """Return `expr` with the labels `meaning` and `retry` of its `code`.

    A code that the exporter does not explain gets words that say what to do.

    Args:
        expr: Has the label `code`; a code that is empty becomes `none`.
        within: The labels that a value is identified by, `code` among them.
    """
    # Replicas of two versions may word it differently.
    meanings = f"topk by ({SOURCE}, code) (1, {select('cavatica_error_code_info')})"
    named = f'label_replace({expr}, "code", "none", "code", "")'
    joined = f"{named} * on ({SOURCE}, code) group_left (meaning, retry) {meanings}"
    words = (
        ("meaning", "unknown code", "code", ".*"),
        ("meaning", "no code given", "code", "none"),
        ("retry", "ask support", "code", ".*"),
    )
    unexplained = named
    for label, text, of, pattern in words:
        unexplained = f'label_replace({unexplained}, "{label}", "{text}", "{of}", "{pattern}")'
    return f"({joined} or on ({within}) {unexplained})"


def answers_over_time() -> str:
    """Return for each exporter -1 while it is down, and otherwise whether no answer was missing."""
    down = f"(min_over_time({select('up')}[$__interval]) {OURS}) == 0"
    answers = select("cavatica_up")
    # Seen from far away a moment stands for an hour or more: the worst of it counts. Close by, no
    # sample may lie between two moments.
    worst = f"(min_over_time({answers}[$__interval]) or 1 * {answers})"
    return f"({down}) - 1 or {worst}"
