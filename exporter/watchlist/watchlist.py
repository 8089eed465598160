"""The watchlist: which exports are watched, as the ID files say."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.watchlist.content import Rejected


@dataclass(frozen=True, slots=True)
class FileStatus:
    """The state of one ID file.

    Attributes:
        name: Its base name, printable.
        mtime: Unix time in seconds of the content in effect; None if there never was one.
        error: What is wrong with it now, or None.
        rejected: Entries of the content in effect that are not valid export IDs.
    """

    name: str
    mtime: float | None
    error: str | None
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusals:
    """The files that the API refused to export when a batch was started.

    Attributes:
        codes: How many, by the API's error code; `""` where there is none.
        written: Unix time in seconds at which the newest ID file with refusals was written.
        acknowledged: Whether somebody has dealt with them.
    """

    codes: Mapping[str, int]
    written: float
    acknowledged: bool

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.codes.values())


@dataclass(frozen=True, slots=True)
class Ignored:
    """An entry of the directory that is not an ID file.

    Attributes:
        name: Its base name, printable.
        reason: For people.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Watchlist:
    """Everything that is watched. A new one is made only when something changed.

    Attributes:
        batches: The IDs of each batch, in the order of the files; every ID once in all.
        acknowledged: IDs whose failure somebody has dealt with.
        refused: By batch, for batches with any.
        expected: How many exports a batch should have, for batches of which a file says so.
        files: Every ID file, in order of names.
        ignored: Every entry of the directory that was passed over, but for hidden ones.
        error: Why the path itself cannot be read, or is not read yet; None if it is read.
        duplicates: How many listings of an ID were skipped because it was listed before.
        rejected: How many entries were skipped because they are not valid export IDs.
        reloaded: Unix time in seconds of the last change that left no error; None if none did.
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

    @property
    def errors(self) -> tuple[str, ...]:
        """Everything that is wrong, for people."""
        files = tuple(file.error for file in self.files if file.error is not None)
        return files if self.error is None else (self.error, *files)
