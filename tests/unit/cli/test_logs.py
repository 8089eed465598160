"""The log: one machine-readable line for each event."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli.logs import FORMATS, LEVELS, Format, Formatter, configure
from tests.support.exporter_process import preserved_logging

HOSTILE = [
    "two\nlines",
    'a "quoted" word',
    "back\\slash",
    "key=value",
    "\x1b[31mred\x07\x00",
    "\u2028\u202e\x85\r\t",
    "\udc80 half of a pair",
    "",
    " ",
    "ÄÖÜ 日本",
]
PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)(?: |$)')


def parse(style: str, line: str) -> dict[str, str]:
    """Parse a line that must consist of fields only."""
    if style == "json":
        fields: dict[str, str] = json.loads(line)
        return fields
    assert "".join(match[0] for match in PAIR.finditer(line)) == line
    return {
        match[1]: json.loads(match[2]) if match[2].startswith('"') else match[2]
        for match in PAIR.finditer(line)
    }


def record(message: str, **extra: object) -> logging.LogRecord:
    """Return a warning logged on 11 November 2026, 12:30:00.125 UTC."""
    made = logging.makeLogRecord({"msg": message, "levelno": 30, "levelname": "WARNING", **extra})
    made.created = 1794400200.125
    return made


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    with preserved_logging():
        yield


def test_logfmt_is_pairs_in_one_line() -> None:
    """Time, level and message come first; what needs no quotes has none."""
    line = Formatter("logfmt").format(record("ID file is gone", file="tcga-7.yml", ids=7))
    assert line == (
        'ts=2026-11-11T12:30:00.125Z level=warn msg="ID file is gone" file=tcga-7.yml ids=7'
    )


def test_json_is_an_object_in_one_line() -> None:
    """It has the same fields; numbers stay numbers, and anything else is text."""
    line = Formatter("json").format(record("gone", ids=7, path=Path("a")))
    assert line == (
        '{"ts": "2026-11-11T12:30:00.125Z", "level": "warn", "msg": "gone", "ids": 7, "path": "a"}'
    )


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_stay_in_their_field(style: Format, value: str) -> None:
    """Line breaks, quotes and control characters neither end a line nor make a field."""
    line = Formatter(style).format(record(value, file=value))
    assert line.isprintable()
    fields = parse(style, line)
    assert (fields["msg"], fields["file"]) == (value, value)
    assert fields.keys() == {"ts", "level", "msg", "file"}


@given(style=st.sampled_from(FORMATS), value=st.text())
def test_every_text_can_be_read_back(style: Format, value: str) -> None:
    """No text can forge a field or a line."""
    line = Formatter(style).format(record("text", value=value))
    assert line.isprintable()
    assert parse(style, line)["value"] == value


@pytest.mark.parametrize("style", FORMATS)
def test_a_traceback_is_a_field(style: Format) -> None:
    """An unexpected error is one line, too."""

    def fail() -> None:
        raise LookupError("first line\nsecond line")

    try:
        fail()
    except LookupError:
        line = Formatter(style).format(record("oops", exc_info=sys.exc_info()))
    assert line.isprintable()
    assert "LookupError: first line\nsecond line" in parse(style, line)["traceback"]


def test_a_traceback_is_as_long_as_its_frames() -> None:
    """Each frame and the message of a traceback have a maximum length."""
    try:
        int("a" * 100_000)
    except ValueError:
        line = Formatter("json").format(record("oops", exc_info=sys.exc_info()))
    assert "ValueError: invalid literal for int() with base 10: 'aaa" in line
    assert len(line) < 4000


@pytest.mark.parametrize("least", LEVELS)
def test_a_level_leaves_out_what_is_less(least: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The exporter logs from the level on that the flag names, to standard error."""
    configure(least, "json")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("exporter.somewhere").log(level, "said")
    written = capsys.readouterr()
    levels = [json.loads(line)["level"] for line in written.err.splitlines()]
    assert levels == [*LEVELS[LEVELS.index(least) :]]
    assert written.out == ""


@pytest.mark.parametrize(("least", "expected"), [("debug", 2), ("warn", 2), ("error", 1)])
def test_libraries_are_heard_from_warnings_on(
    least: str, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """What they say below that is about their own insides, even when ours is asked for."""
    configure(least, "logfmt")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("urllib3").log(level, "said")
    assert len(capsys.readouterr().err.splitlines()) == expected


def test_a_logger_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Leave out a logger for callers that print what it says in another way."""
    configure("info", "logfmt", silent="exporter.elsewhere")
    logging.getLogger("exporter.elsewhere").error("said elsewhere")
    logging.getLogger("exporter.here").error("said here")
    assert capsys.readouterr().err.count("\n") == 1
