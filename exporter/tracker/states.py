"""What is known of every watched ID: who is to be asked next, and what an answer changes.

Nothing here walks over all exports but a change of the watchlist: a scrape costs what its
unfinished exports cost.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from zlib import crc32

from exporter.cavatica.export import COMPLETED, FINISHED, UNKNOWN, Export, LookupFailure
from exporter.tracker.snapshot import Batch, Block, WatchedExport
from exporter.watchlist.watchlist import Watchlist

#: Exports in a block at most, on average half as many: a change renders so many again, and every
#: block costs memory.
BLOCK_SIZE: Final = 200


@dataclass(frozen=True, slots=True)
class _Answered:
    """When an unfinished export was last answered for."""

    monotonic: float
    unix: float


class ExportStates:
    """Everything known; used by one thread at a time.

    Args:
        max_age: Seconds for which the state of an unfinished export is shown without a new answer.
        completed_retention: Seconds after which a COMPLETED export retires; 0 for never.
    """

    def __init__(self, max_age: float, completed_retention: float) -> None:
        self._max_age = max_age
        self._retention = completed_retention
        self._known: dict[str, WatchedExport] = {}
        self._answered: dict[str, _Answered] = {}
        # Both in the order in which they are to be asked: never asked, then longest ago. A dict
        # is an ordered set here.
        self._unfinished: dict[str, None] = {}
        self._settled: deque[str] = deque()
        self._retiring: list[tuple[float, str]] = []
        self._places: dict[str, int] = {}
        self._blocks: list[Block] = []
        self._block_ids: list[tuple[str, tuple[str, ...]]] = []
        self._spans: dict[str, slice] = {}
        self._batches: dict[str, Batch] = {}
        self._changed: set[int] = set()

    def adopt(self, watchlist: Watchlist) -> None:
        """Watch what `watchlist` says from now on; what is known of the IDs that stay, stays."""
        known: dict[str, WatchedExport] = {}
        for ids in watchlist.batches.values():
            for export_id in ids:
                watched = self._known.get(export_id) or WatchedExport(export_id, UNKNOWN)
                acknowledged = export_id in watchlist.acknowledged
                if watched.acknowledged != acknowledged:
                    watched = replace(watched, acknowledged=acknowledged)
                known[export_id] = watched
        fresh = {export_id: None for export_id in known if export_id not in self._known}
        self._unfinished = fresh | {i: None for i in self._unfinished if i in known}
        self._settled = deque(i for i in self._settled if i in known)
        self._answered = {i: answered for i, answered in self._answered.items() if i in known}
        self._known = known
        self._retiring = [
            (due, watched.id)
            for watched in known.values()
            if (due := self._due(watched)) is not None and not watched.retired
        ]
        heapq.heapify(self._retiring)
        self._lay_out(watchlist.batches)

    def plan(self, size: int) -> list[list[str]]:
        """Choose whom to ask, in calls of up to `size` IDs; `settle` must follow.

        First the unfinished, then as many others as fit into the last call.
        """
        ids = list(self._unfinished)
        free = -len(ids) % size if ids else size
        ids += [self._settled.popleft() for _ in range(min(free, len(self._settled)))]
        return [ids[i : i + size] for i in range(0, len(ids), size)]

    def settle(self, asked: Iterable[str], not_asked: Sequence[str]) -> None:
        """Queue the IDs of a plan again: those that were asked at the end, the others in front."""
        unfinished: dict[str, None] = {}
        for export_id in not_asked:
            if self._is_unfinished(export_id):
                unfinished[export_id] = None
        self._settled.extendleft(i for i in reversed(not_asked) if i not in unfinished)
        for export_id in asked:
            if self._is_unfinished(export_id):
                unfinished[export_id] = None
            else:
                self._settled.append(export_id)
        self._unfinished = unfinished

    def learn(
        self,
        outcomes: Mapping[str, Export | LookupFailure | None],
        *,
        monotonic: float,
        unix: float,
    ) -> None:
        """Take over what the API answered just now, as `pair_items` gives it."""
        for export_id, outcome in outcomes.items():
            before = self._known[export_id]
            if isinstance(outcome, Export):
                if before.state in FINISHED and outcome.state == UNKNOWN:
                    continue
                self._learn_export(before, outcome, unix)
                if outcome.state in FINISHED:
                    self._answered.pop(export_id, None)
                else:
                    self._answered[export_id] = _Answered(monotonic, unix)
            elif before.state not in FINISHED:
                self._show(replace(before, state=UNKNOWN, failure=outcome))
                if not self._is_unfinished(export_id):
                    self._answered.pop(export_id, None)

    def age(self, *, since: float, monotonic: float, unix: float) -> None:
        """Let what is too old be UNKNOWN, but for answers since `since`, and retire exports.

        Args:
            since: Monotonic time of the scrape's start: what it has heard itself is not old.
            monotonic: Now.
            unix: Now.
        """
        for export_id in self._unfinished:
            answered = self._answered.get(export_id)
            watched = self._known[export_id]
            if (
                answered is not None
                and watched.state != UNKNOWN
                and answered.monotonic < since
                and monotonic - answered.monotonic > self._max_age
            ):
                self._show(replace(watched, state=UNKNOWN))
        while self._retiring and self._retiring[0][0] <= unix:
            due, export_id = heapq.heappop(self._retiring)
            watched = self._known[export_id]
            # An export that changed has another entry, or none.
            if self._due(watched) == due:
                self._show(replace(watched, retired=True))

    def batches(self) -> tuple[Batch, ...]:
        """Give the batches in order of names, made anew where anything changed."""
        for index in self._changed:
            batch, ids = self._block_ids[index]
            self._blocks[index] = self._block(batch, ids, None)
        for name in {self._block_ids[index][0] for index in self._changed}:
            self._batches[name] = Batch.of(name, tuple(self._blocks[self._spans[name]]))
        self._changed.clear()
        return tuple(self._batches.values())

    def oldest_answers(self) -> dict[str, float]:
        """Give `Snapshot.oldest_answers`."""
        oldest: dict[str, float] = {}
        for export_id in self._unfinished:
            if (answered := self._answered.get(export_id)) is not None:
                name = self._block_ids[self._places[export_id]][0]
                oldest[name] = min(answered.unix, oldest.get(name, answered.unix))
        return oldest

    def _is_unfinished(self, export_id: str) -> bool:
        """Whether its state can still change; an ID that the API does not know is none."""
        watched = self._known[export_id]
        if watched.failure is not None:
            return watched.failure.temporary
        return watched.state not in FINISHED

    def _learn_export(self, before: WatchedExport, export: Export, unix: float) -> None:
        if export.state in FINISHED and export.finished is None:
            seen = before.export.finished if before.export and before.state in FINISHED else None
            export = replace(export, finished=unix if seen is None else seen)
        after = replace(before, state=export.state, export=export, failure=None, retired=False)
        due = self._due(after)
        if due is not None and due <= unix:
            after = replace(after, retired=True)
        elif due is not None and (before.retired or due != self._due(before)):
            heapq.heappush(self._retiring, (due, after.id))
        self._show(after)

    def _due(self, watched: WatchedExport) -> float | None:
        """When it retires, or has retired, in Unix time; None for never."""
        if not self._retention or watched.state != COMPLETED or watched.export is None:
            return None
        # Every finished export has a time: `_learn_export` sees to it.
        return (watched.export.finished or 0) + self._retention

    def _show(self, watched: WatchedExport) -> None:
        if self._known[watched.id] != watched:
            self._known[watched.id] = watched
            self._changed.add(self._places[watched.id])

    def _lay_out(self, batches: Mapping[str, tuple[str, ...]]) -> None:
        old_blocks = dict(zip(self._block_ids, self._blocks, strict=True))
        old_batches = self._batches
        self._block_ids = []
        self._spans = {}
        for name, ids in batches.items():
            begin = len(self._block_ids)
            self._block_ids += ((name, block) for block in _cut(ids))
            self._spans[name] = slice(begin, len(self._block_ids))
        self._places = {
            export_id: index for index, (_, ids) in enumerate(self._block_ids) for export_id in ids
        }
        self._blocks = [
            self._block(batch, ids, old_blocks.get((batch, ids))) for batch, ids in self._block_ids
        ]
        self._changed.clear()
        self._batches = {
            name: _batch(name, tuple(self._blocks[span]), old_batches.get(name))
            for name, span in self._spans.items()
        }

    def _block(self, batch: str, ids: tuple[str, ...], old: Block | None) -> Block:
        exports = tuple(self._known[export_id] for export_id in ids)
        return old if old is not None and old.exports == exports else Block.of(batch, exports)


def _cut(ids: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Cut a batch into blocks.

    The IDs say where, not their places: one that comes or goes at the top of a long list would
    move all of them into other blocks, and everything would be rendered again.
    """
    least = BLOCK_SIZE // 4
    begin = 0
    for end, export_id in enumerate(ids, 1):
        size = end - begin
        if size == BLOCK_SIZE or (size >= least and crc32(export_id.encode()) % least == 0):
            yield ids[begin:end]
            begin = end
    if begin < len(ids):
        yield ids[begin:]


def _batch(name: str, blocks: tuple[Block, ...], old: Batch | None) -> Batch:
    return old if old is not None and old.blocks == blocks else Batch.of(name, blocks)
