"""The format of an ID file, which depends on its extension.

Parsing has no side effects. A file in the wrong format is an error with a line; an entry that is
not a valid export ID is skipped, and the rest of the file is used.
"""

from typing import Final

from exporter.document import read_json, read_yaml
from exporter.text import TextError, decode, printable
from exporter.watchlist.content import IdFile
from exporter.watchlist.documents import parse_document
from exporter.watchlist.tables import parse_lines, parse_table

JSON_ENDING: Final = ".json"
LINES_ENDING: Final = ".txt"
SEPARATORS: Final = {".tsv": "\t", ".csv": ","}
ENDINGS: Final = (".yml", ".yaml", JSON_ENDING, LINES_ENDING, *SEPARATORS)


class IdFileError(ValueError):
    """An invalid file; the text begins with its name and, if known, the line."""


def is_id_file(name: str) -> bool:
    """Return whether the name is that of an ID file, ignoring case."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def parse(data: bytes, name: str) -> IdFile:
    """Parse the content of the file `name`, whose extension decides the format.

    Raises:
        IdFileError: it is not in that format.
    """
    stem, dot, ending = name.rpartition(".")
    # A file that is named by a flag may have no extension.
    batch = printable(stem or name)
    ending = (dot + ending).lower()
    try:
        text = decode(data)
        if ending == LINES_ENDING:
            return parse_lines(text, batch)
        if ending in SEPARATORS:
            return parse_table(text, SEPARATORS[ending], batch)
        return parse_document(read_json(text) if ending == JSON_ENDING else _read(text), batch)
    except TextError as error:
        raise IdFileError(error.at(printable(name))) from None


def _read(text: str) -> object:
    """Read YAML, or JSON that YAML does not allow: an emoji as an escaped pair of surrogates."""
    try:
        return read_yaml(text)
    except TextError:
        if text.lstrip().startswith(("{", "[")):
            try:
                return read_json(text)
            except TextError:
                # It is neither: report the YAML error.
                pass
        raise
