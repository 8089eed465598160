"""The alert rules: when alerts fire, the form of their texts, and the series that they use."""

import re
from pathlib import Path

import pytest
import yaml

from tests.support.alert_files import (
    ALERTS,
    RECORDED,
    ROOT,
    RULES,
    RULES_FILE,
    Yaml,
    known_series,
    load,
    series_names,
)
from tests.support.servers import promtool

TEST_FILES = sorted((ROOT / "alerts" / "tests").glob("*.test.yml"))

each_alert = pytest.mark.parametrize(
    "rule",
    [rule for rule in RULES if "alert" in rule],
    ids=lambda rule: f"{rule['alert']} {rule['labels']['severity']}",
)

NAMES_NOTHING = {"CavaticaExporterAbsent"}
"""Alerts on absent series, which have no labels that a description could name."""


def expressions_in_annotations(rule: Yaml) -> list[str]:
    """Return the queries in an alert's templates, with example values for their arguments."""
    templates = " ".join(rule["annotations"].values())
    quoted = re.findall(r'printf "((?:[^"\\]|\\.)*)"', templates)
    return [
        each.replace("%q", '"x"').replace("%s", "")
        for each in quoted
        if not each.startswith("{")  # only labels, which are inserted into another query
    ]


def seconds(duration: str) -> int:
    """Return the seconds of a duration with one number and one unit, the form in the rules."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


@pytest.mark.servers
def test_promtool_finds_no_problem_in_the_rules() -> None:
    """The rules load, and promtool's lints find nothing."""
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES_FILE)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.servers
@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.name)
def test_promtool_rule_tests(file: Path) -> None:
    """The cases in a rule test file pass: alerts fire or not, with exact labels and texts."""
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.servers
def test_500_old_failures_at_the_first_scrape_fire_no_alert(tmp_path: Path) -> None:
    """CavaticaExportFailed fires only for the new failure; old ones are counted as a backlog."""
    labels = 'job="cavatica", instance="a:10036", batch="archive"'
    finished = {"NEW": 0, **{f"OLD{number}": -90_000 - number for number in range(500)}}
    series = {
        'cavatica_up{job="cavatica", instance="a:10036"}': 1,
        f"cavatica_watched_exports{{{labels}}}": 501,
        f'cavatica_exports{{{labels}, state="FAILED"}}': 501,
        f'cavatica_exports_last_finished_timestamp_seconds{{{labels}, state="FAILED"}}': 0,
        f"cavatica_acknowledged_exports{{{labels}}}": 0,
        **{
            f'cavatica_export_state{{{labels}, export_id="{export_id}", state="FAILED"}}': 1
            for export_id in finished
        },
        **{
            f'cavatica_export_finished_timestamp_seconds{{{labels}, export_id="{export_id}"}}': time
            for export_id, time in finished.items()
        },
    }
    firing = 'sum by (alertname, export_id) (ALERTS{alertstate="firing",alertname!~".*Absent"})'
    expected = [
        {"labels": '{alertname="CavaticaExportFailed", export_id="NEW"}', "value": 1},
        {"labels": '{alertname="CavaticaExportFailureRatioHigh"}', "value": 1},
        {"labels": '{alertname="CavaticaFailedExportsBacklog"}', "value": 1},
    ]
    count = {"labels": '{job="cavatica", batch="archive"}', "value": 500}
    test = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": f"_x5 {value}x20"} for name, value in series.items()
        ],
        "promql_expr_test": [
            {"expr": firing, "eval_time": "4m", "exp_samples": []},
            {"expr": firing, "eval_time": "20m", "exp_samples": expected},
            {
                "expr": "max without () (batch:cavatica_exports_failed_backlog:sum)",
                "eval_time": "20m",
                "exp_samples": [count],
            },
        ],
    }
    file = tmp_path / "old-failures.test.yml"
    content = {"rule_files": [str(RULES_FILE)], "evaluation_interval": "1m", "tests": [test]}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_rule_test_of_begin_and_end(alert: str) -> None:
    """Some rule test expects first no alert, then the alert, then its end."""
    orders = []
    for test in (test for file in TEST_FILES for test in load(file)["tests"]):
        fires = [
            bool(case["exp_alerts"])
            for case in test.get("alert_rule_test", [])
            if case["alertname"] == alert
        ]
        orders.append([now for before, now in zip([None, *fires], fires) if now != before])  # noqa: B905 - the first list is longer by one
    assert any(order[:3] == [False, True, False] for order in orders)


@each_alert
def test_alert_has_a_valid_name(rule: Yaml) -> None:
    """An alert's name is CamelCase, begins with Cavatica, and has at most 40 characters."""
    assert re.fullmatch(r"Cavatica([A-Z][a-z]+)+", rule["alert"])
    assert len(rule["alert"]) <= 40


