"""The files of `discover`: ID files `discovered-*.json`, and its state.

The batch files are readable ID files. `discovered-state.json` has no IDs for the exporter, only
what later rounds need: which exports were left out, and when others completed.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from exporter import files
from exporter.tool.batch_file import ENDING, PREFIX, BatchFile, cut, file_name, parse

STATE_NAME: Final = f"{PREFIX}state{ENDING}"
#: The exporter reads a file with this many IDs in well under a second.
MAX_IDS_PER_FILE: Final = 20_000

_VERSION = 1
# The same limit as the exporter's for ID files.
_MAX_FILE_BYTES = 8 * 2**20
_HOUR = 3600
_DIGEST_BYTES = 8
_DIGEST_CHARS = 11
# The temporary files of `files.replace_file`.
_TEMPORARY = re.compile(rf"\.{PREFIX}.*\{ENDING}\.[a-z0-9_]{{8}}")


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
        verified: Unix time of the last pass over the whole list; None if there was none.
        places: The file of each written ID.
        warning: The problem of the state file, or None.
    """

    def __init__(self, directory: Path, selection: Selection) -> None:
        self.verified: float | None = None
        self.places: dict[str, str] = {}
        self.warning: str | None = None
        self._directory = directory
        self._selection = selection
        self._on_disk: dict[str, bytes] = {}
        self._files: dict[str, BatchFile] = {}
        self._completed: dict[str, int] = {}
        self._left_out: set[str] = set()
        # Known exports that are no longer listed, minus listed items without an ID.
        self._unlisted = 0
        self._load()

    @property
    def known(self) -> int:
        """Number of known exports in the list."""
        return len(self.places) + len(self._left_out) - self._unlisted

    @property
    def file_count(self) -> int:
        """Number of batch files."""
        return sum(bool(file.ids) for file in self._files.values())

    def knows(self, export_id: str) -> bool:
        """Return whether the export was written or left out."""
        return export_id in self.places or _digest(export_id) in self._left_out

    def add(self, export_id: str, batch: str) -> None:
        """Add the ID to a file of the batch."""
        name = self._file_with_room(cut(batch))
        self._files[name].ids[export_id] = None
        self.places[export_id] = name

    def leave_out(self, export_id: str) -> None:
        """Record the export without writing its ID."""
        self._left_out.add(_digest(export_id))

    def complete(self, export_id: str, at: float | None, now: float) -> None:
        """Record that a written export COMPLETED at the Unix time `at`, or before `now`."""
        if at is not None or export_id not in self._completed:
            self._completed[export_id] = int((now if at is None else at) // _HOUR)

    def expire(self, now: float) -> int:
        """Drop exports that COMPLETED too long ago; return their number."""
        last = (now - self._selection.keep) // _HOUR
        expired = [export_id for export_id, hour in self._completed.items() if hour < last]
        for export_id in expired:
            self._drop(export_id)
            self.leave_out(export_id)
        return len(expired)

    def account_for(self, total: int) -> None:
        """Record that all `total` exports of the list are known."""
        self._unlisted += self.known - total

    def write(self) -> int:
        """Write the changed files; return the number of ID files among them.

        The state comes first: if the process ends before the other files are written, the next
        round notices missing exports and finds them again.

        Raises:
            LedgerError: a file cannot be written or removed.
        """
        wanted = {STATE_NAME: self._render_state()}
        for name, file in sorted(self._files.items()):
            if file.ids or file.others:
                wanted[name] = file.render()
        changed = [name for name, data in wanted.items() if self._on_disk.get(name) != data]
        removed = [name for name in self._on_disk if name not in wanted]
        name = STATE_NAME
        try:
            for name in changed:
                files.replace_file(self._directory / name, [wanted[name]], mode=0o644)
            for name in removed:
                (self._directory / name).unlink(missing_ok=True)
        except OSError as error:
            raise LedgerError(
                f"{self._directory / name}: cannot be written: {error.strerror}"
            ) from error
        self._on_disk = wanted
        return len({*changed, *removed} - {STATE_NAME})

    def _load(self) -> None:
        try:
            names = sorted(path.name for path in self._directory.iterdir())
        except OSError as error:
            raise LedgerError(f"{self._directory}: cannot be read: {error.strerror}") from error
        for name in names:
            if _TEMPORARY.fullmatch(name):
                # Left by a process that was killed while writing.
                with contextlib.suppress(OSError):
                    (self._directory / name).unlink()
            elif name.startswith(PREFIX) and name.endswith(ENDING):
                self._on_disk[name] = self._read(name)
                if name != STATE_NAME:
                    self._load_batch(name)
        if STATE_NAME in self._on_disk:
            self._load_state()
        # Left by a process that was killed between writing the state and the batch files.
        for export_id in [i for i in self.places if _digest(i) in self._left_out]:
            self._drop(export_id)

    def _read(self, name: str) -> bytes:
        try:
            return files.read(self._directory / name, _MAX_FILE_BYTES)[0]
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

    def _load_state(self) -> None:
        state = parse(self._on_disk[STATE_NAME]).get("discover")
        if not isinstance(state, dict) or state.get("version") != _VERSION:
            self.warning = f"{STATE_NAME}: not a valid state: reading the whole list again"
            return
        if state.get("selection") != json.loads(json.dumps(asdict(self._selection))):
            # Exports that were left out may match the selection now.
            return
        try:
            text = state["left_out"]
            left_out = {text[i : i + _DIGEST_CHARS] for i in range(0, len(text), _DIGEST_CHARS)}
            completed = {
                export_id: int(hour)
                for hour, ids in state["completed"].items()
                for export_id in ids.split()
                if export_id in self.places
            }
            verified, unlisted = float(state["verified"]), int(state["unlisted"])
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            self.warning = f"{STATE_NAME}: not a valid state: reading the whole list again"
            return
        self._left_out, self._completed = left_out, completed
        self.verified, self._unlisted = verified, unlisted

    def _render_state(self) -> bytes:
        hours: dict[int, list[str]] = {}
        for export_id, hour in self._completed.items():
            hours.setdefault(hour, []).append(export_id)
        state: dict[str, Any] = {
            "version": _VERSION,
            "selection": asdict(self._selection),
            "verified": self.verified,
            "unlisted": self._unlisted,
            "completed": {str(hour): " ".join(sorted(hours[hour])) for hour in sorted(hours)},
            "left_out": "".join(sorted(self._left_out)),
        }
        # To the exporter, this is an answer without items, in a batch that exists anyway.
        written = (file.batch for file in self._files.values() if file.ids or file.others)
        batch = min(written, default="discovered")
        document = {"batch": batch, "items": [], "discover": state}
        return (json.dumps(document, indent=1) + "\n").encode()

    def _file_with_room(self, batch: str) -> str:
        number = 1
        while True:
            name = file_name(batch, number)
            file = self._files.setdefault(name, BatchFile(batch))
            if file.batch == batch and len(file.ids) < MAX_IDS_PER_FILE:
                return name
            number += 1

    def _drop(self, export_id: str) -> None:
        del self._files[self.places.pop(export_id)].ids[export_id]
        self._completed.pop(export_id, None)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the directory against a second process.

    Raises:
        LedgerError: another process holds the lock.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LedgerError(f"{directory}: cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LedgerError(f"{directory}: another discover is running there") from None
    except OSError:
        # Some file systems cannot lock directories.
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def _digest(export_id: str) -> str:
    digest = hashlib.blake2b(export_id.encode(), digest_size=_DIGEST_BYTES).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")
