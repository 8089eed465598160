"""Scenarios have the metrics and labels of the exporter."""

import pytest

from exporter.metrics.export_families import EXPORT_LABELS, export_families
from exporter.metrics.families import BATCH_FAMILIES, BATCH_LABELS, FAMILIES
from tests.grafana.scenario import MINUTE
from tests.grafana.scenarios import SCENARIOS
from tests.shipped.test_dashboards import metric_names

LABELS = {
    **{each.name: set(each.labels) for each in FAMILIES},
    **{each.name: {*BATCH_LABELS, *each.labels} for each in BATCH_FAMILIES},
    **{
        each.name: {*EXPORT_LABELS, *each.labels}
        for each in export_families(expose_error_messages=True)
    },
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_has_only_metrics_of_the_exporter(scenario: str) -> None:
    """Every sample has a name and labels that the exporter's own tables define."""
    for replica in SCENARIOS[scenario]:
        own_labels = {
            name: set(labels) - set(replica.target) for name, labels, _ in replica.samples(MINUTE)
        }
        assert set(own_labels) - metric_names() == set()
        known = own_labels.keys() & LABELS.keys()
        assert {name: own_labels[name] for name in known} == {name: LABELS[name] for name in known}
