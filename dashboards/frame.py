"""The frame around the panels: variables, links between the dashboards, the grid."""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.fields import Json
from dashboards.panels import source
from dashboards.promql import TARGET

TAG = "cavatica"

GRID_WIDTH = 24
"""Columns of Grafana's grid."""


@dataclass(frozen=True, slots=True)
class PanelRow:
    """Panels side by side, of one height.

    Attributes:
        height: In units of Grafana's grid, about 38 pixels each.
        panels: From left to right.
        widths: Of each panel; together 24. Empty: all the same.
    """

    height: int
    panels: Sequence[Json]
    widths: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the rows of panels below it."""

    title: str
    rows: Sequence[PanelRow]


def dashboard(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[Section],
    *,
    since: str,
    variables: Sequence[Json],
    annotations: Sequence[Json] = (),
) -> Json:
    """Return a whole dashboard.

    Args:
        uid: Part of its address, for ever.
        title: Its name.
        description: The question that it answers.
        sections: What is on it.
        since: Where the time range begins when nothing else is chosen: `now-6h`.
        variables: Those beside data source, job and instance.
        annotations: Marks on the time axis.
    """
    return {
        "uid": uid,
        "id": None,
        "title": title,
        "description": description,
        "tags": [TAG],
        "schemaVersion": 36,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,  # one crosshair for all panels
        "refresh": "1m",
        "time": {"from": since, "to": "now"},
        "timepicker": {"refresh_intervals": ["30s", "1m", "5m", "15m", "1h"]},
        "timezone": "browser",
        "weekStart": "",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "annotations": {"list": list(annotations)},
        "links": [_links_to_the_others()],
        "templating": {"list": [*_target_variables(), *variables]},
        "panels": _placed(sections),
    }


def _placed(sections: Sequence[Section]) -> list[Json]:
    placed: list[Json] = []
    y = 0
    for section in sections:
        heading = {"type": "row", "title": section.title, "collapsed": False, "panels": []}
        placed.append(_at(heading, len(placed) + 1, 0, y, GRID_WIDTH, 1))
        y += 1
        for row in section.rows:
            x = 0
            widths = row.widths or [GRID_WIDTH // len(row.panels)] * len(row.panels)
            for panel, width in zip(row.panels, widths, strict=True):
                placed.append(_at(panel, len(placed) + 1, x, y, width, row.height))
                x += width
            y += row.height
    return placed


def _at(panel: Json, number: int, x: int, y: int, width: int, height: int) -> Json:
    return {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}, **panel}


def _links_to_the_others() -> Json:
    return {
        "type": "dashboards",
        "tags": [TAG],
        "title": "CAVATICA",
        "tooltip": "The other dashboards, for the same exports and time",
        "icon": "external link",
        "url": "",
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


def _target_variables() -> list[Json]:
    build = "cavatica_exporter_build_info"
    return [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Data source",
            "query": "prometheus",
            "regex": "",
            "hide": 0,
            "includeAll": False,
            "multi": False,
            "refresh": 1,  # when the dashboard loads
            "current": {},
            "options": [],
            "skipUrlSync": False,
        },
        variable("job", "Job", f"{build}, job"),
        variable("instance", "Instance", f'{build}{{job=~"$job"}}, instance'),
    ]


def batch_variable() -> Json:
    """Return the variable that chooses batches."""
    return variable("batch", "Batch", f"cavatica_watched_exports{{{TARGET}}}, batch")


def variable(name: str, label: str, values_of: str, *, several: bool = True) -> Json:
    """Return a variable with the values of a label: `values_of` is `selector, label`."""
    everything = {"allValue": ".+", "includeAll": True} if several else {"includeAll": False}
    selected = {"selected": True, "text": ["All"], "value": ["$__all"]} if several else {}
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": source(),
        "definition": f"label_values({values_of})",
        "query": f"label_values({values_of})",
        "refresh": 2,  # when the time range changes
        "sort": 1,  # by name
        "regex": "",
        "hide": 0,
        "multi": several,
        "current": selected,
        "options": [],
        "skipUrlSync": False,
        **everything,
    }
