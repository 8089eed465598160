"""The report: a snapshot as the status page shows it.

Blocks of exports stay the same objects until one of their exports changes. So only new blocks are
searched for exports that need attention, and a page of 100,000 exports is cheap.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import nlargest, nsmallest
from itertools import chain
from operator import attrgetter
from typing import Final

from exporter.cavatica.codes import explain
from exporter.cavatica.export import COMPLETED, FAILED, STATES, UNFINISHED, UNKNOWN
from exporter.text import counted
from exporter.tracker.snapshot import Batch, Block, Snapshot, WatchedExport
from exporter.watchlist.watchlist import Watchlist
from exporter.web.status import (
    ApiHealth,
    BatchRow,
    ExportRow,
    Exports,
    FileRow,
    RefusalRow,
    Status,
    Verdict,
)

#: Maximum rows of a table.
MAX_ROWS: Final = 200


@dataclass(frozen=True, slots=True)
class _Findings:
    """The exports of one block that have a row on the page."""

    attention: tuple[WatchedExport, ...] = ()
    unfinished: tuple[WatchedExport, ...] = ()
    lookup_errors: tuple[WatchedExport, ...] = ()


_NOTHING_FOUND = _Findings()


class StatusReport:
    """Makes the status of snapshots; may be used by several threads at once.

    Args:
        max_age: Seconds after which the state of an unfinished export expires.
    """

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._found: Mapping[Block, _Findings] = {}

    def of(self, snapshot: Snapshot, age: float) -> Status:
        """Return the status of a `snapshot` that was taken `age` seconds ago."""
        outdated = age > self._max_age
        found = {
            block: self._found.get(block) or _search(block)
            for batch in snapshot.batches
            for block in batch.blocks
        }
        self._found = found
        watchlist = snapshot.watchlist
        batches = [
            _batch_row(batch, found, watchlist, outdated=outdated) for batch in snapshot.batches
        ]
        refused = _refused(watchlist)
        status = Status(
            verdict="well",
            headline="",
            time=snapshot.time,
            outdated=outdated,
            batches=tuple(nsmallest(MAX_ROWS, batches, key=_batch_order)),
            batches_total=len(batches),
            refused=tuple(nlargest(MAX_ROWS, refused, key=attrgetter("written"))),
            refused_total=sum(row.count for row in refused),
            missing=sum(batch.missing for batch in batches),
            rejected=watchlist.rejected,
            attention=_exports(found, lambda findings: findings.attention, newest=True),
            unfinished=_exports(found, lambda findings: findings.unfinished, newest=False),
            lookup_errors=_exports(found, lambda findings: findings.lookup_errors, newest=False),
            api=_api_health(snapshot),
            files=tuple(
                FileRow(file.name, file.mtime, file.error)
                for file in nsmallest(
                    MAX_ROWS, watchlist.files, key=lambda file: file.error is None
                )
            ),
            files_total=len(watchlist.files),
            file_errors=watchlist.errors[:MAX_ROWS],
            file_errors_total=len(watchlist.errors),
        )
        explained = sum(sum(each.totals.lookup_errors.values()) for each in snapshot.batches)
        verdict, headline = _judge(status, _total_states(batches), explained)
        return replace(status, verdict=verdict, headline=headline)


def _search(block: Block) -> _Findings:
    totals = block.totals
    at_rest = totals.states[COMPLETED] + totals.states[UNKNOWN]
    if at_rest == totals.watched and not totals.lookup_errors:
        return _NOTHING_FOUND
    exports = block.exports
    return _Findings(
        attention=tuple(
            export
            for export in exports
            if (export.state == FAILED or export.state not in STATES) and not export.dealt_with
        ),
        unfinished=tuple(export for export in exports if export.state in UNFINISHED),
        lookup_errors=tuple(
            export for export in exports if export.failure is not None and not export.acknowledged
        ),
    )


def _refused(watchlist: Watchlist) -> list[RefusalRow]:
    return [
        RefusalRow(batch, code, _meaning(code), count, refusals.written)
        for batch, refusals in watchlist.refused.items()
        if not refusals.acknowledged
        for code, count in refusals.codes.items()
    ]


def _meaning(code: str) -> str:
    explained = explain(code)
    return explained.meaning if explained else ""


def _batch_row(
    batch: Batch, found: Mapping[Block, _Findings], watchlist: Watchlist, *, outdated: bool
) -> BatchRow:
    totals = batch.totals
    states = dict(totals.states)
    if outdated:
        for state in UNFINISHED:
            states[UNKNOWN] += states[state]
            states[state] = 0
    return BatchRow(
        name=batch.name,
        watched=totals.watched,
        states=states,
        other=sum(count for state, count in states.items() if state not in STATES),
        attention=sum(len(found[block].attention) for block in batch.blocks),
        refused=watchlist.refused[batch.name].count if batch.name in watchlist.refused else 0,
        expected=watchlist.expected.get(batch.name),
        exported_bytes=totals.exported_bytes,
        last_finished=max(totals.last_finished.values(), default=None),
    )


def _batch_order(batch: BatchRow) -> tuple[int, str]:
    return -(batch.attention + batch.refused + batch.missing), batch.name


def _exports(
    found: Mapping[Block, _Findings],
    choose: Callable[[_Findings], Iterable[WatchedExport]],
    *,
    newest: bool,
) -> Exports:
    pairs: list[tuple[str, WatchedExport]] = [
        (block.batch, export) for block, findings in found.items() for export in choose(findings)
    ]
    # Unknown times come last in either order.
    rows = (
        nlargest(MAX_ROWS, pairs, key=lambda pair: _time(pair[1]) or 0.0)
        if newest
        else nsmallest(MAX_ROWS, pairs, key=lambda pair: _time(pair[1]) or float("inf"))
    )
    return Exports(tuple(_export_row(batch, export) for batch, export in rows), len(pairs))


def _time(watched: WatchedExport) -> float | None:
    if watched.export is None:
        return None
    return watched.export.started if watched.state in UNFINISHED else watched.finished


def _export_row(batch: str, watched: WatchedExport) -> ExportRow:
    error = watched.failure or (watched.export.error if watched.export else None)
    code = error.code if error else ""
    return ExportRow(
        batch=batch,
        id=watched.id,
        state=watched.state,
        code=code,
        meaning=_meaning(code),
        time=_time(watched),
    )


def _api_health(snapshot: Snapshot) -> ApiHealth:
    limit = snapshot.rate_limit
    return ApiHealth(
        up=snapshot.up,
        problem=snapshot.problem,
        last_success=snapshot.last_success,
        calls=snapshot.api_calls,
        duration=snapshot.duration,
        limit=limit.limit if limit else None,
        remaining=limit.remaining if limit else None,
        reset=limit.reset if limit else None,
    )


def _total_states(batches: Iterable[BatchRow]) -> Mapping[str, int]:
    totals = dict.fromkeys(STATES, 0)
    for state, count in chain.from_iterable(batch.states.items() for batch in batches):
        totals[state] = totals.get(state, 0) + count
    return totals


def _judge(status: Status, states: Mapping[str, int], explained: int) -> tuple[Verdict, str]:
    """Return verdict and headline; `explained` exports are UNKNOWN because of a lookup error."""
    wrong = [*_wrong(status)]
    not_known = [*_unknown(status, states[UNKNOWN] - explained)]
    if wrong or not_known:
        text = "; ".join([*wrong, *not_known])
        return ("attention" if wrong else "unknown"), f"{text[0].upper()}{text[1:]}."
    if not any(states.values()):
        return "unknown", "Nothing is watched: the ID files list no exports."
    under_way = sum(states[state] for state in UNFINISHED)
    text = f"All is well: {counted(states[COMPLETED], 'export')} completed"
    return "well", f"{text}, {under_way} under way." if under_way else f"{text}."


def _wrong(status: Status) -> Iterator[str]:
    if status.attention.total:
        yield f"{counted(status.attention.total, 'export')} failed"
    if status.refused_total:
        yield f"{counted(status.refused_total, 'file')} refused at the start"
    if status.missing:
        yield f"{counted(status.missing, 'export')} expected and not listed"
    if status.lookup_errors.total:
        yield f"{counted(status.lookup_errors.total, 'ID')} without an export"
    if status.rejected:
        yield (
            "1 entry of the ID files is not a valid export ID"
            if status.rejected == 1
            else f"{status.rejected:,} entries of the ID files are not valid export IDs"
        )
    if status.file_errors_total:
        yield f"{counted(status.file_errors_total, 'error')} in the ID files"


def _unknown(status: Status, unknown: int) -> Iterator[str]:
    if status.outdated:
        yield "the last scrape is too long ago: is Prometheus down?"
    elif status.api and not status.api.up:
        yield "the API did not answer the last scrape properly"
    if unknown > 0:
        yield f"{counted(unknown, 'export')} in a state that is not known"
