"""Rules that the linter lacks: JSON of old and new Grafanas, grid, links, and two replicas."""

import re
from collections.abc import Iterator
from itertools import pairwise, product
from urllib.parse import parse_qs, urlsplit

import promql_parser as promql

from tests.support.dashboard_rules import (
    UIDS,
    VARIABLE,
    Json,
    Rule,
    query_panels,
    selectors,
    targets,
    walk_json,
)

GRID_WIDTH = 24


def provisioned_by_file(dashboard: Json) -> Iterator[str]:
    """Require a known `uid`, no `id`, which Grafana assigns, and the tag that links select by."""
    if dashboard["uid"] not in UIDS:
        yield f"uid {dashboard['uid']}"
    if dashboard.get("id", 0) is not None:
        yield f"id {dashboard.get('id')}"
    if dashboard["tags"] != ["cavatica"]:
        yield f"tags {dashboard['tags']}"


def shapes_of_grafana_9_to_13(dashboard: Json) -> Iterator[str]:
    """Forbid JSON that Grafana 9 does not know yet, and JSON that Grafana 13 no longer knows."""
    if dashboard["schemaVersion"] != 36:
        yield f"schemaVersion {dashboard['schemaVersion']}"
    if not isinstance(dashboard["refresh"], str):
        yield f"refresh {dashboard['refresh']}"
    for path, value in walk_json(dashboard):
        match path.rpartition(".")[2], value:
            case "legend", {"showLegend": True | False}:
                pass
            case "legend", bool():  # a key of `hideFrom`
                pass
            case "legend", _:
                yield f"{path} without showLegend"
            case "custom", {"displayMode": _}:
                yield f"{path}.displayMode is cellOptions now"
            case "time_options", _:
                yield f"{path} is gone"
            case "id", "formatTime" | "seriesToColumns":
                yield f"{path}: {value}"


def panel_ids_unique(dashboard: Json) -> Iterator[str]:
    """Require unique panel IDs, so that a link opens the right panel."""
    ids = [panel["id"] for panel in dashboard["panels"]]
    yield from (f"id {each} twice" for each in set(ids) if ids.count(each) > 1)


def grid_full(dashboard: Json) -> Iterator[str]:
    """Forbid panels that overlap or leave the grid, and empty cells between panels."""
    cells: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        for cell in product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            if cell in cells:
                yield f"{panel['title']} on {cells[cell]}"
            if cell[0] >= GRID_WIDTH:
                yield f"{panel['title']} leaves the grid"
            cells[cell] = panel["title"]
    height = 1 + max(y for _, y in cells)
    if missing := set(product(range(GRID_WIDTH), range(height))) - set(cells):
        yield f"{len(missing)} empty cells, the first at {min(missing, key=lambda at: at[::-1])}"


def variables_defined_and_used(dashboard: Json) -> Iterator[str]:
    """Require every variable in use to be defined, and every defined variable to be used."""
    used = set()
    for path, value in walk_json(dashboard):
        # A link passes variables on to another dashboard. That is no use: a variable that is only
        # passed on changes nothing on this dashboard.
        if isinstance(value, str) and not path.endswith(".url"):
            used |= {"".join(found) for found in VARIABLE.findall(value)}
        elif isinstance(value, str):
            passed_on = {"".join(found) for found in VARIABLE.findall(value)}
            yield from (f"{path}: {name}" for name in passed_on - _known(dashboard))
    used = {name for name in used if not name.startswith("__")}
    yield from (f"${name} is not defined" for name in used - _known(dashboard))
    defined = {each["name"] for each in dashboard["templating"]["list"]}
    yield from (f"${name} is not used" for name in defined - used)


def _known(dashboard: Json) -> set[str]:
    builtin = {"__data", "__field", "__url_time_range"}
    return {each["name"] for each in dashboard["templating"]["list"]} | builtin


def tables_joined(dashboard: Json) -> Iterator[str]:
    """Require tables to join instant queries by one label, so that each row is one object."""
    for panel in query_panels(dashboard):
        if panel["type"] != "table":
            continue
        steps = {each["id"]: each["options"] for each in panel["transformations"]}
        if list(steps)[:1] != ["joinByField"] or list(steps)[-1:] != ["organize"]:
            yield f"{panel['title']}: {list(steps)}"
            continue
        label = steps["joinByField"]["byField"]
        for target in panel["targets"]:
            if (target["format"], target["instant"], target["range"]) != ("table", True, False):
                yield f"{panel['title']} {target['refId']}: no instant query in table format"
            if not re.search(rf"max by \([^)]*\b{label}\b[^)]*\)", target["expr"]):
                yield f"{panel['title']} {target['refId']}: not by {label}"


