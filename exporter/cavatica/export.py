"""An export as the API describes it, and the parser of a bulk answer's items.

Parsing never raises, whatever an item holds. An invalid value is dropped; an item without a usable
ID is skipped.
"""

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from math import inf
from typing import Final

PENDING: Final = "PENDING"
RUNNING: Final = "RUNNING"
COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"
#: The exporter's own state: no answer yet, only an old one, or an error instead of an export.
UNKNOWN: Final = "UNKNOWN"

#: The states that all totals include, in the order of an export's life.
STATES: Final = (PENDING, RUNNING, COMPLETED, FAILED, UNKNOWN)
#: Final states.
FINISHED: Final = frozenset({COMPLETED, FAILED})
UNFINISHED: Final = (PENDING, RUNNING)

#: These texts end up in label values and log lines, so they are short and printable.
MAX_MESSAGE_CHARS: Final = 300
MAX_VOLUME_CHARS: Final = 200

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STATE = re.compile(r"[A-Z][A-Z_]{0,31}")
# All platform codes are numbers; any other text could be a secret or a file name.
_CODE = re.compile(r"[0-9]{1,16}")
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9}))?"
    r" ?(?:[Zz]|([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# The start of the year 10000 in Unix seconds, which no `datetime` can represent.
_END_OF_DATES = 253_402_300_800.0
# A float represents every integer up to here exactly; real sizes and codes are far smaller.
_MAX_INTEGER = 2**53
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """The platform's error for a call, an item or a failed export.

    Attributes:
        code: The platform's error code, ``""`` if there is none.
        status: Its HTTP status, or None.
        message: Free text, made printable and truncated; it may hold file names.
    """

    code: str
    status: int | None
    message: str


@dataclass(frozen=True, slots=True)
class LookupFailure(ErrorDetail):
    """The error that the API returned instead of an export."""

    @property
    def temporary(self) -> bool:
        """Whether the platform is at fault, not the ID, so that another request is worthwhile."""
        return self.status is not None and self.status >= _SERVER_ERROR


@dataclass(frozen=True, slots=True)
class Export:
    """An export job as the API returned it.

    Attributes:
        id: The export's ID.
        state: A documented state, another text of the same form, or ``UNKNOWN``.
        started: Unix time in seconds, or None.
        finished: Unix time in seconds, or None.
        size: Size of the resulting file in bytes, or None.
        volume: ``owner/volume`` of the destination, or of the result's storage, or ``""``.
        error: Why it failed, if the API says so.
        destination: A keyed 64-bit hash of the destination's volume and location, or None. The
            location itself is not kept: it may hold names of patients and projects.
    """

    id: str
    state: str
    started: float | None = None
    finished: float | None = None
    size: int | None = None
    volume: str = ""
    error: ErrorDetail | None = None
    destination: int | None = None


def arrived_at(export: Export | None) -> float:
    """Return before which time a failure at the same destination is superseded by this export.

    Only the API's times decide, so that everybody finds the same. It is -inf without one, and for
    exports that are not COMPLETED.
    """
    if export is None or export.state != COMPLETED:
        return -inf
    times = (time for time in (export.finished, export.started) if time is not None)
    return next(times, -inf)


def failed_at(export: Export | None) -> float:
    """Return when an export FAILED; inf without a time of the API, as it may be at any time."""
    if export is None or export.state != FAILED or export.finished is None:
        return inf
    return export.finished


def is_export_id(text: str) -> bool:
    """Return whether `text` has the form of an export ID."""
    return _ID.fullmatch(text) is not None


def parse_item(item: object, key: bytes = b"") -> Export | LookupFailure | None:
    """Parse one element of ``items`` of a bulk answer.

    Args:
        item: The element.
        key: Secret key for `Export.destination`; without it there is no destination.

    Returns:
        The export of ``resource``, the failure of ``error``, or None for an item that is neither
        or whose export has no usable ID.
    """
    if not isinstance(item, dict):
        return None
    resource = item.get("resource")
    if isinstance(resource, dict):
        return _parse_export(resource, key)
    detail = parse_error(item.get("error"))
    if detail is None:
        return None
    return LookupFailure(detail.code, detail.status, detail.message)


