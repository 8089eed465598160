"""Loading the ID files: changed files are parsed, and a file's last valid content is kept."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.cavatica.redaction import find_token
from exporter.files import read, signature
from exporter.text import TextError, printable
from exporter.watchlist.content import IdFile
from exporter.watchlist.directory import IdFileDirectory, Listing
from exporter.watchlist.idfile import IdFileError, parse
from exporter.watchlist.merge import merge
from exporter.watchlist.watchlist import FileStatus, Ignored, Watchlist

if TYPE_CHECKING:
    import os

# 100,000 IDs that are all acknowledged take 7 MB.
MAX_FILE_BYTES: Final = 8 * 2**20
# Clock resolution of some file systems: a file changed just now may change again without a new
# signature.
_UNSETTLED_SECONDS = 2.0
_MAX_LOGGED = 20
# How often a mounted ConfigMap may be replaced during a load before the result is used anyway.
_MAX_READINGS = 3
_LEAK: Final = (
    "holds the API's token: remove it, and renew the token if others could read this file"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a file: its signature when it was read, and its content."""

    signature: tuple[int, ...] | None = field(default=None, compare=False)
    digest: bytes | None = field(default=None, compare=False)
    content: IdFile | None = None
    mtime: float | None = None
    error: str | None = None

    @property
    def is_leak(self) -> bool:
        """Whether the file was found to hold the token."""
        return self.error is not None and self.error.endswith(_LEAK)

    @property
    def matters(self) -> bool:
        """Whether the file affects the watchlist or its errors."""
        content = self.content
        return content is not None and bool(content.ids or content.refused or content.acknowledged)


class WatchlistLoader:
    """Loads the ID file, or the directory of ID files, at `path`; used by one thread at a time.

    Args:
        path: The file or the directory.
        now: Returns Unix time in seconds.
        token: Returns the API's token, or `""`. A file that holds it is in error and not parsed, so
            that the token becomes no label and is quoted in no message.
    """

    def __init__(
        self, path: Path, now: Callable[[], float], token: Callable[[], str] = lambda: ""
    ) -> None:
        self.name: Final = printable(str(path))
        self._directory = IdFileDirectory(path)
        self._now = now
        self._token = token
        # The API's tokens during this load; empty until a file is compared with them.
        self._tokens: tuple[str, ...] = ()
        self._known: dict[str, _Known] = {}
        self._ignored: tuple[Ignored, ...] = ()
        self._watchlist = Watchlist()
        self._was_listed = False
        self._loaded = False

    def load(self, *, afresh: bool = False) -> Watchlist:
        """Return the current watchlist; the same object if nothing changed.

        All problems are errors of the watchlist, and the last known content stays in effect.

        Args:
            afresh: Read every file again, even if it looks unchanged, drop removed files even if
                none is left, and log the result even if it is that of the last load.
        """
        known, ignored, error = self._known, self._ignored, None
        try:
            listing, found = self._read(afresh=afresh)
        except Exception as problem:  # noqa: BLE001 # nothing ends a scrape
            error = f"{self.name}: cannot be read: {_reason(problem)}"
        else:
            ignored = listing.ignored
            if not (found or self._was_listed):
                _log.warning("No ID file, so nothing is watched", extra={"path": self.name})
            self._was_listed = True
            if found or afresh or not any(file.matters for file in known.values()):
                known = found
            else:
                error = (
                    f"{self.name}: no ID file is left; the last ones stay in effect;"
                    " to end the watch, write [] into a file"
                )
        changed = known != self._known or error != self._watchlist.error or ignored != self._ignored
        if changed or afresh:
            self._report(known, ignored, error, again=afresh)
        self._known, self._ignored = known, ignored
        if changed or afresh or not self._loaded:
            before, self._watchlist = self._watchlist, self._merge(error)
            self._loaded = True
            _report_remarks(self._watchlist, set() if afresh else _remarks(before))
        if afresh:
            _report_watchlist(self._watchlist)
        return self._watchlist

    def _read(self, *, afresh: bool) -> tuple[Listing, dict[str, _Known]]:
        self._tokens = ()
        for _ in range(_MAX_READINGS):
            listing = self._directory.find(self._known)
            known = {
                name: self._read_file(name, path, afresh=afresh)
                for name, path in listing.files.items()
            }
            if self._directory.tree() == listing.tree and not self._has_new_token():
                break
        return listing, known

    def _has_new_token(self) -> bool:
        """Return whether the token changed while files were compared with it.

        The token's own file can be among them.
        """
        if not self._tokens or (token := self._token()) in self._tokens:
            return False
        self._tokens += (token,)
        return True

    def _read_file(self, name: str, path: "Path | os.DirEntry[str]", *, afresh: bool) -> _Known:
        before = self._known.get(name) or _Known()
        try:
            if not afresh and before.signature == signature(path.stat()):
                return before
            data, status = read(path, MAX_FILE_BYTES)
            # Both times: programs can set the modification time, but not the change time; and only
            # the modification time is certain to come from the file server's clock.
            age = min(abs(self._now() - at) for at in (status.st_mtime, status.st_ctime))
            seen = signature(status) if age >= _UNSETTLED_SECONDS else None
            digest = hashlib.blake2b(data, digest_size=16).digest()
            # A token that was replaced becomes an ID only if people ask for that: they may have
            # written an ID into the token's file.
            if digest == before.digest and not (afresh and before.is_leak):
                mtime = status.st_mtime if before.error is None else before.mtime
                return replace(before, signature=seen, mtime=mtime)
            # Once for all files of a load: the token's file server may be slow.
            self._tokens = self._tokens or (self._token(),)
            lines = (find_token(data, token) for token in self._tokens)
            if (line := next((line for line in lines if line is not None), None)) is not None:
                leak = TextError(line, _LEAK).at(printable(name))
                return replace(before, signature=seen, digest=digest, error=leak)
            try:
                content = parse(data, name)
            except IdFileError as error:
                return replace(before, signature=seen, digest=digest, error=str(error))
        except Exception as error:  # noqa: BLE001 # nothing ends a scrape
            problem = f"{printable(name)}: cannot be read: {_reason(error)}"
            return replace(before, signature=None, digest=None, error=problem)
        return _Known(seen, digest, content, status.st_mtime)

    def _merge(self, error: str | None) -> Watchlist:
        good = error is None and all(file.error is None for file in self._known.values())
        watchlist = merge(
            (file.content, file.mtime)
            for file in self._known.values()
            if file.content is not None and file.mtime is not None
        )
        # A file without any content could list the IDs that others acknowledge.
        is_whole = all(file.content is not None for file in self._known.values())
        listed = frozenset(chain(*watchlist.batches.values())) if is_whole else None
        return replace(
            watchlist,
            files=tuple(
                _status(printable(name), file, listed) for name, file in self._known.items()
            ),
            ignored=self._ignored,
            error=error,
            reloaded=self._now() if good else self._watchlist.reloaded,
        )

    def _report(
        self,
        known: Mapping[str, _Known],
        ignored: tuple[Ignored, ...],
        error: str | None,
        *,
        again: bool,
    ) -> None:
        """Log what changed, once; errors `again` if asked for."""
        if error is not None and (again or error != self._watchlist.error):
            kept = "the last known ones stay in effect" if self._known else "nothing is watched"
            _log.error(f"ID files cannot be read; {kept}", extra={"err": error})
        if error is None and self._watchlist.error is not None:
            _log.info("ID files can be read again")
        for name, file in known.items():
            before = self._known.get(name) or _Known()
            if file.error is not None and (again or file.error != before.error):
                kept = (
                    "none of its IDs is watched"
                    if file.content is None
                    else "its last good content stays in effect"
                )
                _log.error(f"ID file is not valid; {kept}", extra={"err": file.error})
            if file.content is not None and file.content is not before.content:
                _report_content(printable(name), file.content)
        for name in self._known.keys() - known.keys():
            _log.info(
                "ID file removed; its IDs are no longer watched", extra={"file": printable(name)}
            )
        _report_ignored([entry for entry in ignored if entry not in self._ignored])


