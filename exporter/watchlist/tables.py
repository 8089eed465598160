"""The text formats of an ID file: one ID per line, and tables."""

import csv
import io
from collections.abc import Iterator
from typing import Final

from exporter.cavatica.export import is_export_id
from exporter.document import MAX_VALUES
from exporter.text import NULL, TextError, excerpt
from exporter.watchlist.content import Collector, IdFile, Rejected

#: What programs, such as pandas and R, write instead of an ID if an export was not started.
REFUSED: Final = frozenset({*NULL, "invalid", "NA", "NaN", "nan", "None"})

_ID_COLUMN: Final = "export_id"
_OTHER_ID_COLUMN: Final = "id"
#: Names of the ID column in lower case, in the order in which they are looked for.
ID_COLUMNS: Final = (_ID_COLUMN, _OTHER_ID_COLUMN)
_SEPARATORS: Final = {",": "commas", "\t": "tabs"}
_MARKS: Final = (",", ";", "\t")
# Fewer characters than `str.strip` removes: a no-break space is part of the entry, and is shown.
_BLANKS: Final = " \t\n"
# A file looks like this while it is rewritten in place, and after a crash.
_EMPTY: Final = "is empty; for none write a comment (.txt) or a header (.tsv, .csv)"

_Row = tuple[int, list[str]]


def parse_lines(text: str, batch: str) -> IdFile:
    """Parse one ID per line; `#` begins a comment.

    Raises:
        TextError: it is in another format, or empty.
    """
    if not text.strip():
        raise TextError(None, _EMPTY)
    entries = Collector()
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if number > MAX_VALUES:
            raise TextError(
                number, f"holds more than {MAX_VALUES} lines: split it into several files"
            )
        entry = line.partition("#")[0].strip(_BLANKS)
        if not entries.ids and not entries.rejected and entry.startswith(("[", "{", "- ")):
            name = ".yml" if entry.startswith("-") else ".json"
            raise TextError(number, f"must hold an ID on each line; name the file {name}")
        if entry:
            _add(entry, number, entries)
    return _finish(entries, batch)


def parse_table(text: str, separator: str, batch: str) -> IdFile:
    """Parse a table whose header names the ID column; a single column needs no header.

    Raises:
        TextError: it is in another format, or empty.
    """
    rows = _rows(text, separator)
    if not text.strip() or (first := next(rows, None)) is None:
        raise TextError(None, _EMPTY)
    entries = Collector()
    header = _find_column(first, separator)
    if header is None:
        _add(first[1][0], first[0], entries)
    column, must_be_ids = header or (0, False)
    for line, row in rows:
        if header is None and len(row) > 1:
            raise TextError(line, _needs_header(len(row)))
        entry = row[column] if column < len(row) else ""
        if must_be_ids and entry not in REFUSED and not is_export_id(entry):
            raise TextError(
                line,
                "the column id holds something other than export IDs: name the column with the"
                f" export IDs {_ID_COLUMN}",
            )
        _add(entry, line, entries)
    return _finish(entries, batch)


def _rows(text: str, separator: str) -> Iterator[_Row]:
    """Yield the line number and the stripped cells of every row that is not blank."""
    # Strict, because an unclosed quote would silently swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for number, row in enumerate(reader, 1):
            if number > MAX_VALUES:
                raise TextError(
                    line, f"holds more than {MAX_VALUES} rows: split it into several files"
                )
            cells = [cell.strip(_BLANKS) for cell in row]
            # Spreadsheets write empty rows as separators alone. In a table of one column, an empty
            # cell has quotes.
            if any(cells) or row == [""]:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        # Of another separator only the first quote is noticed: nothing may follow it.
        header = text.lstrip("\n").partition("\n")[0]
        if separator not in header and any(mark in header for mark in _MARKS):
            raise _wrong_separator(line, separator) from None
        raise TextError(line, f"not a valid table: {excerpt(str(error))}") from None


def _find_column(first: _Row, separator: str) -> tuple[int, bool] | None:
    """Find the ID column by the header, if the first row is one.

    Returns:
        Its index, and whether every entry of it must be an ID; None without a header.
    """
    line, cells = first
    # Many tables in this field begin with #.
    names = [cell.lower() for cell in (cells[0].lstrip("# "), *cells[1:])]
    for name in ID_COLUMNS:
        if names.count(name) > 1:
            raise TextError(line, f"the column {name} is repeated")
        if name in names:
            return names.index(name), name == _OTHER_ID_COLUMN
    if len(cells) > 1:
        raise TextError(
            line,
            f"no column {_ID_COLUMN}; the header must name the column with the IDs {_ID_COLUMN}",
        )
    if any(mark in cells[0] for mark in _MARKS):
        raise _wrong_separator(line, separator)
    return None


def _wrong_separator(line: int, separator: str) -> TextError:
    return TextError(line, f"the columns must be separated by {_SEPARATORS[separator]}")


def _needs_header(columns: int) -> str:
    return f"has {columns} columns; add a header that names the one with the IDs {_ID_COLUMN}"


def _add(entry: str, line: int, entries: Collector) -> None:
    if entry in REFUSED:
        entries.refused[""] += 1
    elif entry.lower() in ID_COLUMNS:
        # Of a table that is named .txt, or of a table in the middle of joined ones.
        entries.rejected.append(Rejected(f"{entry} (a table's header)", line))
    else:
        entries.add(entry, line)


def _finish(entries: Collector, batch: str) -> IdFile:
    entries.refuse_file_ids()
    return IdFile(
        batch,
        tuple(entries.ids),
        rejected=tuple(entries.rejected),
        refused=dict(entries.refused),
    )
