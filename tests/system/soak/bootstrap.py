"""Run the exporter with a file server that can hang, and a clock and a resolver that can be set.

Run by its path, with the control file and the directory of the file server before the flags. This
module imports nothing of its package, so that the process is otherwise the exporter's own.
"""

import mmap
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: The control file: seconds that the wall clock is ahead, whether the file server hangs, and
#: whether the API's name leads to a black hole first.
CONTROL = struct.Struct("d??")
#: An address that does not answer.
BLACK_HOLE = "127.0.0.3"
#: The API's name; its true address is 127.0.0.1.
HOST = "localhost"

_CHECK_SECONDS = 0.02


def install(control: mmap.mmap, root: str) -> None:
    """Replace the functions that read files, return the time and resolve names."""

    def state() -> tuple[float, bool, bool]:
        ahead, hangs, hole = CONTROL.unpack_from(control)
        return ahead, hangs, hole

    def hanging(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 # as os
            if not isinstance(path, int) and os.fspath(path).startswith(root):
                while state()[1]:
                    time.sleep(_CHECK_SECONDS)
            return real(path, *arguments, **options)

        return call

    def now(real: Callable[[], float] = time.time) -> float:
        return real() + state()[0]

    find = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **options: Any) -> Any:  # noqa: ANN401 # as socket
        if host != HOST:
            return find(host, *rest, **options)
        hole = find(BLACK_HOLE, *rest, **options) if state()[2] else []
        return hole + find("127.0.0.1", *rest, **options)

    for name in ("open", "stat", "scandir", "listdir", "replace", "rename"):
        setattr(os, name, hanging(getattr(os, name)))
    time.time = now
    socket.getaddrinfo = look_up


def main() -> None:
    """Install the replacements, then run the exporter."""
    _, control, root, *flags = sys.argv
    with Path(control).open("rb") as file:
        install(mmap.mmap(file.fileno(), CONTROL.size, access=mmap.ACCESS_READ), root)
    from exporter.cli.command import main as run  # noqa: PLC0415 # after the replacement

    run(flags)


if __name__ == "__main__":
    main()
