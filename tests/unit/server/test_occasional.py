"""Rate-limited log lines."""

import logging
import sys
from contextlib import suppress

import pytest

from exporter.server.occasional import OccasionalLog


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the log's clock."""
    return Clock()


@pytest.fixture
def occasional(clock: Clock) -> OccasionalLog:
    """Return a log with that clock."""
    return OccasionalLog(logging.getLogger("exporter.occasional"), clock)


def test_an_event_is_logged_once_a_minute(
    occasional: OccasionalLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The same event is logged once a minute, with the number of lines that were left out."""
    for _ in range(3):
        occasional.warning("Event", err="1")
    clock.now += 59
    occasional.warning("Event", err="2")
    clock.now += 1
    occasional.warning("Event", err="3")
    clock.now += 60
    occasional.warning("Event", err="4")
    assert [(vars(r)["err"], vars(r).get("left_out")) for r in caplog.records] == [
        ("1", None),
        ("3", 3),
        ("4", None),
    ]


def fail(occasional: OccasionalLog, exception: Exception) -> None:
    """Raise the exception and log it."""
    try:
        raise exception
    finally:
        occasional.error("Event", sys.exc_info())


def test_each_event_has_its_own_limit(
    occasional: OccasionalLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Each event, and each type of exception of an event, has its own limit."""
    for exception in (ValueError("1"), ValueError("2"), KeyError("3")):
        with suppress(ValueError, KeyError):
            fail(occasional, exception)
    occasional.warning("Other event")
    assert caplog.messages == ["Event", "Event", "Other event"]
    assert [str(r.exc_info[1]) for r in caplog.records if r.exc_info] == ["1", "'3'"]
