"""The bytes of a connection."""

import http.client
import socket
import threading

import pytest

from exporter.server.stream import Stream


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_request_that_is_cut_off_is_none(end: str) -> None:
    """The part that arrived is not served, whether the client left or its place was lost."""
    server, client = socket.socketpair()
    with server, client:
        stream = Stream(server, seconds=30)
        client.sendall(b"GET / HTTP/1.1\r\nA")
        buffer = bytearray(100)
        assert stream.readinto(buffer) == 17
        threading.Timer(0.1, client.close if end == "close" else stream.abort).start()
        with pytest.raises(ConnectionAbortedError, match="ended within the request"):
            stream.readinto(buffer)


def test_a_request_is_limited_however_large_the_buffer() -> None:
    """Python 3.14 reads with one that takes twice the limit."""
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
