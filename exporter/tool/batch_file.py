"""A file of a batch that `discover` writes: an ID file that people can read."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from exporter.cavatica.export import is_export_id

PREFIX: Final = "discovered-"
ENDING: Final = ".json"

# As the exporter has it for an ID file.
_MAX_BATCH_CHARS = 100
_MAX_SLUG_CHARS = 80
_SLUG = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(slots=True)
class BatchFile:
    """The content of a file.

    Attributes:
        batch: The name of the batch.
        ids: The export IDs, in the order in which they were found.
        others: Keys that somebody else wrote, such as `acknowledged`.
    """

    batch: str
    ids: dict[str, None] = field(default_factory=dict)
    others: dict[str, object] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> "BatchFile | None":
        """Return what the file says, or None where it is not such a file."""
        document = parse(data)
        batch, ids = document.pop("batch", None), document.pop("export_ids", None)
        if not isinstance(batch, str) or not isinstance(ids, list):
            return None
        if not all(isinstance(one, str) and is_export_id(one) for one in ids):
            return None
        return cls(batch, dict.fromkeys(ids), document)

    def render(self) -> bytes:
        """Return the file."""
        document = {"batch": self.batch, "export_ids": [*self.ids], **self.others}
        return (json.dumps(document, indent=1) + "\n").encode()


def parse(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`; an empty one where there is none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def file_name(batch: str, number: int) -> str:
    """Return the name of the batch's file of this number."""
    # Different batches have different names, also where what is not allowed in a name is replaced.
    slug = _SLUG.sub("-", batch).strip("-")[:_MAX_SLUG_CHARS]
    suffix = f"-{number}" if number > 1 else ""
    return f"{PREFIX}{slug}-{_hash(batch)}{suffix}{ENDING}"


def cut(batch: str) -> str:
    """Return a name for the batch that an ID file may have."""
    if len(batch) <= _MAX_BATCH_CHARS:
        return batch
    return f"{batch[: _MAX_BATCH_CHARS - 9]} {_hash(batch)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
