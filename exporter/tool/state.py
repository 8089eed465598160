"""The state of `discover`: which exports were left out, and when others completed.

As an account only grows, so does the state: when a file is full, another one follows, and an export
stays in its file. Exports are stored as digests, which are shorter than IDs.
"""

import hashlib
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Container
from typing import Any, Final

from exporter.tool.batch_file import ENDING, PREFIX, parse

STATE_NAME: Final = f"{PREFIX}state{ENDING}"
#: The exporter reads all files: so many are far below its limits for one.
MAX_EXPORTS_PER_FILE: Final = 100_000

_VERSION = 2
_HOUR = 3600
_DIGEST_BYTES = 8
_DIGEST_CHARS = 11
# The name of a batch file ends otherwise: with 8 hexadecimal digits, and perhaps a number.
_NAME = re.compile(rf"{PREFIX}state(?:-([2-9]|[1-9][0-9]{{1,4}}))?\{ENDING}")


class State:
    """What is known of exports beside the files that hold them.

    Attributes:
        verified: Unix time of the last pass over the whole list; None if there was none.
        unlisted: Known exports that are no longer listed, minus listed items without an ID.
        reselected: Whether the last round had another selection.
        warning: The problem of a file, or None.

    Args:
        selection: Which exports are written. Those that were left out of another selection may be
            in this one, so a file of another selection is ignored.
    """

    def __init__(self, selection: dict[str, object]) -> None:
        self.verified: float | None = None
        self.unlisted = 0
        self.reselected = False
        self.warning: str | None = None
        self._selection = selection
        # By number of the file and digest: the hour when an export completed; None: left out.
        self._files: dict[int, dict[str, int | None]] = {1: {}}

    def load(self, number: int, data: bytes) -> None:
        """Add the content of a file."""
        try:
            state = _checked(parse(data)["discover"])
            if state["selection"] != json.loads(json.dumps(self._selection)):
                self.reselected |= number == 1
                return
            known: dict[str, int | None] = dict.fromkeys(_split(state["left_out"]))
            for hour, digests in state["completed"].items():
                known |= dict.fromkeys(_split(digests), int(hour))
            if number == 1:
                unlisted, verified = int(state["unlisted"]), state["verified"]
                self.verified = None if verified is None else float(verified)
                self.unlisted = unlisted
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            self.warning = f"{_name(number)}: not a valid state: reading the whole list again"
        else:
            self._files[number] = known

    def finish_loading(self, written: Container[str]) -> None:
        """Forget exports that completed but are no longer written, by their digests."""
        # A copy of a file has exports twice.
        seen: set[str] = set()
        for number, known in self._files.items():
            self._files[number] = {
                digest: hour
                for digest, hour in known.items()
                if digest not in seen and (hour is None or digest in written)
            }
            seen |= known.keys()
        if self.warning is not None:
            self.verified = None

    @property
    def left_out(self) -> int:
        """Number of exports that were left out."""
        return sum(hour is None for known in self._files.values() for hour in known.values())

    def is_left_out(self, digest: str) -> bool:
        """Return whether the export was left out."""
        return any(known.get(digest, 0) is None for known in self._files.values())

    def leave_out(self, digest: str) -> None:
        """Record an export that is not written, or no longer."""
        self._file_of(digest)[digest] = None

    def complete(self, digest: str, at: float | None, now: float) -> None:
        """Record that a written export COMPLETED at the Unix time `at`, or before `now`."""
        known = self._file_of(digest)
        if at is not None or digest not in known:
            known[digest] = int((now if at is None else at) // _HOUR)

    def completed_before(self, time: float) -> list[str]:
        """Return the written exports that COMPLETED in an hour before that of a Unix time."""
        last = time // _HOUR
        return [
            digest
            for known in self._files.values()
            for digest, hour in known.items()
            if hour is not None and hour < last
        ]

    def render(self, batch: str) -> dict[str, bytes]:
        """Return the content of each file by its name.

        To the exporter, each is an answer without items, in this batch. The first, with the time of
        the last pass, comes last: if the process is killed before, the next round makes a pass.
        """
        return {
            _name(number): self._render(number, known, batch)
            for number, known in reversed(self._files.items())
            if known or number == 1
        }

    def _file_of(self, digest: str) -> dict[str, int | None]:
        """Return the file that has the export, or the one for new exports."""
        for known in self._files.values():
            if digest in known:
                return known
        last = max(self._files)
        if len(self._files[last]) >= MAX_EXPORTS_PER_FILE:
            last += 1
        return self._files.setdefault(last, {})

    def _render(self, number: int, known: dict[str, int | None], batch: str) -> bytes:
        hours: dict[int, list[str]] = {}
        left_out: list[str] = []
        for digest in sorted(known):
            hour = known[digest]
            (left_out if hour is None else hours.setdefault(hour, [])).append(digest)
        state: dict[str, Any] = {"version": _VERSION, "selection": self._selection}
        if number == 1:
            state |= {"verified": self.verified, "unlisted": self.unlisted}
        state |= {
            "completed": {str(hour): "".join(hours[hour]) for hour in sorted(hours)},
            "left_out": "".join(left_out),
        }
        document = {"batch": batch, "items": [], "discover": state}
        return (json.dumps(document, indent=1) + "\n").encode()


def state_number(name: str) -> int | None:
    """Return the number of a state file, from 1, by its name; None for other files."""
    match = _NAME.fullmatch(name)
    return None if match is None else int(match[1] or 1)


def digest_of(export_id: str) -> str:
    """Return the digest of an ID."""
    digest = hashlib.blake2b(export_id.encode(), digest_size=_DIGEST_BYTES).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")


def _checked(state: Any) -> Any:  # noqa: ANN401 # whatever the file holds
    if state["version"] != _VERSION:
        raise ValueError(state["version"])
    return state


def _name(number: int) -> str:
    return STATE_NAME if number == 1 else f"{PREFIX}state-{number}{ENDING}"


def _split(digests: str) -> list[str]:
    return [digests[i : i + _DIGEST_CHARS] for i in range(0, len(digests), _DIGEST_CHARS)]
