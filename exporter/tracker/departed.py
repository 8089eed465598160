"""What is remembered of IDs that are not watched now: files are replaced, renamed and repaired."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, islice
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
    """The IDs that left the watchlist, in the order in which they left, and restored ones.

    A restored ID is a departed one if that is what the state file says, or if all ID files can be
    read and none has it.
    """

    def __init__(self) -> None:
        self._departed: dict[str, _Departed] = {}
        # The ID files that cannot be read may have these.
        self._restored: dict[str, WatchedExport] = {}
        # None: to be built.
        self._blocks: tuple[Block, ...] | None = ()

    def restore(self, exports: Iterable[WatchedExport]) -> None:
        """Remember what the state file has, until `expel` is called.

        What was answered since the start, of IDs that have left, is newer.
        """
        newer = {i for i, each in self._departed.items() if each.watched.export is not None}
        self._restored = {watched.id: watched for watched in exports if watched.id not in newer}
        self._blocks = None

    def expel(self, *, monotonic: float, unix: float, all_read: bool) -> None:
        """Turn the restored IDs that no ID file has into departed ones.

        They keep the time at which they left: otherwise no ID would ever be forgotten by processes
        that live for less than an hour.

        Args:
            monotonic: Now.
            unix: Now.
            all_read: Whether all ID files could be read.
        """
        restored, self._restored = self._restored, {}
        for export_id, watched in restored.items():
            if watched.left is None and not all_read:
                self._restored[export_id] = watched
            else:
                # The clock may have been set back.
                left = unix if watched.left is None else min(watched.left, unix)
                self._departed[export_id] = _Departed(
                    replace(watched, left=left), None, monotonic - (unix - left)
                )
        if len(self._restored) < len(restored):
            in_order = sorted(self._departed.items(), key=lambda item: item[1].monotonic)
            self._departed = dict(in_order)
            self._blocks = None

    def add(
        self, watched: WatchedExport, answer: Answer | None, *, monotonic: float, unix: float
    ) -> None:
        """Remember an ID that leaves."""
        left = replace(watched, left=unix)
        self._departed[watched.id] = _Departed(left, answer, monotonic)
        self._blocks = None

    def take(self, export_id: str) -> tuple[WatchedExport, Answer | None] | None:
        """Return what is known of an ID that comes back, and no longer remember it."""
        known: tuple[WatchedExport, Answer | None] | None = None
        if (restored := self._restored.pop(export_id, None)) is not None:
            known = restored, None
        elif (departed := self._departed.pop(export_id, None)) is not None:
            known = departed.watched, departed.answer
        if known is None:
            return None
        self._blocks = None
        watched, answer = known
        # Most have no such time, and there may be 100,000.
        return (watched if watched.left is None else replace(watched, left=None)), answer

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
            left = (each.watched for each in self._departed.values())
            exports = chain(left, self._restored.values())
            blocks = []
            while block := tuple(islice(exports, BLOCK_SIZE)):
                blocks.append(Block("", block, Totals()))
            self._blocks = tuple(blocks)
        return self._blocks
