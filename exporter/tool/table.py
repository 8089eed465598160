"""Tables for people and programs: aligned text, TSV, or JSON."""

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Final, Literal, get_args

from exporter.text import printable

Format = Literal["text", "tsv", "json"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

Value = str | int | float | None
Row = dict[str, Value]

_NUMBERS = (int, float)
_NOTHING = "-"


def render(rows: Sequence[Row], columns: Sequence[str], form: Format) -> str:
    """Return the rows with a header, one per line; as JSON, a list of objects."""
    if form == "json":
        return json.dumps([{name: row[name] for name in columns} for row in rows], indent=1) + "\n"
    lines = [list(columns), *([_text(row[name]) for name in columns] for row in rows)]
    if form == "tsv":
        return "".join("\t".join(line) + "\n" for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [any(isinstance(row[name], _NUMBERS) for row in rows) for name in columns]
    return "".join(
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )


def format_time(seconds: float | None) -> str | None:
    """Return a Unix time as ISO 8601 in UTC."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _text(value: Value) -> str:
    return _NOTHING if value is None or value == "" else printable(str(value))