def formats_fit(dashboard: Json) -> Iterator[str]:
    """Allow the table format in tables only; require queries to be either instant or ranges."""
    for panel in query_panels(dashboard):
        for target in panel["targets"]:
            place = f"{panel['title']} {target['refId']}"
            if panel["type"] != "table" and target["format"] != "time_series":
                yield f"{place}: {target['format']}"
            if target["instant"] == target["range"]:
                yield f"{place}: instant and range are {target['instant']}"
            if panel["type"] in {"timeseries", "state-timeline"} and target["instant"]:
                yield f"{place}: one moment over time"


def replicas_count_once(dashboard: Json) -> Iterator[str]:
    """Require `max`, or a filter, for values that several replicas report."""
    about_exports = re.compile(r"cavatica_(exports?(_\w+)?|exported_bytes|\w+_exports)")
    for place, selector, above in selectors(dashboard):
        if not about_exports.fullmatch(selector.name or ""):
            continue
        filters = any(
            isinstance(outer, promql.BinaryExpr)
            and str(outer.op) in {"and", "unless"}
            and (outer.rhs is inner or _is_aggregate(outer.rhs, "topk"))
            for outer, inner in pairwise([*above, selector])
        )
        once = any(_is_aggregate(each, "max") or _is_aggregate(each, "topk") for each in above)
        if not filters and not once:
            yield f"{place}: {selector.name} is added up over replicas"


def _is_aggregate(node: object, operator: str) -> bool:
    return isinstance(node, promql.AggregateExpr) and str(node.op) == operator


IDENTITY = {"cluster", "namespace", "job"}


def batches_grouped_with_job(dashboard: Json) -> Iterator[str]:
    """Require job and cluster where a query groups by batch: jobs may have batches of one name."""
    for place, target in targets(dashboard):
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", target["expr"]):
            names = set(labels.split(", "))
            if names & {"batch", "export_id"} and not names >= IDENTITY and "row" not in names:
                yield f"{place}: by {labels}"


def shared_metrics_restricted(dashboard: Json) -> Iterator[str]:
    """Require a join with the exporters' targets for `up` and `process_*`, which all targets have.

    Choosing "All" jobs does not help: it selects `.+`.
    """
    for place, target in targets(dashboard):
        foreign = re.search(r"\b(up|process_\w+|python_info)\{", target["expr"])
        if (
            foreign
            and "and on (cluster, namespace, job, instance) last_over_time(" not in target["expr"]
        ):
            yield f"{place}: {foreign[1]} of every target"


def links_keep_the_view(dashboard: Json) -> Iterator[str]:
    """Require links to keep data source, target, batch and time, or to set more exact ones."""
    for link in dashboard["links"]:
        if not (link["includeVars"] and link["keepTime"] and link["tags"] == ["cavatica"]):
            yield f"link {link['title']}"
    for path, value in walk_json(dashboard["panels"]):
        if not path.endswith(".url") or not isinstance(value, str):
            continue
        if urlsplit(value).path.removeprefix("/d/") not in UIDS:
            yield f"{path}: {value} leads to nowhere"
        query = urlsplit(value).query
        # A link to one export needs no batch: an export is in one batch.
        chosen = "export_id" if "/d/cavatica-export?" in value else "batch"
        yield from (
            f"{path}: loses {name}"
            for name in ("datasource", "job", "instance", chosen)
            if f"${{{name}:queryparam}}" not in query and f"var-{name}=" not in query
        )
        if "${__url_time_range}" not in query and not {"from", "to"} <= set(parse_qs(query)):
            yield f"{path}: loses the time range"


OWN: tuple[Rule, ...] = (
    provisioned_by_file,
    shapes_of_grafana_9_to_13,
    panel_ids_unique,
    grid_full,
    variables_defined_and_used,
    tables_joined,
    formats_fit,
    replicas_count_once,
    batches_grouped_with_job,
    shared_metrics_restricted,
    links_keep_the_view,
)
