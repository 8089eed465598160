"""Strict YAML and JSON readers that record the line of every value.

A document consists of nested lists, dicts and texts. Its content is untrusted: repeated keys,
aliases, deep nesting and too many values are errors, and every scalar is read as text.
"""

import json
import re
from typing import Final, NoReturn

import yaml

from exporter.text import TextError

# A saved API answer in YAML is seven levels deep. libyaml recurses on the C stack at each level.
MAX_DEPTH: Final = 50
# 100,000 IDs that are all acknowledged fit; reading them takes a second or two.
MAX_VALUES: Final = 250_000

# PyYAML may be built without libyaml (some platforms have no such wheel). Its own reader takes
# 20 to 80 times as long, up to 6 s for this many characters.
_HAS_LIBYAML = hasattr(yaml, "CBaseLoader")
_YAML_READER = yaml.CBaseLoader if _HAS_LIBYAML else yaml.BaseLoader
_MAX_CHARS_WITHOUT_LIBYAML = 2**20

# Characters that YAML forbids, although readers may accept them.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_YAML_LINE_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")

# A percent sign at the start of a line. A byte order mark may precede the first line.
_DIRECTIVE = re.compile(r"%(?<![^\n\r\x85\u2028\u2029\ufeff]%)")

# The tokens of valid JSON: brackets, the start of a string, bare words.
_JSON_TOKEN = re.compile(r'[\[\]{}"]|[^\s,:\[\]{}"]+')


def _too_many(line: int | None) -> TextError:
    return TextError(line, f"holds more than {MAX_VALUES} values: split it into several files")


class _Text(str):
    __slots__ = ("line",)
    line: int


class _List(list[object]):
    line: int


class _Dict(dict[str, object]):
    line: int


def line_of(value: object) -> int | None:
    """Return the line, from 1, of a value or key of a document; None for any other object."""
    return getattr(value, "line", None)


class _Builder:
    """Assembles a document from its values in the order of the text."""

    def __init__(self) -> None:
        # The open containers; for a mapping, also the key that waits for its value.
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
                raise TextError(line, "more than one document")
            self.document = value
            return
        container, keys = self._open[-1]
        if isinstance(container, _List):
            container.append(value)
        elif keys:
            container[keys.pop()] = value
        elif not isinstance(value, _Text):
            raise TextError(line, "a key must be text")
        elif value in container:
            raise TextError(line, "a key is repeated")
        else:
            keys.append(value)

    def begin(self, container: _List | _Dict, line: int) -> None:
        self.add(container, line)
        self._open.append((container, []))
        if len(self._open) > MAX_DEPTH:
            raise TextError(line, f"nested more than {MAX_DEPTH} levels deep")

    def end(self) -> None:
        self._open.pop()

    def alias(self, line: int) -> NoReturn:
        raise TextError(line, "aliases are not supported: write the value out")


def read_yaml(text: str) -> object:
    """Parse a YAML document without repeated keys.

    Raises:
        TextError: also for aliases, directives, a second document, and beyond the limits above.
    """
    _check_yaml(text)
    builder = _Builder()
    line = 1
    try:
        for event in yaml.parse(text, Loader=_YAML_READER):
            line = event.start_mark.line + 1  # type: ignore[union-attr] # events of a text have one
            if isinstance(event, yaml.ScalarEvent):
                event.value.encode()  # libyaml refuses lone surrogates, PyYAML's own reader not
                builder.add(_Text(event.value), line)
            elif isinstance(event, yaml.SequenceStartEvent):
                builder.begin(_List(), line)
            elif isinstance(event, yaml.MappingStartEvent):
                builder.begin(_Dict(), line)
            elif isinstance(event, yaml.CollectionEndEvent):
                builder.end()
            elif isinstance(event, yaml.AliasEvent):
                builder.alias(line)
    except TextError:
        raise
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error) from None
    except (ValueError, OverflowError):
        # PyYAML's own reader fails on escapes beyond Unicode.
        raise TextError(line, "not YAML: an escape sequence is not a valid character") from None
    return builder.document


def _check_yaml(text: str) -> None:
    """Raise an error for text that must not reach the YAML reader."""
    # libyaml compares each directive with all earlier ones, and holds the GIL meanwhile.
    if directive := _DIRECTIVE.search(text):
        line = _yaml_line(text, directive.start())
        raise TextError(line, "directives are not supported: no line may begin with %")
    if forbidden := _FORBIDDEN.search(text):
        line = _yaml_line(text, forbidden.start())
        character = f"U+{ord(forbidden[0]):04X}"
        raise TextError(line, f"not YAML: the character {character} is not allowed")
    if len(text) > _MAX_CHARS_WITHOUT_LIBYAML and not _HAS_LIBYAML:
        raise TextError(
            None,
            f"larger than {_MAX_CHARS_WITHOUT_LIBYAML} characters, which takes too long to read:"
            " PyYAML is installed without libyaml here; save it as JSON",
        )


def _yaml_line(text: str, at: int) -> int:
    """Return the line, from 1, of the character at an index, as libyaml counts lines."""
    return 1 + sum(1 for _ in _YAML_LINE_BREAK.finditer(text, 0, at))


def _not_yaml(error: yaml.MarkedYAMLError) -> TextError:
    """Return the parser's message, and where the unfinished construct began.

    The text itself is not shown: it may be a password that lacks its quotes.
    """
    mark: yaml.Mark = error.problem_mark  # type: ignore[assignment] # a text always has one
    began = error.context_mark
    problem = f"not YAML: {error.problem}"
    if began is not None and began.line != mark.line:
        problem += f", {error.context} that begins in line {began.line + 1}"
    return TextError(mark.line + 1, problem)


def read_json(text: str) -> object:
    """Parse a JSON document without repeated keys; `null` is read as text, too.

    Raises:
        TextError: also beyond the limits above.
    """
    # The decoder holds the GIL until it is done, so an oversized document is refused before. This
    # counts nested lists twice, and characters within texts; ID files have few of both.
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        raise _too_many(None)
    decoder = json.JSONDecoder(parse_int=str)  # an int of many digits would be a ValueError
    try:
        decoder.decode(text)
    except json.JSONDecodeError as error:
        raise TextError(error.lineno, f"not JSON: {error.msg}") from None
    except RecursionError:
        raise TextError(None, f"nested more than {MAX_DEPTH} levels deep") from None
    # The syntax is valid. The decoder does not report lines, so the tokens are scanned.
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
