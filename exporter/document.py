"""Reading YAML and JSON strictly, and remembering the lines.

A document is nested lists, dicts and texts. What stands in a file is untrusted: repeated keys,
aliases and deep nesting are errors, and no scalar becomes anything but text.
"""

import json
from typing import Final

import yaml

# An API answer saved as YAML is seven levels deep. libyaml recurses for each level on the C stack.
MAX_DEPTH: Final = 50


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


class _Text(str):
    __slots__ = ("line",)
    line: int


class _List(list[object]):
    line: int


class _Dict(dict[str, object]):
    line: int


def yaml_line_of(value: object) -> int | None:
    """Give the line of a value or a key of a document that `read_yaml` gave."""
    return getattr(value, "line", None)


class _Builder:
    """Puts a document together from values in the order of the text."""

    def __init__(self) -> None:
        # The open containers; beside each mapping the key that waits for its value.
        self._open: list[tuple[_List | _Dict, list[_Text]]] = []
        self.document: object = None

    def add(self, value: _Text | _List | _Dict, line: int) -> None:
        value.line = line
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
            raise DocumentError(line, f"the key {printable(value)} is repeated")
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
    """Read a YAML document in which every scalar is text and every key stands once.

    Raises:
        DocumentError: also for aliases, for a second document, and beyond `MAX_DEPTH`.
    """
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
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DocumentError(line, f"not YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise DocumentError(None, "not YAML: it holds characters that YAML forbids") from None
    return builder.document


def read_json(text: str) -> object:
    """Read a JSON document in which every number is text and every key stands once.

    Raises:
        DocumentError: when it is none.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        document = dict(pairs)
        if len(document) < len(pairs):
            keys = [key for key, _ in pairs]
            key = next(key for key in keys if keys.count(key) > 1)
            at = text.find(_quoted(key), text.find(_quoted(key)) + 1)
            raise DocumentError(_line_at(text, at), f"the key {printable(key)} is repeated")
        return document

    try:
        document: object = json.loads(
            text, object_pairs_hook=unique, parse_int=str, parse_float=str, parse_constant=str
        )
    except json.JSONDecodeError as error:
        raise DocumentError(error.lineno, f"not JSON: {error.msg}") from None
    except RecursionError:
        raise DocumentError(None, "nested too deep") from None
    return document


def json_line_of(text: str, value: object) -> int | None:
    """Find the line of a value of a JSON text, which the parser does not tell, by looking for it.

    Right but for a text that stands earlier too, or is written with other escapes; None for
    anything but texts.
    """
    return _line_at(text, text.find(_quoted(value))) if isinstance(value, str) else None


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _line_at(text: str, at: int) -> int | None:
    return None if at < 0 else text.count("\n", 0, at) + 1
