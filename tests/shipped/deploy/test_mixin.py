"""The mixin: rendered by jsonnet, it is the shipped files unless `_config` changes them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.support.deploy_tools import DEPLOY, ROOT, check, run_tool
from tests.support.servers import promtool

MIXIN = DEPLOY / "mixin/mixin.libsonnet"
RULES = yaml.safe_load((ROOT / "alerts/cavatica-exports.rules.yml").read_text())

pytestmark = pytest.mark.deploy

Json = dict[str, Any]


def render(what: str, config: str = "{}") -> Any:  # noqa: ANN401 # whatever jsonnet renders
    """Render a part of the mixin with a configuration."""
    code = f"((import '{MIXIN}') + {{ _config+:: {config} }}).{what}"
    return json.loads(check(run_tool("jsonnet", "--exec", code)))


def rules(groups: Json) -> list[Json]:
    """Return the rules of all groups."""
    return [rule for group in groups["groups"] for rule in group["rules"]]


def test_alerts_without_configuration_are_the_shipped_ones() -> None:
    """With the default `_config`, the mixin renders the shipped rules."""
    assert render("prometheusAlerts") == RULES


def test_dashboards_are_the_shipped_ones() -> None:
    """The mixin renders every shipped dashboard, by its file name."""
    assert render("grafanaDashboards") == {
        path.name: json.loads(path.read_text()) for path in (ROOT / "dashboards").glob("*.json")
    }


def selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:  # noqa: ANN401 # any node of an expression
    """Yield every selector of series in an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("args", "expr", "lhs", "param", "rhs", "vector_selector"):
        child = getattr(node, name, None)
        for each in child if isinstance(child, list) else [child]:
            if each is not None:
                yield from selectors(each)


Matcher = tuple[str, str, str]
"""Operator, label and value."""


def matchers_of(selector: promql_parser.VectorSelector) -> set[Matcher]:
    """Return the matchers of a selector."""
    operators = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
    return {
        (operators[str(each.op).removeprefix("MatchOp.")], each.name, each.value)
        for each in selector.matchers.matchers
    }


CLUSTER = ("=", "cluster", "research")


@pytest.mark.servers
@pytest.mark.parametrize(
    ("selector", "of_discovery", "of_exporter"),
    [
        ('cluster="research"', {CLUSTER}, set()),
        ('cluster="research",job="cavatica"', {CLUSTER}, {("=", "job", "cavatica")}),
        ('job="cavatica"', set(), {("=", "job", "cavatica")}),
        (
            r'job=~"a,\"b|c", cluster="research" ,instance!=`x,y`',
            {CLUSTER},
            {("=~", "job", 'a,"b|c'), ("!=", "instance", "x,y")},
        ),
        ('job_name="x"', {("=", "job_name", "x")}, set()),
    ],
)
def test_selector_is_added_to_all_series_of_the_exporter(
    selector: str, of_discovery: set[Matcher], of_exporter: set[Matcher], tmp_path: Path
) -> None:
    """The configured selector is in all series of the exporter, but in no recorded one.

    Another target serves the metrics file of `discover`: its job and instance are not asked for.
    """
    alerts = render("prometheusAlerts", f"{{ selector: {json.dumps(selector)} }}")
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(alerts))
    done = promtool("check", "rules", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    found = 0
    for shipped, rule in zip(rules(RULES), rules(alerts), strict=True):
        before = [*selectors(promql_parser.parse(shipped["expr"]))]
        after = [*selectors(promql_parser.parse(rule["expr"]))]
        assert [each.name for each in before] == [each.name for each in after]
        for old, new in zip(before, after, strict=True):
            matchers = matchers_of(new) - matchers_of(old)
            name = new.name or ""
            if name.startswith("cavatica_discover_"):
                assert matchers == of_discovery
            elif name.startswith("cavatica_"):
                assert matchers == of_discovery | of_exporter
            else:
                assert matchers == set()
            found += name.startswith("cavatica_")
    assert found > 20


def test_configuration_sets_severities_thresholds_and_runbooks() -> None:
    """The configured severities, thresholds and URLs change, and nothing else."""
    config = """{
      runbookUrl: 'https://wiki.example.org/runbooks',
      severities+: { warning: 'ticket' },
      severityOf: { CavaticaExportFailed: 'page' },
      thresholds+: { failureRatio: '0.5', stuckRunningSeconds: '3600' },
    }"""
    changed = {
        rule["alert"]: rule for rule in rules(render("prometheusAlerts", config)) if "alert" in rule
    }
    shipped = {rule["alert"]: rule for rule in rules(RULES) if "alert" in rule}
    assert changed["CavaticaExportFailed"]["labels"]["severity"] == "page"
    assert changed["CavaticaBatchStalled"]["labels"]["severity"] == "ticket"
    assert "> 0.5" in changed["CavaticaExportFailureRatioHigh"]["expr"]
    assert "> 3600" in changed["CavaticaExportsStuckRunning"]["expr"]
    for name, rule in changed.items():
        assert rule["annotations"]["runbook_url"] == (
            f"https://wiki.example.org/runbooks#{name.lower()}"
        )
        if name not in {"CavaticaExportFailureRatioHigh", "CavaticaExportsStuckRunning"}:
            assert rule["expr"] == shipped[name]["expr"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{ thresholds+: { failureRate: '0.5' } }", "failureRate"),
        ("{ severities: {} }", "warning"),
    ],
)
def test_wrong_configuration_is_an_error(config: str, message: str) -> None:
    """Rendering fails for an unknown or missing key, and the error names it."""
    code = f"((import '{MIXIN}') + {{ _config+:: {config} }}).prometheusAlerts"
    done = run_tool("jsonnet", "--exec", code)
    assert done.returncode != 0
    assert message in done.stderr
