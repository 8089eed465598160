"""The request that created an export: the parts of an answer that name files.

They are parsed for `cavatica-exports failed` only, never for metrics, logs or pages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MAX_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Order:
    """The request that created an export.

    Attributes:
        file: ID of the file.
        volume: Destination, ``owner/volume``.
        location: Path there; it may be a file name with patient identifiers.
        overwrite: Whether an existing file there is replaced.
        properties: Options of the volume's storage, as the API returns them.
    """

    file: str
    volume: str
    location: str
    overwrite: bool
    properties: Mapping[str, object]

    def item(self) -> dict[str, object]:
        """Return the item of a bulk create call that requests the same export again."""
        return {
            "source": {"file": self.file},
            "destination": {"volume": self.volume, "location": self.location},
            "overwrite": self.overwrite,
            "properties": dict(self.properties),
        }


def parse_orders(items: Sequence[object]) -> dict[str, Order]:
    """Return the complete orders of a bulk answer's items by export ID."""
    orders = {}
    for item in items:
        resource = _mapping(_mapping(item).get("resource"))
        source, destination = (
            _mapping(resource.get("source")),
            _mapping(resource.get("destination")),
        )
        names = (
            resource.get("id"),
            source.get("file"),
            destination.get("volume"),
            destination.get("location"),
        )
        texts = [name for name in names if isinstance(name, str) and 0 < len(name) <= _MAX_CHARS]
        if len(texts) == len(names):
            export_id, file, volume, location = texts
            orders[export_id] = Order(
                file,
                volume,
                location,
                overwrite=resource.get("overwrite") is True,
                properties=_mapping(resource.get("properties")),
            )
    return orders


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
