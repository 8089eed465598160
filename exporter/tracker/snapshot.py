"""The result of a scrape: an immutable value that is published by one assignment.

Exports are grouped in blocks, each of one batch. A change replaces the block and its batch; all
others stay the same objects in the next snapshot, so that what is derived from them can be cached.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from exporter.cavatica.answer import RateLimit
from exporter.cavatica.export import (
    COMPLETED,
    FAILED,
    FINISHED,
    STATES,
    UNFINISHED,
    Export,
    LookupFailure,
)
from exporter.watchlist.watchlist import Watchlist

#: In totals, the code of errors that have none.
NO_CODE = "none"


@dataclass(frozen=True, slots=True)
class WatchedExport:
    """A watched ID and what is known of it.

    Attributes:
        id: The export's ID.
        state: The state to show: that of the last answer, unless it is too old or was an error.
        export: The export as last answered, or None before the first answer.
        failure: The error that the API last returned instead of an export, or None.
        acknowledged: Whether an ID file acknowledges its failure.
        superseded: Whether it FAILED and a later export to the same destination COMPLETED, by the
            API's times.
        left: Unix time at which its ID left the watchlist, or None while it is watched.
        retired: Whether it has been COMPLETED for so long that it has no series of its own.
        seen_finished: Unix time of the first answer that it is finished, if the API does not say
            when that was; or None.
    """

    id: str
    state: str
    export: Export | None = None
    failure: LookupFailure | None = None
    acknowledged: bool = False
    retired: bool = False
    superseded: bool = False
    left: float | None = None
    seen_finished: float | None = None

    @property
    def finished(self) -> float | None:
        """Unix time at which it finished: the API's, or else that of the first such answer."""
        if self.export is None or self.export.finished is None:
            return self.seen_finished
        return self.export.finished

    @property
    def needs_attention(self) -> bool:
        """Whether it FAILED, is in an undocumented state or has a lookup error, and is open."""
        return self._is_bad and not (self.acknowledged or self.superseded)

    @property
    def dealt_with(self) -> bool:
        """Whether it would need attention, if it were not acknowledged or superseded."""
        return self._is_bad and (self.acknowledged or self.superseded)

    @property
    def _is_bad(self) -> bool:
        return self.failure is not None or self.state == FAILED or self.state not in STATES


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of some exports; times are Unix seconds by state, where one is known."""

    watched: int = 0
    states: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    lookup_errors: Mapping[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    superseded: int = 0
    exported_bytes: int = 0
    last_finished: Mapping[str, float] = field(default_factory=dict)
    oldest_unfinished: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Up to some hundred exports of one batch, and their totals."""

    batch: str
    exports: tuple[WatchedExport, ...]
    totals: Totals

    @classmethod
    def of(cls, batch: str, exports: tuple[WatchedExport, ...]) -> "Block":
        """Return the block of `exports`, which all belong to `batch`."""
        return cls(batch, exports, _total(exports))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A batch, its blocks and their totals."""

    name: str
    blocks: tuple[Block, ...]
    totals: Totals

    @classmethod
    def of(cls, name: str, blocks: tuple[Block, ...]) -> "Batch":
        """Return the batch of `blocks`."""
        return cls(name, blocks, _sum(block.totals for block in blocks))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The result of one scrape.

    Attributes:
        watchlist: The watchlist.
        batches: The batches in order of names.
        oldest_answers: Unix time of the oldest answer among unfinished exports, by batch; batches
            without one are missing.
        up: Whether every API call that the scrape needed succeeded.
        duration: Duration of the scrape in seconds.
        api_calls: HTTP requests sent by the scrape.
        last_success: Unix time at the end of the last scrape that was `up`, or None.
        last_success_age: Seconds since then, on a clock that never jumps, or None.
        time: Unix time at the end of this scrape.
        problem: Why the last API calls failed, without any text of an answer, or None.
        rate_limit: The rate limit as last reported by the API, or None.
        rate_limit_window: Seconds until the rate limit's window ends; 0 after it, or None.
        departed: What is remembered of IDs that are not watched now, for the state file.
        has_stored: Whether what the state file had is in this snapshot.
    """

    watchlist: Watchlist
    batches: tuple[Batch, ...]
    oldest_answers: Mapping[str, float]
    up: bool
    duration: float
    api_calls: int
    last_success: float | None
    rate_limit: RateLimit | None
    time: float
    problem: str | None = None
    last_success_age: float | None = None
    rate_limit_window: float | None = None
    departed: tuple[Block, ...] = ()
    has_stored: bool = False


class _Accumulator:
    """Adds up totals; every state of the API has a count from the start."""

    def __init__(self) -> None:
        self.states = Counter(dict.fromkeys(STATES, 0))
        self.errors: Counter[str] = Counter()
        self.lookup_errors: Counter[str] = Counter()
        self.acknowledged = self.superseded = self.exported_bytes = 0
        self.last_finished: dict[str, float] = {}
        self.oldest_unfinished: dict[str, float] = {}

    def finished(self, state: str, time: float) -> None:
        """Add a finish time."""
        self.last_finished[state] = max(time, self.last_finished.get(state, time))

    def started(self, state: str, time: float) -> None:
        """Add a start time."""
        self.oldest_unfinished[state] = min(time, self.oldest_unfinished.get(state, time))

    def totals(self) -> Totals:
        """Return the totals of everything that was added."""
        return Totals(
            watched=self.states.total(),
            states=dict(self.states),
            errors=dict(self.errors),
            lookup_errors=dict(self.lookup_errors),
            acknowledged=self.acknowledged,
            superseded=self.superseded,
            exported_bytes=self.exported_bytes,
            last_finished=self.last_finished,
            oldest_unfinished=self.oldest_unfinished,
        )


def _total(exports: Iterable[WatchedExport]) -> Totals:
    """Return the totals of single exports."""
    total = _Accumulator()
    for watched in exports:
        state, export = watched.state, watched.export
        total.states[state] += 1
        if watched.failure is not None:
            total.lookup_errors[watched.failure.code or NO_CODE] += 1
        if export is None:
            continue
        if state == FAILED:
            total.errors[(export.error and export.error.code) or NO_CODE] += 1
            total.acknowledged += watched.acknowledged
            total.superseded += watched.superseded
        if state == COMPLETED:
            total.exported_bytes += export.size or 0
        if state in FINISHED and (finished := watched.finished) is not None:
            total.finished(state, finished)
        if state in UNFINISHED and export.started is not None:
            total.started(state, export.started)
    return total.totals()


def _sum(parts: Iterable[Totals]) -> Totals:
    """Return the totals of totals."""
    total = _Accumulator()
    for part in parts:
        total.states.update(part.states)
        total.errors.update(part.errors)
        total.lookup_errors.update(part.lookup_errors)
        total.acknowledged += part.acknowledged
        total.superseded += part.superseded
        total.exported_bytes += part.exported_bytes
        for state, time in part.last_finished.items():
            total.finished(state, time)
        for state, time in part.oldest_unfinished.items():
            total.started(state, time)
    return total.totals()
