"""What an export was asked to do: the parts of an answer that name files.

They are read for a person who asks for them, and nowhere else: never for metrics, logs or pages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MAX_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Order:
    """The request that an export came of.

    Attributes:
        file: ID of the file.
        volume: Destination, ``owner/volume``.
        location: Path there; it may be a file name with patients' identifiers.
        overwrite: Whether a file at that place is replaced.
        properties: Options of the volume's storage, as the API has them.
    """

    file: str
    volume: str
    location: str
    overwrite: bool
    properties: Mapping[str, object]

    def item(self) -> dict[str, object]:
        """Return the item of a bulk create that asks for the same again."""
        return {
            "source": {"file": self.file},
            "destination": {"volume": self.volume, "location": self.location},
            "overwrite": self.overwrite,
            "properties": dict(self.properties),
        }


def parse_orders(items: Sequence[object]) -> dict[str, Order]:
    """Return the orders of a bulk answer's items by export ID, as far as they are whole."""
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
