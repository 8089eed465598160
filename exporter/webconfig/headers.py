"""`headers`: the headers set in every answer."""

import re
from typing import Final

from exporter.webconfig.section import Section

Headers = tuple[tuple[str, str], ...]
"""Names and values."""

#: All headers that exporter-toolkit sets, with their valid values; empty: any value.
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
HEADER_KEYS: Final = tuple(_CHOICES)

_VALUE: Final = re.compile(r"[\x20-\x7e]*")


def parse_headers(section: Section) -> Headers:
    """Parse the section `headers`; a blank value sets nothing.

    Raises:
        WebConfigError: It is not valid.
    """
    headers = []
    for name, choices in _CHOICES.items():
        value = section.choice(name, choices) if choices else section.text(name)
        if not _VALUE.fullmatch(value):
            raise section.error(name, "must be one line of printable ASCII")
        if value:
            headers.append((name, value))
    return tuple(headers)
