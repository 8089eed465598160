"""The file of a batch that `discover` writes: a readable ID file."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from exporter.cavatica.export import is_export_id

PREFIX: Final = "discovered-"
ENDING: Final = ".json"

# The same limit as the exporter's for ID files.
_MAX_BATCH_CHARS = 100
_MAX_SLUG_CHARS = 80
_SLUG = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(slots=True)
class BatchFile:
    """The content of a file.

    Attributes:
        batch: The name of the batch.
        ids: The export IDs, in the order in which they were found.
        others: Keys that users added, such as `acknowledged`.
    """

    batch: str
    ids: dict[str, None] = field(default_factory=dict)
    others: dict[str, object] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> "BatchFile | None":
        """Return the content of the file, or None if `discover` did not write it."""
        document = parse(data)
        batch, ids = document.pop("batch", None), document.pop("export_ids", None)
        if not isinstance(batch, str) or not isinstance(ids, list):
            return None
        if not all(isinstance(one, str) and is_export_id(one) for one in ids):
            return None
        return cls(batch, dict.fromkeys(ids), document)

    def render(self) -> bytes:
        """Return the file's bytes."""
        document = {"batch": self.batch, "export_ids": [*self.ids], **self.others}
        return (json.dumps(document, indent=1) + "\n").encode()


def parse(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`; an empty one if there is none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def file_name(batch: str, number: int) -> str:
    """Return the name of the batch's file with this number."""
    # The hash keeps names of different batches different after characters were replaced.
    slug = _SLUG.sub("-", batch).strip("-")[:_MAX_SLUG_CHARS]
    suffix = f"-{number}" if number > 1 else ""
    return f"{PREFIX}{slug}-{_hash(batch)}{suffix}{ENDING}"


def cut(batch: str) -> str:
    """Return a valid name for the batch."""
    if len(batch) <= _MAX_BATCH_CHARS:
        return batch
    return f"{batch[: _MAX_BATCH_CHARS - 9]} {_hash(batch)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
