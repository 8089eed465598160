"""Random edits of ID files, and the IDs that the exporter must watch meanwhile."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Final

from exporter.simulator import Simulator
from tests.system.soak.environment import Environment

Watched = Mapping[str, frozenset[str]]
"""The IDs of each batch."""

_MIN_FILES: Final = 4
_MAX_FILES: Final = 6
_SIZES: Final = (20, 120)

_GARBAGE: Final = (
    b"",
    b"\x89PNG\r\n\x1a\n\0",
    b"[" * 100_000,
    b"export_id: [a]\n",
    b"- &a x\n- *a\n",
    b"export_ids: [a]\nexport_ids: [b]\n",
    b'{"items": 7}',
    "- Größe".encode("utf-16"),
    b"- a\n<<<<<<< HEAD\n- b\n",
)


def true_state(simulator: Simulator, export_id: str) -> str:
    """Return the current state of an export; `UNKNOWN` if the simulator does not know it."""
    try:
        return str(simulator.export(export_id)["state"])
    except KeyError:
        return "UNKNOWN"


@dataclass(frozen=True, slots=True)
class _File:
    """One ID file.

    Attributes:
        ids: Its IDs, as of its last valid content.
        acknowledged: Its acknowledged failures, as of its last valid content.
        at: Monotonic time at which the last valid content was written.
        broken: Whether it is broken now.
    """

    ids: tuple[str, ...]
    at: float
    acknowledged: tuple[str, ...] = ()
    broken: bool = False


@dataclass(slots=True)
class Files:
    """Edits the files of a directory at random.

    Attributes:
        directory: Directory of the files.
        simulator: Starts their exports.
        random: Chooses the edits.
        settled_seconds: Time after which a scrape must have read an edit.
        pause: Waits for a number of seconds.
        environment: The environment, with the file server of the directory.
        hang_seconds: Maximum time for which the file server hangs.
        count: Number of edits of each kind.
    """

    directory: Path
    simulator: Simulator
    random: Random
    settled_seconds: float
    pause: Callable[[float], object]
    environment: Environment
    hang_seconds: float
    count: Counter[str] = field(default_factory=Counter)
    _files: dict[str, _File] = field(default_factory=dict)
    _number: int = 0
    _watched: Watched = field(default_factory=dict)
    _since: float | None = None

    def start(self) -> None:
        """Write the first files."""
        for _ in range(_MIN_FILES):
            self._add()

    def edit(self) -> None:
        """Make one edit."""
        edits = [self._add, self._grow, self._acknowledge, self._share, self._touch, self._away]
        edits += [self._hang] * 2
        settled = [name for name, file in self._files.items() if self._is_settled(file)]
        if len(self._files) < _MIN_FILES:
            edits = [self._add]
        elif len(self._files) >= _MAX_FILES:
            edits[0] = self._remove
        else:
            edits.append(self._remove)
        if settled:
            edits += [self._break, self._write_in_halves] * 2
        if any(file.broken for file in self._files.values()):
            edits += [self._repair] * 2
        edit = self.random.choice(edits)
        edit()
        self.count[edit.__name__.strip("_").replace("_", " ")] += 1

    def repair(self) -> None:
        """Repair all broken files."""
        while any(file.broken for file in self._files.values()):
            self._repair()

    def watched(self, *, since: float) -> Watched | None:
        """Return what has been watched unchanged from `since` (monotonic) until now, or None."""
        watched, changed = self._watched, self._since
        return watched if changed is not None and changed < since else None

    @property
    def acknowledged(self) -> frozenset[str]:
        """All acknowledged IDs."""
        return frozenset(i for file in self._files.values() for i in file.acknowledged)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Allow the old and the new content to be watched during the block."""
        self._since = None
        yield
        seen: set[str] = set()
        watched: dict[str, frozenset[str]] = {}
        for name, file in sorted(self._files.items()):
            watched[name.partition(".")[0]] = frozenset(file.ids) - seen
            seen.update(file.ids)
        self._watched = watched
        self._since = time.monotonic()

    def _is_settled(self, file: _File) -> bool:
        since = max(file.at, self.environment.answers_since())
        return not file.broken and time.monotonic() - since > self.settled_seconds

    def _pick(self, *, broken: bool = False) -> str | None:
        names = [name for name, file in self._files.items() if file.broken == broken]
        return self.random.choice(names) if names else None

    def _write(self, name: str, file: _File) -> None:
        with self._change():
            self._replace(name, self._text(name, file))
            self._files[name] = replace(file, at=time.monotonic(), broken=False)

    def _replace(self, name: str, data: bytes) -> None:
        new = self.directory / f".{name}.new"
        new.write_bytes(data)
        new.replace(self.directory / name)

    def _text(self, name: str, file: _File) -> bytes:
        """Return the content in a random format of which no part is a valid file."""
        document = {"export_ids": file.ids, "acknowledged": file.acknowledged}
        items = [{"resource": {"id": i, "state": "PENDING"}} for i in file.ids]
        forms = [json.dumps(document)]
        if not file.acknowledged:
            forms += [json.dumps(file.ids), json.dumps({"items": items, "href": "x"}, indent=1)]
        if name.endswith(".yml"):
            ids, acknowledged = ", ".join(file.ids), ", ".join(file.acknowledged)
            forms.append(f"{{export_ids: [{ids}], # failed:\n acknowledged: [{acknowledged}]}}\n")
        return self.random.choice(forms).encode()

    def _new_ids(self, count: int) -> tuple[str, ...]:
        ids = self.simulator.start(count, ago=self.random.uniform(0, 20))
        # One more, which the API does not know.
        unknown = f"unknown{self._number:025}"
        self._number += 1
        return (*ids, unknown)

    def _add(self) -> None:
        ending = self.random.choice((".yml", ".json"))
        name = f"batch{self._number:04}{ending}"
        self._write(name, _File(self._new_ids(self.random.randint(*_SIZES)), 0.0))

    def _grow(self) -> None:
        if name := self._pick():
            file = self._files[name]
            kept = file.ids[-_SIZES[1] :]
            self._write(name, replace(file, ids=kept + self._new_ids(self.random.randint(1, 20))))

    def _share(self) -> None:
        """List some IDs in two files: they are still watched once."""
        if (one := self._pick()) and (other := self._pick()):
            ids = dict.fromkeys((*self._files[one].ids, *self._files[other].ids[:3]))
            self._write(one, replace(self._files[one], ids=tuple(ids)))

    def _acknowledge(self) -> None:
        if name := self._pick():
            file = self._files[name]
            failed = [i for i in file.ids if true_state(self.simulator, i) == "FAILED"]
            kept = self.random.sample(failed, self.random.randint(0, len(failed)))
            self._write(name, replace(file, acknowledged=tuple(kept)))

    def _touch(self) -> None:
        if name := self._pick():
            (self.directory / name).touch()

    def _remove(self) -> None:
        name = self.random.choice(sorted(self._files))
        with self._change():
            (self.directory / name).unlink()
            del self._files[name]

    def _settled_file(self) -> str:
        return self.random.choice(sorted(n for n, f in self._files.items() if self._is_settled(f)))

    def _break(self) -> None:
        name = self._settled_file()
        path = self.directory / name
        self._files[name] = replace(self._files[name], broken=True)
        kind = self.random.randrange(len(_GARBAGE) + 4)
        if kind < len(_GARBAGE):
            path.write_bytes(_GARBAGE[kind])
        elif kind == len(_GARBAGE):
            with path.open("wb") as file:
                file.truncate(50 * 10**6)
        else:
            # Replace the file by renaming: a missing file would end the watch of its IDs.
            new = self.directory / ".new"
            if kind == len(_GARBAGE) + 1:
                os.mkfifo(new)
            else:
                new.symlink_to(self.random.choice(("gone.yml", path.name, "/dev/zero")))
            new.rename(path)

    def _repair(self) -> None:
        if name := self._pick(broken=True):
            self._write(name, self._files[name])

    def _write_in_halves(self) -> None:
        """Write a file in place with a pause in the middle, as editors and network copies do."""
        name = self._settled_file()
        file = self._files[name]
        file = replace(file, ids=file.ids + self._new_ids(1))
        data = self._text(name, file)
        with self._change():
            with (self.directory / name).open("wb", buffering=0) as out:
                middle = self.random.randrange(len(data) // 2)
                out.write(data[:middle])
                self.pause(self.random.uniform(0.05, 1))
                out.write(data[middle:])
            self._files[name] = replace(file, at=time.monotonic())

    def _away(self) -> None:
        """Move the directory away for a moment: the last loaded watchlist stays in effect."""
        elsewhere = self.directory.with_suffix(".away")
        with self._unread():
            self.directory.rename(elsewhere)
            try:
                self.pause(self.random.uniform(0.1, 3))
            finally:
                elsewhere.rename(self.directory)

    def _hang(self) -> None:
        """Make the file server hang: the last loaded watchlist stays in effect."""
        with self._unread(), self.environment.hanging():
            self.pause(self.random.uniform(0.1, self.hang_seconds))

    def _unread(self) -> AbstractContextManager[None]:
        """Return a context for a block in which a recent change cannot be read."""
        is_settled = self.watched(since=time.monotonic() - self.settled_seconds) is not None
        return nullcontext() if is_settled else self._change()
