"""A mapping of the web configuration, read strictly: every error names file, line and key."""

from collections.abc import Collection, Mapping

from exporter.document import line_of
from exporter.text import NULL, TextError, excerpt, suggestion


class WebConfigError(ValueError):
    """The web configuration cannot be used; the text says where it is wrong, and what is right."""

    @classmethod
    def at(cls, file: str, line: int | None, problem: str) -> "WebConfigError":
        """The error in a line, from 1, of a file."""
        return cls(TextError(line, problem).at(file))


class Section:
    """A mapping with known keys. What is of a wrong form raises `WebConfigError`.

    Args:
        content: As `read_yaml` gives it, with the lines.
        title: What errors call it.
        file: The file's name, for errors.
        keys: All that there may be.
        refused: What exporter-toolkit knows beyond them, and what to do about it.
    """

    def __init__(
        self,
        content: Mapping[str, object],
        title: str,
        file: str,
        *,
        keys: Collection[str],
        refused: Mapping[str, str],
    ) -> None:
        self._content = content
        self._title = title
        self._file = file
        for key in content:
            if key in refused:
                raise self.error(key, f"is not supported by this exporter: {refused[key]}")
            if key not in keys:
                problem = f"unknown key {excerpt(key)} in {title}; {suggestion(key, keys)}"
                raise WebConfigError.at(file, line_of(key), problem)

    def __bool__(self) -> bool:
        """Whether there is any key."""
        return bool(self._content)

    def error(self, key: str, problem: str) -> WebConfigError:
        """What is wrong with a key, or with its absence."""
        line = next((line_of(each) for each in self._content if each == key), None)
        return WebConfigError.at(
            self._file,
            line or line_of(self._content),
            f"{excerpt(key)} in {self._title} {problem}",
        )

    def text(self, key: str) -> str:
        """A text; empty where there is none."""
        value = self._content.get(key, "")
        if not isinstance(value, str):
            raise self.error(key, "must be text")
        return "" if value in NULL else str(value)

    def choice(self, key: str, choices: Collection[str]) -> str:
        """One of the texts in `choices`; empty where there is none."""
        if (value := self.text(key)) and value not in choices:
            raise self._other(key, value, choices)
        return value

    def choices(self, key: str, choices: Collection[str]) -> list[str]:
        """Any of the texts in `choices`."""
        values = self._content.get(key, [])
        if values in NULL:
            return []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.error(key, "must be a list of texts")
        for value in values:
            if value not in choices:
                raise self._other(key, value, choices)
        return values

    def mapping(self, key: str) -> Mapping[str, object]:
        """A mapping with keys of any name; empty where there is none."""
        value = self._content.get(key, {})
        if value in NULL:
            return {}
        if not isinstance(value, dict):
            raise self.error(key, "must be a mapping")
        return value

    def section(self, key: str, *, keys: Collection[str], refused: Mapping[str, str]) -> "Section":
        """A mapping with known keys."""
        return Section(self.mapping(key), key, self._file, keys=keys, refused=refused)

    def _other(self, key: str, value: str, choices: Collection[str]) -> WebConfigError:
        return self.error(key, f"cannot be {excerpt(value)}; {suggestion(value, choices)}")
