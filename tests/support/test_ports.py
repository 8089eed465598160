"""The ports that `scripts.ports` reserves."""

import socket
import sys

import pytest

from scripts.ports import reserved_port


def test_reserved_port_refuses_connections_until_its_server_listens() -> None:
    """It refuses before and after, and the same server can listen on it again."""
    with reserved_port() as port:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            with (
                socket.create_server(("127.0.0.1", port)) as listener,
                socket.create_connection(("127.0.0.1", port)) as client,
            ):
                accepted, address = listener.accept()
                accepted.close()
                assert address == client.getsockname()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be reserved")
def test_reserved_port_is_given_to_no_other_program() -> None:
    """It cannot be taken by another program, although nothing listens on it."""
    with (
        reserved_port() as port,
        socket.socket() as other,
        pytest.raises(OSError, match="Address already in use"),
    ):
        other.bind(("127.0.0.1", port))