def pair_items(
    ids: Sequence[str], items: Sequence[object], key: bytes = b""
) -> tuple[dict[str, Export | LookupFailure | None], bool]:
    """Assign the items of a bulk answer to the requested `ids`.

    Exports carry their ID, error items do not. Remaining items are paired with remaining IDs in
    order, as the public clients do, but only if there are as many of both.

    Returns:
        The outcome by ID, and whether the items account for every ID and for nothing else. If it
        is not clear which IDs the errors in the answer belong to, the outcome of every ID without
        an export is None. Otherwise, IDs without an item are missing.
    """
    outcomes: dict[str, Export | LookupFailure | None] = {}
    contradicted: set[str] = set()
    asked = frozenset(ids)
    rest = []
    for item in (parse_item(each, key) for each in items):
        if not isinstance(item, Export) or item.id not in asked:
            rest.append(item)
        elif outcomes.setdefault(item.id, item) != item:
            contradicted.add(item.id)
    left = [export_id for export_id in ids if export_id not in outcomes]
    if len(rest) == len(left):
        outcomes |= {
            export_id: item
            for export_id, item in zip(left, rest, strict=True)
            if isinstance(item, LookupFailure)
        }
    elif any(isinstance(item, LookupFailure) for item in rest):
        outcomes |= dict.fromkeys(left)
    # Two different items for one ID: neither is reliable.
    for export_id in contradicted:
        del outcomes[export_id]
    complete = len(items) == len(ids) == sum(outcome is not None for outcome in outcomes.values())
    return outcomes, complete


def parse_list(
    items: Sequence[object], key: bytes = b""
) -> tuple[tuple[Export, ...], frozenset[str], int]:
    """Parse the items of a list of exports.

    Args:
        items: The items.
        key: Secret key for `Export.destination`; without it there is no destination.

    Returns:
        The exports; the IDs of those without details; the number of items without an ID.
    """
    exports = []
    without_details = set()
    for item in map(_mapping, items):
        export = _parse_export(item, key)
        if export is not None:
            exports.append(export)
            if "destination" not in item:
                without_details.add(export.id)
    return tuple(exports), frozenset(without_details), len(items) - len(exports)


def parse_error(value: object) -> ErrorDetail | None:
    """Parse the platform's error object ``{status, code, message, more_info}``."""
    if not isinstance(value, dict):
        return None
    return ErrorDetail(
        code=_code(value.get("code")),
        status=_integer(value.get("status")),
        message=_text(value.get("message"), MAX_MESSAGE_CHARS),
    )


def parse_timestamp(value: object) -> float | None:
    """Parse an ISO 8601 date and time to Unix seconds; the default offset is UTC.

    Returns None for anything else, and for times before 1970 or after 9999.
    """
    match = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    *date_and_time, fraction, sign, hours, minutes = match.groups()
    year, month, day, hour, minute, second = map(int, date_and_time)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    seconds = (moment - _EPOCH).total_seconds()
    if sign:
        offset = int(hours) * 3600 + int(minutes or 0) * 60
        seconds -= offset if sign == "+" else -offset
    if fraction:
        seconds += int(fraction) / 10 ** len(fraction)
    return seconds if 0 <= seconds < _END_OF_DATES else None


def _parse_export(resource: dict[object, object], key: bytes = b"") -> Export | None:
    export_id = resource.get("id")
    if not isinstance(export_id, str) or not is_export_id(export_id):
        return None
    state = resource.get("state")
    result = _mapping(resource.get("result"))
    volume = _text(_mapping(resource.get("destination")).get("volume"), MAX_VOLUME_CHARS) or _text(
        _mapping(result.get("storage")).get("volume"), MAX_VOLUME_CHARS
    )
    # Interned: a hundred thousand exports share their few states and volumes, and their IDs with
    # the watchlist.
    return Export(
        id=sys.intern(export_id),
        state=sys.intern(state)
        if isinstance(state, str) and _STATE.fullmatch(state) is not None
        else UNKNOWN,
        started=parse_timestamp(resource.get("started_on")),
        finished=parse_timestamp(resource.get("finished_on")),
        size=_integer(result.get("size")),
        volume=sys.intern(volume),
        error=parse_error(resource.get("error")),
        destination=_hash_destination(resource.get("destination"), key)
        or _hash_destination(result.get("storage"), key),
    )


def _hash_destination(place: object, key: bytes) -> int | None:
    """Return the keyed hash of a destination that has a volume and a location."""
    names = [_mapping(place).get("volume"), _mapping(place).get("location")]
    if not key or not all(isinstance(name, str) and name for name in names):
        return None
    # As JSON, so that different destinations have different texts; lone surrogates are escaped.
    digest = hashlib.blake2b(json.dumps(names).encode(), key=key, digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _mapping(value: object) -> dict[object, object]:
    return value if isinstance(value, dict) else {}


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # NaN and the infinities fail this comparison.
    return int(value) if 0 <= value <= _MAX_INTEGER and value == int(value) else None


def _code(value: object) -> str:
    number = _integer(value)
    if number is not None:
        return str(number)
    return value if isinstance(value, str) and _CODE.fullmatch(value) is not None else ""


def _text(value: object, limit: int) -> str:
    """Return a text safe for labels, logs and UTF-8: printable, at most `limit` long."""
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value[:limit])
