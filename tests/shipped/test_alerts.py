"""The alerts: they fire when they should, have uniform texts, and use existing series."""

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
"""An alert about something that is not there has no labels to name."""


def expressions_in_annotations(rule: Yaml) -> list[str]:
    """Return the expressions in a template's queries, with a selector in place of arguments."""
    templates = " ".join(rule["annotations"].values())
    quoted = re.findall(r'printf "((?:[^"\\]|\\.)*)"', templates)
    return [
        each.replace("%q", '"x"').replace("%s", "")
        for each in quoted
        if not each.startswith("{")  # a selector's labels, put into another one
    ]


def seconds(duration: str) -> int:
    """Parse a duration of one number and one unit, the form that the rules use."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


@pytest.mark.servers
def test_promtool_has_nothing_to_say_about_the_rules() -> None:
    """The rules load, and no lint of promtool finds anything."""
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES_FILE)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.servers
@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.name)
def test_promtool_rule_tests(file: Path) -> None:
    """Alerts fire and are silent, with exact labels and texts, as the file says."""
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.servers
def test_500_old_failures_loaded_at_once_tell_nobody(tmp_path: Path) -> None:
    """Only the new failure among old ones is reported; the others are counted."""
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
def test_every_alert_is_tested_silent_firing_and_ended(alert: str) -> None:
    """For each alert a test expects silence, then the alert, then its end."""
    orders = []
    for test in (test for file in TEST_FILES for test in load(file)["tests"]):
        fires = [
            bool(case["exp_alerts"])
            for case in test.get("alert_rule_test", [])
            if case["alertname"] == alert
        ]
        orders.append([now for before, now in zip([None, *fires], fires) if now != before])  # noqa: B905 - the list before is longer by one
    assert any(order[:3] == [False, True, False] for order in orders)


@each_alert
def test_alert_names(rule: Yaml) -> None:
    """Names are CamelCase with the prefix Cavatica, of 40 characters at most."""
    assert re.fullmatch(r"Cavatica([A-Z][a-z]+)+", rule["alert"])
    assert len(rule["alert"]) <= 40


@each_alert
def test_alert_labels(rule: Yaml) -> None:
    """The only label that a rule adds is one of three severities."""
    labels = rule["labels"]
    assert list(labels) == ["severity"]
    assert labels["severity"] in {"info", "warning", "critical"}


@each_alert
def test_alert_annotations(rule: Yaml) -> None:
    """The summary is one fixed sentence; the description has names and values."""
    annotations = rule["annotations"]
    sorts = ["failed_at"] if rule["alert"] == "CavaticaExportFailed" else []
    assert list(annotations) == ["summary", "description", *sorts, "runbook_url"]
    assert re.fullmatch(r"[A-Z][^.{}]*\.", annotations["summary"])
    assert annotations["description"].endswith(".")
    if rule["alert"] not in NAMES_NOTHING:
        assert re.search(r"\{\{ ?\$labels\.", annotations["description"])
        assert re.search(r"\$value|query", annotations["description"])


@each_alert
def test_alerts_wait_ten_minutes_or_not_at_all(rule: Yaml) -> None:
    """Prometheus does not restore a shorter `for` when it restarts."""
    assert "for" not in rule or seconds(rule["for"]) >= 600


@pytest.mark.parametrize("name", RECORDED)
def test_recording_rule_names(name: str) -> None:
    """Recording rules are named level:metric:operations."""
    level, metric, operations = name.split(":")
    levels = {"instance", "job", "batch", "export", "state", "code", "reason"}
    assert set(level.split("_")) <= levels
    assert metric.startswith("cavatica_")
    assert re.fullmatch(r"[a-z]+(_?[a-z0-9]+)*", operations)


IDENTITY = {"cluster", "namespace", "job", "instance", "batch", "export_id"}
OWN = {"state", "code", "reason", "meaning", "file"}
"""Labels that the exporter gives, beside those that identify."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_labels_are_chosen_never_left_out(rule: Yaml) -> None:
    """A label that is added to a target changes no match, and starts no second alert."""
    assert not re.search(r"\b(without|ignoring)\b", rule["expr"])
    chosen = re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"])
    assert {label for each in chosen for label in each.split(", ")} <= IDENTITY | OWN


@pytest.mark.parametrize("name", [name for name in RECORDED if not name.startswith("instance:")])
def test_what_is_recorded_has_only_labels_that_identify(name: str) -> None:
    """Series of the exporter are aggregated, so that the labels of a replica are gone."""
    selected = series_names(RECORDED[name]["expr"])
    if any(each.startswith("cavatica_") for each in selected - {"cavatica_up"}):
        assert re.search(r"\b(min|max|sum|count|group) by \(cluster, ", RECORDED[name]["expr"])


def test_no_rule_needs_the_alerts_of_its_own_prometheus() -> None:
    """No rule reads `ALERTS`, which a ruler may keep elsewhere."""
    assert not any("ALERTS" in rule["expr"] for rule in RULES)


def test_the_rules_load_in_prometheus_2_42() -> None:
    """The rules use no function of later versions."""
    text = RULES_FILE.read_text(encoding="utf-8")
    assert not re.search(r"keep_firing_for|urlQueryEscape|toDuration|query_offset", text)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_use_series_that_exist(rule: Yaml) -> None:
    """Every name in an expression or template is a metric of the exporter or a recording rule."""
    assert series_names(rule["expr"]) <= known_series()
    if "alert" in rule:
        for expression in expressions_in_annotations(rule):
            assert series_names(expression) <= known_series()


def test_every_recording_rule_has_a_reader() -> None:
    """Nothing is recorded that no other rule uses, in its expression or its text."""
    expressions = [
        each
        for rule in RULES
        for each in (rule["expr"], *(expressions_in_annotations(rule) if "alert" in rule else ()))
    ]
    read = {name for each in expressions for name in series_names(each)}
    assert set(RECORDED) <= read
