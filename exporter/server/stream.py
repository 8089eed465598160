"""A client's connection as a stream with limits on time and bytes."""

import contextlib
import http.client
import io
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

#: How long a connection is still read after its answer. The kernel resets a connection that is
#: closed with unread bytes, and the client could lose the answer.
LINGER_SECONDS: Final = 0.5

_MAX_HEAD_BYTES: Final = 64 * 1024
# The words of Go's server, and so of other exporters.
_HTTPS_ONLY: Final = (
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
)


class Stream(io.RawIOBase):
    """The bytes of one connection: a request of limited size, everything by a deadline.

    Args:
        connection: Closed by `close`.
        seconds: Until the deadline.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._unread = _MAX_HEAD_BYTES
        self._aborted = False
        self.set_deadline(seconds)

    def set_deadline(self, seconds: float) -> None:
        """Set the deadline of subsequent I/O to `seconds` from now."""
        self._deadline = time.monotonic() + seconds

    def abort(self) -> None:
        """End the connection from another thread; I/O under way and later fails."""
        self._aborted = True
        with contextlib.suppress(OSError):
            # Below TLS.
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def readable(self) -> bool:
        """Return True: required by `io.BufferedReader`."""
        return True

    def writable(self) -> bool:
        """Return True: required by `io.BufferedWriter`."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read what has arrived.

        Raises:
            OSError: The connection broke, or the deadline passed.
            HTTPException: The client sends more than a request can need.
        """
        if self._unread <= 0:
            raise http.client.HTTPException("the request is too long")
        count = self._socket().recv_into(buffer)
        self._unread -= count
        return count

    def write(self, data: "ReadableBuffer") -> int:
        """Write as much as the client takes now.

        Raises:
            OSError: The connection broke, or the deadline passed.
        """
        return self._socket().send(data)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Perform the TLS handshake as the server.

        Raises:
            OSError: The handshake failed or timed out.
        """
        # A context may look at what the client sends, and wait for it.
        connection = context.wrap_socket(
            self._socket(), server_side=True, do_handshake_on_connect=False
        )
        self._connection = connection
        self._socket()
        try:
            connection.do_handshake()
        except ssl.SSLError as error:
            if error.reason == "HTTP_REQUEST":
                # Below TLS.
                socket.socket.send(connection, _HTTPS_ONLY)
            raise

    def close(self) -> None:
        """End TLS, discard for a moment what the client still sends, and close the connection."""
        if self.closed:
            return
        super().close()
        self.set_deadline(LINGER_SECONDS)
        with contextlib.suppress(OSError), self._connection:
            if isinstance(self._connection, ssl.SSLSocket):
                # ValueError: there was no handshake. OSError: the client is gone, or sends on.
                with contextlib.suppress(OSError, ValueError):
                    self._socket()
                    self._connection.unwrap()
            # Below TLS from here on.
            socket.socket.shutdown(self._connection, socket.SHUT_WR)
            while socket.socket.recv(self._socket(), _MAX_HEAD_BYTES):
                pass

    def _socket(self) -> socket.socket:
        """Return the socket, its next operation limited to the time that is left."""
        if self._aborted:
            raise ConnectionAbortedError("the connection lost its place to another one")
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the client is too slow")
        self._connection.settimeout(left)
        return self._connection
