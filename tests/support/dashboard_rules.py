"""The rules of grafana/dashboard-linter, checked here in Python.

A rule takes a dashboard and yields one sentence for each place that breaks it. The linter's two
rules for LogQL are one here: every data source is a Prometheus.
"""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import promql_parser as promql

from dashboards.promql import EXPORTER_DOWN

Json = dict[str, Any]
Rule = Callable[[Json], Iterator[str]]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UIDS = {"cavatica-exports", "cavatica-export", "cavatica-exporter"}

UNITS = {
    "binBps",
    "bytes",
    "dateTimeAsIso",
    "dateTimeFromNow",
    "locale",
    "none",
    "percentunit",
    "reqpm",
    "s",
}
"""The units of Grafana that these dashboards may use."""

UNTITLED = {("row", "description"), ("text", "title"), ("text", "description")}
"""Panel types and the keys that they may lack: a row is a heading, a text explains itself."""

RATES = {"rate", "irate", "increase"}
RATE_INTERVAL = timedelta(seconds=31_337)
"""The duration that replaces `$__rate_interval` while an expression is parsed."""

VARIABLE = re.compile(r"\$(?:\{(\w+)|([^\W\d]\w*))|\[\[(\w+)")


def query_panels(dashboard: Json) -> Iterator[Json]:
    """Yield the panels that query a data source."""
    others = {"alertlist", "row", "text"}
    yield from (each for each in dashboard["panels"] if each["type"] not in others)


def targets(dashboard: Json) -> Iterator[tuple[str, Json]]:
    """Yield every query, including those of annotations, with the name of its place."""
    for panel in query_panels(dashboard):
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation | {"instant": True}


def variables(dashboard: Json, kind: str = "query") -> dict[str, Json]:
    """Return the variables of a kind, by name."""
    found = dashboard["templating"]["list"]
    return {each["name"]: each for each in found if each["type"] == kind}


