"""The watchlist: which exports are watched, read from the ID files.

The loader looks at the files on every scrape, parses what changed, and keeps the last good content
of a file that is in error.
"""

import hashlib
import logging
import os
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Final

from exporter.files import read, signature
from exporter.text import printable
from exporter.watchlist.idfile import ENDINGS, IdFile, IdFileError, parse
from exporter.watchlist.watchlist import FileStatus, Watchlist

# 100,000 IDs, each of them acknowledged as well, are 7 MB.
MAX_FILE_BYTES: Final = 8 * 2**20
# The clocks of some file systems tick this slowly: a file that changed just now may change again
# and look the same.
_UNSETTLED_SECONDS = 2.0
_MAX_LOGGED_IDS = 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a file: how it looked when it was read, and what it said."""

    signature: tuple[int, ...] | None = field(default=None, compare=False)
    digest: bytes | None = field(default=None, compare=False)
    content: IdFile | None = None
    mtime: float | None = None
    error: str | None = None


class WatchlistLoader:
    """Reads the ID file or the directory of ID files at `path`.

    Args:
        path: The file or the directory.
        now: Unix time in seconds.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._known: dict[str, _Known] = {}
        self._watchlist = Watchlist()
        self._loaded = False
        self._is_directory: bool | None = None
        # A scrape and a SIGHUP must not read the files at once.
        self._lock = threading.Lock()

    def load(self, *, afresh: bool = False) -> Watchlist:
        """Return the watchlist as the files are now; the same object when nothing changed.

        May be called by several threads.

        Args:
            afresh: Read every file again, whether it looks changed or not.
        """
        with self._lock:
            return self._load(afresh=afresh)

    def _load(self, *, afresh: bool) -> Watchlist:
        error: str | None = None
        known = self._known
        try:
            paths = self._paths()
        except OSError as os_error:
            # A directory that is away for a moment must not end the watch.
            error = f"{printable(str(self._path))}: cannot be read: {os_error.strerror}"
        else:
            known = {name: self._look(name, path, afresh=afresh) for name, path in paths.items()}
        changed = known != self._known or error != self._watchlist.error
        if changed:
            self._report(known, error)
        self._known = known
        if changed or afresh or not self._loaded:
            self._watchlist = self._merge(error)
            self._loaded = True
        return self._watchlist

    def _paths(self) -> Mapping[str, "Path | os.DirEntry[str]"]:
        # A directory stays one: what stands in its place for a moment must not end the watch.
        if self._is_directory is None:
            self._is_directory = stat.S_ISDIR(self._path.stat().st_mode)
        if not self._is_directory:
            return {self._path.name: self._path}
        with os.scandir(self._path) as entries:
            return {
                entry.name: entry
                for entry in sorted(entries, key=attrgetter("name"))
                if entry.name.endswith(ENDINGS)
                and not entry.name.startswith(".")
                and not _leads_to_a_directory(entry)
            }

    def _look(self, name: str, path: "Path | os.DirEntry[str]", *, afresh: bool) -> _Known:
        before = self._known.get(name) or _Known()
        try:
            if not afresh and before.signature == signature(path.stat()):
                return before
            data, status = read(path, MAX_FILE_BYTES)
        except OSError as error:
            problem = f"{printable(name)}: cannot be read: {error.strerror}"
            return replace(before, signature=None, digest=None, error=problem)
        # Both: only the second one cannot be set, only the first one is a file server's for sure.
        changed = min(abs(self._now() - at) for at in (status.st_mtime, status.st_ctime))
        settled = changed >= _UNSETTLED_SECONDS
        seen = signature(status) if settled else None
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if digest == before.digest:
            good = before.error is None
            return replace(before, signature=seen, mtime=status.st_mtime if good else before.mtime)
        try:
            content = parse(data, name)
        except IdFileError as error:
            return replace(before, signature=seen, digest=digest, error=str(error))
        return _Known(seen, digest, content, status.st_mtime)

    def _merge(self, error: str | None) -> Watchlist:
        batches: dict[str, dict[str, None]] = {}
        seen: set[str] = set()
        acknowledged: set[str] = set()
        listed = rejected = 0
        for file in self._known.values():
            if (content := file.content) is None:
                continue
            acknowledged |= content.acknowledged
            rejected += len(content.rejected)
            listed += len(content.ids)
            if content.batch is not None:
                ids = batches.setdefault(content.batch, {})
                new = dict.fromkeys(content.ids)
                if not seen.isdisjoint(new):
                    new = {export_id: None for export_id in new if export_id not in seen}
                ids |= new
                seen.update(new)
        good = error is None and all(file.error is None for file in self._known.values())
        return Watchlist(
            batches={batch: tuple(ids) for batch, ids in sorted(batches.items())},
            acknowledged=frozenset(acknowledged),
            files=tuple(
                FileStatus(printable(name), file.mtime, file.error)
                for name, file in self._known.items()
            ),
            error=error,
            duplicates=listed - len(seen),
            rejected=rejected,
            reloaded=self._now() if good else self._watchlist.reloaded,
        )

    def _report(self, known: Mapping[str, _Known], error: str | None) -> None:
        """Log what is new, once."""
        if error != self._watchlist.error:
            if error is not None:
                _log.error("ID files cannot be read, the last known IDs stay", extra={"err": error})
            else:
                _log.info("ID files can be read again")
        for name, file in known.items():
            before = self._known.get(name) or _Known()
            if file.error != before.error and file.error is not None:
                kept = "none of its IDs are" if file.content is None else "its last good IDs are"
                _log.error(f"ID file is in error, {kept} watched", extra={"err": file.error})
            if file.content is not None and file.content is not before.content:
                _report_content(name, file.content)
        for name in self._known.keys() - known.keys():
            _log.info(
                "ID file is gone, its IDs are no longer watched", extra={"file": printable(name)}
            )


def _report_content(name: str, content: IdFile) -> None:
    _log.info("ID file loaded", extra={"file": printable(name), "ids": len(content.ids)})
    for rejected in content.rejected[:_MAX_LOGGED_IDS]:
        place = printable(name) + ("" if rejected.line is None else f":{rejected.line}")
        _log.warning(
            "this is no export ID, it is left out", extra={"at": place, "id": rejected.text}
        )
    if len(content.rejected) > _MAX_LOGGED_IDS:
        more = len(content.rejected) - _MAX_LOGGED_IDS
        _log.warning("more are no export IDs", extra={"file": printable(name), "more": more})


def _leads_to_a_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads nowhere or in a circle: reading it says so.
        return False
