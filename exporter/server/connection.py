"""One connection: TLS handshake, request, answer and end, each with a deadline."""

import io
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPMessage
from typing import IO, TYPE_CHECKING, Any, Final, cast
from wsgiref.handlers import SimpleHandler
from wsgiref.headers import Headers
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from exporter.server.occasional import OccasionalLog
from exporter.server.places import Places, Stage
from exporter.server.stream import LINGER_SECONDS, Stream

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_MAX_LINE_BYTES: Final = 8 * 1024
_BUFFER_BYTES: Final = 8 * 1024
_MAX_SHOWN_CHARS: Final = 64

_log = logging.getLogger(__name__)


class InFlight:
    """The answers in flight."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        """Begin an answer."""
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        """End an answer."""
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until no answer is in flight, for at most `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count, seconds)


@dataclass(frozen=True, slots=True)
class Service:
    """What all connections share.

    Attributes:
        app: The application; called by several threads at once.
        tls: Called for each connection; None: no TLS.
        extra_headers: Called for each answer; replace the application's headers of these names.
        head_seconds: Time limit of the TLS handshake and the request together.
        send_seconds: Time limit of sending the answer.
        places: The places for connections.
        in_flight: The answers in flight.
        occasional: The rate-limited log for events that clients can cause.
    """

    app: "WSGIApplication"
    tls: Callable[[], ssl.SSLContext | None]
    extra_headers: Callable[[], Iterable[tuple[str, str]]]
    head_seconds: float
    send_seconds: float
    places: Places
    in_flight: InFlight
    occasional: OccasionalLog

    def log_failure(self, exc_info: "OptExcInfo", **fields: object) -> None:
        """Log why a connection failed; socket errors are clients' faults, for debugging only."""
        # Timeouts and TLS errors are socket errors, too.
        if isinstance(exc_info[1], OSError):
            _log.debug("Connection failed", extra={"err": exc_info[1]})
        else:
            self.occasional.error("Unexpected error", exc_info, **fields)


class _Head(HTTPMessage):
    """The head of a request.

    The standard library parses it as an e-mail: a long `Content-Type` could keep that parser busy
    for seconds.
    """

    def get_content_type(self) -> str:
        return "text/plain"

    def get_content_maintype(self) -> str:
        return "text"


class Connection(WSGIRequestHandler):
    """Serves a connection when it is constructed, as the base class does.

    Args:
        request: The connection.
        client_address: The client's host and port.
        server: The server that accepted the connection.
        service: What it shares with other connections.
    """

    protocol_version = "HTTP/1.1"
    # For requests that name no version.
    default_request_version = "HTTP/1.0"
    MessageClass = _Head
    error_message_format = "%(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def __init__(
        self,
        request: socket.socket,
        client_address: Any,  # noqa: ANN401 # as the base class
        server: WSGIServer,
        service: Service,
    ) -> None:
        self.service = service
        self.stream = Stream(request, service.head_seconds)
        self.place = service.places.take(client_address[0], self._lose_place)
        try:
            super().__init__(request, client_address, server)
        finally:
            if self.place:
                service.places.leave(self.place)

    def setup(self) -> None:
        """Prepare the streams."""
        # Otherwise a small packet, such as the tickets of TLS 1.3, waits 40 ms for the client's
        # delayed acknowledgement of the one before.
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Python 3.14 would give each connection 256 KiB.
        self.rfile = io.BufferedReader(self.stream, _BUFFER_BYTES)
        self.wfile = io.BufferedWriter(self.stream, _BUFFER_BYTES)
        if not self.place:
            self.stream.set_deadline(min(self.service.head_seconds, LINGER_SECONDS))

    def handle(self) -> None:
        """Serve one request."""
        if context := self.service.tls():
            self.stream.start_tls(context)
        self.raw_requestline = self.rfile.readline(_MAX_LINE_BYTES + 1)
        if len(self.raw_requestline) > _MAX_LINE_BYTES:
            self.command = self.requestline = self.request_version = ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
        elif self.parse_request():
            app = self.service.app
            if not (self.place and self.service.places.begin_answer(self.place)):
                self.service.occasional.warning("Request refused: too many connections are open")
                app = _too_many
            with self.service.in_flight:
                _Answer(self).run(app)
                self.wfile.flush()

    def finish(self) -> None:
        """End the connection."""
        if self.place:
            self.place.stage = Stage.ENDING
        try:
            super().finish()
        finally:
            self.stream.close()

    def begin_sending(self) -> None:
        """Start the time limit for sending; called when the answer begins."""
        if self.place:
            self.place.stage = Stage.SENDING
        self.stream.set_deadline(self.service.send_seconds)

    def _lose_place(self) -> None:
        """Abort the connection; called from the thread of the connection that takes its place."""
        self.stream.abort()
        self.service.occasional.warning("Slow connection closed: too many connections are open")

    def get_environ(self) -> "WSGIEnvironment":
        """Return the request's environment."""
        # A server must accept the absolute form, which clients of proxies send (RFC 9112, 3.2.2).
        scheme, separator, rest = self.path.partition("://")
        if separator and scheme.lower() in {"http", "https"}:
            self.path = "/" + rest.partition("/")[2]
        # As Python itself does from 3.10.6 on: what begins with two slashes could be a host's name.
        if self.path.startswith("//"):
            self.path = "/" + self.path.lstrip("/")
        environ = super().get_environ()
        environ["exporter.network"] = self.place.network if self.place else ""
        return environ

    def handle_expect_100(self) -> bool:
        """Return True: requests are answered without reading their body."""
        # No body is read, and no 100 is sent before the password is checked.
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error."""
        # The base class would echo what the client sent.
        del message, explain
        super().send_error(code)

    def end_headers(self) -> None:
        """Write the head of an error."""
        for name, value in self.service.extra_headers():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        """Return the server's name."""
        return "cavatica-exporter"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 # as the base class
        """Log a request."""
        _log.debug(format, *args)


class _Answer(SimpleHandler):
    """The application's answer to a request."""

    environ: "WSGIEnvironment"
    headers: Headers
    headers_sent: bool
    status: str

    http_version = "1.1"
    # The base class would copy the process's environment, tokens included, into every request's.
    os_environ: MutableMapping[str, str] = {}  # noqa: RUF012 # as the base class
    error_body = b"Internal error; see the log.\n"

    def __init__(self, connection: Connection) -> None:
        super().__init__(
            connection.rfile,
            cast("IO[bytes]", connection.wfile),
            sys.stderr,
            connection.get_environ(),
            multithread=True,
            multiprocess=False,
        )
        self._connection = connection

    def client_is_modern(self) -> bool:
        # A client that claims HTTP/0.9 gets a head, too.
        return True

    def cleanup_headers(self) -> None:
        super().cleanup_headers()
        for name, value in self._connection.service.extra_headers():
            self.headers[name] = value
        self.headers["Connection"] = "close"

    def send_headers(self) -> None:
        self._connection.begin_sending()
        self._connection.log_request(self.status[:3])
        super().send_headers()

    def write(self, data: bytes) -> None:
        if self.environ["REQUEST_METHOD"] != "HEAD":
            super().write(data)
        elif not self.headers_sent:
            # The head states the length of the omitted body.
            self.bytes_sent = len(data)
            self.send_headers()

    def log_exception(self, exc_info: "OptExcInfo") -> None:
        path = self._connection.path.partition("?")[0]
        self._connection.service.log_failure(
            exc_info, method=self._connection.command, path=path[:_MAX_SHOWN_CHARS]
        )


def _too_many(_: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Too many connections are open.\n"]
