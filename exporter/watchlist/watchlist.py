"""The watchlist: which exports are watched, according to the ID files."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.watchlist.content import Rejected


@dataclass(frozen=True, slots=True)
class FileStatus:
    """The state of one ID file.

    Attributes:
        name: Its name without directories, printable.
        mtime: Unix modification time of the content in effect; None if it was never valid.
        error: Its current error, or None.
        rejected: Entries of the content in effect that are not valid export IDs.
        remarks: What of that content has no effect, for people.
    """

    name: str
    mtime: float | None
    error: str | None
    rejected: tuple[Rejected, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusals:
    """The files that the API refused to export when a batch was started.

    Attributes:
        codes: Their number by the API's error code; `""` where there is none.
        written: Unix modification time of the newest ID file with refusals.
        acknowledged: Whether they were dealt with.
    """

    codes: Mapping[str, int]
    written: float
    acknowledged: bool

    @property
    def count(self) -> int:
        """The number of refused files."""
        return sum(self.codes.values())


@dataclass(frozen=True, slots=True)
class Ignored:
    """An entry of the directory that is not an ID file.

    Attributes:
        name: Its name without directories, printable.
        reason: The reason, for people.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Watchlist:
    """Everything that is watched; replaced by a new one only when something changes.

    Attributes:
        batches: The IDs of each batch, in the order of the files; every ID occurs once.
        acknowledged: IDs whose failure was dealt with.
        refused: Refusals by batch, for batches that have any.
        expected: Expected number of exports by batch, for batches whose ID files state it.
        files: Every ID file, in order of names.
        ignored: Every ignored entry of the directory, except hidden ones.
        error: Why the path cannot be read or was not read yet; None if it was read.
        duplicates: Number of repeated entries, which are skipped.
        rejected: Number of invalid entries, which are skipped.
        reloaded: Unix time of the last change without an error; None if there was none.
    """

    batches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    acknowledged: frozenset[str] = frozenset()
    refused: Mapping[str, Refusals] = field(default_factory=dict)
    expected: Mapping[str, int] = field(default_factory=dict)
    files: tuple[FileStatus, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    error: str | None = None
    duplicates: int = 0
    rejected: int = 0
    reloaded: float | None = None

    def missing(self, batch: str, watched: int) -> int:
        """Return the number of expected exports that are neither `watched` nor refused."""
        refusals = self.refused.get(batch)
        return max(self.expected.get(batch, 0) - watched - (refusals.count if refusals else 0), 0)

    @property
    def errors(self) -> tuple[str, ...]:
        """All errors, for people."""
        files = tuple(file.error for file in self.files if file.error is not None)
        return files if self.error is None else (self.error, *files)
