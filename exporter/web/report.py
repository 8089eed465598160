"""The report: a snapshot as the status page shows it.

Blocks of exports stay the same objects until one of their exports changes. So only new blocks are
searched for exports that need attention, and a page of 100,000 exports is cheap.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    """The exports of one block that have a row on the page, and states of those dealt with."""

    attention: tuple[WatchedExport, ...] = ()
    unfinished: tuple[WatchedExport, ...] = ()
    lookup_errors: tuple[WatchedExport, ...] = ()
    dealt_with: tuple[str, ...] = ()


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
            failed=sum(batch.states[FAILED] for batch in batches),
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
        verdict, headline = _judge(status, batches)
        return replace(status, verdict=verdict, headline=headline)


def _search(block: Block) -> _Findings:
    totals = block.totals
    at_rest = totals.states[COMPLETED] + totals.states[UNKNOWN]
    if at_rest == totals.watched and not totals.lookup_errors:
        return _NOTHING_FOUND
    exports = block.exports
    bad = [each for each in exports if each.needs_attention]
    return _Findings(
        attention=tuple(each for each in bad if each.failure is None),
        unfinished=tuple(each for each in exports if each.state in UNFINISHED),
        lookup_errors=tuple(each for each in bad if each.failure is not None),
        dealt_with=tuple(each.state for each in exports if each.dealt_with),
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
    findings = [found[block] for block in batch.blocks]
    dealt_with = Counter(chain.from_iterable(each.dealt_with for each in findings))
    states = {state: count - dealt_with[state] for state, count in totals.states.items()}
    refusals = watchlist.refused.get(batch.name)
    refused = refusals.count if refusals else 0
    is_open = refusals is None or not refusals.acknowledged
    if outdated:
        for state in UNFINISHED:
            states[UNKNOWN] += states[state]
            states[state] = 0
    return BatchRow(
        name=batch.name,
        watched=totals.watched,
        states=states,
        other=sum(count for state, count in states.items() if state not in STATES),
        dealt_with=dealt_with.total() + (0 if is_open else refused),
        lookup_errors=sum(len(each.lookup_errors) for each in findings),
        refused=refused if is_open else 0,
        expected=watchlist.expected.get(batch.name),
        missing=watchlist.missing(batch.name, totals.watched),
        exported_bytes=totals.exported_bytes,
        last_finished=max(totals.last_finished.values(), default=None),
    )


def _batch_order(batch: BatchRow) -> tuple[int, str]:
    attention = batch.states[FAILED] + batch.other + batch.lookup_errors
    return -(attention + batch.refused + batch.missing), batch.name


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


def _judge(status: Status, batches: Sequence[BatchRow]) -> tuple[Verdict, str]:
    """Return verdict and headline; its numbers are the sums of the columns of `batches`."""
    states: Counter[str] = Counter()
    for batch in batches:
        states.update(batch.states)
    wrong = [*_wrong(status)]
    # An ID with a lookup error has its own part of the headline.
    not_known = [*_unknown(status, states[UNKNOWN] - status.lookup_errors.total)]
    if wrong or not_known:
        text = "; ".join([*wrong, *not_known])
        return ("attention" if wrong else "unknown"), f"{text[0].upper()}{text[1:]}."
    if not any(batch.watched for batch in batches):
        return "unknown", "Nothing is watched: the ID files list no exports."
    parts = [f"{counted(states[COMPLETED], 'export')} completed"]
    if under_way := sum(states[state] for state in UNFINISHED):
        parts.append(f"{under_way:,} under way")
    if dealt_with := sum(batch.dealt_with for batch in batches):
        parts.append(f"{dealt_with:,} dealt with")
    return "well", f"All is well: {', '.join(parts)}."


def _wrong(status: Status) -> Iterator[str]:
    if status.failed:
        yield f"{counted(status.failed, 'export')} failed"
    if odd := status.attention.total - status.failed:
        yield f"{counted(odd, 'export')} in an undocumented state"
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
