"""`failed`: the exports to repeat, and the requests that would do so. It starts nothing."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Literal, get_args

from exporter.cavatica.answer import MAX_IDS
from exporter.cavatica.codes import Retry, explain
from exporter.cavatica.export import FAILED, FINISHED, Export
from exporter.cavatica.order import Order
from exporter.tool.table import Format, Row, format_time, render
from exporter.tool.watched import exports
from exporter.tracker.snapshot import NO_CODE, Snapshot, WatchedExport

FailedFormat = Literal["text", "tsv", "json", "create"]
FAILED_FORMATS: Final[tuple[FailedFormat, ...]] = get_args(FailedFormat)

_COLUMNS = (
    "export_id",
    "file_id",
    "volume",
    "location",
    "code",
    "meaning",
    "retry",
    "finished_on",
)


_WOULD_FAIL = "the same request would fail again: --retry never"
_IS_ACKNOWLEDGED = "a later failure of the same request is acknowledged"
_IS_UNDER_WAY = "an export to the same destination has not ended"

_Request = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attempts:
    """The exports that failed, and what else goes to their destinations.

    Attributes:
        failed: FAILED exports that are not superseded, in the order of the ID files; acknowledged
            ones only if another failure has the same destination.
        under_way: The destinations of exports that have not ended, or whose state is undocumented.
    """

    failed: Sequence[WatchedExport]
    under_way: frozenset[int]


def find_attempts(snapshot: Snapshot) -> Attempts:
    """Return the attempts that decide what is to be exported again."""
    failed = [each for each in exports(snapshot) if each.state == FAILED and not each.superseded]
    places = {_destination(each) for each in failed if not each.acknowledged}
    under_way = (_destination(each) for each in exports(snapshot) if each.state not in FINISHED)
    return Attempts(
        [each for each in failed if not each.acknowledged or _destination(each) in places],
        frozenset(place for place in under_way if place is not None),
    )


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests that start exports again.

    Attributes:
        orders: One for each file and location.
        left_out: Number of failures without a request, by reason.
        without_order: Number of failures without a request, because the API does not return file
            and location.
    """

    orders: Sequence[Order]
    left_out: Mapping[str, int]
    without_order: int

    def render(self) -> str:
        """Return one request body of the bulk create call per line."""
        bodies = (
            {"items": [order.item() for order in self.orders[begin : begin + MAX_IDS]]}
            for begin in range(0, len(self.orders), MAX_IDS)
        )
        return "".join(f"{json.dumps(body)}\n" for body in bodies)


class Failures:
    """The failures that are neither acknowledged nor superseded.

    Of several with the same file and location the latest one decides whether the request may
    succeed.

    Args:
        attempts: What failed.
        orders: The orders of these exports, as far as the API returns them.
        retry: Only failures whose request may succeed now, after a repair, or never; None for all.
    """

    def __init__(
        self, attempts: Attempts, orders: Mapping[str, Order], retry: Retry | None
    ) -> None:
        self._orders = orders
        self._under_way = attempts.under_way
        self._retry = retry
        # Of those that failed at the same time, the last in the ID files is the latest.
        self._latest = {self._request(each): each for each in sorted(attempts.failed, key=_order)}
        self._exports = [
            each
            for each in attempts.failed
            if not each.acknowledged and retry in (None, _retry(self._latest[self._request(each)]))
        ]

    def render(self, form: Format) -> str:
        """Return the list."""
        return render([self._row(each) for each in self._exports], _COLUMNS, form)

    def requests(self) -> Requests:
        """Return the requests; those that would fail again only if asked for them."""
        orders: dict[_Request, Order] = {}
        left_out: Counter[str] = Counter()
        without_order = 0
        for each in self._exports:
            request = self._request(each)
            latest = self._latest[request]
            if _destination(each) in self._under_way:
                left_out[_IS_UNDER_WAY] += 1
            elif latest.acknowledged:
                left_out[_IS_ACKNOWLEDGED] += 1
            elif self._retry is None and _retry(latest) == "never":
                left_out[_WOULD_FAIL] += 1
            elif (order := self._orders.get(latest.id)) is None:
                without_order += 1
            else:
                orders[request] = order
        return Requests([*orders.values()], left_out, without_order)

    def _request(self, watched: WatchedExport) -> _Request:
        """Return what the same request has in common; without an order, nobody's but its own."""
        order = self._orders.get(watched.id)
        return (order.file, order.volume, order.location) if order else (watched.id,)

    def _row(self, watched: WatchedExport) -> Row:
        order = self._orders.get(watched.id)
        export = watched.export or Export(watched.id, watched.state)
        code = _code(watched)
        meaning = explain(code)
        return {
            "export_id": watched.id,
            "file_id": order.file if order else None,
            "volume": order.volume if order else export.volume,
            "location": order.location if order else None,
            "code": code,
            "meaning": meaning.meaning if meaning else None,
            "retry": _retry(self._latest[self._request(watched)]),
            "finished_on": format_time(export.finished),
        }


def _destination(watched: WatchedExport) -> int | None:
    return None if watched.export is None else watched.export.destination


def _order(watched: WatchedExport) -> tuple[float, float]:
    """Return by what attempts are ordered: their end, or at least their start."""
    export = watched.export
    started = -inf if export is None or export.started is None else export.started
    return (started if export is None or export.finished is None else export.finished), started


def _code(watched: WatchedExport) -> str:
    error = watched.export and watched.export.error
    return (error and error.code) or NO_CODE


def _retry(watched: WatchedExport) -> Retry | None:
    meaning = explain(_code(watched))
    return meaning.retry if meaning else None
