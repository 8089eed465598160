"""`status`: a line for each batch, and a list of what needs attention."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from exporter.cavatica.codes import explain
from exporter.cavatica.export import COMPLETED, FAILED, FINISHED, PENDING, RUNNING, UNKNOWN
from exporter.tool.table import Format, Row, format_time, render
from exporter.tool.watched import exports
from exporter.tracker.snapshot import NO_CODE, Batch, Snapshot

ALL_DONE: Final = 0
FAILURES: Final = 3
UNFINISHED: Final = 4

# In lower case, because these are not the API's states: what was dealt with is counted apart.
_STATES: Final = {
    PENDING: "pending",
    RUNNING: "running",
    COMPLETED: "completed",
    FAILED: "failed",
    UNKNOWN: "unknown",
}
_OTHER: Final = "other"
_DEALT_WITH: Final = "dealt_with"
_BATCH_COLUMNS = (
    "batch",
    *_STATES.values(),
    _OTHER,
    "refused",
    _DEALT_WITH,
    "missing",
    "expected",
    "bytes",
    "last_finished",
)
_ATTENTION_COLUMNS = ("batch", "what", "code", "count", "retry", "meaning")


@dataclass(frozen=True, slots=True)
class Status:
    """The printed status.

    Attributes:
        batches: A row for each batch.
        attention: A row for each batch and code that needs attention.
        unfinished: Number of exports that are unfinished, without a state, or missing.
    """

    batches: tuple[Row, ...]
    attention: tuple[Row, ...]
    unfinished: int

    @property
    def exit_status(self) -> int:
        """The exit status: 0 all done, 3 something needs attention, 4 not finished."""
        if self.attention:
            return FAILURES
        return UNFINISHED if self.unfinished else ALL_DONE

    def render(self, form: Format) -> str:
        """Return the status as text."""
        batches = render(self.batches, _BATCH_COLUMNS, form)
        attention = render(self.attention, _ATTENTION_COLUMNS, form)
        if form == "json":
            return f'{{"batches": {batches.rstrip()},\n"attention": {attention.rstrip()}}}\n'
        return batches + (f"\n{attention}" if self.attention else "")


def make_status(snapshot: Snapshot) -> Status:
    """Return the status of everything watched."""
    rows = tuple(_batch_row(batch, snapshot) for batch in snapshot.batches)
    attention = tuple(row for batch in snapshot.batches for row in _attention(batch, snapshot))
    unfinished = sum(
        batch.totals.states[PENDING]
        + batch.totals.states[RUNNING]
        + snapshot.watchlist.missing(batch.name, batch.totals.watched)
        for batch in snapshot.batches
    )
    # Exports that the API returned without a valid state.
    unfinished += sum(each.state == UNKNOWN and each.failure is None for each in exports(snapshot))
    return Status(rows, attention, unfinished)


def _batch_row(batch: Batch, snapshot: Snapshot) -> Row:
    counts = Counter(
        _DEALT_WITH if each.dealt_with else _STATES.get(each.state, _OTHER)
        for block in batch.blocks
        for each in block.exports
    )
    if (refusals := snapshot.watchlist.refused.get(batch.name)) is not None:
        counts[_DEALT_WITH if refusals.acknowledged else "refused"] += refusals.count
    row: Row = {name: counts[name] for name in _BATCH_COLUMNS}
    row["batch"] = batch.name
    row["expected"] = expected = snapshot.watchlist.expected.get(batch.name)
    row["missing"] = (
        None if expected is None else snapshot.watchlist.missing(batch.name, batch.totals.watched)
    )
    row["bytes"] = batch.totals.exported_bytes
    row["last_finished"] = format_time(_last_finished(batch))
    return row


def _last_finished(batch: Batch) -> float | None:
    """Return the latest time of the API's; when this command saw an export finished is none."""
    times = (
        each.export.finished
        for block in batch.blocks
        for each in block.exports
        if each.export is not None and each.state in FINISHED
    )
    return max((time for time in times if time is not None), default=None)


def _attention(batch: Batch, snapshot: Snapshot) -> Iterator[Row]:
    counts: Counter[tuple[str, str]] = Counter()
    for block in batch.blocks:
        for each in block.exports:
            if each.needs_attention:
                error = each.failure or (each.export and each.export.error)
                what = each.state if each.failure is None else "lookup error"
                counts[what, (error and error.code) or NO_CODE] += 1
    refusals = snapshot.watchlist.refused.get(batch.name)
    if refusals is not None and not refusals.acknowledged:
        for code, count in refusals.codes.items():
            counts["refused", code or NO_CODE] += count
    for (what, code), count in sorted(counts.items()):
        meaning = explain(code)
        yield {
            "batch": batch.name,
            "what": what,
            "code": code,
            "count": count,
            "retry": meaning.retry if meaning else None,
            "meaning": meaning.meaning if meaning else None,
        }
