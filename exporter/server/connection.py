"""One client's connection: handshake, request, answer, end, each in bounded time."""

import contextlib
import email.utils
import io
import itertools
import logging
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exporter.server.request import Request, RequestError, find_end, parse

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

#: A connection is read for so long after its answer, or the kernel could take the answer back: it
#: resets what is closed with unread bytes. A refused client may take as long for its handshake.
_LINGER_SECONDS: Final = 1.0
_PIECE_BYTES: Final = 64 * 1024
_SEND_BYTES: Final = 1024 * 1024
_TLS_HANDSHAKE: Final = b"\x16"
_STATUS: Final = re.compile(r"[1-9][0-9]{2} [ -~]*")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t -~\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Service:
    """What a connection is served with.

    Attributes:
        app: Called side by side from many threads.
        tls: Asked for each connection, so that renewed certificates take effect; None: no TLS.
        head_seconds: A client may take so long for the TLS handshake and the request together.
        send_seconds: A client may take so long to take the answer.
    """

    app: "WSGIApplication"
    tls: Callable[[], ssl.SSLContext | None]
    head_seconds: float
    send_seconds: float


class Connection:
    """A client's connection.

    Args:
        client: The accepted socket; it is closed at the end of `run`.
        service: What it is served with.
        refused: Whether all that is served is the answer that there are too many connections.

    Attributes:
        answering: Whether there is a request to be answered.
    """

    def __init__(self, client: socket.socket, service: Service, *, refused: bool) -> None:
        self.answering = False
        self._socket = client
        self._service = service
        self._refused = refused
        seconds = service.head_seconds
        self._deadline = time.monotonic() + (min(_LINGER_SECONDS, seconds) if refused else seconds)

    def run(self) -> None:
        """Serves the client; whatever it does, nothing is raised."""
        try:
            self._serve()
        except OSError as error:  # timeouts and TLS errors are of this kind too
            logger.debug("a connection failed: %s", error)
        except Exception:
            logger.exception("unexpected error on a connection")
        finally:
            self._hang_up()

    def cut(self) -> None:
        """Ends the connection from another thread, whatever it waits for."""
        with contextlib.suppress(OSError):
            # SSLSocket's own method would take the TLS state away from the thread that uses it.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _serve(self) -> None:
        # Or a small packet, as after the tickets of TLS 1.3, waits 40 ms for the client's delayed
        # acknowledgement of the one before.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._shake_hands()
            request = self._receive()
        except RequestError as error:
            logger.debug("a request was refused: %s", error)
            self._restart_deadline()
            self._send(_plain_answer(error.status, f"{error}\n"))
            return
        if request:
            self.answering = True
            self._answer(request)

    def _shake_hands(self) -> None:
        if not (context := self._service.tls()):
            return
        # Looked at first: a TLS state costs some ten KB, which a silent client is not worth.
        if self._ready().recv(1, socket.MSG_PEEK) not in {_TLS_HANDSHAKE, b""}:
            raise RequestError("400 Bad Request", "This port speaks HTTPS only.")
        self._socket = context.wrap_socket(
            self._socket, server_side=True, do_handshake_on_connect=False
        )
        self._ready()
        self._socket.do_handshake()

    def _receive(self) -> Request | None:
        """The request; None if the client went, or timed out, without one."""
        if self._refused:
            raise RequestError("503 Service Unavailable", "Too many connections are open.")
        head = bytearray()
        seen = 0
        while not (end := find_end(head, seen)):
            seen = len(head)
            try:
                received = self._ready().recv(_PIECE_BYTES)
            except TimeoutError:
                if not head:
                    return None
                raise RequestError("408 Request Timeout", "The request took too long.") from None
            if not received:
                return None
            # RFC 9112, 2.2: empty lines before a request are passed over.
            head += received if head else received.lstrip(b"\r\n")
        return parse(head[:end])

    def _answer(self, request: Request) -> None:
        environ = self._environ(request)
        sent = False
        with contextlib.closing(_call(self._service.app, environ)) as pieces:
            while True:
                try:
                    piece = next(pieces, None)
                except Exception:
                    logger.exception("unexpected error at %s %s", request.method, request.path)
                    if sent:
                        return  # shorter than promised: the client sees that it is not whole
                    piece = _plain_answer(
                        "500 Internal Server Error",
                        "Internal error; the log tells more.\n",
                        method=request.method,
                    )
                if piece is None:
                    return
                if not sent:
                    logger.debug("%s %s: %s", request.method, request.path, piece[9:12].decode())
                    self._restart_deadline()
                    sent = True
                self._send(piece)

    def _environ(self, request: Request) -> "WSGIEnvironment":
        host, port = self._socket.getsockname()[:2]
        return {
            **request.environ(),
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "REMOTE_ADDR": self._socket.getpeername()[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https" if isinstance(self._socket, ssl.SSLSocket) else "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }

    def _restart_deadline(self) -> None:
        self._deadline = time.monotonic() + self._service.send_seconds

    def _ready(self) -> socket.socket:
        """The socket, its next operation bounded by what is left of the time."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the client is too slow")
        self._socket.settimeout(left)
        return self._socket

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._ready().send(view[:_SEND_BYTES]) :]

    def _hang_up(self) -> None:
        """Says goodbye, reads for a moment what the client still sends, and closes."""
        self._deadline = time.monotonic() + _LINGER_SECONDS
        with contextlib.suppress(OSError), self._socket:
            if isinstance(self._socket, ssl.SSLSocket):
                # ValueError: there was no handshake. OSError: the client is gone, or sends on.
                with contextlib.suppress(OSError, ValueError):
                    self._ready()
                    self._socket.unwrap()
            # Below TLS from here on.
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
            while socket.socket.recv(self._ready(), _PIECE_BYTES):
                pass


def _call(app: "WSGIApplication", environ: "WSGIEnvironment") -> Generator[bytes, None, None]:
    """The application's answer, the head first, in pieces that are worth a packet.

    Raises:
        Exception: What the application raises, or it breaks PEP 3333.
    """
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _: object = None
    ) -> Callable[[bytes], Any]:
        started[:] = [(status, headers)]
        return written.append

    body = app(environ, start_response)
    try:
        chunks = iter(body)
        first = next(chunks, b"")  # a generator calls `start_response` only now
        ((status, headers),) = started
        length = sum(map(len, (*written, *body))) if isinstance(body, Sequence) else None
        waiting = [_head(status, headers, length)]
        size = 0
        if environ["REQUEST_METHOD"] != "HEAD":
            for chunk in itertools.chain(written, (first,), chunks):
                if len(chunk) >= _PIECE_BYTES:
                    yield b"".join(waiting)  # joined with this one, it would be copied
                    waiting = []
                waiting.append(chunk)
                size += len(chunk)
                if size >= _PIECE_BYTES:
                    yield b"".join(waiting)
                    waiting = []
                    size = 0
        yield b"".join(waiting)
    finally:
        if close := getattr(body, "close", None):
            close()


def _head(status: str, headers: Sequence[tuple[str, str]], length: int | None) -> bytes:
    """The answer's first bytes; `length` is that of the body, where it is known."""
    fields = [f"{name}: {value}" for name, value in headers]
    if length is not None and not any(name.lower() == "content-length" for name, _ in headers):
        fields.append(f"Content-Length: {length}")
    fields += [f"Date: {email.utils.formatdate(usegmt=True)}", "Connection: close"]
    if not (_STATUS.fullmatch(status) and all(map(_HEADER.fullmatch, fields))):
        raise ValueError("the application's status or headers would break the answer")
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1")


def _plain_answer(status: str, text: str, *, method: str = "GET") -> bytes:
    body = text.encode()
    head = _head(status, [("Content-Type", "text/plain; charset=utf-8")], len(body))
    return head if method == "HEAD" else head + body
