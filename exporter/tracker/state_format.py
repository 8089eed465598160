"""The content of a state file: finished exports, and the key of their destinations.

The first line is a JSON object with the format's name, version, key and checksum; every other line
is a JSON list of exports. Of an ID that left the watchlist it has a pair: Unix time, export. The
time at which an export finished is a list of itself if it is not the API's.
"""

import io
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
# No number of an export is as large; a float can hold all that are smaller.
_TOO_LARGE: Final = 2**64
_CODE: Final = re.compile(r"[0-9]{0,16}")

_Record = tuple[
    str,
    str,
    float | None,
    float | tuple[float],
    int | None,
    str,
    int | None,
    tuple[str, int | None] | None,
]


class StateFormatError(ValueError):
    """The content cannot be used; the text says why.

    Attributes:
        is_foreign: Whether it is that of another kind of file.
    """

    def __init__(self, problem: str, *, is_foreign: bool = False) -> None:
        super().__init__(problem)
        self.is_foreign = is_foreign


def encode(blocks: Iterable[Block], key: bytes) -> list[bytes]:
    """Return the lines of a state file with the finished exports of `blocks`."""
    lines = [
        (json.dumps(records, separators=(",", ":")) + "\n").encode()
        for records in map(_records, blocks)
    ]
    header = (
        f'"version":{_VERSION},"key":"{key.hex()}","checksum":"{checksum(lines, key)}"}}\n'.encode()
    )
    return [_MAGIC + header, *lines]


def decode(data: bytes) -> tuple[bytes, list[WatchedExport]]:
    """Return the key and the exports of a state file.

    Raises:
        StateFormatError: it is damaged, of another version, or another kind of file.
    """
    if not data.startswith(_MAGIC[: len(data)]):
        raise StateFormatError("not a state file of this exporter", is_foreign=True)
    # Without a copy: there can be megabytes.
    lines = io.BytesIO(data)
    first = lines.readline()
    body = memoryview(data)[len(first) :]
    try:
        header = json.loads(first)
        version, key = header["version"], bytes.fromhex(header["key"])
        is_whole = (
            len(key) == KEY_BYTES
            and header["key"] == key.hex()  # Capital digits would have the same checksum.
            and header["checksum"] == checksum([body], key)
        )
        exports = []
        if is_whole and version == _VERSION:
            for line in lines:
                exports += [_restore(record) for record in json.loads(line)]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise StateFormatError("damaged: not in the form of a state file") from None
    if version != _VERSION:
        raise StateFormatError("written by another version of the exporter")
    if not is_whole:
        raise StateFormatError("damaged: the checksum is wrong")
    return key, exports


def _records(block: Block) -> list[_Record | tuple[float, _Record]]:
    return [
        _record(export, watched)
        if watched.left is None
        else (watched.left, _record(export, watched))
        for watched in block.exports
        if watched.state in FINISHED and (export := watched.export) is not None
    ]


def _record(export: Export, watched: WatchedExport) -> _Record:
    # Messages are not kept: they may contain file names.
    return (
        export.id,
        export.state,
        export.started,
        # `ExportStates` gives every finished export a time.
        (watched.seen_finished or 0.0,) if export.finished is None else export.finished,
        export.size,
        export.volume,
        export.destination,
        None if export.error is None else (export.error.code, export.error.status),
    )


def _restore(record: list[Any]) -> WatchedExport:
    """Return the export of a record, or raise ValueError or TypeError.

    One function for speed: a start calls it up to a hundred thousand times.
    """
    left = None
    if len(record) == 2:  # noqa: PLR2004 # a pair
        left, record = record
        if type(left) not in _NUMBER or not 0 <= left < _TOO_LARGE:
            raise ValueError
    export_id, state, started, finished, size, volume, destination, error = record
    seen = None
    if type(finished) is list:
        [seen] = finished
        finished = None
    at = finished if seen is None else seen
    if (
        type(export_id) is not str
        or not is_export_id(export_id)
        or state not in FINISHED
        or type(volume) is not str
        or not volume.isprintable()
        or len(volume) > MAX_VOLUME_CHARS
    ):
        raise ValueError
    # The comparisons are false for NaN; a bool is of another type.
    if not (
        type(at) in _NUMBER
        and 0 <= at < _TOO_LARGE
        and (started is None or (type(started) in _NUMBER and 0 <= started < _TOO_LARGE))
        and (size is None or (type(size) is int and 0 <= size < _TOO_LARGE))
        and (destination is None or (type(destination) is int and 0 <= destination < _TOO_LARGE))
    ):
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
    return WatchedExport(export.id, state, export, left=left, seen_finished=seen)


def _error(code: object, status: object) -> ErrorDetail:
    if not isinstance(code, str) or _CODE.fullmatch(code) is None:
        raise ValueError
    if status is not None and (type(status) is not int or status < 0):
        raise ValueError
    return ErrorDetail(code, status, message="")


def checksum(parts: Iterable[bytes | memoryview], key: bytes) -> str:
    """Return the checksum of all lines but the first."""
    digest = blake2b(key=key, digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
