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

#: How long to keep reading after the answer. The kernel resets a connection that is closed with
#: unread data, and the client could lose the answer.
LINGER_SECONDS: Final = 0.5

_MAX_HEAD_BYTES: Final = 64 * 1024
# The text of Go's server, which other exporters send.
_HTTPS_ONLY: Final = (
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
)


class Stream(io.RawIOBase):
    """The bytes of one connection: a size limit for the request, a deadline for all I/O.

    Args:
        connection: The socket; `close` closes it.
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
        """Abort the connection from another thread; pending and later I/O fails."""
        self._aborted = True
        with contextlib.suppress(OSError):
            # Bypass TLS.
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
            OSError: The connection broke or ended, or the deadline passed.
            HTTPException: The request is too long.
        """
        if self._unread <= 0:
            raise http.client.HTTPException("the request is too long")
        with memoryview(buffer) as view:
            count = self._socket().recv_into(view, min(view.nbytes, self._unread))
        if not count:
            raise ConnectionAbortedError("the connection ended within the request")
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
        # A context may peek at the client's first message, and wait for it.
        connection = context.wrap_socket(
            self._socket(), server_side=True, do_handshake_on_connect=False
        )
        self._connection = connection
        self._socket()
        try:
            connection.do_handshake()
        except ssl.SSLError as error:
            if error.reason == "HTTP_REQUEST":
                # Bypass TLS.
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
                # ValueError: there was no handshake. OSError: the client is gone, or still sending.
                with contextlib.suppress(OSError, ValueError):
                    self._socket()
                    self._connection.unwrap()
            # Bypass TLS from here on.
            socket.socket.shutdown(self._connection, socket.SHUT_WR)
            while socket.socket.recv(self._socket(), _MAX_HEAD_BYTES):
                pass

    def _socket(self) -> socket.socket:
        """Return the socket, with its timeout set to the time left."""
        if self._aborted:
            raise ConnectionAbortedError("the connection lost its place to another one")
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the client is too slow")
        self._connection.settimeout(left)
        return self._connection
