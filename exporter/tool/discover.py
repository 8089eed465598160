"""One round of `discover`: from the API's list to ID files."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from math import inf
from pathlib import Path
from typing import Final, Literal, get_args

from exporter.cavatica.export import COMPLETED, FAILED, FINISHED, Export, arrived_at, failed_at
from exporter.clock import Clock
from exporter.tool.account import Found, Search, get_details, look_up
from exporter.tool.api import PacedApi
from exporter.tool.ledger import Ledger, Selection, locked

BatchBy = Literal["volume-day", "volume", "none"]
BATCH_BY: Final[tuple[BatchBy, ...]] = get_args(BatchBy)

_DAY_SECONDS = 86400.0
# A pass over the whole list proves what shorter searches only make likely, and detects completed
# exports: once a day if anything is new or to be dropped, else once a week.
_CHECK_SECONDS = _DAY_SECONDS
_QUIET_CHECK_SECONDS = 7 * _DAY_SECONDS


@dataclass(frozen=True, slots=True)
class Round:
    """The result of a round.

    Attributes:
        first: Whether no earlier round read the whole list.
        whole: Whether every export of the account is known now.
        total: How many exports the account has.
        missing: Number of exports that never appeared in the list.
        exports: Number of exports in the files.
        files: Number of files.
        changed: Number of ID files written or removed.
        added: Exports added to the files.
        dropped: Exports removed because they, or those that superseded them, COMPLETED long ago.
        older: New exports that ended before `--since`, or too long ago to keep.
        elsewhere: New exports to other volumes than requested.
        pending: New exports left to a later round, because the API returned no details yet.
        without_details: New exports of which the API returns only the state.
        without_id: Items of the list without a usable ID, if the whole list was read.
        gone: Known exports that were listed in the last round, and are not any more.
        calls: Number of requests sent.
        reselected: Whether the last round had other flags.
        warning: The problem of a state file, or None.
    """

    first: bool
    whole: bool
    total: int
    missing: int
    exports: int
    files: int
    changed: int
    added: int
    dropped: int
    older: int
    elsewhere: int
    pending: int
    without_details: int
    without_id: int
    gone: int
    calls: int
    reselected: bool
    warning: str | None


def discover(
    api: PacedApi,
    directory: Path,
    selection: Selection,
    *,
    batch_by: BatchBy,
    clock: Clock,
    progress: Callable[[int, int], None],
) -> Round:
    """Find the account's exports, and write the selected ones to ID files in `directory`.

    Nothing is written unless the API answered every call.

    Raises:
        ApiError: a call failed.
        LedgerError: the files cannot be used or written.
    """
    calls = api.calls
    with locked(directory):
        ledger = Ledger(directory, selection)
        search = Search(api, ledger.knows, ledger.known, progress)
        found, quiet = search.probe()
        now = clock.time()
        first = ledger.state.verified is None
        is_check = _is_check_due(ledger, now, selection, quiet=quiet)
        if is_check:
            search.find_every(found)
        elif not quiet:
            search.find_new(found)
        new = {export_id for export_id in found.exports if not ledger.knows(export_id)}
        details = get_details(api, found, new)
        added = older = elsewhere = 0
        for export_id, export in found.exports.items():
            if export_id in new:
                if selection.volumes and export.volume not in selection.volumes:
                    elsewhere += 1
                    ledger.leave_out(export_id)
                    continue
                if _is_old(export, now, selection):
                    older += 1
                    ledger.leave_out(export_id)
                    continue
                added += 1
                ledger.add(export_id, _batch(export, now, batch_by))
            if export.state == COMPLETED and export_id in ledger.places:
                ledger.complete(export_id, export.finished, now)
        gone = 0
        if found.whole and found.every:
            # Otherwise more may be known than were listed when the total was read.
            gone = ledger.account_for(found.total - len(details.pending), len(found.exports))
            ledger.state.verified = now
        # Only a pass over the whole list shows which exports FAILED.
        dropped = _drop_old(api, found, ledger, now) if is_check else set[str]()
        superseded = len(dropped & new)
        whole = found.whole and not details.pending
        changed = ledger.write(now, complete=whole)
        return Round(
            first=first,
            whole=whole,
            total=found.total,
            missing=0
            if found.whole
            else max(found.total - len(found.exports) - len(details.pending), 0),
            changed=changed,
            exports=len(ledger.places),
            files=ledger.file_count,
            added=added - superseded,
            dropped=len(dropped) - superseded,
            older=older + superseded,
            elsewhere=elsewhere,
            pending=len(details.pending),
            without_details=len(details.refused),
            without_id=found.unusable,
            gone=gone,
            calls=api.calls - calls,
            reselected=ledger.state.reselected,
            warning=ledger.state.warning,
        )


def _drop_old(api: PacedApi, found: Found, ledger: Ledger, now: float) -> set[str]:
    """Drop what COMPLETED too long ago, and the failures that it superseded; return their IDs.

    Raises:
        ApiError: there is no usable answer.
    """
    expired = ledger.expired(now)
    dropped = expired | _superseded(api, found, ledger, expired)
    for export_id in dropped:
        ledger.drop(export_id)
    return dropped


def _superseded(api: PacedApi, found: Found, ledger: Ledger, expired: set[str]) -> set[str]:
    """Return written failures that an export superseded which is not written, or `expired`.

    Without that export the failure would count as open, and the file be exported again.

    Raises:
        ApiError: there is no usable answer.
    """
    failed = {
        export_id
        for export_id in ledger.places
        if export_id in found.exports and found.exports[export_id].state == FAILED
    }
    if not failed:
        return set()
    exports = [
        export
        for export_id, export in found.exports.items()
        if export_id not in ledger.places and export_id not in found.without_details
    ]
    arrivals: dict[int, float] = {}
    for export in (*exports, *look_up(api, found, expired).values()):
        if export.destination is not None:
            before = arrivals.get(export.destination, -inf)
            arrivals[export.destination] = max(before, arrived_at(export))
    if not arrivals:
        return set()
    return {
        export_id
        for export_id, export in look_up(api, found, failed).items()
        if export.destination is not None
        and failed_at(export) < arrivals.get(export.destination, -inf)
    }


def _is_check_due(ledger: Ledger, now: float, selection: Selection, *, quiet: bool) -> bool:
    if ledger.state.verified is None:
        return True
    is_quiet = quiet and not ledger.expired(now)
    longest = min(_QUIET_CHECK_SECONDS, selection.keep) if is_quiet else _CHECK_SECONDS
    # If the clock was ahead at the last check, the next one must not wait until that time.
    return not 0 <= now - ledger.state.verified <= longest


def _is_old(export: Export, now: float, selection: Selection) -> bool:
    if export.state not in FINISHED:
        return False
    ended = export.finished if export.finished is not None else export.started
    if ended is None:
        return False
    if export.state == COMPLETED and ended < now - selection.keep:
        return True
    return bool(selection.since) and ended < now - selection.since


def _batch(export: Export, now: float, batch_by: BatchBy) -> str:
    if batch_by == "none":
        return "discovered"
    volume = export.volume or "no volume"
    if batch_by == "volume":
        return volume
    # A queued export has no time yet.
    times = (export.started, export.finished, now)
    began = next(moment for moment in times if moment is not None)
    day = datetime.fromtimestamp(began, timezone.utc).date()
    return f"{volume} {day.isoformat()}"
