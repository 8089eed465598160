"""The files of `discover`: ID files `discovered-*.json`, and its state.

The batch files are readable ID files. The state has no IDs for the exporter, only what later rounds
need: which exports were left out, and when others completed.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from exporter import files
from exporter.tool.batch_file import ENDING, PREFIX, BatchFile, cut, file_name
from exporter.tool.state import STATE_NAME, State, digest_of, state_number

#: The exporter reads a file with this many IDs in well under a second.
MAX_IDS_PER_FILE: Final = 20_000

# The state file's modification time is renewed this often: the exporter reads what is renewed.
_RENEW_SECONDS = 3600.0
# The same limit as the exporter's for ID files.
_MAX_FILE_BYTES = 8 * 2**20


class LedgerError(Exception):
    """The files cannot be used or written; the text names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which exports to write.

    Attributes:
        volumes: Destinations, OWNER/NAME; empty: all.
        since: Exports that ended longer ago are not added, in seconds; 0: no limit.
        keep: How long an export is kept after it COMPLETED, in seconds.
    """

    volumes: tuple[str, ...]
    since: float
    keep: float


class Ledger:
    """The known exports, as recorded in the files of a directory.

    Attributes:
        places: The file of each written ID.
        state: What is known of exports beside that.
    """

    def __init__(self, directory: Path, selection: Selection) -> None:
        self.places: dict[str, str] = {}
        self.state = State(asdict(selection))
        self._directory = directory
        self._keep = selection.keep
        self._on_disk: dict[str, bytes] = {}
        self._files: dict[str, BatchFile] = {}
        # The written IDs by their digests.
        self._ids: dict[str, str] = {}
        # The modification time of the state file.
        self._last_complete: float | None = None
        self._load()

    @property
    def known(self) -> int:
        """Number of known exports in the list."""
        return len(self.places) + self.state.left_out - self.state.unlisted

    @property
    def file_count(self) -> int:
        """Number of batch files."""
        return sum(bool(file.ids) for file in self._files.values())

    def knows(self, export_id: str) -> bool:
        """Return whether the export was written or left out."""
        return export_id in self.places or self.state.is_left_out(digest_of(export_id))

    def add(self, export_id: str, batch: str) -> None:
        """Add the ID to a file of the batch."""
        name = self._file_with_room(cut(batch))
        self._files[name].ids[export_id] = None
        self.places[export_id] = name
        self._ids[digest_of(export_id)] = export_id

    def leave_out(self, export_id: str) -> None:
        """Record the export without writing its ID."""
        self.state.leave_out(digest_of(export_id))

    def complete(self, export_id: str, at: float | None, now: float) -> None:
        """Record that a written export COMPLETED at the Unix time `at`, or before `now`."""
        self.state.complete(digest_of(export_id), at, now)

    def expired(self, now: float) -> set[str]:
        """Return the written exports that COMPLETED too long ago."""
        return {self._ids[each] for each in self.state.completed_before(now - self._keep)}

    def drop(self, export_id: str) -> None:
        """Take the ID out of its file, and leave it out from now on.

        `expected` goes with the first one: somebody had counted the whole batch.
        """
        digest = digest_of(export_id)
        self._files[self.places[export_id]].others.pop("expected", None)
        self._drop(digest)
        self.state.leave_out(digest)

    def account_for(self, total: int, listed: int) -> int:
        """Record that all `total` exports of the list are known; return how many left the list.

        Args:
            total: Number of exports in the list.
            listed: Number of those with an ID.
        """
        gone = self.known - total
        self.state.unlisted += gone
        # An item that got its ID since then is no export that left.
        return max(min(gone, len(self.places) + self.state.left_out - listed), 0)

    def write(self, now: float, *, complete: bool) -> int:
        """Write the changed files; return the number of ID files among them.

        The state comes first: if the process ends before the other files are written, the next
        round notices missing exports and finds them again. Its modification time is that of the
        last complete round, to the hour: the exporter has it as a metric, so an alert can tell
        that rounds have ended.

        Args:
            now: Unix time of the round.
            complete: Whether it found every export.

        Raises:
            LedgerError: a file cannot be written or removed.
        """
        # Its batch must be one that exists anyway.
        written = (file.batch for file in self._files.values() if file.ids or file.others)
        wanted = self.state.render(min(written, default="discovered"))
        for name, file in sorted(self._files.items()):
            if file.ids or file.others:
                wanted[name] = file.render()
        changed = {name for name, data in wanted.items() if self._on_disk.get(name) != data}
        removed = self._on_disk.keys() - wanted
        at = self._last_complete
        if complete and not 0 <= now - (at or 0.0) < _RENEW_SECONDS:
            # Replaced, as only its owner may set its time: an earlier round may be another user's.
            changed.add(STATE_NAME)
        times = {STATE_NAME: now if complete else at}
        name = STATE_NAME
        try:
            for name in [each for each in wanted if each in changed]:
                files.replace_file(
                    self._directory / name, [wanted[name]], mode=0o644, modified=times.get(name)
                )
            for name in removed:
                (self._directory / name).unlink(missing_ok=True)
        except OSError as error:
            raise LedgerError(
                f"{self._directory / name}: cannot be written: {error.strerror}"
            ) from error
        self._on_disk = wanted
        return sum(state_number(name) is None for name in changed | removed)

    def _load(self) -> None:
        try:
            names = sorted(path.name for path in self._directory.iterdir())
        except OSError as error:
            raise LedgerError(f"{self._directory}: cannot be read: {error.strerror}") from error
        for name in names:
            if _is_own(files.replaces(name) or ""):
                # Left by a process that was killed while writing.
                with contextlib.suppress(OSError):
                    (self._directory / name).unlink()
            elif _is_own(name):
                data, status = self._read(name)
                self._on_disk[name] = data
                if (number := state_number(name)) is None:
                    self._load_batch(name)
                else:
                    self.state.load(number, data)
                if name == STATE_NAME:
                    self._last_complete = status.st_mtime
        self._ids = {digest_of(export_id): export_id for export_id in self.places}
        self.state.finish_loading(self._ids)
        # Left by a process that was killed between writing the state and the batch files.
        for digest in [each for each in self._ids if self.state.is_left_out(each)]:
            self._drop(digest)

    def _read(self, name: str) -> tuple[bytes, os.stat_result]:
        try:
            return files.read(self._directory / name, _MAX_FILE_BYTES)
        except OSError as error:
            raise LedgerError(
                f"{self._directory / name}: cannot be read: {error.strerror}"
            ) from error

    def _load_batch(self, name: str) -> None:
        file = BatchFile.parse(self._on_disk[name])
        if file is None:
            raise LedgerError(
                f"{self._directory / name}: not written by discover (must be a JSON"
                " object with batch and export_ids): repair or rename it"
            )
        for export_id in [each for each in file.ids if each in self.places]:
            del file.ids[export_id]
        self._files[name] = file
        self.places |= dict.fromkeys(file.ids, name)

    def _file_with_room(self, batch: str) -> str:
        number = 1
        while True:
            name = file_name(batch, number)
            file = self._files.setdefault(name, BatchFile(batch))
            if file.batch == batch and len(file.ids) < MAX_IDS_PER_FILE:
                return name
            number += 1

    def _drop(self, digest: str) -> None:
        export_id = self._ids.pop(digest)
        del self._files[self.places.pop(export_id)].ids[export_id]


def _is_own(name: str) -> bool:
    return name.startswith(PREFIX) and name.endswith(ENDING)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the directory against a second process.

    Raises:
        LedgerError: another process holds the lock, or the directory cannot be written.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LedgerError(f"{directory}: cannot be read: {error.strerror}") from error
    try:
        if not os.access(directory, os.W_OK):
            # A first round may take an hour: it must not turn out at its end.
            raise LedgerError(
                f"{directory}: cannot be written: no permission, or a read-only file system"
            )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerError(f"{directory}: another discover is running there") from None
        except OSError:
            # Some file systems cannot lock directories.
            pass
        yield
    finally:
        os.close(descriptor)
