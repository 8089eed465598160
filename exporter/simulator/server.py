"""A WSGI application on its own port for the duration of a `with` block."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socket import SHUT_RDWR, socket
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from typing import Any
from urllib.parse import unquote

Application = Callable[..., Iterable[bytes]]
_Head = tuple[str, list[tuple[str, str]]]


@contextmanager
def serve(app: Application, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve the application and yield its API's URL, `http://<host>:<port>/v2`.

    Connections are kept alive. At the end of the block the port and all connections are closed.
    """
    with _Server((host, port), app) as server:
        # The polling interval of `shutdown`: the default costs every test half a second.
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}/v2"
        finally:
            server.shutdown()
            thread.join()
            server.hang_up()


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], app: Application) -> None:
        self.app = app
        self._connections: set[socket] = set()
        self._lock = Lock()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket, Any]:
        connection, client = super().get_request()
        with self._lock:
            self._connections.add(connection)
        return connection, client

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as typed by the base
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Shut down all connections, so that their threads end and no client keeps waiting."""
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # the client was faster
                    connection.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - ditto
        # Clients may disconnect at any time; everything else is a bug, shown as a traceback.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Otherwise the end of an answer waits 40 ms for the client's delayed acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Pass the request to the application and send its answer."""
        # Always read the body, as the official client sends one with GET, too: the rest would be
        # parsed as the connection's next request.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        started: list[_Head] = []
        result = self.server.app(self._environ(body), lambda *head: started.append(head))
        try:
            self._send(iter(result), started)
        finally:
            if hasattr(result, "close"):
                result.close()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - names fixed by the base

    def _send(self, chunks: Iterator[bytes], started: list[_Head]) -> None:
        first = next(chunks, b"")
        # Only now: a generator calls `start_response` when its first chunk is requested.
        [(status, headers)] = started
        promised = dict(headers).get("Content-Length")
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
        if promised is None:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self.wfile.write(head + first)
        sent = len(first)
        for chunk in chunks:
            self.wfile.write(chunk)
            sent += len(chunk)
        if str(sent) != promised:
            self.close_connection = True

    def _environ(self, body: bytes) -> dict[str, Any]:
        path, _, query = self.path.partition("?")
        host, port = self.connection.getsockname()[:2]
        headers = {
            "HTTP_" + name.upper().replace("-", "_"): value for name, value in self.headers.items()
        }
        content_type = headers.pop("HTTP_CONTENT_TYPE", "")
        content_length = headers.pop("HTTP_CONTENT_LENGTH", "")
        return headers | {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path, "latin-1"),
            "QUERY_STRING": query,
            "CONTENT_TYPE": content_type,
            "CONTENT_LENGTH": content_length,
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": self.request_version,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
