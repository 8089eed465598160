"""The rate limit: the parsing of its settings, and the token bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.webconfig.ratelimit import RATE_KEYS, Rate, TokenBucket
from exporter.webconfig.section import Section, WebConfigError


def parse(**content: str) -> Rate | None:
    """Parse a section with this content."""
    return Rate.parse(Section(content, "rate_limit", "web.yml", RATE_KEYS))


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [
        ("1s", 1.0),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("2.s", 2.0),
        ("10us", 1e-5),
        ("10\N{MICRO SIGN}s", 1e-5),
        ("10\N{GREEK SMALL LETTER MU}s", 1e-5),
        ("7ns", 7e-9),
        ("1s1s", 2.0),
    ],
)
def test_interval_is_a_duration_of_go(interval: str, seconds: float) -> None:
    """An interval is one or more numbers, each with its unit, as Go writes durations."""
    rate = parse(interval=interval, burst="3")
    assert rate
    assert rate.interval == pytest.approx(seconds)
    assert rate.burst == 3


@pytest.mark.parametrize("interval", ["0", "0s", "0h0m", "", "~"])
def test_missing_or_zero_interval_means_no_limit(interval: str) -> None:
    """Without an interval, or with one of 0, every request is answered."""
    assert parse(interval=interval, burst="0") is None
    assert parse() is None


@pytest.mark.parametrize(
    "interval", ["1", "-1s", "1 s", "s", "1d", "1s 1s", "\u0661s", "1e3s", "x"]
)
def test_invalid_interval_is_an_error(interval: str) -> None:
    """The error of an invalid interval names the key and valid values."""
    with pytest.raises(WebConfigError, match="interval in rate_limit must be a duration such as"):
        parse(interval=interval)


@pytest.mark.parametrize("burst", ["-1", "1.5", "1e3", "x", "9" * 10])
def test_burst_is_a_whole_number(burst: str) -> None:
    """A burst that is not a whole number is an error; a missing one is 0."""
    with pytest.raises(WebConfigError, match="burst in rate_limit must be a whole number"):
        parse(interval="1s", burst=burst)
    assert parse(interval="1s") == Rate(1.0, 0)


@given(st.text(max_size=20))
def test_any_text_is_an_interval_or_an_error(text: str) -> None:
    """Any text is parsed, or raises `WebConfigError` and no other exception."""
    try:
        parse(interval=text)
    except WebConfigError as error:
        assert str(error).startswith("web.yml: interval")  # noqa: PT017 # both ends are right


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_bucket_is_full_at_the_start_and_fills_again() -> None:
    """After a burst of two, each interval allows one request more, up to another burst."""
    clock = Clock()
    bucket = TokenBucket(Rate(10.0, 2), clock)
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    clock.now = 9.9
    assert not bucket.take()
    clock.now = 10.1
    assert [bucket.take() for _ in range(2)] == [True, False]
    clock.now = 1000.0
    assert [bucket.take() for _ in range(3)] == [True, True, False]


def test_without_a_burst_every_request_is_refused() -> None:
    """A bucket without a burst never has a token, as in exporter-toolkit."""
    clock = Clock()
    bucket = TokenBucket(Rate(1.0, 0), clock)
    clock.now = 100.0
    assert not bucket.take()
