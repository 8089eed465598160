"""The dashboards: files are up to date, keep every rule, and use existing metrics."""

import copy
import json
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import build
from dashboards.fields import link
from dashboards.frame import PanelRow, Section, batch_variable
from dashboards.frame import dashboard as frame
from dashboards.panels import firing_alerts, graph, query, stat, table
from dashboards.promql import BATCH, EXPORT, in_batches, max_by, rows, select
from exporter.cavatica.answer import RequestOutcome
from exporter.metrics.families import FAMILIES
from exporter.metrics.self_metrics import SelfMetrics
from exporter.tracker.state_file import StateFileStatus
from tests.support.dashboard_rules import LINTER, UIDS, Json, Rule, selectors
from tests.support.dashboard_rules_own import OWN

DIRECTORY = Path(__file__).parents[2] / "dashboards"
DASHBOARDS = build()
RULES: dict[str, Rule] = {rule.__name__: rule for rule in (*LINTER, *OWN)}

GONE = object()
"""As the new value of a mutation: the key is removed."""

VIEW = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${batch:queryparam}"


def good_dashboard() -> Json:
    """Return a small dashboard that keeps every rule."""
    state = rows(max_by(in_batches("cavatica_export_state"), EXPORT), EXPORT, "export_id")
    watched = f"sum({max_by(in_batches('cavatica_watched_exports'), BATCH)})"
    rate = f"rate({select('cavatica_api_requests_total')}[$__rate_interval])"
    click = link("Again", f"/d/cavatica-exports?{VIEW}&${{__url_time_range}}")
    panels = [
        stat("Watched", "Exports.", query(watched, now=True), unit="s"),
        graph(
            "Requests", "By code.", query(f"sum by (code) ({rate})"), unit="reqpm", links=[click]
        ),
    ]
    states = table(
        "Exports",
        "All.",
        query(state, table=True),
        join="row",
        columns={"export_id": "ID"},
        empty="None.",
    )
    alerts = firing_alerts("Alerts", "All.")
    placed = [PanelRow(4, panels), PanelRow(8, [states, alerts])]
    return frame(
        "cavatica-exports",
        "Good",
        "Is it good?",
        [Section("All", placed)],
        since="now-1h",
        variables=[batch_variable()],
    )


def changed(dashboard: Json, path: str, value: object) -> Json:
    """Return a copy with another value at a path, whose parts are keys and indices."""
    copied = copy.deepcopy(dashboard)
    *parents, last = path.split(".")
    node: Any = copied
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    key = int(last) if isinstance(node, list) else last
    if value is GONE:
        del node[key]
    else:
        node[key] = value
    return copied


CHOSEN = 'job=~"$job",instance=~"$instance"'
STAT, GRAPH, TABLE, ALERTS = "panels.1", "panels.2", "panels.3", "panels.4"

