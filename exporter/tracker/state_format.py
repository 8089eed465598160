"""The content of a state file: finished exports, and the key of their destinations.

The first line is a JSON object with the format's name, version, key and checksum; every other line
is a JSON list of exports.
"""

import json
import re
import sys
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

from exporter.cavatica.export import (
    FINISHED,
    MAX_VOLUME_CHARS,
    ErrorDetail,
    Export,
    is_export_id,
)
from exporter.tracker.snapshot import Block, WatchedExport

#: Length of the secret key that destinations are hashed with.
KEY_BYTES: Final = 16

_VERSION: Final = 1
_MAGIC: Final = b'{"format":"cavatica-exporter-state",'
_NUMBER: Final = frozenset({int, float})
_NUMBER_OR_NONE: Final = _NUMBER | {type(None)}
_INTEGER_OR_NONE: Final = frozenset({int, type(None)})
# No number of an export is as large; a float can hold all that are smaller.
_TOO_LARGE: Final = 2**64
_CODE: Final = re.compile(r"[0-9]{0,16}")

_Record = tuple[
    str, str, float | None, float, int | None, str, int | None, tuple[str, int | None] | None
]


class StateFormatError(ValueError):
    """The content cannot be used; the text says why.

    Attributes:
        is_foreign: Whether it is that of another kind of file.
    """

    def __init__(self, problem: str, *, is_foreign: bool = False) -> None:
        super().__init__(problem)
        self.is_foreign = is_foreign


def encode(blocks: Iterable[Block], key: bytes) -> bytes:
    """Return the content of a state file with the finished exports of `blocks`."""
    body = "".join(
        json.dumps(records, separators=(",", ":")) + "\n" for records in map(_records, blocks)
    ).encode()
    header = f'"version":{_VERSION},"key":"{key.hex()}","checksum":"{checksum(body, key)}"}}\n'
    return _MAGIC + header.encode() + body


def decode(data: bytes) -> tuple[bytes, list[WatchedExport]]:
    """Return the key and the exports of a state file.

    Raises:
        StateFormatError: it is damaged, of another version, or another kind of file.
    """
    if not data.startswith(_MAGIC[: len(data)]):
        raise StateFormatError("not a state file of this exporter", is_foreign=True)
    first, _, body = data.partition(b"\n")
    try:
        header = json.loads(first)
        version, key = header["version"], bytes.fromhex(header["key"])
        is_whole = len(key) == KEY_BYTES and header["checksum"] == checksum(body, key)
        exports = []
        if is_whole and version == _VERSION:
            for line in body.splitlines():
                exports += [_restore(record) for record in json.loads(line)]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise StateFormatError("damaged: not in the form of a state file") from None
    if version != _VERSION:
        raise StateFormatError("written by another version of the exporter")
    if not is_whole:
        raise StateFormatError("damaged: the checksum is wrong")
    return key, exports


def _records(block: Block) -> list[_Record]:
    return [
        _record(watched.export)
        for watched in block.exports
        if watched.state in FINISHED and watched.export is not None
    ]


def _record(export: Export) -> _Record:
    # `ExportStates` gives every finished export a time. Messages are not kept: they may contain
    # file names.
    return (
        export.id,
        export.state,
        export.started,
        export.finished or 0.0,
        export.size,
        export.volume,
        export.destination,
        None if export.error is None else (export.error.code, export.error.status),
    )


def _restore(record: list[Any]) -> WatchedExport:
    """Return the export of a record, or raise ValueError or TypeError.

    One function for speed: a start calls it up to a hundred thousand times.
    """
    export_id, state, started, finished, size, volume, destination, error = record
    if (
        type(export_id) is not str
        or not is_export_id(export_id)
        or state not in FINISHED
        or type(volume) is not str
        or not volume.isprintable()
        or len(volume) > MAX_VOLUME_CHARS
    ):
        raise ValueError
    for value, types in (
        (started, _NUMBER_OR_NONE),
        (finished, _NUMBER),
        (size, _INTEGER_OR_NONE),
        (destination, _INTEGER_OR_NONE),
    ):
        # The comparison is false for NaN; a bool is of another type.
        if type(value) not in types or not (value is None or 0 <= value < _TOO_LARGE):
            raise ValueError
    if error is not None:
        error = _error(*error)
    state = sys.intern(state)
    export = Export(
        sys.intern(export_id),
        state,
        started,
        finished,
        size,
        sys.intern(volume),
        error,
        destination,
    )
    return WatchedExport(export.id, state, export)


def _error(code: object, status: object) -> ErrorDetail:
    if not isinstance(code, str) or _CODE.fullmatch(code) is None:
        raise ValueError
    if status is not None and (type(status) is not int or status < 0):
        raise ValueError
    return ErrorDetail(code, status, message="")


def checksum(body: bytes, key: bytes) -> str:
    """Return the checksum of all lines but the first."""
    return blake2b(body, key=key, digest_size=16).hexdigest()