def walk_json(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield every value of a JSON document, with its path."""
    yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from walk_json(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk_json(value, f"{path}.{index}")


def parsed(expr: str) -> promql.Expr | ValueError:
    """Parse an expression that contains Grafana variables; return an error message if invalid."""
    seconds = f"{RATE_INTERVAL.total_seconds():.0f}s"
    expr = expr.replace("$__rate_interval", seconds)
    try:
        return promql.parse(re.sub(r"\$__\w+", "5m", expr))
    except ValueError as error:
        return error


def walk(
    node: object, above: tuple[promql.Expr, ...] = ()
) -> Iterator[tuple[promql.Expr, tuple[promql.Expr, ...]]]:
    """Yield every node of an expression, with the nodes that contain it, outermost first."""
    if isinstance(node, promql.Expr):
        yield node, above
        for name in ("expr", "param", "lhs", "rhs", "vector_selector"):
            yield from walk(getattr(node, name, None), (*above, node))
        for argument in getattr(node, "args", ()):
            yield from walk(argument, (*above, node))


def selectors(
    dashboard: Json,
) -> Iterator[tuple[str, promql.VectorSelector, tuple[promql.Expr, ...]]]:
    """Yield the selectors of all valid queries; `target_promql` reports invalid ones."""
    for place, target in targets(dashboard):
        for node, above in walk(parsed(target["expr"])):
            if isinstance(node, promql.VectorSelector):
                yield place, node, above


def template_datasource(dashboard: Json) -> Iterator[str]:
    """Require a variable for the data source."""
    match list(variables(dashboard, "datasource").values()):
        case [{"name": "datasource", "label": "Data source", "query": "prometheus"}]:
            pass
        case found:
            yield f"data source variables: {found}"


def _target_variable(dashboard: Json, name: str) -> Iterator[str]:
    variable = variables(dashboard).get(name, {})
    wanted = {
        "label": name.capitalize(),
        "datasource": SOURCE,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
    }
    for key, value in wanted.items():
        if variable.get(key) != value:
            yield f"variable {name}: {key} is {variable.get(key)!r}"
    if not re.fullmatch(
        rf"label_values\(cavatica_exporter_build_info\b.*, {name}\)", variable.get("query", "")
    ):
        yield f"variable {name}: not from the exporter's build information"


def template_job(dashboard: Json) -> Iterator[str]:
    """Require a variable for jobs."""
    yield from _target_variable(dashboard, "job")


def template_instance(dashboard: Json) -> Iterator[str]:
    """Require a variable for instances."""
    yield from _target_variable(dashboard, "instance")


def template_batch(dashboard: Json) -> Iterator[str]:
    """Require a variable for batches, except on dashboards that select one export."""
    match variables(dashboard).get("batch"):
        case {"label": "Batch", "multi": True, "includeAll": True, "allValue": ".+"}:
            pass
        case None if "export_id" in variables(dashboard):
            pass
        case found:
            yield f"variable batch: {found}"


def template_label_promql(dashboard: Json) -> Iterator[str]:
    """Require variables to query the values of one label of a selector."""
    for name, variable in variables(dashboard).items():
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        if not found or not isinstance(parsed(found[1]), promql.VectorSelector):
            yield f"variable {name}: {variable['query']}"


def template_on_time_change_reload(dashboard: Json) -> Iterator[str]:
    """Require variables to be queried again when the time range changes."""
    for name, variable in variables(dashboard).items():
        if variable["refresh"] != 2:
            yield f"variable {name}: refresh is {variable['refresh']}"


def panel_datasource(dashboard: Json) -> Iterator[str]:
    """Require every panel and every query to use the chosen data source."""
    for panel in query_panels(dashboard):
        if panel.get("datasource") != SOURCE:
            yield f"{panel['title']}: {panel.get('datasource')}"
    for place, target in targets(dashboard):
        if target.get("datasource") != SOURCE:
            yield f"{place}: {target.get('datasource')}"


def only_prometheus(dashboard: Json) -> Iterator[str]:
    """Forbid LogQL and fixed data sources, also in variables, annotations and inputs."""
    for path, value in walk_json(dashboard):
        if path.endswith(".datasource") and isinstance(value, dict) and value != SOURCE:
            yield f"{path}: {value}"
        if isinstance(value, str) and "${DS_" in value:
            yield f"{path}: {value}"
    for key in ("__inputs", "__requires", "__elements"):
        if key in dashboard:
            yield f"{key}: file provisioning does not fill it"


def panel_title_description(dashboard: Json) -> Iterator[str]:
    """Require a title and a description for every panel, except as `UNTITLED` allows."""
    for panel in dashboard["panels"]:
        for key in ("title", "description"):
            if not panel.get(key) and (panel["type"], key) not in UNTITLED:
                yield f"panel {panel['id']} has no {key}"


def panel_units(dashboard: Json) -> Iterator[str]:
    """Require a unit or value mappings for every value, and only units in `UNITS`."""
    for panel in query_panels(dashboard):
        defaults = panel["fieldConfig"]["defaults"]
        # Every tile maps missing values and an exporter that is down; these do not count.
        mappings = [
            each
            for each in defaults.get("mappings", [])
            if each["type"] != "special" and set(each["options"]) != {str(EXPORTER_DOWN)}
        ]
        if not defaults.get("unit") and not mappings:
            yield f"{panel['title']}: no unit"
        units = [defaults.get("unit", "none")]
        for override in panel["fieldConfig"]["overrides"]:
            units += [each["value"] for each in override["properties"] if each["id"] == "unit"]
        yield from (f"{panel['title']}: {unit} is no unit" for unit in units if unit not in UNITS)


def panel_no_targets(dashboard: Json) -> Iterator[str]:
    """Require a query in every panel."""
    yield from (
        f"{each['title']}: no query" for each in query_panels(dashboard) if not each["targets"]
    )


def target_promql(dashboard: Json) -> Iterator[str]:
    """Require every query to be valid PromQL."""
    for place, target in targets(dashboard):
        if isinstance(found := parsed(target["expr"]), ValueError):
            yield f"{place}: {found}"


def target_rate_interval(dashboard: Json) -> Iterator[str]:
    """Require `$__rate_interval` as the range of rates: it fits every zoom and scrape interval."""
    for place, selector, above in selectors(dashboard):
        match above:
            case (*_, promql.Call() as call, promql.MatrixSelector() as matrix):
                if call.func.name in RATES and matrix.range != RATE_INTERVAL:
                    yield f"{place}: {call.func.name} of {selector.name} over {matrix.range}"


def _restricted_to(dashboard: Json, name: str) -> Iterator[str]:
    for place, selector, _ in selectors(dashboard):
        matchers = [str(each) for each in selector.matchers.matchers]
        if f'{name}=~"${name}"' not in matchers:
            yield f"{place}: {selector.name} of any {name}"


def target_job(dashboard: Json) -> Iterator[str]:
    """Require every selector to select the chosen jobs only."""
    yield from _restricted_to(dashboard, "job")


def target_instance(dashboard: Json) -> Iterator[str]:
    """Require every selector to select the chosen instances only."""
    yield from _restricted_to(dashboard, "instance")


def target_counter_agg(dashboard: Json) -> Iterator[str]:
    """Require counters to be wrapped in a rate or an increase."""
    for place, selector, above in selectors(dashboard):
        if re.search(r"_(total|bucket|count|sum)$", selector.name or ""):
            match above:
                case (*_, promql.Call() as call, promql.MatrixSelector()) if (
                    call.func.name in RATES
                ):
                    pass
                case _:
                    yield f"{place}: {selector.name} without a rate"


def uneditable_dashboard(dashboard: Json) -> Iterator[str]:
    """Require dashboards to be read-only: the next update would overwrite manual changes."""
    if dashboard.get("editable") is not False:
        yield "editable"


LINTER: tuple[Rule, ...] = (
    template_datasource,
    template_job,
    template_instance,
    template_batch,
    template_label_promql,
    template_on_time_change_reload,
    panel_datasource,
    only_prometheus,
    panel_title_description,
    panel_units,
    panel_no_targets,
    target_promql,
    target_rate_interval,
    target_job,
    target_instance,
    target_counter_agg,
    uneditable_dashboard,
)
"""The linter's rules, stricter where it has gaps, and one for the variable `batch`."""
