"""What a run finds wrong, and what it looked at."""

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

#: Every token begins like this.
TOKEN_BEGIN: Final = "hush-"
#: Secrets: tokens, and names of files and projects in the simulator's answers.
_SECRET: Final = re.compile(TOKEN_BEGIN.encode() + rb"|PT-[0-9A-F]{6}|release/|my-project")


@dataclass(slots=True)
class Findings:
    """Written by all threads of a run.

    Attributes:
        problems: Everything that was wrong.
        count: How often each thing was looked at, or was so.
        searched: Bytes in which secrets were looked for.
    """

    problems: list[str] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    searched: int = 0
    _known: set[str] = field(default_factory=set)

    def add(self, problem: str) -> None:
        """Note that something is wrong, once."""
        if problem not in self._known:
            self._known.add(problem)
            self.problems.append(f"{time.strftime('%H:%M:%S')} {problem}")

    def search(self, what: str, data: bytes) -> None:
        """Report a secret in the data."""
        self.searched += len(data)
        if found := _SECRET.search(data):
            around = data[max(0, found.start() - 80) : found.end() + 80]
            self.add(f"{what} holds a secret: {around!r}")
