"""The ID file formats in YAML or JSON: a list, a mapping, or an answer of the API."""

import re
from typing import Final

from exporter.cavatica.export import parse_error
from exporter.document import line_of
from exporter.text import NULL, TextError, counted, similar, suggestion
from exporter.watchlist.content import Collector, IdFile, Rejected, Remark

KEYS: Final = ("batch", "export_ids", "acknowledged", "refusals_acknowledged", "expected")
MAX_BATCH_CHARS: Final = 100
_MAX_REMARKS: Final = 20

_ITEMS: Final = "items"
#: The keys of an answer that lists exports, and of one about a single export. `discover` has the
#: state of `cavatica-exports discover`, in a file of that form.
_LIST_KEYS: Final = frozenset({"href", _ITEMS, "links", "discover"})
_FIELDS: Final = frozenset(
    {
        "href",
        "id",
        "state",
        "source",
        "destination",
        "overwrite",
        "started_on",
        "finished_on",
        "result",
        "error",
        "properties",
    }
)
#: Keys that every answer about one export has.
_EXPORT_KEYS: Final = frozenset({"id", "state"})
_FAILED_CALL_KEYS: Final = frozenset({"code", "message"})
_IMPORTS: Final = "/storage/imports/"

_BOOLEANS: Final = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE", *NULL), False),
}
_COUNT: Final = re.compile(r"[0-9]{1,9}")


def parse_document(document: object, batch: str) -> IdFile:
    """Parse a document that `read_yaml` or `read_json` returned.

    Args:
        document: The document, with lines.
        batch: The batch of its IDs, unless the document names another.

    Raises:
        TextError: it has another form.
    """
    entries = Collector()
    if isinstance(document, list):
        _add_ids(document, "the list", entries)
        entries.refuse_file_ids()
        return IdFile(batch, tuple(entries.ids), rejected=tuple(entries.rejected))
    if not isinstance(document, dict):
        raise _error(
            document,
            "holds no export IDs: it must be a list of them, a mapping with export_ids,"
            " or an answer of the API with items; for none write []",
        )
    remarks: tuple[Remark, ...] = ()
    if _ITEMS in document:
        _add_items(document, entries)
        remarks = _unknown_keys(document, _LIST_KEYS)
    elif document.keys() >= _EXPORT_KEYS:
        _refuse_both(document, "id")
        _add_item(document, entries)
        remarks = _unknown_keys(document, _FIELDS)
    else:
        _check_keys(document)
        _add_ids(document.get("export_ids", ""), "export_ids", entries)
        entries.refuse_file_ids()
    return IdFile(
        batch=_batch(document, batch),
        ids=tuple(entries.ids),
        acknowledged=_acknowledged(document, entries),
        rejected=tuple(entries.rejected),
        refused=dict(entries.refused),
        refusals_acknowledged=_boolean(document, "refusals_acknowledged"),
        expected=_count(document, "expected"),
        remarks=remarks,
    )


def _check_keys(document: dict[str, object]) -> None:
    if document.keys() >= _FAILED_CALL_KEYS:
        error = parse_error(document)
        code = f" (code {error.code})" if error and error.code else ""
        raise _error(document, f"is an API error{code}: the call started no export")
    for key in document:
        if key not in KEYS:
            # The key is not quoted: it may be the name of a patient's file.
            raise _error(key, f"unknown key: {suggestion(key, (*KEYS, _ITEMS))}")
    if not document.keys() - {"batch"}:
        raise _error(document, "the key export_ids is missing")


def _unknown_keys(document: dict[str, object], of_answer: frozenset[str]) -> tuple[Remark, ...]:
    """Return remarks on keys that neither an answer nor an ID file has.

    They are no errors: the API may have new ones.
    """
    unknown = [key for key in document if key not in KEYS and key not in of_answer]
    remarks = []
    for key in unknown[:_MAX_REMARKS]:
        likely = similar(key, KEYS)
        hint = f"; did you mean {likely}?" if likely else ""
        remarks.append(Remark(f"unknown key{hint}", line_of(key)))
    if (more := len(unknown) - _MAX_REMARKS) > 0:
        remarks.append(Remark(f"{counted(more, 'more unknown key')}", None))
    return tuple(remarks)


def _batch(document: dict[str, object], default: str) -> str | None:
    """Return the batch; None if there are only acknowledged IDs."""
    if "batch" not in document:
        return None if document.keys() == {"acknowledged"} else default
    value = document["batch"]
    if not isinstance(value, str) or value.strip() in NULL:
        raise _error(value, "batch must be a name")
    if len(value) > MAX_BATCH_CHARS or not value.isprintable():
        raise _error(value, f"batch must be at most {MAX_BATCH_CHARS} printable characters")
    return str(value)


def _acknowledged(document: dict[str, object], entries: Collector) -> frozenset[str]:
    acknowledged = Collector()
    _add_ids(document.get("acknowledged", ""), "acknowledged", acknowledged)
    entries.rejected += acknowledged.rejected
    return frozenset(acknowledged.ids)


def _boolean(document: dict[str, object], key: str) -> bool:
    value = document.get(key, "")
    if not isinstance(value, str) or value not in _BOOLEANS:
        raise _error(value, f"{key} must be true or false")
    return _BOOLEANS[value]


def _count(document: dict[str, object], key: str) -> int | None:
    value = document.get(key, "")
    if value in NULL:
        return None
    if not isinstance(value, str) or _COUNT.fullmatch(value) is None:
        raise _error(value, f"{key} must be a number of exports, like 884")
    return int(value)


def _add_ids(value: object, what: str, entries: Collector) -> None:
    if value in NULL:
        return
    if not isinstance(value, list):
        raise _error(value, f"{what} must be a list of export IDs")
    for element in value:
        if not isinstance(element, str):
            raise _error(element, f"{what} must hold export IDs only")
        entries.add(element, line_of(element))


def _refuse_both(document: dict[str, object], key: str) -> None:
    if "export_ids" in document:
        raise _error(document, f"has both export_ids and {key}; put one in another file")


def _add_items(document: dict[str, object], entries: Collector) -> None:
    _refuse_both(document, _ITEMS)
    items = document[_ITEMS]
    if not isinstance(items, list):
        raise _error(items, "items must be a list, as in an answer of the API")
    for item in items:
        if not isinstance(item, dict):
            raise _error(item, "each of items must be a mapping")
        _add_item(item, entries)


def _add_item(item: dict[str, object], entries: Collector) -> None:
    """Add the export of an answer's item, or the refusal in its place."""
    resource = item.get("resource")
    export = resource if isinstance(resource, dict) else item
    href = export.get("href")
    if isinstance(href, str) and _IMPORTS in href:
        raise _error(href, "holds imports (/storage/imports/), and only exports can be watched")
    export_id = export.get("id")
    if isinstance(export_id, str) and export_id not in NULL:
        entries.add(export_id, line_of(export_id))
    elif item.get("error", "") in NULL:
        entries.rejected.append(Rejected("an item without id", line_of(item)))
    else:
        error = parse_error(item["error"])
        entries.refused[error.code if error else ""] += 1


def _error(value: object, problem: str) -> TextError:
    return TextError(line_of(value), problem)
