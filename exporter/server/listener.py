"""The listening socket and what happens on a connection: standard library, with bounds."""

import contextlib
import io
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import IO, TYPE_CHECKING, Any, Final, cast
from wsgiref.handlers import SimpleHandler
from wsgiref.headers import Headers
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from exporter.server.address import Address, listen, url_of
from exporter.server.stream import LINGER_SECONDS, Stream

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_MAX_LINE_BYTES: Final = 8 * 1024
#: Connections beyond the limit that are told so; those beyond these are closed without a word.
_MAX_REFUSALS: Final = 64
_SECONDS_BETWEEN_WARNINGS: Final = 60.0

_log = logging.getLogger(__name__)


class Server(ThreadingMixIn, WSGIServer):
    """A server that listens from the moment it is made, and answers once it is started.

    Args:
        app: Called side by side from many threads.
        address: Port 0 picks a free one.
        tls: Asked for each connection, so that renewed certificates take effect; None: no TLS.
        max_connections: Served at once; whoever comes beyond them is answered 503.
        head_seconds: A client may take so long for the TLS handshake and the request together.
        send_seconds: A client may take so long to take the answer.

    Raises:
        OSError: The address cannot be listened on; the text names it.
    """

    daemon_threads = True

    def __init__(
        self,
        app: "WSGIApplication",
        address: Address,
        *,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        max_connections: int = 512,
        head_seconds: float = 10.0,
        send_seconds: float = 60.0,
    ) -> None:
        super().__init__(address, WSGIRequestHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listen(address)
        # The base class would ask the name service, which may take as long as it likes.
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()
        self._app = app
        self.tls = tls
        self.head_seconds = head_seconds
        self.send_seconds = send_seconds
        self._host = address[0]
        self._max_connections = max_connections
        self._places = threading.BoundedSemaphore(max_connections)
        self._room = threading.BoundedSemaphore(max_connections + _MAX_REFUSALS)
        self._accepting = threading.Thread(target=self.serve_forever, daemon=True)
        self._closing = False
        self._answering = 0
        self._answered = threading.Condition()
        self._warned = -_SECONDS_BETWEEN_WARNINGS

    @property
    def url(self) -> str:
        """Where the server is reached from this machine, without a slash at the end."""
        return url_of("https" if self.tls() else "http", (self._host, self.server_port))

    def start(self) -> None:
        """Answer from now on, in threads of its own."""
        self._accepting.start()

    def close(self, grace: float = 0.0) -> None:
        """Take no more connections, and wait up to `grace` seconds for the answers under way."""
        self._closing = True
        if self._accepting.ident:
            with contextlib.suppress(OSError):
                # Wakes the thread that accepts; it would look up in half a second only.
                self.socket.shutdown(socket.SHUT_RDWR)
            self.shutdown()
        self.server_close()
        with self._answered:
            self._answered.wait_for(lambda: not self._answering, grace)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Let `close` wait for what is done inside."""
        with self._answered:
            self._answering += 1
        try:
            yield
        finally:
            with self._answered:
                self._answering -= 1
                self._answered.notify_all()

    # The base classes call what follows.

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        try:
            return super().get_request()
        except OSError as error:
            if not self._closing:
                self._warn("cannot accept a connection: %s", error)
                # Without file descriptors the next try would fail at once, and for ever.
                time.sleep(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # as the base class
        """Begin a thread for a connection, if there may be one more."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError as error:
            self._room.release()
            self._warn("cannot serve a connection: %s", error)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # as the base class
        """Serve a connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # as the base class
        """Serve a connection, or tell it that there are too many."""
        app, seconds = self._app, self.head_seconds
        served = self._places.acquire(blocking=False)
        if not served:
            self._warn("%d connections are open: no more are served", self._max_connections)
            app, seconds = _too_many, min(seconds, LINGER_SECONDS)
        try:
            _Handler(request, client_address, self, app, seconds)
        finally:
            if served:
                self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # as the base class
        """Log what a connection died of: the client's doing, if it is an error of the socket."""
        del request, client_address
        _log_error("unexpected error on a connection", sys.exc_info())

    def _warn(self, text: str, value: object) -> None:
        """Log once a minute at most: what others do must not fill the log."""
        if time.monotonic() - self._warned >= _SECONDS_BETWEEN_WARNINGS:
            self._warned = time.monotonic()
            _log.warning(text, value)


class _Handler(WSGIRequestHandler):
    """A connection: handshake, request, answer, end, each in bounded time."""

    server: Server
    protocol_version = "HTTP/1.1"
    # Of requests without one.
    default_request_version = "HTTP/1.0"
    error_message_format = "%(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def __init__(
        self,
        request: socket.socket,
        client_address: Any,  # noqa: ANN401 # as the base class
        server: Server,
        app: "WSGIApplication",
        seconds: float,
    ) -> None:
        self._app = app
        self._seconds = seconds
        super().__init__(request, client_address, server)

    def setup(self) -> None:
        self.connection = self.request
        # Or a small packet, as after the tickets of TLS 1.3, waits 40 ms for the client's delayed
        # acknowledgement of the one before.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context := self.server.tls():
            self.connection = context.wrap_socket(
                self.connection, server_side=True, do_handshake_on_connect=False
            )
        self.stream = Stream(self.connection, self._seconds)
        self.rfile = io.BufferedReader(self.stream)
        self.wfile = io.BufferedWriter(self.stream)

    def handle(self) -> None:
        self.stream.shake_hands()
        self.raw_requestline = self.rfile.readline(_MAX_LINE_BYTES + 1)
        if len(self.raw_requestline) > _MAX_LINE_BYTES:
            self.command = self.requestline = self.request_version = ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
        elif self.parse_request():
            with self.server.answering():
                _Answer(self).run(self._app)
                self.wfile.flush()

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.stream.hang_up()

    def version_string(self) -> str:
        return "cavatica-exporter"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 # as the base class
        _log.debug(format, *args)


