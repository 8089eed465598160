"""PEM from memory for Python's TLS, which loads certificates and keys from files only."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def as_file(data: bytes) -> Iterator[str]:
    """Return the path of a file without a name on any disk, for as long as a `with` block lasts.

    Raises:
        OSError: There is no room for it.
    """
    with _anonymous_file() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _anonymous_file() -> "IO[bytes]":
    try:
        # Works where nothing can be written, and a key never reaches a disk.
        return os.fdopen(os.memfd_create("pem"), "w+b")
    except (AttributeError, OSError):
        # Not Linux, or a sandbox that forbids it.
        return tempfile.TemporaryFile()
