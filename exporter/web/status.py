"""The values of the status page: the last scrape as a person needs it, without any format."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["well", "attention", "unknown"]


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch.

    Attributes:
        name: The batch's name.
        watched: How many exports are watched.
        states: How many exports are in each state.
        other: How many are in states that are not documented.
        attention: How many have failed, or are in a state that is not documented, and nobody has
            dealt with them.
        refused: How many files the API refused to export when the batch was started.
        expected: How many exports the batch should have, or None where no ID file says so.
        exported_bytes: Size of the COMPLETED exports' files.
        last_finished: Unix time in seconds at which the latest export finished, or None.
    """

    name: str
    watched: int
    states: Mapping[str, int]
    other: int
    attention: int
    refused: int
    expected: int | None
    exported_bytes: int
    last_finished: float | None

    @property
    def missing(self) -> int:
        """How many expected exports are neither watched nor refused."""
        return max((self.expected or 0) - self.watched - self.refused, 0)


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One export.

    Attributes:
        batch: Its batch.
        id: Its ID.
        state: Its state.
        code: The platform's error code, or ``""``.
        meaning: What that code means, or ``""``; never a text of an answer.
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
    """The first rows of a table of exports, and how many there are in all."""

    rows: tuple[ExportRow, ...] = ()
    total: int = 0

    @property
    def more(self) -> int:
        """How many are not shown."""
        return self.total - len(self.rows)


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """Files of one batch that the API refused to export, for one reason.

    Attributes:
        batch: The batch.
        code: The platform's error code, or ``""``.
        meaning: What that code means, or ``""``.
        count: How many files.
        written: Unix time in seconds of the newest ID file with refusals of the batch.
    """

    batch: str
    code: str
    meaning: str
    count: int
    written: float


@dataclass(frozen=True, slots=True)
class FileRow:
    """One ID file: its name, the Unix time of its content, and what is wrong with it or None."""

    name: str
    mtime: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ApiHealth:
    """How the API fared.

    Attributes:
        up: Whether every call of the last scrape was answered properly.
        problem: What was wrong, or None.
        last_success: Unix time in seconds of the last scrape that was `up`, or None.
        calls: HTTP requests of the last scrape.
        duration: Of the last scrape, in seconds.
        limit: Calls that the account may make in a window, or None.
        remaining: Calls that are left of them, or None.
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
    """Everything that the page says.

    Attributes:
        verdict: The headline in a word.
        headline: Whether all is well, in one line.
        time: Unix time in seconds of the last scrape; None before the first.
        outdated: Whether that scrape is so long ago that its unfinished exports are not known.
        batches: Those that need somebody first, then by name.
        batches_total: How many batches there are.
        attention: Exports that failed and that nobody has dealt with, newest first.
        refused: Files that the API refused to export and nobody has dealt with, newest first.
        refused_total: How many files these are, also where rows are not shown.
        missing: How many expected exports are neither watched nor refused.
        rejected: How many entries of the ID files are not valid export IDs.
        unfinished: Exports that are waiting or running, oldest first.
        lookup_errors: IDs for which the API answered an error.
        api: The API's health; None before the first scrape.
        files: The ID files, those in error first.
        files_total: How many ID files there are.
        file_errors: What is wrong with them.
        file_errors_total: How many errors there are.
    """

    verdict: Verdict
    headline: str
    time: float | None = None
    outdated: bool = False
    batches: tuple[BatchRow, ...] = ()
    batches_total: int = 0
    attention: Exports = Exports()
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
    "unknown", "Not known yet: no scrape since the start. Does Prometheus scrape this exporter?"
)
