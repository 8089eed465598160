"""The state file: what is known of finished exports, kept across restarts.

It is replaced atomically, so readers see the old content or the new one. A damaged file is ignored:
then every export is asked for again. A file that cannot be read at the start is read later, before
the first write.
"""

import functools
import logging
import math
import os
import secrets
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from exporter import background, files
from exporter.clock import Clock
from exporter.tracker.snapshot import Batch, Block, Snapshot, WatchedExport
from exporter.tracker.state_format import KEY_BYTES, StateFormatError, decode, encode

#: Seconds between the beginnings of two writes.
INTERVAL_SECONDS: Final = 60.0
_MAX_BYTES: Final = 2**27
# A file server that hangs must not hold up the start.
_LOAD_SECONDS: Final = 3.0
# Pause after each block, so that a scrape does not wait for the interpreter's lock.
_PAUSE_SECONDS: Final = 0.0005
_NO_THREAD: Final = "no thread can be started"
_WRITE_TOO_LONG: Final = "the last write takes too long"
_NOT_READ_IN_TIME: Final = "it could not be read in time; its content stays for the next start"

# The watched exports, those that left the watchlist a short time ago, and whether that includes
# what the file had.
_Known = tuple[tuple[Batch, ...], tuple[Block, ...], bool]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StateFileStatus:
    """The state of the file, for the exporter's own metrics.

    Attributes:
        last_write: Unix time of the last successful write, or None.
        error: Whether the last read or write failed, or a write takes longer than their interval.
    """

    last_write: float | None
    error: bool


