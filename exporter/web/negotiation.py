"""Content negotiation: the format and the encoding that a client prefers."""

from exporter.metrics.exposition import OPENMETRICS, TEXT


def negotiate(accept: str) -> str:
    """Choose the content type that a scraper likes best; text where it says nothing."""
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


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether a client takes gzip."""
    qualities = {media: quality for (media, _), quality in _preferences(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _preferences(header: str) -> list[tuple[tuple[str, str], float]]:
    """Parse an Accept header: (what, its version or ""), and the q-value."""
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
