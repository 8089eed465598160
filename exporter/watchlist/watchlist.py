"""The watchlist: which exports are watched, as the ID files have it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FileStatus:
    """How one ID file fared.

    Attributes:
        name: Its base name, printable.
        mtime: Unix time in seconds of the content in force; None if there never was one.
        error: What is wrong with it now, or None.
    """

    name: str
    mtime: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Watchlist:
    """Everything that is watched. A new one is made only when something changed.

    Attributes:
        batches: The IDs of each batch, in the order of the files; every ID once in all.
        acknowledged: IDs whose failure somebody has dealt with.
        files: Every ID file, in order of names.
        error: Why the path itself cannot be read, or None.
        duplicates: How many listings of an ID were passed over because it was listed before.
        rejected: How many were left out because they do not have the form of an ID.
        reloaded: Unix time in seconds of the last change that left no error; None if none did.
    """

    batches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    acknowledged: frozenset[str] = frozenset()
    files: tuple[FileStatus, ...] = ()
    error: str | None = None
    duplicates: int = 0
    rejected: int = 0
    reloaded: float | None = None

    @property
    def errors(self) -> tuple[str, ...]:
        """Everything that is wrong, for people."""
        files = tuple(file.error for file in self.files if file.error is not None)
        return files if self.error is None else (self.error, *files)
