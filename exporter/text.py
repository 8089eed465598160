"""Untrusted text: decoding, escaping, errors that point into a file. And counts with nouns."""

import difflib
from collections.abc import Iterable
from typing import Final

#: The nulls of YAML and JSON, and an empty value: all mean "nothing" in every file.
NULL: Final = ("", "~", "null", "Null", "NULL")

_MAX_SHOWN_CHARS = 64


class TextError(ValueError):
    """The content of a file is not valid.

    Attributes:
        line: From 1; None if unknown.
    """

    def __init__(self, line: int | None, problem: str) -> None:
        super().__init__(problem)
        self.line = line

    def at(self, file: str) -> str:
        """Return the error as `file:line: problem`."""
        return f"{file}:{'' if self.line is None else f'{self.line}:'} {self}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 batch", "2,000 exports"."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{ending}"


def decode(data: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises:
        TextError: the data is in another encoding, or is not text.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TextError(line, "not UTF-8 text: save it as UTF-8") from None
    if (nul := data.find(0)) >= 0:
        # File systems fill a file with them if the machine crashes before its content is written;
        # UTF-16 without a byte order mark has them as well.
        line = data.count(b"\n", 0, nul) + 1
        raise TextError(line, "holds NUL bytes, as after a crash or in UTF-16: save it as UTF-8")
    return text.removeprefix("\ufeff")


def printable(text: str) -> str:
    r"""Escape what must not be in log lines and labels: control characters, broken encoding.

    Different texts stay different: a backslash is doubled.
    """
    return "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text
    )


def excerpt(text: str) -> str:
    """Return the beginning of an untrusted text, escaped for a message."""
    return printable(text[:_MAX_SHOWN_CHARS])


def similar(word: str, known: Iterable[str]) -> str | None:
    """Return the `known` word that a word is most similar to, if there is one."""
    likely = difflib.get_close_matches(word[:_MAX_SHOWN_CHARS], [*known], n=1)
    return likely[0] if likely else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a hint for a word that is not `known`: a similar known word, or all of them."""
    known = tuple(known)
    likely = similar(word, known)
    return f"did you mean {likely}?" if likely else f"use one of {', '.join(known)}"
