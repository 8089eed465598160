"""The content of one ID file, whatever its form."""

import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from exporter.cavatica.export import is_export_id
from exporter.text import NULL, TextError, excerpt

# The form of file IDs on the platform; export IDs have 32 letters and digits.
_FILE_ID: Final = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that is not a valid export ID.

    Attributes:
        text: The start of the entry, printable.
        line: From 1; None if unknown.
    """

    text: str
    line: int | None


@dataclass(frozen=True, slots=True)
class Remark:
    """Something in a valid file that has no effect, and may be a mistake.

    Attributes:
        text: What it is, for people.
        line: From 1; None if unknown.
    """

    text: str
    line: int | None


@dataclass(frozen=True, slots=True)
class IdFile:
    """The content of one ID file.

    Attributes:
        batch: The batch of its IDs; None for a file that only acknowledges.
        ids: Every valid ID, in order, repeated as often as listed.
        acknowledged: IDs of failures that were dealt with; not necessarily of this file.
        rejected: Entries that are not valid IDs.
        refused: Files that the API refused to export when the batch was started, by the API's error
            code; `""` where there is none.
        refusals_acknowledged: Whether the refusals of its batch were dealt with.
        expected: Number of exports that its batch should have, or None if the file does not say.
        remarks: What has no effect.
    """

    batch: str | None
    ids: tuple[str, ...]
    acknowledged: frozenset[str] = frozenset()
    rejected: tuple[Rejected, ...] = ()
    refused: Mapping[str, int] = field(default_factory=dict)
    refusals_acknowledged: bool = False
    expected: int | None = None
    remarks: tuple[Remark, ...] = ()


class Collector:
    """Collects the entries of a file.

    Attributes:
        ids: Valid IDs.
        rejected: Entries that are not valid IDs.
        refused: Refusals by code.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.rejected: list[Rejected] = []
        self.refused: Counter[str] = Counter()
        self._first_line: int | None = None

    def add(self, text: str, line: int | None) -> None:
        """Add an entry that should be an ID."""
        if (export_id := self.check(text, line)) is None:
            return
        if not self.ids:
            self._first_line = line
        self.ids.append(export_id)

    def check(self, text: str, line: int | None) -> str | None:
        """Return the ID; record an invalid entry as rejected and return None."""
        if is_export_id(text) and text not in NULL:
            # The same object as in the API's answers.
            return sys.intern(str(text))
        self.rejected.append(Rejected(excerpt(text), line))
        return None

    def refuse_file_ids(self) -> None:
        """Raise an error if every ID is a file ID.

        Raises:
            TextError: with the line of the first one.
        """
        if self.ids and all(map(_FILE_ID.fullmatch, self.ids)):
            raise TextError(
                self._first_line,
                "holds IDs of files (24 hexadecimal digits), not of exports: an export's ID is in"
                " the answer that the API gave when the export was started",
            )
