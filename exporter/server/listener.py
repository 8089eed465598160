"""The listening socket: accepts connections and serves each in a thread of its own."""

import contextlib
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from exporter import background
from exporter.server.address import Address, listen, url_of
from exporter.server.connection import Connection, InFlight, Service
from exporter.server.occasional import OccasionalLog
from exporter.server.places import Places

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: Connections beyond the limit that receive 503; further ones are closed without an answer.
_MAX_REFUSALS: Final = 64
#: How long a new connection waits for a thread to become free.
_THREAD_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)


class Server(ThreadingMixIn, WSGIServer):
    """A server that listens when it is constructed, and answers once it is started.

    Args:
        app: The application; called by several threads at once.
        address: Where to listen; port 0 picks a free one.
        tls: Called for each connection, so that renewed certificates take effect; None: plain HTTP.
        extra_headers: Called for each answer; they replace the application's headers of these
            names.
        max_connections: Maximum concurrent connections; further ones receive 503.
        head_seconds: Time limit of the TLS handshake and the request together.
        send_seconds: Time limit of sending the answer.

    Raises:
        OSError: The server cannot listen on the address; the text names it.
    """

    daemon_threads = True

    def __init__(
        self,
        app: "WSGIApplication",
        address: Address,
        *,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        extra_headers: Callable[[], Iterable[tuple[str, str]]] = lambda: (),
        max_connections: int = 512,
        head_seconds: float = 10.0,
        send_seconds: float = 60.0,
    ) -> None:
        super().__init__(address, WSGIRequestHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listen(address)
        # The base class would query the name service, which may take arbitrarily long.
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()
        self._service = Service(
            app,
            tls,
            extra_headers,
            head_seconds,
            send_seconds,
            Places(max_connections),
            InFlight(),
            OccasionalLog(_log),
        )
        self._host = address[0]
        self._free_threads = threading.BoundedSemaphore(max_connections + _MAX_REFUSALS)
        self._acceptor = threading.Thread(target=self.serve_forever, daemon=True)
        self._closing = False

    @property
    def url(self) -> str:
        """The URL of the server for this machine, without a trailing slash."""
        return url_of("https" if self._service.tls() else "http", (self._host, self.server_port))

    def start(self) -> None:
        """Start accepting connections in a background thread."""
        self._acceptor.start()

    def close(self, grace: float = 0.0) -> None:
        """Stop accepting connections and wait up to `grace` seconds for answers in flight."""
        self._closing = True
        if self._acceptor.ident:
            with contextlib.suppress(OSError):
                # Wakes the accepting thread, which otherwise checks every half second.
                self.socket.shutdown(socket.SHUT_RDWR)
            self.shutdown()
        self.server_close()
        self._service.in_flight.wait(grace)

    def _warn(self, event: str, error: Exception) -> None:
        """Log a warning of the accepting thread, which a log pipe that hangs must not hold up."""
        # Without a free thread there is no other way.
        background.start_or_run(
            lambda: self._service.occasional.warning(event, err=error), "server's log"
        )

    # The base classes call the following methods.

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        try:
            return super().get_request()
        except OSError as error:
            if not self._closing:
                self._warn("Cannot accept connections", error)
                # Without free file descriptors the next attempt would fail at once, and so on for
                # ever.
                time.sleep(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # as the base class
        """Start a thread for a connection if the limit allows one more."""
        if not self._free_threads.acquire(timeout=_THREAD_SECONDS):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError as error:
            self._free_threads.release()
            self._warn("Cannot serve connections", error)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # as the base class
        """Serve a connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free_threads.release()

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # as the base class
        """Serve a connection."""
        Connection(request, client_address, self, self._service)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # as the base class
        """Log why a connection failed."""
        del request, client_address
        self._service.log_failure(sys.exc_info())
