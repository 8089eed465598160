"""The dashboards use only keys that Grafana's own model, its SDK, knows."""

import json
import sys
from importlib import import_module

import pytest

from tests.shipped.test_dashboards import DASHBOARDS, GRAPH, STAT, changed, good_dashboard
from tests.support.dashboard_rules import UNITS, Json

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the SDK needs Python 3.11"),
    # The newer model is for Grafana 12 and later; all versions read the classic one.
    pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning"),
]


def lost(before: object, after: object, path: str = "") -> list[str]:
    """Return the paths of values in `before` that are missing in `after` or differ."""
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


def round_trip(dashboard: Json) -> Json:
    """Return the dashboard after a round trip through Grafana's own model."""
    # Imported here, because the SDK cannot be installed on Python 3.10.
    import_module("grafana_foundation_sdk.cog.plugins").register_default_plugins()
    model = import_module("grafana_foundation_sdk.models.dashboard").Dashboard
    encoder = import_module("grafana_foundation_sdk.cog.encoder").JSONEncoder
    answer: Json = json.loads(json.dumps(model.from_json(dashboard), cls=encoder))
    return answer


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_grafana_model_keeps_every_key(uid: str) -> None:
    """A round trip through Grafana's model loses no key, so none is misspelt or misplaced."""
    assert lost(DASHBOARDS[uid], round_trip(DASHBOARDS[uid])) == []


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
def test_grafana_model_loses_a_misspelt_key(path: str, value: object) -> None:
    """The round trip drops a key that Grafana does not know, so the test above finds it."""
    misspelt = changed(good_dashboard(), path, value)
    assert lost(misspelt, round_trip(misspelt)) == [f".{path}"]


def test_units_exist_in_grafana() -> None:
    """Grafana knows every unit that the rule about units allows."""
    units = import_module("grafana_foundation_sdk.models.units")
    assert {each for each in vars(units).values() if isinstance(each, str)} >= UNITS