class StateFile:
    """Reads the file at the start, or as soon as it can be read, and writes it in the background.

    Args:
        path: The file.
        clock: Wall clock and monotonic clock.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._key = secrets.token_bytes(KEY_BYTES)
        self._lock = threading.Lock()
        # Whether nothing is in the file that was not read: only then may any state replace it.
        self._is_read = False
        # What was read, until it is recalled.
        self._found: list[WatchedExport] = []
        self._latest: _Known | None = None
        self._written: _Known | None = (), (), False
        self._began = -math.inf
        # The last write, and whether it lasts: both are changed, like its result, with the lock.
        self._write_future: futures.Future[None] | None = None
        self._is_writing = False
        self._late_is_logged = False
        self._closing = threading.Event()
        self._stale_are_removed = False
        self._problem: str | None = None
        # Monotonic time: the Unix time may be wrong, and be set.
        self._last_write: float | None = None

    @property
    def key(self) -> bytes:
        """The secret key of `Export.destination`: that of the file, or a random one."""
        return self._key

    @property
    def problem(self) -> str | None:
        """Why the last read or write failed, or None."""
        return self._problem

    def status(self) -> StateFileStatus:
        """Return the status of the file."""
        at, behind = self._last_write, self._clock.time() - self._clock.monotonic()
        last_write = None if at is None else round(at + behind, 3)
        return StateFileStatus(last_write, self._problem is not None or self._is_late())

    def load(self) -> None:
        """Read the file, if that takes no more than seconds; to be called once, at the start."""
        try:
            data = background.start(self._read, "state file").result(_LOAD_SECONDS)
            if data is not None:
                self._key, self._found = decode(data)
                self._is_read = True
                if self._found:
                    # If nothing of it is known any more, that is to be written, too.
                    self._written = None
        except (OSError, ValueError, RuntimeError, futures.TimeoutError) as error:
            self._ignore(error)

    def check_directory(self) -> None:
        """Log if no file can be written where it is; to be called after `load`."""
        if self._problem is None:
            directory = Path(os.path.realpath(self._path)).parent
            if not os.access(directory, os.W_OK | os.X_OK):
                self._problem = "the directory is missing, or does not allow this user to write"
                self._warn("State file cannot be written", self._problem)

    def recall(self) -> list[WatchedExport]:
        """Return what was read since the last call.

        The next snapshots must have it: no others replace the file.
        """
        with self._lock:
            found, self._found = self._found, []
            return found

    def save(self, snapshot: Snapshot) -> None:
        """Start a write if anything changed and the last one began long enough ago."""
        with self._lock:
            self._latest = snapshot.batches, snapshot.departed, snapshot.has_stored
            problem = None
            if self._is_late() and not self._late_is_logged:
                self._late_is_logged = True
                problem = _WRITE_TOO_LONG
            elif self._clock.monotonic() - self._began >= INTERVAL_SECONDS:
                problem = self._start()
        if problem is not None:
            self._warn("State file not written", problem)

    def close(self, seconds: float) -> None:
        """Write the last state, but wait no longer than `seconds`."""
        deadline = self._clock.monotonic() + seconds
        self._closing.set()
        # A write in flight may be of an older state.
        for _ in range(2):
            with self._lock:
                problem = self._start()
                writing = self._write_future
            if problem is not None:
                self._warn("State file not written", problem)
            if writing is not None:
                futures.wait([writing], max(deadline - self._clock.monotonic(), 0))
        problem = None
        with self._lock:
            if self._is_writing and not self._late_is_logged:
                self._late_is_logged = True
                problem = self._problem = _WRITE_TOO_LONG
            elif self._found:
                problem = self._problem = _NOT_READ_IN_TIME
        if problem is not None:
            self._warn("State file not written", problem)

    def _is_late(self) -> bool:
        return self._is_writing and self._clock.monotonic() - self._began >= INTERVAL_SECONDS

    def _start(self) -> str | None:
        """Start a write if there is anything to write; return a problem that is new."""
        is_written = self._latest == self._written and self._problem is None
        if self._is_writing or self._latest is None or is_written or self._found:
            return None
        self._began = self._clock.monotonic()
        try:
            write = functools.partial(self._write, self._latest)
            self._write_future = background.start(write, "state file")
        except RuntimeError:
            # It is tried again a minute later.
            before, self._problem = self._problem, _NO_THREAD
            return None if before == self._problem else self._problem
        self._is_writing = True
        return None

    def _write(self, known: _Known) -> None:
        found: list[WatchedExport] = []
        problem = None
        *_, has_stored = known
        is_safe = self._is_read or has_stored
        try:
            if not is_safe:
                found = self._read_late()
                is_safe = not found
            if is_safe:
                self._replace(encode(self._blocks(known), self._key))
                self._is_read = True
        except Exception as error:  # noqa: BLE001 # no thread reads this result
            problem = _reason(error) if is_safe else _refusal(error)
        with self._lock:
            before, self._problem = self._problem, problem
            is_mended = problem is None and (before is not None or self._late_is_logged)
            self._is_writing = self._late_is_logged = False
            self._found = found
            if problem is None and not found:
                self._written = known
                self._last_write = self._clock.monotonic()
        # Without the lock: the pipe of the log may hang.
        if problem is not None and problem != before:
            self._warn("State file not written", problem)
        elif found:
            _log.info("State file read", extra={"file": str(self._path), "exports": len(found)})
        elif is_mended:
            _log.info("State file written again", extra={"file": str(self._path)})

    def _read_late(self) -> list[WatchedExport]:
        """Return the exports of a file that was not read at the start, none if it may be replaced.

        Their destinations are hashed with another key than those of this process, so they have no
        destination in common with them until the API is asked for them again.

        Raises:
            OSError, StateFormatError: it must not be replaced.
        """
        data = self._read()
        try:
            return [] if data is None else decode(data)[1]
        except StateFormatError as error:
            if error.is_foreign:
                raise
            self._ignore(error)
            return []

    def _replace(self, lines: list[bytes]) -> None:
        if sum(map(len, lines)) > _MAX_BYTES:
            # It could not be read again.
            raise files.too_large(_MAX_BYTES)
        # A link stays a link.
        path = Path(os.path.realpath(self._path))
        if not self._stale_are_removed:
            self._stale_are_removed = True
            files.remove_stale(path, self._clock.time())
        files.replace_file(path, lines, mode=0o600, keep_owner=True)

    def _blocks(self, known: _Known) -> Iterator[Block]:
        batches, departed, _ = known
        for block in chain(departed, *(batch.blocks for batch in batches)):
            self._closing.wait(_PAUSE_SECONDS)
            yield block

    def _ignore(self, error: Exception) -> None:
        # What cannot be read may be the file of another program.
        self._is_read = isinstance(error, StateFormatError) and not error.is_foreign
        self._problem = _reason(error) if self._is_read else _refusal(error)
        self._warn("State file ignored", self._problem)

    def _read(self) -> bytes | None:
        try:
            return files.read(self._path, _MAX_BYTES)[0]
        except FileNotFoundError:
            return None

    def _warn(self, message: str, problem: str) -> None:
        _log.warning(message, extra={"file": str(self._path), "err": problem})


def _reason(error: Exception) -> str:
    # From Python 3.11 on, `futures.TimeoutError` is an OSError: that of ETIMEDOUT, too.
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, futures.TimeoutError):
        return "not read in time"
    if isinstance(error, RuntimeError):
        return _NO_THREAD
    return str(error) or type(error).__name__


def _refusal(error: Exception) -> str:
    is_foreign = isinstance(error, StateFormatError)
    until = "" if is_foreign else " until it can be read"
    return f"{_reason(error)}; it will not be overwritten{until}"
