"""Durations as Prometheus writes them: `500ms`, `30s`, `1h30m`, `7d`."""

import re

_UNITS = {
    "y": 31536000.0,
    "w": 604800.0,
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 0.001,
}
# As Prometheus has it: the nanoseconds fit into 64 bits. Longer ones are no use to timers either.
_MAX_SECONDS = 2**63 / 1e9
_DURATION = re.compile("".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in _UNITS))


def parse_duration(text: str) -> float:
    """Give the seconds.

    Raises:
        ValueError: when it is none.
    """
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not text or match is None:
        raise ValueError(f"{text!r} is no duration; write it like 500ms, 30s, 1h30m or 7d")
    duration = sum(
        int(count) * seconds
        for count, seconds in zip(match.groups(), _UNITS.values(), strict=True)
        if count is not None
    )
    if duration > _MAX_SECONDS:
        raise ValueError(f"{text!r} is too long: it must be less than 292y")
    return duration
