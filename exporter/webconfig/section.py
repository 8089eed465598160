"""A mapping of the web configuration, read strictly: every error names file, line and key."""

from collections.abc import Collection, Mapping

from exporter.document import line_of
from exporter.text import NULL, TextError, excerpt, suggestion

# The booleans of YAML 1.1, as exporter-toolkit parses them.
_TRUE = ("true", "True", "TRUE", "yes", "Yes", "YES", "y", "Y", "on", "On", "ON")
_FALSE = ("false", "False", "FALSE", "no", "No", "NO", "n", "N", "off", "Off", "OFF")


class WebConfigError(ValueError):
    """The web configuration is not valid; the text says where, and what is valid."""

    @classmethod
    def at(cls, file: str, line: int | None, problem: str) -> "WebConfigError":
        """Return the error for a line, from 1, of a file."""
        return cls(TextError(line, problem).at(file))


class Section:
    """A mapping with known keys. A value that is not valid raises `WebConfigError`.

    Args:
        content: A mapping that `read_yaml` returned.
        title: Its name, for errors.
        file: The name of the file, for errors.
        keys: The keys that are allowed.
    """

    def __init__(
        self, content: Mapping[str, object], title: str, file: str, keys: Collection[str]
    ) -> None:
        self._content = content
        self._title = title
        self._file = file
        for key in content:
            if key not in keys:
                problem = f"unknown key {excerpt(key)} in {title}; {suggestion(key, keys)}"
                raise WebConfigError.at(file, line_of(key), problem)

    def __bool__(self) -> bool:
        """Return whether it has any key."""
        return bool(self._content)

    def error(self, key: str, problem: str) -> WebConfigError:
        """Return an error about a key, or about its absence."""
        line = next((line_of(each) for each in self._content if each == key), None)
        return WebConfigError.at(
            self._file,
            line or line_of(self._content),
            f"{excerpt(key)} in {self._title} {problem}",
        )

    def text(self, key: str) -> str:
        """Return a text; empty if there is none."""
        value = self._content.get(key, "")
        if not isinstance(value, str):
            raise self.error(key, "must be text")
        return "" if value in NULL else str(value)

    def choice(self, key: str, choices: Collection[str]) -> str:
        """Return one of the texts in `choices`; empty if there is none."""
        if (value := self.text(key)) and value not in choices:
            raise self._not_among(key, value, choices)
        return value

    def flag(self, key: str) -> bool:
        """Return whether the key is true, which is the default."""
        value = self.text(key)
        if value and value not in _TRUE and value not in _FALSE:
            raise self._not_among(key, value, ("true", "false"))
        return value not in _FALSE

    def texts(self, key: str) -> list[str]:
        """Return a list of texts; empty if there is none."""
        values = self._content.get(key, [])
        if values in NULL:
            return []
        if not isinstance(values, list) or not all(
            isinstance(value, str) and value not in NULL for value in values
        ):
            raise self.error(key, "must be a list of texts")
        return values

    def choices(self, key: str, choices: Collection[str]) -> list[str]:
        """Return a list of texts in `choices`; empty if there is none."""
        values = self.texts(key)
        for value in values:
            if value not in choices:
                raise self._not_among(key, value, choices)
        return values

    def mapping(self, key: str) -> Mapping[str, object]:
        """Return a mapping with any keys; empty if there is none."""
        value = self._content.get(key, {})
        if value in NULL:
            return {}
        if not isinstance(value, dict):
            raise self.error(key, "must be a mapping")
        return value

    def section(self, key: str, keys: Collection[str]) -> "Section":
        """Return a mapping with known keys; empty if there is none."""
        return Section(self.mapping(key), key, self._file, keys)

    def has(self, key: str) -> bool:
        """Return whether the key has a value, even an empty list."""
        return self._content.get(key, "") not in NULL

    def _not_among(self, key: str, value: str, choices: Collection[str]) -> WebConfigError:
        return self.error(key, f"cannot be {excerpt(value)}; {suggestion(value, choices)}")
