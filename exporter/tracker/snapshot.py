"""What is known after a scrape: immutable, published once, bound once by whoever reads it.

Exports stand in blocks of one batch each. One that changes replaces its block and its batch; all
others are the same objects in the next snapshot, and what is derived from them is derived once.
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

#: The code of an error that the API did not give one for, in totals.
NO_CODE = "none"


@dataclass(frozen=True, slots=True)
class WatchedExport:
    """One watched ID and what is known of it.

    Attributes:
        id: The export's ID.
        state: As it is shown: what the API said, unless that is too long ago or an error.
        export: The last proper answer, or None if there never was one.
        failure: What the API answered last in the place of an export, or None.
        acknowledged: Whether somebody has dealt with its failure.
        retired: Whether it is COMPLETED for so long that it has no series of its own any more.
    """

    id: str
    state: str
    export: Export | None = None
    failure: LookupFailure | None = None
    acknowledged: bool = False
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of some exports; times are Unix seconds, by state, where any is known."""

    watched: int = 0
    states: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    lookup_errors: Mapping[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    exported_bytes: int = 0
    last_finished: Mapping[str, float] = field(default_factory=dict)
    oldest_unfinished: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some hundred exports of one batch, and their totals."""

    batch: str
    exports: tuple[WatchedExport, ...]
    totals: Totals

    @classmethod
    def of(cls, batch: str, exports: tuple[WatchedExport, ...]) -> "Block":
        """Make the block of `exports`, which are all of `batch`."""
        return cls(batch, exports, _total(exports))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A batch: its blocks and their totals."""

    name: str
    blocks: tuple[Block, ...]
    totals: Totals

    @classmethod
    def of(cls, name: str, blocks: tuple[Block, ...]) -> "Batch":
        """Make the batch of `blocks`."""
        return cls(name, blocks, _sum(block.totals for block in blocks))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one scrape found.

    Attributes:
        watchlist: What is watched.
        batches: In order of names.
        oldest_answers: By batch, the Unix time of the answer for the unfinished export that was
            answered for longest ago; batches without one are missing.
        up: Whether every call that the scrape needed was made and answered properly.
        duration: Of the scrape, in seconds.
        api_calls: HTTP requests that the scrape sent.
        last_success: Unix time of the end of the last scrape that was `up`, or None.
        time: Unix time of the end of this scrape.
        problem: Why the API's last calls failed, in words of ours that are safe to show, or None.
        rate_limit: What the API said of it last, or None.
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


def _total(exports: Iterable[WatchedExport]) -> Totals:
    states = Counter(dict.fromkeys(STATES, 0))
    errors: Counter[str] = Counter()
    lookup_errors: Counter[str] = Counter()
    acknowledged = exported_bytes = 0
    last_finished: dict[str, float] = {}
    oldest_unfinished: dict[str, float] = {}
    for watched in exports:
        state, export = watched.state, watched.export
        states[state] += 1
        if watched.failure is not None:
            lookup_errors[watched.failure.code or NO_CODE] += 1
        if export is None:
            continue
        if state == FAILED:
            errors[(export.error and export.error.code) or NO_CODE] += 1
            acknowledged += watched.acknowledged
        if state == COMPLETED:
            exported_bytes += export.size or 0
        if state in FINISHED and export.finished is not None:
            last_finished[state] = max(export.finished, last_finished.get(state, 0))
        if state in UNFINISHED and export.started is not None:
            oldest_unfinished[state] = min(
                export.started, oldest_unfinished.get(state, export.started)
            )
    return Totals(
        watched=states.total(),
        states=dict(states),
        errors=dict(errors),
        lookup_errors=dict(lookup_errors),
        acknowledged=acknowledged,
        exported_bytes=exported_bytes,
        last_finished=last_finished,
        oldest_unfinished=oldest_unfinished,
    )


def _sum(parts: Iterable[Totals]) -> Totals:
    states = Counter(dict.fromkeys(STATES, 0))
    errors: Counter[str] = Counter()
    lookup_errors: Counter[str] = Counter()
    acknowledged = exported_bytes = 0
    last_finished: dict[str, float] = {}
    oldest_unfinished: dict[str, float] = {}
    for part in parts:
        states.update(part.states)
        errors.update(part.errors)
        lookup_errors.update(part.lookup_errors)
        acknowledged += part.acknowledged
        exported_bytes += part.exported_bytes
        for state, time in part.last_finished.items():
            last_finished[state] = max(time, last_finished.get(state, time))
        for state, time in part.oldest_unfinished.items():
            oldest_unfinished[state] = min(time, oldest_unfinished.get(state, time))
    return Totals(
        watched=states.total(),
        states=dict(states),
        errors=dict(errors),
        lookup_errors=dict(lookup_errors),
        acknowledged=acknowledged,
        exported_bytes=exported_bytes,
        last_finished=last_finished,
        oldest_unfinished=oldest_unfinished,
    )
