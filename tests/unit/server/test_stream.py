"""The stream of a connection: the end of a request, and the limit of its size."""

import http.client
import socket
import threading

import pytest

from exporter.server.stream import Stream


@pytest.mark.parametrize("end", ["close", "abort"])
def test_an_incomplete_request_is_an_error(end: str) -> None:
    """Reading fails if the client leaves or loses its place within a request."""
    server, client = socket.socketpair()
    with server, client:
        stream = Stream(server, seconds=30)
        client.sendall(b"GET / HTTP/1.1\r\nA")
        buffer = bytearray(100)
        assert stream.readinto(buffer) == 17
        threading.Timer(0.1, client.close if end == "close" else stream.abort).start()
        with pytest.raises(ConnectionAbortedError, match="ended within the request"):
            stream.readinto(buffer)


def test_the_size_limit_does_not_depend_on_the_buffer() -> None:
    """A buffer larger than the limit, as Python 3.14 uses, does not allow a larger request."""
    server, client = socket.socketpair()
    with server, client:
        client.sendall(b"x" * 70 * 1024)
        stream = Stream(server, seconds=30)
        buffer = bytearray(128 * 1024)
        read = 0
        while read < 64 * 1024:
            read += stream.readinto(buffer)
        assert read == 64 * 1024
        with pytest.raises(http.client.HTTPException, match="too long"):
            stream.readinto(buffer)
