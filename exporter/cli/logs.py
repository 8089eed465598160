"""The exporter's log: one line for each event on standard error, as logfmt or JSON.

The fields of a line, besides its message, are the record's `extra`.
"""

import json
import logging
import sys
import traceback
from collections.abc import Container
from datetime import datetime, timezone
from typing import Final, Literal

Format = Literal["logfmt", "json"]
FORMATS: Final[tuple[Format, ...]] = ("logfmt", "json")

_PYTHON_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
LEVELS: Final = tuple(_PYTHON_LEVELS)

#: Limit for each frame of a traceback, and for its message.
_MAX_PART_CHARS: Final = 1000

_log = logging.getLogger(__name__)

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def configure(level: str, style: Format, *, silent: Container[str] = ()) -> None:
    """Send the log to standard error.

    Args:
        level: The minimum level, one of `LEVELS`.
        style: The format of a line.
        silent: Names of loggers to leave out, because the caller prints what they say.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(style))
    handler.addFilter(lambda record: record.name not in silent)
    minimum = _PYTHON_LEVELS[level]
    # Lines of other libraries below a warning are about their internals.
    logging.basicConfig(handlers=[handler], level=max(minimum, logging.WARNING), force=True)
    logging.getLogger("exporter").setLevel(minimum)
    # urllib3 quotes headers that it cannot parse: untrusted text.
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


def unexpected(error: Exception) -> str:
    """Return the message of an error that nobody thought of; its traceback is for debugging."""
    _log.debug("Unexpected error", exc_info=error)
    return f"unexpected error: {type(error).__name__} (for details use --log.level=debug)"


class Formatter(logging.Formatter):
    """Formats a record as one line, whatever its texts contain."""

    def __init__(self, style: Format) -> None:
        super().__init__()
        self._log_format = style

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        level = "warn" if record.levelno == logging.WARNING else record.levelname.lower()
        fields: dict[str, object] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level,
            "msg": record.getMessage(),
        }
        fields |= {k: v for k, v in vars(record).items() if k not in _OWN}
        if record.exc_info:
            # An exception's message may quote a whole file or answer.
            parts = traceback.format_exception(*record.exc_info)
            fields["traceback"] = "".join(part[:_MAX_PART_CHARS] for part in parts)
        if self._log_format == "json":
            return json.dumps(fields, default=str)
        return " ".join(f"{key}={_logfmt(value)}" for key, value in fields.items())


def _logfmt(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not any(c in ' ="\\' for c in text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
