"""Three Grafana dashboards: `python -m dashboards` writes their JSON files beside this module.

The builder is our own, some plain functions that give dictionaries: what they write is what Grafana
reads, in shapes that Grafana 9.5 to 13 understand alike. Grafana's foundation SDK writes those of
its own release only, and it needs Python 3.11; the tests use it to check every key from outside.
"""

from collections.abc import Mapping

from dashboards import export, exporter, exports
from dashboards.fields import Json


def build() -> Mapping[str, Json]:
    """Return all dashboards, by uid."""
    built = (exports.dashboard(), export.dashboard(), exporter.dashboard())
    return {each["uid"]: each for each in built}
