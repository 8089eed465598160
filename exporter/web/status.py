"""The values of the status page, independent of its format."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["well", "attention", "unknown"]


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch.

    Every watched export is counted once, in `states` or in `dealt_with`; so is every refused file,
    in `refused` or in `dealt_with`.

    Attributes:
        name: The batch's name.
        watched: Number of watched exports.
        states: Number of exports in each state, without those that were dealt with.
        other: Those of `states` in undocumented states.
        dealt_with: Number of exports that failed, are in an undocumented state or have a lookup
            error, and are acknowledged or superseded; and of refused files that are acknowledged.
        lookup_errors: Number of exports with a lookup error that is not acknowledged; of `states`
            they are UNKNOWN.
        refused: Number of files that the API refused to export at the start of the batch, and that
            are not acknowledged.
        expected: Number of exports expected in the batch, or None if no ID file states it.
        missing: Number of expected exports that are neither watched nor refused.
        exported_bytes: Size of the COMPLETED exports' files.
        last_finished: Unix time in seconds at which the latest export finished, or None.
    """

    name: str
    watched: int
    states: Mapping[str, int]
    other: int
    dealt_with: int
    lookup_errors: int
    refused: int
    expected: int | None
    missing: int
    exported_bytes: int
    last_finished: float | None


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One export.

    Attributes:
        batch: Its batch.
        id: Its ID.
        state: Its state.
        code: The platform's error code, or ``""``.
        meaning: The meaning of that code, or ``""``; never text from an answer.
        time: Unix time in seconds at which it finished or, unfinished, started; None if unknown.
    """

    batch: str
    id: str
    state: str
    code: str
    meaning: str
    time: float | None


@dataclass(frozen=True, slots=True)
class Exports:
    """The first rows of a table of exports, and the total."""

    rows: tuple[ExportRow, ...] = ()
    total: int = 0

    @property
    def more(self) -> int:
        """Number of rows that are not shown."""
        return self.total - len(self.rows)


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """Files of one batch that the API refused to export, for one reason.

    Attributes:
        batch: The batch.
        code: The platform's error code, or ``""``.
        meaning: The meaning of that code, or ``""``.
        count: Number of files.
        written: Unix time in seconds of the newest ID file with refusals of the batch.
    """

    batch: str
    code: str
    meaning: str
    count: int
    written: float


@dataclass(frozen=True, slots=True)
class FileRow:
    """One ID file: its name, the Unix time of its content, and its error or None."""

    name: str
    mtime: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ApiHealth:
    """The state of the API.

    Attributes:
        up: Whether every call of the last scrape succeeded.
        problem: The error, or None.
        last_success: Unix time in seconds of the last scrape that was `up`, or None.
        calls: HTTP requests of the last scrape.
        duration: Of the last scrape, in seconds.
        limit: Calls allowed to the account in a window, or None.
        remaining: Calls left in the window, or None.
        reset: Unix time in seconds at which the next window begins, or None.
    """

    up: bool
    problem: str | None
    last_success: float | None
    calls: int
    duration: float
    limit: int | None
    remaining: int | None
    reset: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """The content of the page.

    Attributes:
        verdict: The headline in a word.
        headline: Whether all is well, in one line.
        time: Unix time in seconds of the last scrape; None before the first.
        outdated: Whether that scrape is too old to know the state of unfinished exports.
        batches: Batches that need attention first, then by name.
        batches_total: Number of batches.
        attention: Exports that failed or are in an undocumented state, and were not dealt with,
            newest first.
        failed: Number of those that failed.
        refused: Files that the API refused to export, not acknowledged, newest first.
        refused_total: Number of these files, also of those without a row.
        missing: Number of expected exports that are neither watched nor refused.
        rejected: Number of ID file entries that are not valid export IDs.
        unfinished: Pending and running exports, oldest first.
        lookup_errors: IDs for which the API returned an error, not acknowledged.
        api: The API's health; None before the first scrape.
        files: The ID files, those in error first.
        files_total: Number of ID files.
        file_errors: Their errors, as far as shown.
        file_errors_total: Number of errors.
    """

    verdict: Verdict
    headline: str
    time: float | None = None
    outdated: bool = False
    batches: tuple[BatchRow, ...] = ()
    batches_total: int = 0
    attention: Exports = Exports()
    failed: int = 0
    refused: tuple[RefusalRow, ...] = ()
    refused_total: int = 0
    missing: int = 0
    rejected: int = 0
    unfinished: Exports = Exports()
    lookup_errors: Exports = Exports()
    api: ApiHealth | None = None
    files: tuple[FileRow, ...] = ()
    files_total: int = 0
    file_errors: tuple[str, ...] = ()
    file_errors_total: int = 0


NOT_SCRAPED: Final = Status(
    "unknown",
    "Not known yet: no scrape since the start. Open Metrics to make one; later Prometheus does.",
)
