"""The bytes of a connection."""

import socket
import threading

import pytest

from exporter.server.stream import Stream


def test_an_abort_is_not_the_end_of_the_request() -> None:
    """The part of a request that arrived before the connection lost its place is not served."""
    server, client = socket.socketpair()
    with server, client:
        stream = Stream(server, seconds=30)
        client.sendall(b"GET / HTTP/1.1\r\nA")
        buffer = bytearray(100)
        assert stream.readinto(buffer) == 17
        threading.Timer(0.1, stream.abort).start()
        with pytest.raises(ConnectionAbortedError, match="lost its place"):
            stream.readinto(buffer)
