"""Small files, read without waiting for anybody.

What a path leads to is not ours to trust: a named pipe waits for its writer, a device may have no
end, and a writer may be in the midst of its work.
"""

import errno
import os
import stat
from pathlib import Path


def read(path: "Path | os.DirEntry[str]", most: int) -> tuple[bytes, os.stat_result]:
    """Read a regular file of at most so many bytes, and tell how it looked.

    Raises:
        OSError: also for what is no such file, and if it changes meanwhile; `strerror` says so.
        ValueError: there is a NUL in the path.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        data = file.read(most + 1)
        if len(data) > most:
            raise OSError(errno.EFBIG, f"larger than {most} bytes")
        after = os.fstat(file.fileno())
        # The others change when the file is replaced, which is no harm.
        if (status.st_size, status.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise OSError(errno.ESTALE, "changed while it was read")
    return data, status


def look_of(status: os.stat_result) -> tuple[int, ...]:
    """Give what tells one state of a file from another."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def look(path: Path) -> tuple[int, ...] | None:
    """Give what tells one state of the file there from another; None where nothing is found."""
    try:
        return look_of(path.stat())
    except (OSError, ValueError):
        return None


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
