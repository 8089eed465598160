"""The queries that more than one dashboard asks.

Two replicas of the exporter watch the same exports: everything is taken as `max by` what it is
about before it is added up, so that a second replica adds nothing.
"""

from collections.abc import Callable

TARGET = 'job=~"$job",instance=~"$instance"'
EXPORT = "batch, export_id"

STATES = {"UNKNOWN": 0, "PENDING": 1, "RUNNING": 2, "COMPLETED": 3, "FAILED": 4}
"""The number that stands for a state in timelines and coloured cells."""

OTHER_STATE = 5
"""The number of a state that the API does not document."""


def select(metric: str, *matchers: str) -> str:
    """A selector of the targets chosen in the dashboard."""
    return f"{metric}{{{','.join([TARGET, *matchers])}}}"


def chosen(metric: str, *matchers: str) -> str:
    """A selector of the batches chosen in the dashboard, too."""
    return select(metric, 'batch=~"$batch"', *matchers)


def one(metric: str, *matchers: str) -> str:
    """A selector of the export chosen in the dashboard."""
    return chosen(metric, 'export_id="$export_id"', *matchers)


def largest(selector: str, by: str) -> str:
    """One value for each combination of labels, whatever the number of replicas."""
    return f"max by ({by}) ({selector})"


def total(metric: str, *matchers: str, by: str = "batch") -> str:
    """The sum over the chosen batches."""
    return f"sum({largest(chosen(metric, *matchers), by)})"


ALIVE = f"max({select('cavatica_exporter_build_info')})"
"""1 while an exporter answers, else nothing."""

OR_ZERO = f" or 0 * {ALIVE}"
"""0 where there is nothing to count, but only while an exporter answers.

`vector(0)` would show a dead exporter as "0 failed", in green.
"""

OR_NOTHING = f" or -1 * {ALIVE}"
"""-1 for a time that there is not (yet); panels show it as a word."""


def or_label(label: str, text: str) -> str:
    """A 0 named `text` in place of an empty list, but only while an exporter answers."""
    return f' or on () label_replace(0 * {ALIVE}, "{label}", "{text}", "", "")'


def state_number(select: Callable[..., str]) -> str:
    """The number of the state that each export is in.

    Args:
        select: `chosen` or `one`.
    """
    matchers = {f'state="{state}"': number for state, number in STATES.items()}
    matchers[f'state!~"{"|".join(STATES)}"'] = OTHER_STATE
    terms = (
        f"{number} * ({select('cavatica_export_state', matcher)} == 1)"
        for matcher, number in matchers.items()
    )
    return largest(" or ".join(terms), EXPORT)
