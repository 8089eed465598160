"""Copies of the shipped rules and routes with shorter durations, for tests with real servers."""

import re

_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNIT = re.compile(r"(\d+)(ms|[smhd])")
_DURATION = re.compile(
    r"(?P<before>\[|\boffset |\b(?:for|interval|group_wait|group_interval|repeat_interval"
    r"|resolve_timeout): )(?P<duration>(?:\d+(?:ms|[smhd]))+)\b"
)


def shorten(text: str, factor: int) -> str:
    """Return a rule or Alertmanager file with every duration divided by `factor`.

    These are the durations of keys, ranges and offsets. Numbers in expressions stay, because they
    are compared with times of the API, which are not scaled.
    """

    def shortened(match: re.Match[str]) -> str:
        units = _UNIT.findall(match["duration"])
        milliseconds = sum(int(number) * _MILLISECONDS[unit] for number, unit in units)
        return f"{match['before']}{milliseconds // factor}ms"

    return _DURATION.sub(shortened, text)
