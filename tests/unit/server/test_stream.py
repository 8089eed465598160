"""The bytes of a connection."""

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
