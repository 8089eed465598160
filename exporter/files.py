"""Small files, read without blocking and replaced atomically.

Paths are not trusted: a named pipe blocks until another process writes, a device may never end, and
another process may be writing.
"""

import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CHUNK_BYTES = 2**18
_STALE_SECONDS = 3600.0
# As `tempfile` names files between a prefix and a suffix.
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.tmp")


def read(path: "Path | os.DirEntry[str]", most: int) -> tuple[bytes, os.stat_result]:
    """Read a regular file of at most `most` bytes; return its content and status.

    Raises:
        OSError: also for anything but a regular file, and for one that is too large, would block,
            or changes while it is read; see `strerror`.
        ValueError: the path contains a NUL.
    """
    descriptor = os.open(os.fspath(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > most:
            # Reading up to the limit again and again costs time, and memory that is not returned.
            raise too_large(most)
        data = bytearray()
        # A buffered reader would return None or a part of the content if the file would block
        # (/proc/kmsg); `os.read` raises.
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            data += chunk
            if len(data) > most:
                raise too_large(most)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    # Other parts of the status change when the file is replaced, which is harmless.
    if (status.st_size, status.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise OSError(errno.ESTALE, "changed while it was read")
    return bytes(data), status


def too_large(most: int) -> OSError:
    """Return the error of a file of more than `most` bytes."""
    return OSError(errno.EFBIG, f"larger than {most} bytes")


def signature(status: os.stat_result) -> tuple[int, ...]:
    """Return a stat signature that changes with the file."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def signature_at(path: Path) -> tuple[int, ...] | None:
    """Return the signature of the file at `path`; None if it cannot be read."""
    try:
        return signature(path.stat())
    except (OSError, ValueError):
        return None


def replace_file(
    path: Path,
    chunks: Iterable[bytes],
    *,
    mode: int,
    keep_owner: bool = False,
    modified: float | None = None,
) -> None:
    """Write a file atomically: readers see the old content or the new one, never a part.

    It is written to a temporary file beside it, whose name begins with a dot, synced and renamed.

    Args:
        path: The file.
        chunks: Its content.
        mode: Its permissions.
        keep_owner: Whether it keeps the owner and group of the old file, if the process may do
            that: root may.
        modified: Its modification time, as far as the file system can set it; None for now.

    Raises:
        OSError: it cannot be written; the old content stays, and no temporary file is left.
        ValueError: the path contains a NUL.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            if keep_owner:
                with suppress(OSError):
                    old = path.stat()
                    os.fchown(descriptor, old.st_uid, old.st_gid)
            file.writelines(chunks)
            file.flush()
            if modified is not None:
                with suppress(OSError):
                    os.utime(descriptor, (modified, modified))
            os.fsync(descriptor)
        beside.replace(path)
    except BaseException:
        # It is gone if Ctrl-C came after the rename, or if another process removed it.
        beside.unlink(missing_ok=True)
        raise


def replaces(name: str) -> str | None:
    """Return the name of the file that a temporary file was to replace.

    Args:
        name: The name of any file.

    Returns:
        None if it is not a temporary file of `replace_file`.
    """
    match = _TEMPORARY.fullmatch(name)
    return match and match[1]


def remove_stale(path: Path, now: float) -> None:
    """Remove temporary files of `replace_file` for `path` that killed processes left behind.

    Args:
        path: The file that is replaced.
        now: Unix time in seconds. Files of the last hour stay: another process may be writing.
    """
    with suppress(OSError):
        for other in path.parent.iterdir():
            if replaces(other.name) == path.name:
                with suppress(OSError):
                    if now - other.stat().st_mtime > _STALE_SECONDS:
                        other.unlink()
