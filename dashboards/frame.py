"""The frame around the panels: variables, links between the dashboards, the grid."""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.blocks import Json, source
from dashboards.promql import TARGET

TAG = "cavatica"

GRID_WIDTH = 24
"""Columns of Grafana's grid."""


@dataclass(frozen=True, slots=True)
class Line:
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
    """A heading and the lines below it."""

    title: str
    lines: Sequence[Line]


def dashboard(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[Section],
    *,
    since: str,
    variables: Sequence[Json] = (),
    annotations: Sequence[Json] = (),
) -> Json:
    """A whole dashboard.

    Args:
        uid: Part of its address, for ever.
        title: Its name.
        description: The question that it answers.
        sections: What is on it.
        since: Where the time range begins when nothing else is chosen: `now-6h`.
        variables: Those beside data source, job, instance and batch.
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
        "links": [_to_the_others()],
        "templating": {"list": [*_variables(), *variables]},
        "panels": _placed(sections),
    }


def _placed(sections: Sequence[Section]) -> list[Json]:
    placed: list[Json] = []
    y = 0
    for section in sections:
        row = {"type": "row", "title": section.title, "collapsed": False, "panels": []}
        placed.append(_at(row, len(placed) + 1, 0, y, GRID_WIDTH, 1))
        y += 1
        for line in section.lines:
            x = 0
            widths = line.widths or [GRID_WIDTH // len(line.panels)] * len(line.panels)
            for panel, width in zip(line.panels, widths, strict=True):
                placed.append(_at(panel, len(placed) + 1, x, y, width, line.height))
                x += width
            y += line.height
    return placed


def _at(panel: Json, number: int, x: int, y: int, width: int, height: int) -> Json:
    return {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}, **panel}


def _to_the_others() -> Json:
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


def _variables() -> list[Json]:
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
        variable("batch", "Batch", f"cavatica_watched_exports{{{TARGET}}}, batch"),
    ]


def variable(name: str, label: str, values_of: str, *, several: bool = True) -> Json:
    """A variable filled with the values of a label: `values_of` is `selector, label`."""
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
