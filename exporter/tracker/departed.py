"""What is remembered of IDs that are not watched now: files are replaced, renamed and repaired."""

from dataclasses import dataclass
from itertools import islice
from typing import Final

from exporter.tracker.blocks import BLOCK_SIZE
from exporter.tracker.snapshot import Block, Totals, WatchedExport

#: Seconds for which an ID that left the watchlist is remembered.
REMEMBER_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The last answer for an export that is not finished.

    Attributes:
        monotonic: When it came.
        since: Monotonic time at which its state was first answered.
    """

    monotonic: float
    since: float


@dataclass(frozen=True, slots=True)
class _Departed:
    """What was known of an ID when it left the watchlist at `monotonic`."""

    watched: WatchedExport
    answer: Answer | None
    monotonic: float


class DepartedExports:
    """The IDs that left the watchlist, in the order in which they left."""

    def __init__(self) -> None:
        self._departed: dict[str, _Departed] = {}
        # None: to be built.
        self._blocks: tuple[Block, ...] | None = ()

    def add(self, watched: WatchedExport, answer: Answer | None, *, monotonic: float) -> None:
        """Remember an ID that leaves."""
        self._departed[watched.id] = _Departed(watched, answer, monotonic)
        self._blocks = None

    def take(self, export_id: str) -> tuple[WatchedExport, Answer | None] | None:
        """Return what is known of an ID that comes back, and no longer remember it."""
        if (departed := self._departed.pop(export_id, None)) is None:
            return None
        self._blocks = None
        return departed.watched, departed.answer

    def forget(self, monotonic: float) -> None:
        """Forget the IDs that left too long ago."""
        earliest = monotonic - REMEMBER_SECONDS
        first = next(iter(self._departed.values()), None)
        if first is not None and first.monotonic < earliest:
            kept = {i: each for i, each in self._departed.items() if each.monotonic >= earliest}
            self._departed = kept
            self._blocks = None

    def blocks(self) -> tuple[Block, ...]:
        """Return what is known of them, for the state file; the same object if nothing changed."""
        if self._blocks is None:
            exports = (departed.watched for departed in self._departed.values())
            blocks = []
            while block := tuple(islice(exports, BLOCK_SIZE)):
                blocks.append(Block("", block, Totals()))
            self._blocks = tuple(blocks)
        return self._blocks