@each_alert
def test_alert_adds_only_a_severity(rule: Yaml) -> None:
    """The only label that a rule adds is one of three severities."""
    labels = rule["labels"]
    assert list(labels) == ["severity"]
    assert labels["severity"] in {"info", "warning", "critical"}


@each_alert
def test_alert_has_summary_description_and_runbook(rule: Yaml) -> None:
    """The summary is one fixed sentence; the description names labels and values."""
    annotations = rule["annotations"]
    sorts = ["failed_at"] if rule["alert"] == "CavaticaExportFailed" else []
    assert list(annotations) == ["summary", "description", *sorts, "runbook_url"]
    assert re.fullmatch(r"[A-Z][^.{}]*\.", annotations["summary"])
    assert annotations["description"].endswith(".")
    if rule["alert"] not in NAMES_NOTHING:
        assert re.search(r"\{\{ ?\$labels\.", annotations["description"])
        assert re.search(r"\$value|query", annotations["description"])


@each_alert
def test_alert_waits_ten_minutes_or_not_at_all(rule: Yaml) -> None:
    """`for` is at least 10 minutes: Prometheus does not restore a shorter one after a restart."""
    assert "for" not in rule or seconds(rule["for"]) >= 600


@pytest.mark.parametrize("name", RECORDED)
def test_recording_rule_has_a_valid_name(name: str) -> None:
    """A recording rule's name is level:metric:operations."""
    level, metric, operations = name.split(":")
    levels = {"instance", "job", "batch", "export", "state", "code", "reason"}
    assert set(level.split("_")) <= levels
    assert metric.startswith("cavatica_")
    assert re.fullmatch(r"[a-z]+(_?[a-z0-9]+)*", operations)


IDENTITY = {"cluster", "namespace", "job", "instance", "batch", "export_id"}
OWN = {"state", "code", "reason", "meaning", "file"}
"""Other labels of the exporter's metrics."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rule_names_the_labels_that_it_keeps(rule: Yaml) -> None:
    """Without `without` and `ignoring`, a label that is added to a target changes no result."""
    assert not re.search(r"\b(without|ignoring)\b", rule["expr"])
    chosen = re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"])
    assert {label for each in chosen for label in each.split(", ")} <= IDENTITY | OWN


@pytest.mark.parametrize("name", [name for name in RECORDED if not name.startswith("instance:")])
def test_recording_rule_drops_the_labels_of_a_replica(name: str) -> None:
    """A recording rule aggregates the exporter's series, so that replicas give one series."""
    selected = series_names(RECORDED[name]["expr"])
    if any(each.startswith("cavatica_") for each in selected - {"cavatica_up"}):
        assert re.search(r"\b(min|max|sum|count|group) by \(cluster, ", RECORDED[name]["expr"])


OF_EVERY_EXPORT = {
    f"cavatica_export_{name}"
    for name in (
        "state",
        "info",
        "size_bytes",
        "started_timestamp_seconds",
        "finished_timestamp_seconds",
    )
}
"""Metrics that have series of nearly every export."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rule_that_looks_back_does_not_select_every_export(rule: Yaml) -> None:
    """If an expression looks back, Prometheus searches old blocks for all of its selectors."""
    if re.search(r"\[\w+\]|\boffset\b", rule["expr"]):
        assert not series_names(rule["expr"]) & OF_EVERY_EXPORT


def test_no_rule_uses_the_series_alerts() -> None:
    """No rule reads `ALERTS`, which may be stored elsewhere if a ruler evaluates the rules."""
    assert not any("ALERTS" in rule["expr"] for rule in RULES)


def test_rules_use_no_newer_features_than_prometheus_2_42() -> None:
    """The rules use no keys or functions of versions later than Prometheus 2.42."""
    text = RULES_FILE.read_text(encoding="utf-8")
    assert not re.search(r"keep_firing_for|urlQueryEscape|toDuration|query_offset", text)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rule_uses_series_that_exist(rule: Yaml) -> None:
    """Expressions and templates use only metrics of the exporter and recording rules."""
    assert series_names(rule["expr"]) <= known_series()
    if "alert" in rule:
        for expression in expressions_in_annotations(rule):
            assert series_names(expression) <= known_series()


def test_each_recording_rule_is_used() -> None:
    """Another rule uses each recorded series, in its expression or its texts."""
    expressions = [
        each
        for rule in RULES
        for each in (rule["expr"], *(expressions_in_annotations(rule) if "alert" in rule else ()))
    ]
    read = {name for each in expressions for name in series_names(each)}
    assert set(RECORDED) <= read
