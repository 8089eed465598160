"""Content negotiation: the format and the encoding that a client prefers."""

from exporter.metrics.exposition import OPENMETRICS, TEXT


def negotiate(accept: str) -> str:
    """Return the content type of metrics that a scraper prefers; text by default."""
    text = max(
        (quality for media, quality in _preferences(accept) if media in _TEXT_MEDIA), default=0.0
    )
    openmetrics = max(
        (quality for media, quality in _preferences(accept) if media in _OPENMETRICS_MEDIA),
        default=0.0,
    )
    return OPENMETRICS if openmetrics > 0 and openmetrics >= text else TEXT


_OPENMETRICS_MEDIA = frozenset(
    ("application/openmetrics-text", version) for version in ("", "0.0.1", "1.0.0")
)
_TEXT_MEDIA = frozenset((("text/plain", ""), ("text/plain", "0.0.4"), ("text/*", ""), ("*/*", "")))


def prefers_json(accept: str) -> bool:
    """Return whether a client prefers JSON to HTML."""
    qualities = {media: quality for (media, _), quality in _preferences(accept)}
    json = qualities.get("application/json", 0.0)
    return json > qualities.get("text/html", qualities.get("text/*", 0.0))


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a client accepts gzip."""
    qualities = {media: quality for (media, _), quality in _preferences(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _preferences(header: str) -> list[tuple[tuple[str, str], float]]:
    """Parse an Accept header into pairs: (media type, version or ""), and q-value."""
    preferences = []
    for choice in header.split(","):
        what, *parameters = (part.strip().lower() for part in choice.split(";"))
        quality, version = 1.0, ""
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
            elif name.strip() == "version":
                version = value.strip().strip('"')
        preferences.append(((what, version), quality))
    return preferences
