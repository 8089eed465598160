"""The bundled alert rules and routes, and the names of series that rules can use."""

from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml

from exporter.cavatica.answer import RequestOutcome
from exporter.metrics.families import FAMILIES
from exporter.metrics.self_metrics import SelfMetrics
from exporter.tool.loop import METRICS
from exporter.tracker.state_file import StateFileStatus

ROOT = Path(__file__).parents[2]
RULES_FILE = ROOT / "alerts" / "cavatica-exports.rules.yml"
ROUTES_FILE = ROOT / "alerts" / "alertmanager.example.yml"

Yaml = dict[str, Any]


def load(file: Path) -> Yaml:
    """Parse a YAML file whose top level is a mapping."""
    loaded: Yaml = yaml.safe_load(file.read_text(encoding="utf-8"))
    return loaded


RULES: list[Yaml] = [rule for group in load(RULES_FILE)["groups"] for rule in group["rules"]]
ALERTS: dict[str, Yaml] = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED: dict[str, Yaml] = {rule["record"]: rule for rule in RULES if "record" in rule}


def series_names(expression: str) -> set[str]:
    """Return the names of all series that an expression selects."""
    return set(_selected(promql.parse(expression)))


def _selected(node: object) -> Iterator[str]:
    if isinstance(node, promql.VectorSelector):
        yield node.name or ""
    elif isinstance(node, promql.Expr):
        for attribute in ("expr", "param", "lhs", "rhs", "vector_selector"):
            yield from _selected(getattr(node, attribute, None))
        for argument in getattr(node, "args", ()):
            yield from _selected(argument)


def known_series() -> set[str]:
    """Return the names of all series that the exporter, the rules and Prometheus itself produce."""
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
    own = SelfMetrics(version="", revision="", python="", exporter_metrics=False)
    own.show_state_file(lambda: StateFileStatus(0, error=False))
    own.observe(RequestOutcome(200, 0.1, "timeout"))  # families without samples are left out
    counted = {
        f"{each.name}{end}" for each in own.collect() for end in endings.get(each.type, [""])
    }
    discover = {f"cavatica_discover_{name}" for name in METRICS}
    return {*map(attrgetter("name"), FAMILIES), *counted, *discover, *RECORDED, "up"}
