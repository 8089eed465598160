"""What is known of every watched ID: what an answer changes, and what is too old to be shown.

Only a change of the watchlist iterates over all exports: the cost of a scrape depends on the
unfinished ones.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from itertools import chain
from typing import Final

from exporter.cavatica.export import FAILED, FINISHED, STATES, UNKNOWN, Export, LookupFailure
from exporter.tracker.blocks import Blocks
from exporter.tracker.departed import Answer, DepartedExports
from exporter.tracker.destinations import Destinations
from exporter.tracker.first_seen import FirstSeen
from exporter.tracker.queue import AskingQueue, Urgency
from exporter.tracker.retirement import Retirement
from exporter.tracker.snapshot import Batch, Block, WatchedExport
from exporter.tracker.suspects import Suspects
from exporter.watchlist.watchlist import Watchlist

#: Seconds without a change after which an undocumented state counts as final.
SETTLE_SECONDS: Final = 7 * 86_400.0

# Statuses of lookup errors that end with the right token, all at once.
_NO_ACCESS: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class ExportStates:
    """The state of every watched export; used by one thread at a time.

    Args:
        max_age: Seconds for which the state of an unfinished export is shown without a new answer.
        completed_retention: Seconds after which a COMPLETED export retires; 0 for never.
    """

    def __init__(self, max_age: float, completed_retention: float) -> None:
        self._max_age = max_age
        self._known: dict[str, WatchedExport] = {}
        self._departed = DepartedExports()
        self._last_answers: dict[str, Answer] = {}
        # Start of the last recorded call, for IDs that two concurrent calls may have asked for.
        self._asked_at: dict[str, float] = {}
        self._first_seen = FirstSeen()
        self._queue = AskingQueue()
        # Whether an ID that the API had refused to this account was answered.
        self._has_access_again = False
        self._suspects = Suspects()
        self._retirement = Retirement(completed_retention)
        self._destinations = Destinations()
        self._blocks = Blocks(self._known)

    def restore(self, exports: Iterable[WatchedExport]) -> None:
        """Remember these exports of the state file; `update_watchlist` must follow."""
        self._departed.restore(exports)

    def update_watchlist(self, watchlist: Watchlist, *, monotonic: float, unix: float) -> None:
        """Watch the IDs of `watchlist` from now on; what is known of them stays."""
        before, self._known = self._known, {}
        self._departed.forget(monotonic)
        arrivals = []
        for ids in watchlist.batches.values():
            for export_id in ids:
                if export_id not in before:
                    arrivals.append(export_id)
                watched = self._recall(export_id, before.get(export_id), unix)
                acknowledged = export_id in watchlist.acknowledged
                if watched.acknowledged != acknowledged:
                    watched = replace(watched, acknowledged=acknowledged)
                self._known[export_id] = watched
        for export_id, watched in before.items():
            if export_id not in self._known and watched != WatchedExport(export_id, UNKNOWN):
                answer = self._last_answers.pop(export_id, None)
                self._departed.add(watched, answer, monotonic=monotonic, unix=unix)
        self._departed.expel(monotonic=monotonic, unix=unix, all_read=not watchlist.errors)
        self._first_seen.keep(self._known)
        failures = ((i, self._known[i].failure) for i in arrivals)
        bad = {i: None for i, each in failures if each and each.status == HTTPStatus.BAD_REQUEST}
        self._suspects.update(self._known, bad)
        others = [i for i in arrivals if i not in bad]
        self._queue.update(self._known, others, lambda i: self._urgency(i, monotonic))
        self._retirement.rebuild(self._known.values())
        self._destinations.rebuild(self._known.values())
        self._blocks.rebuild(self._known, watchlist.batches)

    def plan(self, size: int, *, overlaps: bool) -> list[list[str]]:
        """Return the calls to make, of up to `size` IDs each; `requeue` must follow.

        Args:
            size: The most IDs in a call.
            overlaps: Whether another scrape is in flight.
        """
        if not overlaps:
            self._asked_at.clear()
        return self._suspects.plan(self._queue.plan(size), size)

    def next_call(self, size: int) -> list[list[str]]:
        """Return at most one call, to be made beside a plan; none if nothing is watched."""
        ids = self._queue.next_call(size)
        return self._suspects.plan([ids] if ids else [], size)[:1]

    def requeue(
        self,
        asked: Sequence[str],
        not_asked: Sequence[str],
        *,
        refused: Collection[Sequence[str]] = (),
        answered: Collection[Sequence[str]] = (),
        monotonic: float,
    ) -> None:
        """Queue the IDs of a plan again.

        Args:
            asked: Those of the calls that were made.
            not_asked: The others.
            refused: Those of each call that the API refused because of its IDs.
            answered: Those of each call that the API answered.
            monotonic: Now.
        """
        cleared = self._suspects.record(len(asked), refused, answered)
        suspects = set(self._suspects)
        if suspects or cleared:
            kept_out = suspects.union(asked)
            waiting = dict.fromkeys([*not_asked, *cleared])
            not_asked = [i for i in waiting if i not in kept_out]
            asked = [i for i in asked if i not in suspects]
        self._queue.requeue(asked, not_asked, lambda i: self._urgency(i, monotonic))
        if self._has_access_again:
            self._has_access_again = False
            self._queue.promote()

    def record(
        self,
        outcomes: Mapping[str, Export | LookupFailure | None],
        *,
        asked: float,
        overlaps: bool,
        monotonic: float,
        unix: float,
    ) -> None:
        """Record an answer, as returned by `pair_items`.

        Args:
            outcomes: The outcome for each ID.
            asked: Monotonic time at which the call began; outcomes of later calls are kept.
            overlaps: Whether another scrape is in flight.
            monotonic: Now.
            unix: Now.
        """
        self._follow_clock(monotonic, unix)
        for export_id, outcome in outcomes.items():
            before = self._known.get(export_id)
            if before is None or self._asked_at.get(export_id, asked) > asked:
                continue
            if overlaps:
                self._asked_at[export_id] = asked
            if isinstance(outcome, Export):
                if before.state in FINISHED and outcome.state == UNKNOWN:
                    continue
                failure = before.failure
                self._has_access_again |= failure is not None and failure.status in _NO_ACCESS
                self._record_export(before, outcome, monotonic, unix)
            elif before.state not in FINISHED:
                self._replace(replace(before, state=UNKNOWN, failure=outcome))
                if self._urgency(export_id, monotonic) != "unfinished":
                    self._last_answers.pop(export_id, None)

    def expire(self, *, since: float, monotonic: float, unix: float) -> None:
        """Turn states that are too old into UNKNOWN, and retire exports.

        Args:
            since: Monotonic time at which the scrape began: its own answers are not too old.
            monotonic: Now.
            unix: Now.
        """
        self._follow_clock(monotonic, unix)
        for export_id in chain(self._queue, self._suspects):
            answer = self._last_answers.get(export_id)
            watched = self._known[export_id]
            if (
                answer is not None
                and watched.state != UNKNOWN
                and answer.monotonic < since
                and monotonic - answer.monotonic > self._max_age
            ):
                self._replace(replace(watched, state=UNKNOWN))
        for due, export_id in self._retirement.due(unix):
            watched = self._known[export_id]
            # An export that changed has another entry, or none.
            if self._retirement.retires_at(watched) == due:
                self._replace(replace(watched, retired=True))

    def batches(self) -> tuple[Batch, ...]:
        """Return the batches in order of names, rebuilt where anything changed."""
        for watched, superseded in self._destinations.changes(self._known):
            self._replace(replace(watched, superseded=superseded))
        return self._blocks.batches()

    def departed(self, monotonic: float) -> tuple[Block, ...]:
        """Return `Snapshot.departed`."""
        self._departed.forget(monotonic)
        return self._departed.blocks()

    def oldest_answers(self) -> dict[str, float]:
        """Return the monotonic time of the oldest answer among unfinished exports, by batch."""
        oldest: dict[str, float] = {}
        for export_id in chain(self._queue, self._suspects):
            if (answer := self._last_answers.get(export_id)) is not None:
                name = self._blocks.batch_name(export_id)
                oldest[name] = min(answer.monotonic, oldest.get(name, answer.monotonic))
        return oldest

    def _urgency(self, export_id: str, monotonic: float) -> Urgency:
        """Return how soon the ID is to be asked for again.

        An undocumented state that has not changed for a week counts as finished.
        """
        watched = self._known[export_id]
        if watched.failure is not None:
            return "unfinished" if watched.failure.temporary else "lookup error"
        if watched.state in STATES:
            return "finished" if watched.state in FINISHED else "unfinished"
        is_settled = monotonic - self._last_answers[export_id].since > SETTLE_SECONDS
        return "finished" if is_settled else "unfinished"

    def _record_export(
        self, before: WatchedExport, export: Export, monotonic: float, unix: float
    ) -> None:
        seen = None
        if export.state not in FINISHED:
            last = self._last_answers.get(export.id)
            is_same = before.export is not None and before.export.state == export.state
            since = last.since if last and is_same else monotonic
            self._last_answers[export.id] = Answer(monotonic, since)
        else:
            self._last_answers.pop(export.id, None)
            if export.finished is None:
                known = before.finished if before.state in FINISHED else None
                seen = self._first_seen.time(export, known, unix)
        if seen is None:
            self._first_seen.discard(export.id)
        after = replace(
            before,
            state=export.state,
            export=export,
            failure=None,
            retired=False,
            seen_finished=seen,
            # Exports without a destination cannot be superseded, and are not checked again.
            superseded=before.superseded
            and export.state == FAILED
            and export.destination is not None,
        )
        due = self._retirement.retires_at(after)
        if due is not None and due <= unix:
            after = replace(after, retired=True)
        self._replace(after)
        if (
            due is not None
            and due > unix
            and (before.retired or due != self._retirement.retires_at(before))
            and self._retirement.schedule(due, after.id)
        ):
            self._retirement.rebuild(self._known.values())

    def _replace(self, watched: WatchedExport) -> None:
        before = self._known[watched.id]
        if before != watched:
            self._known[watched.id] = watched
            self._destinations.replace(before, watched)
            self._blocks.mark_changed(watched.id)

    def _recall(self, export_id: str, watched: WatchedExport | None, unix: float) -> WatchedExport:
        """Return what is known of an ID, with what is remembered of it.

        A state file can be read late: answers are newer. What the file has is shown if there was
        none, as after a start with the file, and its time of a failure is the first one.
        """
        if (remembered := self._departed.take(export_id)) is None:
            return watched or WatchedExport(export_id, UNKNOWN)
        stored, answer = remembered
        if watched is None or watched.export is None or watched.export.state == UNKNOWN:
            self._last_answers.pop(export_id, None)
            if answer is not None:
                self._last_answers[export_id] = answer
            due = self._retirement.retires_at(stored)
            return replace(stored, retired=due is not None and due <= unix)
        return self._first_seen.earlier(watched, stored)

    def _follow_clock(self, monotonic: float, unix: float) -> None:
        """Correct what depends on the wall clock, if it was set."""
        if step := self._first_seen.step(monotonic=monotonic, unix=unix):
            for watched in [*self._known.values()]:
                after = self._first_seen.moved(watched, step)
                due = self._retirement.retires_at(after)
                self._replace(replace(after, retired=due is not None and due <= unix))
            self._retirement.rebuild(self._known.values())
