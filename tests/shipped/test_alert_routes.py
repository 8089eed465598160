"""The example of routes: each alert has a receiver, and causes inhibit their consequences."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.alert_files import ALERTS, ROUTES_FILE, RULES_FILE, load
from tests.support.servers import amtool

ROUTES = load(ROUTES_FILE)

DATA_TEAM_FAILURES = {
    "CavaticaExportFailed",
    "CavaticaExportFailureRatioHigh",
    "CavaticaExportsRefused",
}
WHILE_UNANSWERED = {
    "CavaticaBatchStalled",
    "CavaticaExportStateUnexpected",
    "CavaticaExportsStuckPending",
    "CavaticaExportsStuckRunning",
}
DATA_TEAM = {
    *WHILE_UNANSWERED,
    "CavaticaExportIdsRejected",
    "CavaticaExportLookupErrors",
    "CavaticaExportsMissing",
}
INFO = {"CavaticaBatchGone", "CavaticaFailedExportsBacklog"}
API_CAUSES = {"CavaticaApiAuthRejected", "CavaticaApiRateLimited", "CavaticaApiUnreachable"}
STATES_UNKNOWN = {"CavaticaApiAuthRejected", "CavaticaApiUnreachable", "CavaticaDataStale"}
"""Alerts during which states are not known, unlike while the rate limit is nearly used up."""
OPERATIONS = {
    *API_CAUSES,
    "CavaticaDataStale",
    "CavaticaDiscoveryStale",
    "CavaticaExporterAbsent",
    "CavaticaExporterDown",
    "CavaticaExporterStateFileBroken",
    "CavaticaExporterWatchlistBroken",
}
RECEIVERS = {
    **dict.fromkeys(INFO, "blackhole"),
    **dict.fromkeys(DATA_TEAM_FAILURES, "data-team-failures"),
    **dict.fromkeys(DATA_TEAM, "data-team"),
    **dict.fromkeys(OPERATIONS, "operations"),
}


def matches(matchers: list[str], labels: dict[str, str]) -> bool:
    """Return whether all of Alertmanager's matchers match; regular expressions are anchored."""
    results = []
    for matcher in matchers:
        label, operator, value = re.fullmatch(r'(\w+)(=~|!~|!=|=)"(.*)"', matcher).groups()  # type: ignore[union-attr] # all matchers in the example have this form
        found = labels.get(label, "")
        equal = re.fullmatch(value, found) is not None if "~" in operator else found == value
        results.append(equal is not operator.startswith("!"))
    return all(results)


DOWN = "CavaticaExporterDown"
JOB = ["cluster", "namespace", "job"]
LABELS: dict[str, dict[str, str]] = {name: rule["labels"] for name, rule in ALERTS.items()}
"""Labels that each rule adds. DOWN has two rules: one of several targets down is a warning."""
LABELS[f"{DOWN} warning"] = LABELS.pop(DOWN)
LABELS[DOWN] = {"severity": "critical"}


def alerts_matching(matchers: list[str]) -> set[str]:
    """Return the alerts that the matchers select; an alert with two severities has two names."""
    return {
        name
        for name, labels in LABELS.items()
        if matches(matchers, {"alertname": name.partition(" ")[0], **labels})
    }


@pytest.mark.servers
def test_amtool_accepts_the_routes() -> None:
    """Alertmanager loads the example."""
    done = amtool("check-config", ROUTES_FILE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.servers
@pytest.mark.parametrize("name", ALERTS)
def test_alert_reaches_its_receiver(name: str) -> None:
    """Each alert is routed to exactly one receiver, the one in `RECEIVERS`."""
    labels = [f"alertname={name}", f"severity={ALERTS[name]['labels']['severity']}", "job=x"]
    config = f"--config.file={ROUTES_FILE}"
    done = amtool(
        "config", "routes", "test", config, "--verify.receivers", RECEIVERS[name], *labels
    )
    assert (done.returncode, done.stdout) == (0, f"{RECEIVERS[name]}\n")


def test_amlint_finds_no_problem_in_the_routes() -> None:
    """Every alert has a route, and every route and inhibition applies to some alert."""
    command = Path(sys.executable).with_name("amlint")
    done = subprocess.run(
        [command, "check", "--strict", "--rules", RULES_FILE, ROUTES_FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_failures_are_grouped_by_batch_without_resolved_messages() -> None:
    """A batch's failures send one message, then at most one an hour, and none when alerts end."""
    failures, others = (
        each for each in ROUTES["route"]["routes"] if each["receiver"] == "data-team-failures"
    )
    batch = [*JOB, "batch"]
    assert failures["matchers"] == ['alertname="CavaticaExportFailed"']
    assert (failures["group_by"], failures["group_wait"], failures["group_interval"]) == (
        batch,
        "1m",
        "1h",
    )
    # Another alert of a batch must not send the list of failures again.
    assert others["group_by"] == ["alertname", *batch]
    receivers = {each["name"]: each for each in ROUTES["receivers"]}
    sends_resolved = {
        name: {
            config["send_resolved"] for key in receiver if key != "name" for config in receiver[key]
        }
        for name, receiver in receivers.items()
    }
    assert sends_resolved == {
        "blackhole": set(),
        "data-team-failures": {False},
        "data-team": {True},
        "operations": {True},
    }


def test_groups_are_separate_for_each_job() -> None:
    """Batches of the same name in two jobs, namespaces or clusters are two groups."""
    groups = [ROUTES["route"], *ROUTES["route"]["routes"]]
    assert all(set(JOB) <= set(each["group_by"]) for each in groups if "group_by" in each)


def test_causes_inhibit_their_consequences() -> None:
    """The inhibitions are exactly these; no alert inhibits an alert about failed exports."""
    consequences = {*DATA_TEAM, *API_CAUSES, "CavaticaBatchGone", "CavaticaDataStale"}
    inhibitions = [
        (
            alerts_matching(rule["source_matchers"]),
            alerts_matching(rule["target_matchers"]),
            rule["equal"],
        )
        for rule in ROUTES["inhibit_rules"]
    ]
    assert inhibitions == [
        ({DOWN}, consequences, JOB),
        ({DOWN}, {"CavaticaExporterAbsent"}, ["cluster"]),
        ({DOWN}, {f"{DOWN} warning"}, JOB),
        (API_CAUSES, {"CavaticaDataStale"}, JOB),
        (STATES_UNKNOWN, WHILE_UNANSWERED, JOB),
    ]
    assert not any(DATA_TEAM_FAILURES & targets for _, targets, _ in inhibitions)
