"""`failed`: the exports to repeat, and the requests that would do so. It starts nothing."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from exporter.cavatica.answer import MAX_IDS
from exporter.cavatica.codes import Retry, explain
from exporter.cavatica.export import FAILED, Export
from exporter.cavatica.order import Order
from exporter.tool.table import Row, format_time, render
from exporter.tool.watched import exports, needs_attention
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


def failed_exports(snapshot: Snapshot, retry: Retry | None) -> list[WatchedExport]:
    """Return FAILED exports of the retry class that are neither acknowledged nor superseded."""
    return [
        each
        for each in exports(snapshot)
        if each.state == FAILED and needs_attention(each) and retry in (None, _retry(each))
    ]


def may_succeed(failed: WatchedExport) -> bool:
    """Return whether the same request may succeed, now or after a repair."""
    return _retry(failed) != "never"


@dataclass(frozen=True, slots=True)
class Failures:
    """The exports to repeat.

    Attributes:
        exports: The exports.
        orders: Their orders, as far as the API returns them.
    """

    exports: Sequence[WatchedExport]
    orders: Mapping[str, Order]

    @property
    def without_order(self) -> int:
        """Number of exports without a request: the API does not return file and location."""
        return sum(each.id not in self.orders for each in self.exports)

    def render(self, form: FailedFormat) -> str:
        """Return the list, or one request body of the bulk create call per line."""
        if form == "create":
            return "".join(f"{json.dumps(body)}\n" for body in self._bodies())
        return render([self._row(each) for each in self.exports], _COLUMNS, form)

    def _bodies(self) -> Iterator[dict[str, object]]:
        # If an export and its repetition failed, it is requested once: a second request would find
        # the file of the first one at the destination.
        distinct: dict[tuple[str, str, str], Order] = {}
        for each in self.exports:
            if (order := self.orders.get(each.id)) is not None:
                distinct[order.file, order.volume, order.location] = order
        orders = [*distinct.values()]
        for begin in range(0, len(orders), MAX_IDS):
            yield {"items": [order.item() for order in orders[begin : begin + MAX_IDS]]}

    def _row(self, watched: WatchedExport) -> Row:
        order = self.orders.get(watched.id)
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
            "retry": meaning.retry if meaning else None,
            "finished_on": format_time(export.finished),
        }


def _code(watched: WatchedExport) -> str:
    error = watched.export and watched.export.error
    return (error and error.code) or NO_CODE


def _retry(watched: WatchedExport) -> Retry | None:
    meaning = explain(_code(watched))
    return meaning.retry if meaning else None
