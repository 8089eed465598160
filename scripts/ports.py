"""Ports of loopback that no other program gets."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """Reserve a port of 127.0.0.1 during the block: for a server that cannot pick one itself.

    The port refuses connections until that server listens, and again after the server ends. The
    system gives it to no other program meanwhile, so who asks whether the server is ready, or still
    scrapes it, never asks a stranger.
    """
    with socket.socket() as placeholder:
        # Two sockets may have the same port if both set this and at most one listens.
        placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        placeholder.bind(("127.0.0.1", 0))
        port: int = placeholder.getsockname()[1]
        if sys.platform != "linux":
            # Other systems would not let the server listen.
            placeholder.close()
        yield port
