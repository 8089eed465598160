"""Reading YAML and JSON strictly, and remembering the lines.

A document is nested lists, dicts and texts. What stands in a file is untrusted: repeated keys,
aliases, deep nesting and masses of values are errors, and no scalar becomes anything but text.
"""

import json
import re
from typing import Final

import yaml

# An API answer saved as YAML is seven levels deep. libyaml recurses for each level on the C stack.
MAX_DEPTH: Final = 50
# 100,000 IDs, each of them acknowledged as well. The scrape that finds a new file reads it first:
# this many take a second or two.
MAX_VALUES: Final = 250_000

_MAX_SHOWN_CHARS = 64

# Where libyaml sees one: a percent sign that nothing stands before in its line. YAML knows five
# line breaks, and a mark of the byte order may stand at the beginning.
_DIRECTIVE = re.compile(r"%(?<![^\n\r\x85\u2028\u2029\ufeff]%)")

# What matters of a text that is known to be JSON: brackets, where strings begin, bare words.
_JSON_TOKEN = re.compile(r'[\[\]{}"]|[^\s,:\[\]{}"]+')


class DocumentError(ValueError):
    """The text is no such document.

    Attributes:
        line: From 1; None where it cannot be told.
    """

    def __init__(self, line: int | None, problem: str) -> None:
        super().__init__(problem)
        self.line = line


def printable(text: str) -> str:
    r"""Escape what a log line or a label should not hold: control characters, broken encoding.

    Different texts stay different: a backslash becomes two.
    """
    return "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text
    )


def excerpt(text: str) -> str:
    """Give the beginning of an untrusted text, for a message."""
    return printable(text[:_MAX_SHOWN_CHARS])


def _too_many(line: int | None) -> DocumentError:
    return DocumentError(line, f"holds more than {MAX_VALUES} values")


class _Text(str):
    __slots__ = ("line",)
    line: int


class _List(list[object]):
    line: int


class _Dict(dict[str, object]):
    line: int


def line_of(value: object) -> int | None:
    """Give the line, from 1, of a value or a key of a document that was read here."""
    return getattr(value, "line", None)


class _Builder:
    """Puts a document together from values in the order of the text."""

    def __init__(self) -> None:
        # The open containers; beside each mapping the key that waits for its value.
        self._open: list[tuple[_List | _Dict, list[_Text]]] = []
        self._values = 0
        self.document: object = None

    def add(self, value: _Text | _List | _Dict, line: int) -> None:
        value.line = line
        self._values += 1
        if self._values > MAX_VALUES:
            raise _too_many(line)
        if not self._open:
            if self.document is not None:
                raise DocumentError(line, "more than one document")
            self.document = value
            return
        container, keys = self._open[-1]
        if isinstance(container, _List):
            container.append(value)
        elif keys:
            container[keys.pop()] = value
        elif not isinstance(value, _Text):
            raise DocumentError(line, "a key must be text")
        elif value in container:
            raise DocumentError(line, f"the key {excerpt(value)} is repeated")
        else:
            keys.append(value)

    def begin(self, container: _List | _Dict, line: int) -> None:
        self.add(container, line)
        self._open.append((container, []))
        if len(self._open) > MAX_DEPTH:
            raise DocumentError(line, f"nested more than {MAX_DEPTH} levels deep")

    def end(self) -> None:
        self._open.pop()


def read_yaml(text: str) -> object:
    """Read a YAML document in which every key stands once.

    Raises:
        DocumentError: also for aliases, directives, a second document, and beyond the limits above.
    """
    # libyaml compares each with all before it, and stops the whole process for as long.
    if directive := _DIRECTIVE.search(text):
        line = text.count("\n", 0, directive.start()) + 1
        raise DocumentError(line, "directives are not supported: no line may begin with %")
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=yaml.CBaseLoader):
            line = event.start_mark.line + 1  # type: ignore[union-attr] # events of a text have it
            if isinstance(event, yaml.ScalarEvent):
                builder.add(_Text(event.value), line)
            elif isinstance(event, yaml.SequenceStartEvent):
                builder.begin(_List(), line)
            elif isinstance(event, yaml.MappingStartEvent):
                builder.begin(_Dict(), line)
            elif isinstance(event, yaml.CollectionEndEvent):
                builder.end()
            elif isinstance(event, yaml.AliasEvent):
                raise DocumentError(line, "aliases are not supported: write the value out")
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error) from None
    except yaml.reader.ReaderError as error:
        # The position is one of the UTF-8 that libyaml reads.
        line = text.encode().count(b"\n", 0, error.position) + 1
        character = f"U+{error.character:04X}"
        raise DocumentError(line, f"not YAML: it forbids the character {character}") from None
    return builder.document


def _not_yaml(error: yaml.MarkedYAMLError) -> DocumentError:
    """Say what libyaml says, and where that thing began.

    What stands there is not shown: a password that lacks its quotes is such a place.
    """
    mark: yaml.Mark = error.problem_mark  # type: ignore[assignment] # of a text it is there
    began = error.context_mark
    problem = f"not YAML: {error.problem}"
    if began is not None and began.line != mark.line:
        problem += f", {error.context} that begins in line {began.line + 1}"
    return DocumentError(mark.line + 1, problem)


def read_json(text: str) -> object:
    """Read a JSON document in which every key stands once; `null` is text as well.

    Raises:
        DocumentError: also beyond the limits above.
    """
    # The decoder stops the whole process until it is through, so it must not begin with too much.
    # Lists in lists count twice, and what stands within texts does: of IDs no file is like that.
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        raise _too_many(None)
    decoder = json.JSONDecoder(parse_int=str)  # an int of many digits would be a ValueError
    try:
        decoder.decode(text)
    except json.JSONDecodeError as error:
        raise DocumentError(error.lineno, f"not JSON: {error.msg}") from None
    except RecursionError:
        raise DocumentError(None, f"nested more than {MAX_DEPTH} levels deep") from None
    # That proved the form; the decoder does not tell lines, so walk the tokens.
    builder = _Builder()
    line, at = 1, 0
    while token := _JSON_TOKEN.search(text, at):
        line += text.count("\n", at, token.start())
        at = token.end()
        match token[0]:
            case '"':
                string, at = decoder.raw_decode(text, token.start())
                builder.add(_Text(string), line)
            case "[":
                builder.begin(_List(), line)
            case "{":
                builder.begin(_Dict(), line)
            case "]" | "}":
                builder.end()
            case word:
                builder.add(_Text(word), line)
    return builder.document