def _status(name: str, file: _Known, listed: frozenset[str] | None) -> FileStatus:
    """Return the status of a file; `listed` are the IDs of all files, or None if not known."""
    if (content := file.content) is None:
        return FileStatus(name, file.mtime, file.error)
    remarks = [TextError(remark.line, remark.text).at(name) for remark in content.remarks]
    if listed is not None and (idle := content.acknowledged - listed):
        first = ", ".join(sorted(idle)[:_MAX_LOGGED])
        more = f" and {len(idle) - _MAX_LOGGED} more" if len(idle) > _MAX_LOGGED else ""
        remarks.append(f"{name}: acknowledged IDs that no ID file lists: {first}{more}")
    return FileStatus(name, file.mtime, file.error, content.rejected, tuple(remarks))


def _remarks(watchlist: Watchlist) -> set[str]:
    return {remark for file in watchlist.files for remark in file.remarks}


def _report_remarks(watchlist: Watchlist, known: set[str]) -> None:
    """Log remarks that are not `known` yet."""
    new = [each for file in watchlist.files for each in file.remarks if each not in known]
    for remark in new[:_MAX_LOGGED]:
        _log.warning("Part of an ID file has no effect", extra={"reason": remark})
    if (more := len(new) - _MAX_LOGGED) > 0:
        _log.warning("More parts of ID files have no effect", extra={"more": more})


def _report_watchlist(watchlist: Watchlist) -> None:
    """Log the result of a load that was asked for."""
    ids = sum(map(len, watchlist.batches.values()))
    numbers = {"files": len(watchlist.files), "ids": ids, "errors": len(watchlist.errors)}
    _log.info("ID files loaded", extra=numbers)


def _report_content(name: str, content: IdFile) -> None:
    _log.info("ID file loaded", extra={"file": name, "ids": len(content.ids)})
    for rejected in content.rejected[:_MAX_LOGGED]:
        place = name + ("" if rejected.line is None else f":{rejected.line}")
        _log.warning("Skipping invalid export ID", extra={"at": place})
    if (more := len(content.rejected) - _MAX_LOGGED) > 0:
        _log.warning("Skipping more invalid export IDs", extra={"file": name, "more": more})
    if content.refused:
        codes = ", ".join(f"{code or 'none'}: {n}" for code, n in sorted(content.refused.items()))
        _log.warning(
            "API refused to export files",
            extra={"file": name, "batch": content.batch, "codes": codes},
        )


def _report_ignored(ignored: list[Ignored]) -> None:
    for entry in ignored[:_MAX_LOGGED]:
        _log.warning("Ignoring file", extra={"file": entry.name, "reason": entry.reason})
    if (more := len(ignored) - _MAX_LOGGED) > 0:
        _log.warning("Ignoring more files", extra={"more": more})


def _reason(error: Exception) -> str:
    """Return the text of an error that is safe to show: no content of a file."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
