"""Grafana's own model of dashboards has every key that ours have."""

import json
import sys
from importlib import import_module

import pytest

from tests.shipped.test_dashboards import DASHBOARDS, GRAPH, STAT, changed, good_dashboard
from tests.support.dashboard_rules import UNITS, Json

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the SDK needs Python 3.11"),
    # The newer model is for Grafana 12 on; the classic one is read by all.
    pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning"),
]


def lost(before: object, after: object, path: str = "") -> list[str]:
    """Return the paths of values that are missing or differ."""
    match before, after:
        case dict(), dict():
            keys = [key for key in before if before[key] is not None or after.get(key) is not None]
            return [
                each for key in keys for each in lost(before[key], after.get(key), f"{path}.{key}")
            ]
        case list(), list() if len(before) == len(after):
            pairs = enumerate(zip(before, after, strict=True))
            return [each for index, pair in pairs for each in lost(*pair, f"{path}.{index}")]
    return [] if before == after else [path]


def through_the_sdk(dashboard: Json) -> Json:
    """Return the dashboard after a round trip through Grafana's own model."""
    # Imported here because it cannot be on Python 3.10.
    import_module("grafana_foundation_sdk.cog.plugins").register_default_plugins()
    model = import_module("grafana_foundation_sdk.models.dashboard").Dashboard
    encoder = import_module("grafana_foundation_sdk.cog.encoder").JSONEncoder
    answer: Json = json.loads(json.dumps(model.from_json(dashboard), cls=encoder))
    return answer


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_grafana_knows_every_key(uid: str) -> None:
    """Grafana's model keeps every key: none is misspelt or misplaced."""
    assert lost(DASHBOARDS[uid], through_the_sdk(DASHBOARDS[uid])) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("timezon", "utc"),
        (f"{STAT}.option", {}),
        (f"{STAT}.options.colourMode", "value"),
        (f"{STAT}.fieldConfig.defaults.units", "s"),
        (f"{STAT}.targets.0.expression", "up"),
        (f"{GRAPH}.options.legend.show", True),
        (f"{GRAPH}.fieldConfig.defaults.custom.spanNull", False),
        ("templating.list.1.all", ".+"),
    ],
)
def test_a_misspelt_key_is_lost_on_the_way(path: str, value: object) -> None:
    """The round trip finds a key that Grafana does not know."""
    misspelt = changed(good_dashboard(), path, value)
    assert lost(misspelt, through_the_sdk(misspelt)) == [f".{path}"]


def test_the_units_are_grafanas() -> None:
    """The rule about units knows only units that Grafana knows."""
    units = import_module("grafana_foundation_sdk.models.units")
    assert {each for each in vars(units).values() if isinstance(each, str)} >= UNITS
