"""PEM from memory for Python's TLS, which loads certificates and keys from files only."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def as_file(data: bytes) -> Iterator[str]:
    """Yield the path of an unnamed file for the duration of a `with` block.

    Raises:
        OSError: The file cannot be created.
    """
    with _anonymous_file() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _anonymous_file() -> "IO[bytes]":
    try:
        # Works on a read-only file system, and the key never reaches a disk.
        return os.fdopen(os.memfd_create("pem"), "w+b")
    except (AttributeError, OSError):
        # Not Linux, or a sandbox that forbids it.
        return tempfile.TemporaryFile()