MUTATIONS: list[tuple[str, str, object]] = [
    ("template_datasource", "templating.list.0", GONE),
    ("template_datasource", "templating.list.0.label", "Prometheus"),
    ("template_datasource", "templating.list.0.name", "source"),
    ("template_job", "templating.list.1", GONE),
    ("template_job", "templating.list.1.allValue", ".*"),
    ("template_job", "templating.list.1.datasource", {"type": "prometheus", "uid": "abc"}),
    ("template_job", "templating.list.1.query", "label_values(up, job)"),
    ("template_instance", "templating.list.2.multi", False),
    ("template_instance", "templating.list.2.label", "instance"),
    ("template_batch", "templating.list.3", GONE),
    ("template_batch", "templating.list.3.allValue", None),
    ("template_label_promql", "templating.list.3.query", "label_values(a{, batch)"),
    ("template_label_promql", "templating.list.3.query", "cavatica_exports"),
    ("template_on_time_change_reload", "templating.list.3.refresh", 1),
    ("panel_datasource", f"{STAT}.datasource", {"type": "prometheus", "uid": "abc"}),
    ("panel_datasource", f"{TABLE}.datasource", GONE),
    ("panel_datasource", f"{STAT}.targets.0.datasource", {"type": "loki", "uid": "${datasource}"}),
    ("only_prometheus", f"{STAT}.targets.0.datasource", {"type": "loki", "uid": "${datasource}"}),
    ("only_prometheus", "__inputs", []),
    ("only_prometheus", "description", "${DS_PROMETHEUS}"),
    ("panel_title_description", f"{STAT}.title", ""),
    ("panel_title_description", f"{TABLE}.description", GONE),
    ("panel_title_description", f"{ALERTS}.description", ""),
    ("panel_title_description", "panels.0.title", ""),
    ("panel_units", f"{STAT}.fieldConfig.defaults.unit", GONE),
    ("panel_units", f"{STAT}.fieldConfig.defaults", {"mappings": []}),
    ("panel_units", f"{GRAPH}.fieldConfig.defaults.unit", "seconds"),
    (
        "panel_units",
        f"{GRAPH}.fieldConfig.overrides",
        [{"matcher": {}, "properties": [{"id": "unit", "value": "Bytes"}]}],
    ),
    ("panel_no_targets", f"{STAT}.targets", []),
    ("target_promql", f"{STAT}.targets.0.expr", "sum("),
    ("target_promql", f"{STAT}.targets.0.expr", "rate(a_total)"),
    ("target_rate_interval", f"{GRAPH}.targets.0.expr", f"rate(a_total{{{CHOSEN}}}[5m])"),
    ("target_rate_interval", f"{GRAPH}.targets.0.expr", f"increase(a_total{{{CHOSEN}}}[$__range])"),
    ("target_job", f"{STAT}.targets.0.expr", 'max(a{instance=~"$instance"})'),
    ("target_job", f"{STAT}.targets.0.expr", 'max(a{job="$job",instance=~"$instance"})'),
    ("target_instance", f"{STAT}.targets.0.expr", 'max(a{job=~"$job"})'),
    ("target_counter_agg", f"{GRAPH}.targets.0.expr", f"sum(a_total{{{CHOSEN}}})"),
    ("target_counter_agg", f"{GRAPH}.targets.0.expr", f"delta(a_total{{{CHOSEN}}}[5m])"),
    ("target_counter_agg", f"{GRAPH}.targets.0.expr", f"max by (le) (a_bucket{{{CHOSEN}}})"),
    ("uneditable_dashboard", "editable", True),
    ("uneditable_dashboard", "editable", GONE),
    ("provisioned_by_file", "uid", "cavatica"),
    ("provisioned_by_file", "id", 7),
    ("provisioned_by_file", "id", GONE),
    ("provisioned_by_file", "tags", []),
    ("shapes_of_grafana_9_to_13", "schemaVersion", 16),
    ("shapes_of_grafana_9_to_13", "refresh", False),
    ("shapes_of_grafana_9_to_13", "timepicker.time_options", ["5m"]),
    ("shapes_of_grafana_9_to_13", f"{GRAPH}.options.legend", {"displayMode": "hidden"}),
    ("shapes_of_grafana_9_to_13", f"{TABLE}.fieldConfig.defaults.custom.displayMode", "auto"),
    ("shapes_of_grafana_9_to_13", f"{TABLE}.transformations.1.id", "formatTime"),
    ("panel_ids_unique", f"{STAT}.id", 1),
    ("grid_full", f"{STAT}.gridPos.w", 13),
    ("grid_full", f"{STAT}.gridPos.w", 11),
    ("grid_full", f"{GRAPH}.gridPos.x", 13),
    ("grid_full", f"{TABLE}.gridPos.y", 6),
    ("variables_defined_and_used", "templating.list.3", GONE),
    ("variables_defined_and_used", f"{STAT}.title", "Of $project"),
    ("variables_defined_and_used", f"{STAT}.title", "Of [[project]]"),
    ("variables_defined_and_used", f"{GRAPH}.fieldConfig.defaults.links.0.url", "/d/x?${id}"),
    ("variables_defined_and_used", "templating.list.3.name", "project"),
    ("tables_joined", f"{TABLE}.targets.0.format", "time_series"),
    ("tables_joined", f"{TABLE}.targets.0.instant", False),
    ("tables_joined", f"{TABLE}.transformations.0", GONE),
    ("tables_joined", f"{TABLE}.transformations.3", GONE),
    ("tables_joined", f"{TABLE}.transformations.0.options.byField", "batch_id"),
    ("tables_joined", f"{TABLE}.targets.0.expr", f"a{{{CHOSEN}}}"),
    ("formats_fit", f"{STAT}.targets.0.format", "table"),
    ("formats_fit", f"{STAT}.targets.0.range", True),
    ("formats_fit", f"{GRAPH}.targets.0.instant", True),
    ("replicas_count_once", f"{STAT}.targets.0.expr", f"sum(cavatica_exports{{{CHOSEN}}})"),
    (
        "replicas_count_once",
        f"{STAT}.targets.0.expr",
        f"cavatica_export_state{{{CHOSEN}}} and cavatica_export_state{{{CHOSEN}}}",
    ),
    (
        "batches_grouped_with_job",
        f"{STAT}.targets.0.expr",
        f"sum(max by (batch) (cavatica_watched_exports{{{CHOSEN}}}))",
    ),
    ("shared_metrics_restricted", f"{STAT}.targets.0.expr", f"min(up{{{CHOSEN}}})"),
    ("links_keep_the_view", "links.0.includeVars", False),
    ("links_keep_the_view", "links.0.keepTime", False),
    (
        "links_keep_the_view",
        f"{GRAPH}.fieldConfig.defaults.links.0.url",
        f"/d/cavatica?{VIEW}&${{__url_time_range}}",
    ),
    (
        "links_keep_the_view",
        f"{GRAPH}.fieldConfig.defaults.links.0.url",
        f"/d/cavatica-export?{VIEW}&from=1",
    ),
    (
        "links_keep_the_view",
        f"{GRAPH}.fieldConfig.defaults.links.0.url",
        "/d/cavatica-export?${datasource:queryparam}&${__url_time_range}",
    ),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("uid", DASHBOARDS)
def test_dashboard_keeps_every_rule(uid: str, rule: str) -> None:
    """Every dashboard keeps every rule, without an exemption."""
    assert list(RULES[rule](DASHBOARDS[uid])) == []


@pytest.mark.parametrize("rule", RULES)
def test_good_dashboard_breaks_no_rule(rule: str) -> None:
    """The dashboard on which `MUTATIONS` are based breaks no rule."""
    assert list(RULES[rule](good_dashboard())) == []


@pytest.mark.parametrize(("rule", "path", "value"), MUTATIONS)
def test_rule_reports_a_mutation(rule: str, path: str, value: object) -> None:
    """The rule in each row of `MUTATIONS` reports the row's change of the good dashboard."""
    assert list(RULES[rule](changed(good_dashboard(), path, value)))


def test_every_rule_has_a_mutation() -> None:
    """Some mutation breaks each rule, so every rule is known to work."""
    assert {rule for rule, _, _ in MUTATIONS} == set(RULES)


def test_dashboards_have_the_documented_uids() -> None:
    """The `uid` of a dashboard is in its address, so users' links depend on it."""
    assert set(DASHBOARDS) == UIDS


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_committed_file_is_up_to_date(uid: str) -> None:
    """The JSON file is what `python -m dashboards` generates."""
    text = (DIRECTORY / f"{uid}.json").read_text(encoding="utf-8")
    assert text == json.dumps(DASHBOARDS[uid], indent=2, ensure_ascii=False) + "\n"


def test_directory_has_no_other_json_file() -> None:
    """The directory has only generated JSON files, because Grafana would load others, too."""
    assert {file.stem for file in DIRECTORY.glob("*.json")} == set(DASHBOARDS)


def metric_names() -> set[str]:
    """Return the names of all series of the exporter, as Prometheus stores them, and `up`."""
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
    counted = SelfMetrics(version="", revision="", python="", exporter_metrics=True)
    counted.show_state_file(lambda: StateFileStatus(0, error=False))
    counted.observe(RequestOutcome(200, 0.1, None))  # families without samples are left out
    own = {
        f"{each.name}{end}" for each in counted.collect() for end in endings.get(each.type, [""])
    }
    return {"up"} | own | set(map(attrgetter("name"), FAMILIES))


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_queries_use_metrics_that_exist(uid: str) -> None:
    """Queries use only metrics of the exporter, and `up`, which Prometheus makes."""
    asked = {selector.name for _, selector, _ in selectors(DASHBOARDS[uid])}
    assert asked - metric_names() == set()


def test_example_of_provisioning_is_read_only() -> None:
    """The example makes Grafana load the JSON files of a directory, read-only."""
    text = (DIRECTORY / "provisioning.example.yml").read_text(encoding="utf-8")
    match yaml.safe_load(text):
        case {"apiVersion": 1, "providers": [{"type": "file", **provider}]}:
            assert provider["allowUiUpdates"] is False
            assert provider["options"] == {"path": "/var/lib/grafana/dashboards/cavatica"}
        case other:
            pytest.fail(f"no file provider: {other}")
