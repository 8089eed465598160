"""How values are shown: thresholds, value mappings, colours, overrides, links."""

from collections.abc import Mapping
from typing import Any

from dashboards.promql import (
    EXPORTER_DOWN,
    NONE,
    NONE_SO_FAR,
    NOT_KNOWN,
    NOT_STARTED,
    OTHER_STATE,
    STATES,
)

Json = dict[str, Any]

COLOURS = {
    "PENDING": "super-light-blue",
    "RUNNING": "blue",
    "COMPLETED": "green",
    "FAILED": "red",
    "UNKNOWN": "purple",
}
OTHER_COLOUR = "orange"
"""The colour of a state that the API does not document."""

CALM = "transparent"
"""The background of a tile that needs no attention."""

SAME_TARGETS = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
"""The part of a link that keeps the data source and the targets."""


def thresholds(base: str, above: Mapping[float, str] | None = None) -> Json:
    """Return thresholds: a colour, and those that follow from a value on."""
    first: Json = {"color": base, "value": None}
    others = ({"color": colour, "value": value} for value, colour in (above or {}).items())
    return {"mode": "absolute", "steps": [first, *others]}


def value_mappings(meanings: Mapping[int | str, tuple[str, str]]) -> list[Json]:
    """Return value mappings: a value to its text and colour."""
    options = {
        str(value): {"text": text, "color": colour, "index": index}
        for index, (value, (text, colour)) in enumerate(meanings.items())
    }
    return [{"type": "value", "options": options}]


def null_mapping(text: str, colour: str) -> Json:
    """Return the value mapping of what is missing."""
    result = {"text": text, "color": colour, "index": 9}
    return {"type": "special", "options": {"match": "null", "result": result}}


NO_EXPORTER = [
    *value_mappings({EXPORTER_DOWN: ("exporter down", "red")}),
    null_mapping("no exporter in 24 h", "red"),
]
"""What a tile says if no exporter answers: it is down, or perhaps the job is not the right one."""

NOT_ANSWERED = "No exporter answers, so nothing is known. Is the Job right?"
"""What an empty table says."""

ANSWERS = value_mappings(
    {-1: ("down", "red"), 0: ("answers missing", "orange"), 1: ("complete", "green")}
)
"""The words for `cavatica_up`; -1 where there is no answer to the scrape itself."""


def cell_words(calm: str = "text") -> list[Json]:
    """Return the words of a table's cells for what is not known, or does not apply.

    Args:
        calm: The colour of what does not apply.
    """
    return value_mappings(
        {
            NOT_KNOWN: ("not known", "purple"),
            NONE_SO_FAR: ("not all known", "purple"),
            NONE: ("-", calm),
        }
    )


def tile_mappings(
    *, none: str = "none", not_started: str = "not started", calm: str = "text"
) -> list[Json]:
    """Return the words of a tile for what is not there or not known.

    Args:
        none: What is said where there is nothing.
        not_started: What is said where something waits.
        calm: The colour of both.
    """
    words: dict[int | str, tuple[str, str]] = {
        NOT_KNOWN: ("not known", "purple"),
        NONE_SO_FAR: ("not all known", "purple"),
        NOT_STARTED: (not_started, calm),
        NONE: (none, calm),
    }
    return value_mappings(words)


NO_ROW, NOT_WATCHED_ROW, DOWN_ROW = "none", "nothing watched", "exporter down"
"""In place of a state: there is no export to show, so that an empty table means something else."""


def state_mappings() -> list[Json]:
    """Return the colours of states by name; any other name keeps its text."""
    colours = {**COLOURS, NO_ROW: CALM, NOT_WATCHED_ROW: CALM, DOWN_ROW: "red"}
    known = value_mappings({text: (text, colour) for text, colour in colours.items()})
    result = {"color": OTHER_COLOUR, "index": 9}
    other = {"type": "regex", "options": {"pattern": ".+", "result": result}}
    return [*known, other]


STATE_NUMBERS: Mapping[int | str, tuple[str, str]] = {
    **{number: (state, COLOURS[state]) for state, number in STATES.items()},
    OTHER_STATE: ("not documented", OTHER_COLOUR),
}
"""The words of states in timelines, where only numbers can be shown."""


def fixed_colour(name: str, colour: str) -> Json:
    """Return an override: the colour of a series."""
    return override(name, color={"mode": "fixed", "fixedColor": colour})


def state_colours() -> list[Json]:
    """Return overrides for series named by the state, or by a job and the state."""
    return [
        _override(
            {"id": "byRegexp", "options": f"/(^| ){state}$/"},
            {"color": {"mode": "fixed", "fixedColor": colour}},
        )
        for state, colour in COLOURS.items()
    ]


def override(name: str, **properties: object) -> Json:
    """Return an override by field name; `custom__width` stands for `custom.width`."""
    return _override({"id": "byName", "options": name}, properties)


def override_all(**properties: object) -> Json:
    """Return an override of every field, which leaves the panel's own message alone."""
    return _override({"id": "byRegexp", "options": "/.*/"}, properties)


def count_column(name: str, width: int, alarm: str | None = None) -> Json:
    """Return the override of a column of counts; from 1 on it has the colour `alarm`, if any."""
    return override(
        name,
        unit="locale",
        mappings=cell_words(CALM) if alarm else cell_words(),
        thresholds=thresholds(CALM, {1: alarm}) if alarm else thresholds("text"),
        custom__cellOptions={"type": "color-background" if alarm else "color-text"},
        custom__width=width,
    )


def hidden(name: str) -> Json:
    """Return an override that hides a column which links need."""
    everywhere = {"legend": False, "tooltip": False, "viz": True}
    return override(name, custom__hidden=True, custom__hideFrom=everywhere)


def _override(matcher: Json, properties: Mapping[str, object]) -> Json:
    return {
        "matcher": matcher,
        "properties": [
            {"id": key.replace("__", "."), "value": value} for key, value in properties.items()
        ],
    }


def link(title: str, url: str) -> Json:
    """Return a data link: what a click on a value opens."""
    return {"title": title, "url": url, "targetBlank": False}
