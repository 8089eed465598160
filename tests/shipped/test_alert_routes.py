"""The example of routes: alerts reach their receivers, and of a cause only the cause is told."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.alert_files import ALERTS, ROUTES_FILE, RULES_FILE, load
from tests.support.servers import amtool

ROUTES = load(ROUTES_FILE)

DATA_TEAM_FAILURES = {"CavaticaExportFailed", "CavaticaExportFailureRatioHigh"}
WHILE_UNANSWERED = {
    "CavaticaBatchStalled",
    "CavaticaExportStateUnexpected",
    "CavaticaExportsStuckRunning",
}
DATA_TEAM = {*WHILE_UNANSWERED, "CavaticaExportLookupErrors"}
API_CAUSES = {"CavaticaApiAuthRejected", "CavaticaApiRateLimited", "CavaticaApiUnreachable"}
OPERATIONS = {
    *API_CAUSES,
    "CavaticaDataStale",
    "CavaticaExporterAbsent",
    "CavaticaExporterDown",
    "CavaticaExporterWatchlistBroken",
}
RECEIVERS = {
    "CavaticaFailedExportsBacklog": "blackhole",
    **dict.fromkeys(DATA_TEAM_FAILURES, "data-team-failures"),
    **dict.fromkeys(DATA_TEAM, "data-team"),
    **dict.fromkeys(OPERATIONS, "operations"),
}


def matches(matchers: list[str], labels: dict[str, str]) -> bool:
    """Whether Alertmanager's matchers all match, as its documentation has it: anchored."""
    results = []
    for matcher in matchers:
        label, operator, value = re.fullmatch(r'(\w+)(=~|!~|!=|=)"(.*)"', matcher).groups()  # type: ignore[union-attr] # ours are all of this form
        found = labels.get(label, "")
        equal = re.fullmatch(value, found) is not None if "~" in operator else found == value
        results.append(equal is not operator.startswith("!"))
    return all(results)


DOWN = "CavaticaExporterDown"
JOB = ["cluster", "namespace", "job"]
LABELS: dict[str, dict[str, str]] = {name: rule["labels"] for name, rule in ALERTS.items()}
"""The labels that each rule adds; the alert of one of several targets has another severity."""
LABELS[f"{DOWN} warning"] = LABELS.pop(DOWN)
LABELS[DOWN] = {"severity": "critical"}


def alerts_matching(matchers: list[str]) -> set[str]:
    """The alerts that Alertmanager's matchers select; with the severity where there are two."""
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
def test_alerts_reach_their_receiver(name: str) -> None:
    """Every alert reaches exactly one receiver, the one that has to do with it."""
    labels = [f"alertname={name}", f"severity={ALERTS[name]['labels']['severity']}", "job=x"]
    config = f"--config.file={ROUTES_FILE}"
    done = amtool(
        "config", "routes", "test", config, "--verify.receivers", RECEIVERS[name], *labels
    )
    assert (done.returncode, done.stdout) == (0, f"{RECEIVERS[name]}\n")


def test_amlint_has_nothing_to_say_about_the_routes() -> None:
    """No alert gets lost on its way, and no route or inhibition is without effect."""
    command = Path(sys.executable).with_name("amlint")
    done = subprocess.run(
        [command, "check", "--strict", "--rules", RULES_FILE, ROUTES_FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_failures_are_grouped_by_batch_and_never_called_resolved() -> None:
    """One message tells of a batch; the end of 24 hours is not a repair."""
    route = next(
        each for each in ROUTES["route"]["routes"] if each["receiver"] == "data-team-failures"
    )
    assert (route["group_by"], route["group_wait"], route["repeat_interval"]) == (
        ["batch"],
        "2m",
        "3d",
    )
    receivers = {each["name"]: each for each in ROUTES["receivers"]}
    sends_resolved = {
        name: [config["send_resolved"] for config in receiver.get("webhook_configs", [])]
        for name, receiver in receivers.items()
    }
    assert sends_resolved == {
        "blackhole": [],
        "data-team-failures": [False],
        "data-team": [True],
        "operations": [True],
    }


def test_inhibitions() -> None:
    """Of a cause and its consequences only the cause is told, and a failure only waits for Down."""
    exports_and_api = {name for name in LABELS if not name.startswith("CavaticaExporter")}
    inhibitions = [
        (
            alerts_matching(rule["source_matchers"]),
            alerts_matching(rule["target_matchers"]),
            rule["equal"],
        )
        for rule in ROUTES["inhibit_rules"]
    ]
    assert inhibitions == [
        ({DOWN}, exports_and_api, JOB),
        ({"CavaticaExporterAbsent"}, exports_and_api, ["cluster"]),
        ({DOWN}, {"CavaticaExporterAbsent"}, ["cluster"]),
        ({DOWN}, {f"{DOWN} warning"}, JOB),
        (API_CAUSES, {"CavaticaDataStale"}, JOB),
        (API_CAUSES - {"CavaticaApiRateLimited"}, WHILE_UNANSWERED, JOB),
    ]
