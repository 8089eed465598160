"""Durations in Prometheus' format: `500ms`, `30s`, `1h30m`, `7d`."""

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
# Prometheus' limit: the nanoseconds fit into 64 bits. Timers accept no longer ones either.
_MAX_SECONDS = 2**63 / 1e9
_DURATION = re.compile("".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in _UNITS))


def parse_duration(text: str) -> float:
    """Parse a duration into seconds.

    Raises:
        ValueError: the text is not a duration, or too long.
    """
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not text or match is None:
        raise ValueError(f"not a valid duration: {text!r} (use 500ms, 30s, 1h30m or 7d)")
    duration = sum(
        int(count) * seconds
        for count, seconds in zip(match.groups(), _UNITS.values(), strict=True)
        if count is not None
    )
    if duration > _MAX_SECONDS:
        raise ValueError(f"not a valid duration: {text!r} (must be less than 292y)")
    return duration
