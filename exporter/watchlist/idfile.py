"""The format of an ID file: YAML, JSON, or the saved answer of the API's bulk calls.

Parsing is pure. A file of the wrong shape is an error that says where; an ID of the wrong form
costs only itself.
"""

import sys
from dataclasses import dataclass
from typing import Final

from exporter.cavatica.export import is_export_id
from exporter.document import line_of, read_json, read_yaml
from exporter.text import NULL, TextError, decode, excerpt, printable, suggestion

YAML_ENDINGS: Final = (".yml", ".yaml")
JSON_ENDING: Final = ".json"
ENDINGS: Final = (*YAML_ENDINGS, JSON_ENDING)
KEYS: Final = ("batch", "export_ids", "acknowledged")

MAX_BATCH_CHARS: Final = 100


class IdFileError(ValueError):
    """The file is not of the format; the text begins with its name and, where known, the line."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An ID that is left out because it does not have the form of one.

    Attributes:
        text: How it begins in the file, printable.
        line: From 1; None where it cannot be told.
    """

    text: str
    line: int | None


@dataclass(frozen=True, slots=True)
class IdFile:
    """What one ID file says.

    Attributes:
        batch: The batch of its IDs; None for a file that only acknowledges.
        ids: Every well-formed ID as often as it is listed, in order.
        acknowledged: IDs of failures that somebody has dealt with; not necessarily of this file.
        rejected: The others.
    """

    batch: str | None
    ids: tuple[str, ...]
    acknowledged: frozenset[str]
    rejected: tuple[Rejected, ...]


def parse(data: bytes, name: str) -> IdFile:
    """Parse the content of the file `name`, whose ending tells the format.

    Raises:
        IdFileError: when it is not of the format.
    """
    try:
        text = decode(data)
        document = read_json(text) if name.endswith(JSON_ENDING) else read_yaml(text)
        return _Parser(name).file(document)
    except TextError as error:
        raise IdFileError(error.at(printable(name))) from None


class _Parser:
    """Makes an `IdFile` of a document."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rejected: list[Rejected] = []

    def file(self, document: object) -> IdFile:
        acknowledged: list[str] = []
        batch: str | None = self._default_batch()
        if isinstance(document, list):
            ids = self._ids(document, "the list")
        elif isinstance(document, dict):
            if "items" in document:
                ids = self._ids_of_answer(document)
            else:
                self._check_keys(document)
                ids = self._ids(document.get("export_ids", ""), "export_ids")
            acknowledged = self._ids(document.get("acknowledged", ""), "acknowledged")
            if "batch" in document:
                batch = self._batch(document["batch"])
            elif not document.keys() & {"items", "export_ids"}:
                batch = None
        else:
            raise _wrong(
                document,
                "holds no export IDs: it must be a list of them, a mapping with export_ids,"
                " or an answer of the API with items; for none write []",
            )
        return IdFile(batch, tuple(ids), frozenset(acknowledged), tuple(self._rejected))

    def _default_batch(self) -> str:
        # A file given by its path may have no ending.
        return printable(self._name.rpartition(".")[0] or self._name)

    def _batch(self, value: object) -> str:
        if not isinstance(value, str) or value.strip() in NULL:
            raise _wrong(value, "batch must be a name")
        if len(value) > MAX_BATCH_CHARS or not value.isprintable():
            raise _wrong(value, f"batch must be at most {MAX_BATCH_CHARS} printable characters")
        return str(value)

    def _check_keys(self, document: dict[str, object]) -> None:
        for key in document:
            if key not in KEYS:
                hint = suggestion(key, (*KEYS, "items"))
                raise _wrong(key, f"unknown key {excerpt(key)}: {hint}")
        if not document.keys() & {"export_ids", "acknowledged"}:
            raise _wrong(document, "the key export_ids is missing")

    def _ids_of_answer(self, document: dict[str, object]) -> list[str]:
        if "export_ids" in document:
            raise _wrong(document, "has both export_ids and items; put one in another file")
        items = document["items"]
        if not isinstance(items, list):
            raise _wrong(items, "items must be a list, as in an answer of the API")
        ids: list[str] = []
        for item in items:
            if not isinstance(item, dict):
                raise _wrong(item, "every one of items must be a mapping")
            resource = item.get("resource")
            export_id = (resource if isinstance(resource, dict) else item).get("id")
            if isinstance(export_id, str) and export_id not in NULL:
                self._take(export_id, ids)
            elif "error" not in item:
                self._rejected.append(Rejected("an item without id", line_of(item)))
        return ids

    def _ids(self, value: object, what: str) -> list[str]:
        if value in NULL:
            return []
        if not isinstance(value, list):
            raise _wrong(value, f"{what} must be a list of export IDs")
        ids: list[str] = []
        for element in value:
            if not isinstance(element, str):
                raise _wrong(element, f"{what} must hold nothing but export IDs")
            self._take(element, ids)
        return ids

    def _take(self, text: str, ids: list[str]) -> None:
        if is_export_id(text) and text not in NULL:
            # Shared with the ID that the API's answers bring.
            ids.append(sys.intern(str(text)))
        else:
            self._rejected.append(Rejected(excerpt(text), line_of(text)))


def _wrong(value: object, problem: str) -> TextError:
    return TextError(line_of(value), problem)
