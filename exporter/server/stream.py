"""A client's connection as a stream that is bounded in time and in bytes."""

import contextlib
import http.client
import io
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

#: A connection is read for so long after its answer, or the kernel could take the answer back: it
#: resets what is closed with unread bytes.
LINGER_SECONDS: Final = 0.5

_MAX_HEAD_BYTES: Final = 64 * 1024
# As Go's server says it, so as every exporter.
_HTTPS_ONLY: Final = (
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
)


class Stream(io.RawIOBase):
    """What a connection's client sends and takes: so many bytes of a request, by a deadline.

    Args:
        connection: It is closed by `hang_up`.
        seconds: Until the deadline.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._unread = _MAX_HEAD_BYTES
        self.allow(seconds)

    def allow(self, seconds: float) -> None:
        """Let what follows take so long."""
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        """Say yes."""
        return True

    def writable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read what there is.

        Raises:
            OSError: The connection broke, or the client is too slow.
            HTTPException: It sends more than a request can need.
        """
        if self._unread <= 0:
            raise http.client.HTTPException("the request is too long")
        count = self._ready().recv_into(buffer)
        self._unread -= count
        return count

    def write(self, data: "ReadableBuffer") -> int:
        """Write as much as the client takes now.

        Raises:
            OSError: The connection broke, or the client is too slow.
        """
        return self._ready().send(data)

    def shake_hands(self) -> None:
        """Begin TLS, where it is spoken.

        Raises:
            OSError: It did not come to it.
        """
        connection = self._ready()
        if isinstance(connection, ssl.SSLSocket):
            try:
                connection.do_handshake()
            except ssl.SSLError as error:
                if error.reason == "HTTP_REQUEST":
                    # Below TLS.
                    socket.socket.send(connection, _HTTPS_ONLY)
                raise

    def hang_up(self) -> None:
        """Say goodbye, read for a moment what the client still sends, and close."""
        self.allow(LINGER_SECONDS)
        with contextlib.suppress(OSError), self._connection:
            if isinstance(self._connection, ssl.SSLSocket):
                # ValueError: there was no handshake. OSError: the client is gone, or sends on.
                with contextlib.suppress(OSError, ValueError):
                    self._ready()
                    self._connection.unwrap()
            # Below TLS from here on.
            socket.socket.shutdown(self._connection, socket.SHUT_WR)
            while socket.socket.recv(self._ready(), _MAX_HEAD_BYTES):
                pass

    def _ready(self) -> socket.socket:
        """Give the socket, its next operation bounded by what is left of the time."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the client is too slow")
        self._connection.settimeout(left)
        return self._connection
