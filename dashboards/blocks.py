"""The building blocks: queries and the kinds of panels.

All of them give plain dictionaries in Grafana's classic JSON.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dashboards.promql import OTHER_STATE, STATES

Json = dict[str, Any]

COLOURS = {
    "PENDING": "super-light-blue",
    "RUNNING": "blue",
    "COMPLETED": "green",
    "FAILED": "red",
    "UNKNOWN": "purple",
}

SAME_VIEW = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
"""The part of a link that keeps what is chosen in the dashboard."""


def source() -> Json:
    """The data source that the reader chose."""
    return {"type": "prometheus", "uid": "${datasource}"}


def query(expr: str, legend: str = "", *, now: bool = False, table: bool = False) -> Json:
    """A target.

    Args:
        expr: PromQL.
        legend: The series' name, with `{{label}}` in it.
        now: Ask for the end of the time range only.
        table: Ask for the end of the time range only, labels as columns.
    """
    instant = now or table
    target = {
        "datasource": source(),
        "editorMode": "code",
        "expr": expr,
        "format": "table" if table else "time_series",
        "instant": instant,
        "range": not instant,
        "legendFormat": legend,
    }
    if "$__rate_interval" in expr:
        # The data source's own setting is 15 s; with it, a target that is scraped once a minute
        # would have one sample in `$__rate_interval`, and no rate.
        target["interval"] = "1m"
    return target


def steps(base: str, above: Mapping[float, str] | None = None) -> Json:
    """Thresholds: a colour, and those that follow from a value on."""
    first: Json = {"color": base, "value": None}
    others = ({"color": colour, "value": value} for value, colour in (above or {}).items())
    return {"mode": "absolute", "steps": [first, *others]}


def words(meanings: Mapping[int, tuple[str, str]]) -> list[Json]:
    """A value mapping: value to word and colour."""
    options = {
        str(value): {"text": text, "color": colour, "index": index}
        for index, (value, (text, colour)) in enumerate(meanings.items())
    }
    return [{"type": "value", "options": options}]


STATE_WORDS = {number: (state, COLOURS[state]) for state, number in STATES.items()}
STATE_WORDS[OTHER_STATE] = ("unexpected", "orange")


def colour_of(name: str, colour: str) -> Json:
    """An override: the colour of a series."""
    return override(name, color={"mode": "fixed", "fixedColor": colour})


def state_colours() -> list[Json]:
    """Overrides for series named by the state."""
    return [colour_of(state, colour) for state, colour in COLOURS.items()]


def override(name: str, **properties: object) -> Json:
    """An override by field name; `custom__width` stands for `custom.width`."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [
            {"id": key.replace("__", "."), "value": value} for key, value in properties.items()
        ],
    }


def link(title: str, url: str) -> Json:
    """A data link: what a click on a value opens."""
    return {"title": title, "url": url, "targetBlank": False}


def panel(
    kind: str,
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    options: Json,
    field: Json,
    overrides: Iterable[Json] = (),
) -> Json:
    """A panel of any kind; its place and number come from `dashboard`."""
    letters = (chr(ord("A") + number) for number in range(len(targets)))
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": source(),
        "targets": [
            {"refId": letter, **each} for letter, each in zip(letters, targets, strict=True)
        ],
        "options": options,
        "fieldConfig": {"defaults": field, "overrides": list(overrides)},
    }


def stat(
    title: str,
    description: str,
    *targets: Json,
    loud: bool = False,
    as_name: bool = False,
    **field: object,
) -> Json:
    """One large value; `loud`: on a coloured ground; `as_name`: the series' name in its place."""
    options = {
        "colorMode": "background" if loud else "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "name" if as_name else "auto",
    }
    # Nothing at all means that nobody answers: zeros and "none yet" are values.
    field = {"color": {"mode": "thresholds"}, "noValue": "no exporter", **field}
    return panel("stat", title, description, targets, options=options, field=field)


def graph(
    title: str,
    description: str,
    *targets: Json,
    stacked: bool = False,
    overrides: Iterable[Json] = (),
    **field: object,
) -> Json:
    """Lines over time, or, `stacked`, areas one upon the other."""
    options = {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    custom = {
        "drawStyle": "line",
        "fillOpacity": 60 if stacked else 10,
        "lineInterpolation": "stepAfter" if stacked else "linear",
        "lineWidth": 1,
        "showPoints": "never",
        # A gap is a scrape that failed: it must be seen.
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
    }
    field = {"color": {"mode": "palette-classic"}, "custom": custom, "min": 0, **field}
    return panel(
        "timeseries", title, description, targets, options=options, field=field, overrides=overrides
    )


def bars(title: str, description: str, *targets: Json, **field: object) -> Json:
    """One horizontal bar for each series."""
    options = {
        "displayMode": "basic",
        "minVizHeight": 16,
        "minVizWidth": 8,
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "valueMode": "color",
    }
    field = {"color": {"mode": "thresholds"}, "min": 0, "noValue": "no exporter", **field}
    return panel("bargauge", title, description, targets, options=options, field=field)


def timeline(title: str, description: str, *targets: Json, **field: object) -> Json:
    """Coloured bands over time, one for each series."""
    options = {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    custom = {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False}
    field = {"color": {"mode": "thresholds"}, "custom": custom, "unit": "none", **field}
    return panel("state-timeline", title, description, targets, options=options, field=field)


def table(
    title: str,
    description: str,
    *targets: Json,
    join: str,
    columns: Mapping[str, str],
    overrides: Iterable[Json] = (),
    sort: str = "",
    **field: object,
) -> Json:
    """The answers of several instant queries side by side.

    Args:
        title: The panel's title.
        description: The panel's description.
        targets: Queries with `table=True`.
        join: The label that makes a row.
        columns: Field name to column title, in order; other fields are not shown. Grafana
            calls the value of a query `Value #A`, and numbers what several give: `batch 1`.
        overrides: Display of single columns, by title.
        sort: The title of the column to sort by, largest first.
        field: Defaults for all columns.
    """
    options = {
        "cellHeight": "sm",
        "showHeader": True,
        "sortBy": [{"displayName": sort, "desc": True}] if sort else [],
    }
    custom = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True}
    field = {"custom": custom, "unit": "none", **field}
    made = panel(
        "table", title, description, targets, options=options, field=field, overrides=overrides
    )
    made["transformations"] = [
        {"id": "joinByField", "options": {"byField": join, "mode": "outer"}},
        {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "indexByName": {name: index for index, name in enumerate(columns)},
                "renameByName": dict(columns),
            },
        },
    ]
    return made


def firing_alerts(title: str, description: str) -> Json:
    """The alerts of `alerts/cavatica-exports.rules.yml` that fire or are about to."""
    options = {
        "alertInstanceLabelFilter": "",
        "alertName": "Cavatica",
        "dashboardAlerts": False,
        "datasource": "",  # all that Grafana may ask
        "groupBy": [],
        "groupMode": "default",
        "maxItems": 20,
        "sortOrder": 3,  # by importance
        "stateFilter": {
            "error": True,
            "firing": True,
            "noData": False,
            "normal": False,
            "pending": True,
        },
        "viewMode": "list",
    }
    made = panel("alertlist", title, description, (), options=options, field={})
    # The list asks Grafana, not a data source.
    del made["datasource"], made["targets"], made["fieldConfig"]
    return made
