"""The exporter behind a file server that can hang, and with a clock and a resolver to be moved.

Run by its path, with the control file and the directory of the file server before the flags. It
uses nothing of this package, so the process is the exporter's own but for these.
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


def move(control: mmap.mmap, root: str) -> None:
    """Replace what reads files, tells the time and looks up names."""

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
        move(mmap.mmap(file.fileno(), CONTROL.size, access=mmap.ACCESS_READ), root)
    from exporter.cli.command import main as run  # noqa: PLC0415 # after the moves

    run(flags)


if __name__ == "__main__":
    main()