class _Answer(SimpleHandler):
    """The application's answer to a request."""

    environ: "WSGIEnvironment"
    headers: Headers
    headers_sent: bool
    status: str

    http_version = "1.1"
    # The base class would put the process's environment into every request's, tokens and all.
    os_environ: MutableMapping[str, str] = {}  # noqa: RUF012 # as the base class
    error_body = b"Internal error; the log tells more.\n"

    def __init__(self, handler: _Handler) -> None:
        super().__init__(
            handler.rfile,
            cast("IO[bytes]", handler.wfile),
            sys.stderr,
            handler.get_environ(),
            multithread=True,
            multiprocess=False,
        )
        self._handler = handler

    def client_is_modern(self) -> bool:
        # Who says HTTP/0.9 is answered with a head as well.
        return True

    def cleanup_headers(self) -> None:
        super().cleanup_headers()
        self.headers["Connection"] = "close"

    def send_headers(self) -> None:
        # The client's time begins when there is something to take.
        self._handler.stream.allow(self._handler.server.send_seconds)
        self._handler.log_request(self.status[:3])
        super().send_headers()

    def write(self, data: bytes) -> None:
        if self.environ["REQUEST_METHOD"] != "HEAD":
            super().write(data)
        elif not self.headers_sent:
            # The length is told, the body is not.
            self.bytes_sent = len(data)
            self.send_headers()

    def log_exception(self, exc_info: "OptExcInfo") -> None:
        handler = self._handler
        path = handler.path.partition("?")[0]
        _log_error(f"unexpected error at {handler.command} {path}", exc_info)


def _too_many(_: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Too many connections are open.\n"]


def _log_error(text: str, exc_info: "OptExcInfo") -> None:
    # Timeouts and TLS errors are of this kind too.
    if isinstance(exc_info[1], OSError):
        _log.debug("a connection failed: %s", exc_info[1])
    else:
        _log.error("%s", text, exc_info=exc_info)
