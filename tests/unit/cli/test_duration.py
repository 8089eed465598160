"""Durations as Prometheus writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli.duration import parse_duration

UNITS = {"y": 31536000, "w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("500ms", 0.5),
        ("30s", 30),
        ("1h30m", 5400),
        ("7d", 7 * 86400),
        ("1y2w3d4h5m6s7ms", 31536000 + 2 * 604800 + 3 * 86400 + 4 * 3600 + 5 * 60 + 6 + 0.007),
        ("90m", 5400),
        ("292y", 292 * 31536000),
    ],
)
def test_a_duration_is_numbers_with_units_from_the_longest_to_the_shortest(
    text: str, seconds: float
) -> None:
    """What Prometheus' configuration takes is taken, and means the same."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "-5s",
        "1.5h",
        "5 s",
        " 5s",
        "5s\n",
        "5S",
        "30m1h",
        "5s5s",
        "s",
        "1e3s",
        "٣s",
        "5sec",
    ],
)
def test_anything_else_is_no_duration(text: str) -> None:
    """An error quotes what was written and says how it is written."""
    with pytest.raises(ValueError, match="use 500ms, 30s, 1h30m or 7d") as e:
        parse_duration(text)
    assert repr(text) in str(e.value)


@pytest.mark.parametrize("text", ["293y", "999999999y"])
def test_a_duration_is_less_than_292_years(text: str) -> None:
    """A duration is less than 292 years, as in Prometheus."""
    with pytest.raises(ValueError, match="must be less than 292y"):
        parse_duration(text)


@given(counts=st.fixed_dictionaries({}, optional=dict.fromkeys(UNITS, st.integers(0, 40))))
def test_units_add_up(counts: dict[str, int]) -> None:
    """Any choice of units, each once and in order, is the sum of its parts."""
    text = "".join(f"{counts[unit]}{unit}" for unit in UNITS if unit in counts)
    assert parse_duration(text or "0") == sum(n * UNITS[unit] for unit, n in counts.items())


@given(text=st.text())
def test_no_text_makes_it_fail_in_another_way(text: str) -> None:
    """Any text is a duration in seconds or raises ValueError."""
    try:
        assert parse_duration(text) >= 0
    except ValueError as error:
        assert str(error)  # noqa: PT017 # both ends are right
