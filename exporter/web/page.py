"""The status page as HTML and as JSON.

Jinja2 escapes everything that it shows. The policy allows one style sheet, by its hash, and nothing
else: no script, image, form or frame.
"""

import base64
import hashlib
import json
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.resources import files
from typing import Final

import jinja2

from exporter.cavatica.export import STATES
from exporter.web.status import Status

_TEMPLATES = files("exporter.web") / "templates"
_STYLE: Final = (_TEMPLATES / "status.css").read_text(encoding="utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

#: The Content-Security-Policy of the page.
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_KILO: Final = 1000
#: From here on, three digits would be rounded to 1000.
_ROUNDED_UP: Final = 999.5


class StatusPage:
    """Renders statuses; may be used by several threads at once.

    Args:
        version: Version of the exporter.
        base_url: Prefix of links: ``"./"``, or a URL with a trailing slash.
        telemetry_path: Path of the metrics.
    """

    def __init__(self, *, version: str, base_url: str, telemetry_path: str) -> None:
        environment = jinja2.Environment(
            loader=jinja2.FunctionLoader(
                lambda name: (_TEMPLATES / name).read_text(encoding="utf-8")
            ),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.filters |= {"bytes": format_bytes, "utc": format_time}
        environment.globals |= {
            "version": version,
            "base": base_url,
            "metrics": telemetry_path.removeprefix("/"),
            "states": STATES,
            "style": _STYLE,
        }
        self._status = environment.get_template("status.html")
        #: The page of the runbooks.
        self.runbooks: Final = environment.get_template("runbooks.html").render().encode()

    def html(self, status: Status, now: float) -> bytes:
        """Return the page; `now` is Unix time in seconds."""

        def ago(time: float) -> str:
            return format_age(now - time)

        return self._status.render(status=status, ago=ago).encode()


def to_json(status: Status) -> bytes:
    """Return a status as JSON; times are Unix seconds."""
    return json.dumps(asdict(status), allow_nan=False, indent=1).encode() + b"\n"


def format_time(time: float) -> str:
    """Return a Unix time as ``2026-03-27 15:00 UTC``; an impossible date as a number."""
    try:
        moment = datetime.fromtimestamp(time, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return f"{time:g}"
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def format_age(seconds: float) -> str:
    """Return an age in its largest unit: ``3 h ago``."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size):,} {unit} ago"
    return "now" if seconds > -1 else "in the future"


def format_bytes(count: float) -> str:
    """Return a size as ``1.2 GB``, with decimal units."""
    units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    while count >= _ROUNDED_UP and len(units) > 1:
        count /= _KILO
        del units[0]
    return f"{count:.3g} {units[0]}"
