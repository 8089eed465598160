"""A connection for one request that another thread can abort, and the head of its answer.

It replaces the head parser of `http.client`: interim answers are skipped, the head's total size is
limited, and only the fields in use are parsed. So no cookie, MIME type or other field can cost time
or raise an exception.
"""

import contextlib
import http.client
import io
import os
import re
import socket
import ssl
import threading
import time
from typing import IO, Any, Final

import urllib3
import urllib3.connection

from exporter.cavatica import dialing
from exporter.cavatica.environment import Proxy

#: Limit for all heads of an answer together, interim ones included.
MAX_HEAD_BYTES: Final = 64 * 1024
_FIELDS_READ = frozenset(
    {
        b"connection",
        b"content-encoding",
        b"content-length",
        b"transfer-encoding",
        b"x-total-matching-query",
    }
)
_FIELDS_READ_PREFIX = b"x-ratelimit-"
_SHORTEST_TIMEOUT = 0.001
# 101 is not an interim answer: another protocol follows it.
_INTERIM = re.compile(rb"HTTP/1\.[0-9] 1(?!01)[0-9]{2}\b")


class ProxyRefusalError(OSError):
    """The proxy refused to open a tunnel.

    Attributes:
        status: The HTTP status of its answer.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class HeadTooLargeError(OSError):
    """The head of an answer is larger than `MAX_HEAD_BYTES`."""

    def __init__(self) -> None:
        super().__init__(f"the answer's head is larger than {MAX_HEAD_BYTES} bytes")


class Connection:
    """The socket of one request, and how far the request is; another thread may abort it.

    Args:
        timeout: Seconds available for the request.

    Attributes:
        phase: The current phase of the request, to complete "timed out …".
        status: The HTTP status of its answer, once it has begun.
    """

    def __init__(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self.phase = "before the request"
        self.status: int | None = None
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_aborted = False

    def remaining(self) -> float:
        """Return the seconds left, never 0: a timeout of 0 would mean non-blocking."""
        return max(self._deadline - time.monotonic(), _SHORTEST_TIMEOUT)

    def attach(self, sock: socket.socket) -> None:
        """Register the socket that `abort` shuts down."""
        # A duplicate descriptor: that of `sock` changes hands before the TLS handshake, and may
        # belong to another connection once it is closed.
        duplicate = socket.socket(fileno=os.dup(sock.fileno()))
        with self._lock:
            self._socket = duplicate
            if self._is_aborted:
                self._shut_down()

    def abort(self) -> None:
        """Shut down the socket, which ends whatever the request is waiting for."""
        with self._lock:
            self._is_aborted = True
            self._shut_down()

    def release(self) -> None:
        """Close the duplicate descriptor."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _shut_down(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class _Response(http.client.HTTPResponse):
    def begin(self) -> None:
        """Parse the head; pass only the fields in use to the base class."""
        stream = self.fp
        self.fp = io.BufferedReader(io.BytesIO(_read_head(stream)))
        try:
            super().begin()
        finally:
            self.fp = stream

    def _safe_read(self, amt: int) -> bytes:
        # For a negative chunk size, urllib3 would read until the connection ends.
        if amt < 0:
            raise http.client.IncompleteRead(b"")
        data: bytes = super()._safe_read(amt)  # type: ignore[misc] # urllib3 calls it, typeshed hides it
        return data


def _read_head(stream: IO[bytes]) -> bytes:
    """Return the status line and the fields in use of the first final answer."""
    left = MAX_HEAD_BYTES
    while True:
        head: list[bytes] = []
        is_read = True
        while (line := stream.readline(left + 1)) not in {b"\r\n", b"\n"}:
            left -= len(line)
            if left < 0:
                raise HeadTooLargeError
            if not line:
                if head:
                    raise http.client.IncompleteRead(b"")
                return b""
            # A line that begins with white space continues the one before it.
            if head and line[:1] not in b" \t":
                name = line.partition(b":")[0].strip().lower()
                is_read = name in _FIELDS_READ or name.startswith(_FIELDS_READ_PREFIX)
            if is_read:
                head.append(line)
        if not head or _INTERIM.match(head[0]) is None:
            return b"".join([*head, b"\r\n"])


class _Abortable(urllib3.connection.HTTPConnection):
    """Connects to the first address that accepts; can be aborted from then on."""

    response_class = _Response
    _phase_after_connecting = "sending the request"

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connection: Connection,
        resolver: dialing.Resolver,
        **tls: Any,  # noqa: ANN401 # as the base class of TLS
    ) -> None:
        super().__init__(host, port, timeout=connection.remaining(), **tls)
        self._connection = connection
        self._resolver = resolver

    def _new_conn(self) -> socket.socket:
        # Not `connect`: that returns after the TLS handshake, in which a server can also drip
        # bytes.
        connection = self._connection
        goal = "the proxy" if self.proxy else "the API"
        connection.phase = f"resolving the name of {goal}"
        addresses = self._resolver.resolve(self._dns_host, self.port, connection.remaining())
        connection.phase = f"connecting to {goal}"
        sock = dialing.connect(addresses, connection.remaining())
        sock.settimeout(connection.remaining())
        connection.attach(sock)
        connection.phase = self._phase_after_connecting
        return sock

    def _tunnel(self) -> None:
        """Open a tunnel as the base class does, but keep the reason of a refusal."""
        self._connection.phase = "waiting for the proxy"
        host = f"[{self._tunnel_host}]" if ":" in str(self._tunnel_host) else self._tunnel_host
        fields = {"Host": f"{host}:{self._tunnel_port}", **self._tunnel_headers}  # type: ignore[attr-defined] # http.client has it
        head = [f"CONNECT {host}:{self._tunnel_port} HTTP/1.1"]
        head += [f"{name}: {value}" for name, value in fields.items()]
        self.send("".join(f"{line}\r\n" for line in [*head, ""]).encode("ascii"))
        response = self.response_class(self.sock, method="CONNECT")
        with contextlib.closing(response):
            response.begin()
        if response.status // 100 != 2:  # noqa: PLR2004 # any 2xx is good: RFC 9110, 9.3.6
            raise ProxyRefusalError(response.status)
        self._connection.phase = "in the TLS handshake"


class _AbortableTLS(_Abortable, urllib3.connection.HTTPSConnection):
    """The same over TLS."""

    _phase_after_connecting = "in the TLS handshake"


def make_connection(
    connection: Connection,
    address: tuple[str, str, int],
    *,
    resolver: dialing.Resolver,
    tls: ssl.SSLContext | None,
    proxy: Proxy | None,
) -> urllib3.connection.HTTPConnection:
    """Return urllib3's connection for one request; sending the request connects it.

    Args:
        connection: Receives the socket and the phases.
        address: Scheme, host and port.
        resolver: Looks up the host or the proxy.
        tls: For HTTPS.
        proxy: The proxy to connect through, or None.
    """
    scheme, host, port = address
    if scheme == "http":
        return _Abortable(host, port, connection=connection, resolver=resolver)
    if proxy is None:
        return _AbortableTLS(host, port, connection=connection, resolver=resolver, ssl_context=tls)
    secured = _AbortableTLS(
        proxy.host,
        proxy.port,
        connection=connection,
        resolver=resolver,
        ssl_context=tls,
        proxy=urllib3.util.Url(scheme=proxy.scheme, host=proxy.host, port=proxy.port),
        proxy_config=urllib3.connection.ProxyConfig(tls, False, None, None),  # noqa: FBT003 # a named tuple
    )
    secured.set_tunnel(host, port, dict(proxy.headers), scheme=proxy.scheme)
    return secured
