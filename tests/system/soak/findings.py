"""The problems that a run finds, and numbers of what it checked."""

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
    """Problems and counts, written by all threads of a run.

    Attributes:
        problems: All problems, each with the time at which it was found.
        count: Number of times that each thing was checked or occurred.
        searched: Number of bytes that were searched for secrets.
    """

    problems: list[str] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    searched: int = 0
    _known: set[str] = field(default_factory=set)

    def add(self, problem: str) -> None:
        """Record a problem, once."""
        if problem not in self._known:
            self._known.add(problem)
            self.problems.append(f"{time.strftime('%H:%M:%S')} {problem}")

    def search(self, what: str, data: bytes) -> None:
        """Search the data for a secret, and record it as a problem."""
        self.searched += len(data)
        if found := _SECRET.search(data):
            around = data[max(0, found.start() - 80) : found.end() + 80]
            self.add(f"{what} holds a secret: {around!r}")
