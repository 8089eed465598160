"""The path of the ID files: one file, or a directory."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Final

from exporter.text import printable
from exporter.watchlist.idfile import is_id_file
from exporter.watchlist.watchlist import Ignored

#: The symbolic link by which Kubernetes replaces all files of a ConfigMap or Secret at once.
_TREE_LINK: Final = "..data"


@dataclass(frozen=True, slots=True)
class Listing:
    """The ID files that were found.

    Attributes:
        files: By name, in order of names.
        ignored: All other entries of the directory, except hidden ones.
        tree: The target of `..data`, in a directory mounted by Kubernetes.
    """

    files: Mapping[str, "Path | os.DirEntry[str]"]
    ignored: tuple[Ignored, ...] = ()
    tree: str | None = field(default=None, compare=False)


class IdFileDirectory:
    """The path of the ID files.

    Whether it is a directory is decided once: a file that replaces a directory for a moment must
    not end the watch.

    Args:
        path: The file or the directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_directory: bool | None = None

    def find(self, known: Mapping[str, object]) -> Listing:
        """Find the ID files.

        Args:
            known: The names found before: an entry with such a name counts as an ID file, so that
                its error is reported.

        Raises:
            OSError: the path cannot be read.
        """
        if self._is_directory is None:
            self._is_directory = stat.S_ISDIR(self._path.stat().st_mode)
        if not self._is_directory:
            return Listing({self._path.name: self._path})
        files: dict[str, Path | os.DirEntry[str]] = {}
        ignored: list[Ignored] = []
        tree = self.tree()
        for entry in self._entries(tree):
            if entry.name.startswith("."):
                continue
            if not is_id_file(entry.name):
                ignored.append(Ignored(printable(entry.name), _reason(entry)))
            elif entry.name not in known and _leads_to_a_directory(entry):
                ignored.append(Ignored(printable(entry.name), "it is a directory"))
            else:
                files[entry.name] = entry
        return Listing(files, tuple(ignored), tree)

    def tree(self) -> str | None:
        """Return the current target of `..data`; None if there is no such link."""
        if not self._is_directory:
            return None
        try:
            return str((self._path / _TREE_LINK).readlink())
        except OSError:
            return None

    def _entries(self, tree: str | None) -> "list[os.DirEntry[str]]":
        """Return the entries sorted by name.

        Those of a mounted ConfigMap are read from the initial target of `..data`: the links beside
        it change one after the other.
        """
        entries = list(_scan(self._path))
        if tree is not None:
            entries = [entry for entry in entries if not _leads_into_the_tree(entry)]
            entries += _scan(self._path / tree)
        return sorted(entries, key=attrgetter("name"))


def _scan(path: Path) -> "Iterator[os.DirEntry[str]]":
    with os.scandir(path) as entries:
        yield from entries


def _leads_into_the_tree(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_symlink() and Path(entry.path).readlink().parts[0] == _TREE_LINK
    except OSError:
        # It was removed in the meantime.
        return True


def _leads_to_a_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A broken or circular link: reading it reports that.
        return False


def _reason(entry: "os.DirEntry[str]") -> str:
    if _leads_to_a_directory(entry):
        return "it is a directory"
    return "its extension is not that of an ID file"
