"""The kinds of panels, as plain dictionaries in Grafana's classic JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dashboards.fields import CALM, NO_EXPORTER, NOT_ANSWERED, Json, override_all, thresholds
from dashboards.promql import DOWN, first_of


def source() -> Json:
    """Return the data source that the reader chose."""
    return {"type": "prometheus", "uid": "${datasource}"}


def query(expr: str, legend: str = "", *, now: bool = False, table: bool = False) -> Json:
    """Return a target.

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
    if "interval" in expr:
        # The data source's own setting is 15 s; with it, a target that is scraped once a minute
        # would have one sample in `$__rate_interval`, and no rate.
        target["interval"] = "1m"
    return target


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
    """Return a panel of any kind; its place and number come from `dashboard`."""
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
    alarm: Mapping[float, str] | None = None,
    named: bool = False,
    overrides: Iterable[Json] = (),
    **field: object,
) -> Json:
    """Return a tile: one large value.

    Args:
        title: The panel's title.
        description: The panel's description.
        targets: Queries with `now=True`.
        alarm: From which value on the whole tile has which colour, because somebody has to act.
        named: Show the series' name beside its value, also of a single one, one below the other.
        overrides: Display of single series.
        field: Of the field's configuration: `unit`, `mappings` and so on.
    """
    options = {
        "colorMode": "value" if alarm is None else "background_solid",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "horizontal" if named else "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "value_and_name" if named else "auto",
    }
    if alarm is not None:
        field["thresholds"] = thresholds(CALM, alarm)
    field = _with_words_for_no_exporter(field)
    down = f'label_replace({DOWN}, "job", "-", "", "")' if named else DOWN
    asked = [{**each, "expr": first_of(each["expr"], down)} for each in targets]
    return panel(
        "stat", title, description, asked, options=options, field=field, overrides=overrides
    )


def _with_words_for_no_exporter(field: Mapping[str, Any]) -> Json:
    words = [*field.get("mappings", []), *NO_EXPORTER]
    return {"color": {"mode": "thresholds"}, **field, "mappings": words}


def graph(
    title: str,
    description: str,
    *targets: Json,
    stacked: bool = False,
    empty: str = NOT_ANSWERED,
    overrides: Iterable[Json] = (),
    **field: object,
) -> Json:
    """Return lines over time, or, `stacked`, areas one upon the other.

    Without any line the panel says `empty`.
    """
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
    colour = {"mode": "palette-classic"}
    field = {"color": colour, "custom": custom, "min": 0, "noValue": empty, **field}
    overrides = [override_all(noValue="-"), *overrides]
    return panel(
        "timeseries", title, description, targets, options=options, field=field, overrides=overrides
    )


def bars(title: str, description: str, *targets: Json, **field: object) -> Json:
    """Return one horizontal bar for each series."""
    options = {
        "displayMode": "basic",
        "maxVizHeight": 28,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "left",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "sizing": "manual",
        "valueMode": "color",
    }
    field = {"min": 0, **_with_words_for_no_exporter(field)}
    return panel("bargauge", title, description, targets, options=options, field=field)


def timeline(title: str, description: str, *targets: Json, **field: object) -> Json:
    """Return coloured bands over time, one for each series."""
    options = {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    custom = {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False}
    field = {
        "color": {"mode": "thresholds"},
        "custom": custom,
        "unit": "none",
        "noValue": NOT_ANSWERED,
        **field,
    }
    overrides = [override_all(noValue="-")]
    kind = "state-timeline"
    return panel(
        kind, title, description, targets, options=options, field=field, overrides=overrides
    )


def table(
    title: str,
    description: str,
    *targets: Json,
    join: str,
    columns: Mapping[str, str],
    empty: str = NOT_ANSWERED,
    sort: str = "",
    ascending: bool = False,
    overrides: Iterable[Json] = (),
) -> Json:
    """Return the answers of several instant queries side by side.

    Args:
        title: The panel's title.
        description: The panel's description.
        targets: Queries with `table=True`.
        join: The label that makes a row.
        columns: Field name to column title, in order; other fields are not shown, and those that
            no query answered are left out. Grafana calls the value of a query `Value #A`.
        empty: What a table without rows says.
        sort: The field that the rows are sorted by, largest first; it need not be a column.
        ascending: Sort the smallest first.
        overrides: Display of single columns, by title.
    """
    options = {"cellHeight": "sm", "showHeader": True, "sortBy": []}
    custom = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True}
    field = {"custom": custom, "noValue": empty, "unit": "none"}
    made = panel(
        "table",
        title,
        description,
        targets,
        options=options,
        field=field,
        overrides=[override_all(noValue="-"), *overrides],
    )
    order = [{"field": sort, "desc": not ascending}] if sort else []
    made["transformations"] = [
        {"id": "joinByField", "options": {"byField": join, "mode": "outer"}},
        {"id": "sortBy", "options": {"fields": {}, "sort": order}},
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


def note(title: str, description: str, markdown: str) -> Json:
    """Return a panel of text."""
    return {
        "type": "text",
        "title": title,
        "description": description,
        "transparent": True,
        "options": {"content": markdown, "mode": "markdown"},
    }


def firing_alerts(title: str, description: str) -> Json:
    """Return the list of those bundled alerts that fire or are about to."""
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
