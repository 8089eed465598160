"""The HTTP server, over real sockets: clients that misbehave do not disturb others."""

import contextlib
import http.client
import logging
import os
import resource
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.server import Address, Server, parse_listen_address
from tests.support.hanging_log import hanging_log
from tests.support.timing import within
from tests.support.waits import PATIENCE, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Serve = Callable[..., Server]
FILES = Path("/dev/fd")
LOOPBACK = ("127.0.0.1", 0)
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b"cavatica_up 1\n"


def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer every request with the same sample."""
    del environ
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [BODY]


class BlockingApp:
    """An application whose answers wait until the test sets `release`."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.calls = 0
        self.release = threading.Event()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer after `release` is set."""
        self.calls += 1
        self.called.set()
        assert self.release.wait(10)
        return app(environ, start_response)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts servers; they are closed at the end."""
    with ExitStack() as stack:

        def start(
            application: "WSGIApplication" = app,
            address: Address = LOOPBACK,
            **options: Any,  # noqa: ANN401 -- those of Server
        ) -> Server:
            server = Server(application, address, **options)
            stack.callback(server.close)
            server.start()
            return server

        yield start


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a certificate authority."""
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """Return the TLS context of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """Return the TLS context of a client that trusts the server."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def connect(server: Server) -> socket.socket:
    """Return a plain connection."""
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=5)


def read_all(client: socket.socket) -> bytes:
    """Return everything that the server sends until it closes."""
    received = b""
    while data := client.recv(65536):
        received += data
    return received


def ask(server: Server, data: bytes = GET) -> bytes:
    """Return the answer to some bytes."""
    with connect(server) as client:
        client.sendall(data)
        return read_all(client)


def ask_tls(server: Server, context: ssl.SSLContext, data: bytes = GET) -> bytes:
    """Return the answer to some bytes over TLS."""
    with context.wrap_socket(
        connect(server), server_hostname="localhost", suppress_ragged_eofs=False
    ) as client:
        client.sendall(data)
        return read_all(client)


def status(answer: bytes) -> bytes:
    """Return the status line without the version."""
    return answer.partition(b"\r\n")[0].removeprefix(b"HTTP/1.1 ")


def body(answer: bytes) -> bytes:
    """Return what follows the head."""
    return answer.partition(b"\r\n\r\n")[2]


@contextlib.contextmanager
def idle_clients(server: Server, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open `count` connections that send `data` and then nothing."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(count)]
        for client in clients:
            client.sendall(data)
        yield clients


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10036", ("", 10036)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("localhost:1", ("localhost", 1)),
        ("a.b-c.example:65535", ("a.b-c.example", 65535)),
        ("[::1]:9", ("::1", 9)),
        ("[::]:9", ("::", 9)),
    ],
)
def test_a_listen_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    """The host may be a name, an IPv4 address, an IPv6 address in brackets, or empty for all."""
    assert address == parse_listen_address(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "10036", "localhost", "localhost:", "localhost:http", "http://localhost:1"),
        *(":-1", ":+1", ":65536", ":1_0", ":\N{SUPERSCRIPT TWO}"),
        *("::1:9", "[::1]", "[localhost]:1", "[]:1", "a b:1", "a..b:1", f"{'a' * 64}:1"),
    ],
)
def test_an_invalid_listen_address_is_refused(text: str) -> None:
    """The error shows the text that is not valid and the valid forms."""
    with pytest.raises(ValueError, match="not a valid listen address: ") as error:
        parse_listen_address(text)
    assert str(error.value).startswith(f"not a valid listen address: {text!r} (use HOST:PORT")


def test_port_0_binds_a_free_port(serve: Serve) -> None:
    """Port 0 means any free port; `server_port` and `url` have its number."""
    server = serve()
    assert server.server_port > 0
    assert server.url == f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize("host", ["", "::"])
def test_a_server_on_all_addresses_answers_ipv4_and_ipv6(serve: Serve, host: str) -> None:
    """With an empty host or `::`, the server answers on IPv4 and on IPv6."""
    server = serve(address=(host, 0))
    assert server.url == f"http://localhost:{server.server_port}"
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, server.server_port), timeout=5) as client:
            client.sendall(GET)
            assert status(read_all(client)) == b"200 OK"


def test_a_server_listens_on_one_ipv6_address(serve: Serve) -> None:
    """A server on an IPv6 address shows the address in brackets in its URL."""
    server = serve(address=("::1", 0))
    assert server.url == f"http://[::1]:{server.server_port}"
    with socket.create_connection(("::1", server.server_port), timeout=5) as client:
        client.sendall(GET)
        assert status(read_all(client)) == b"200 OK"


def test_a_host_name_prefers_its_ipv4_address(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a name with IPv4 and IPv6 addresses the server listens on IPv4, as Go's exporters do."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
    server = serve(address=("name.example", 0))
    monkeypatch.undo()
    assert status(ask(server)) == b"200 OK"


def test_a_port_in_use_is_an_error_that_names_it(serve: Serve) -> None:
    """A second server on the same port fails with an error that names address and port."""
    port = serve().server_port
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
        Server(app, ("127.0.0.1", port))


def test_an_unknown_host_is_an_error_that_names_it() -> None:
    """A server on an address that this machine does not have fails with an error that names it."""
    with pytest.raises(OSError, match=r"cannot listen on \[fe80::1%nowhere\]:0: .+"):
        Server(app, ("fe80::1%nowhere", 0))


# Answers


def test_an_answer_has_a_head_and_a_body(serve: Serve) -> None:
    """An answer has a status, a date, the application's headers, the length and the body."""
    head, _, content = ask(serve()).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert lines[1].startswith(b"Date: ")
    assert lines[2:] == [
        b"Content-Type: text/plain",
        b"Content-Length: 14",
        b"Connection: close",
    ]
    assert content == BODY


def test_no_answer_names_the_server_software(serve: Serve) -> None:
    """Answers name neither Python nor the standard library's server."""
    for answer in (ask(serve()), ask(serve(), b"a b\n")):
        assert b"Server: WSGI" not in answer
        assert b"python" not in answer.lower()


def test_head_has_no_body(serve: Serve) -> None:
    """The answer to HEAD has the same head as to GET, with the length, and no body."""
    head, _, content = ask(serve(), b"HEAD / HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert b"Content-Length: 14" in head
    assert content == b""


def test_the_server_follows_pep_3333(serve: Serve) -> None:
    """The standard library's WSGI validator finds no error in how the application is called."""
    assert status(ask(serve(validator(app)))) == b"200 OK"


def test_the_environment_has_both_addresses(serve: Serve) -> None:
    """The WSGI environment has the server's address and the client's."""

    def show(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        keys = ["SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "exporter.network"]
        return [" ".join(environ[key] for key in keys).encode()]

    server = serve(show)
    assert body(ask(server)).decode() == f"127.0.0.1 {server.server_port} 127.0.0.1 127.0.0.1"


def test_a_generator_is_served(serve: Serve) -> None:
    """A body from a generator has no `Content-Length`; the end of the connection ends it."""

    def generate(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        del environ
        start_response("200 OK", [])
        yield b"a"
        yield b"b"

    answer = ask(serve(generate))
    assert b"Content-Length" not in answer
    assert body(answer) == b"ab"
    assert body(ask(serve(generate), b"HEAD / HTTP/1.1\r\n\r\n")) == b""


def test_the_application_may_set_the_content_length(serve: Serve) -> None:
    """If the application sets `Content-Length`, the server does not add a second one."""

    def with_length(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        del environ
        start_response("200 OK", [("content-length", "1")])
        return [b"a"]

    assert ask(serve(with_length)).lower().count(b"content-length") == 1


def test_chunks_of_any_size_are_one_body(serve: Serve) -> None:
    """A body of small and large chunks arrives unchanged."""
    chunks = [b"a" * 100] * 2000 + [b"b" * 3_000_000] + [b"c"]

    def cut(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        del environ
        start_response("200 OK", [])
        return chunks

    assert body(ask(serve(cut))) == b"".join(chunks)


def test_the_body_is_closed(serve: Serve) -> None:
    """The server calls the body's `close`, even when the client leaves before the end."""

    class Body:
        def __init__(self) -> None:
            self.closed = threading.Event()

        def __iter__(self) -> Iterator[bytes]:
            while not self.closed.is_set():
                yield b"a" * 100_000

        def close(self) -> None:
            self.closed.set()

    endless = Body()

    def send_endless(
        environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        del environ
        start_response("200 OK", [])
        return endless

    server = serve(send_endless)
    with connect(server) as client:
        client.sendall(GET)
        client.recv(1)
    assert endless.closed.wait(5)


def test_answers_do_not_wait_for_delayed_acknowledgements(serve: Serve) -> None:
    """No answer waits for the client's delayed acknowledgement, which would take 40 ms."""
    server = serve()
    with within(20 * 0.03):
        for _ in range(20):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", "/")
            assert connection.getresponse().read() == BODY
            connection.close()


def test_a_request_with_a_large_body_is_answered(serve: Serve) -> None:
    """The server answers without waiting for the body, and the client receives the answer."""
    answer = ask(
        serve(), b"POST / HTTP/1.1\r\nContent-Length: 20000000\r\n\r\n" + b"a" * 20_000_000
    )
    assert status(answer) == b"200 OK"


def test_an_unexpected_error_is_a_500_without_details(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The client receives a fixed text; the log has the traceback, but no query and no headers."""

    def fail(_environ: "WSGIEnvironment", _start: "StartResponse") -> Iterable[bytes]:
        raise RuntimeError("detail")

    request = b"GET /path?query HTTP/1.1\r\nAuthorization: Basic secret\r\n\r\n"
    server = serve(fail)
    answer = ask(server, request)
    assert status(answer) == b"500 Internal Server Error"
    assert body(answer) == b"Internal error; see the log.\n"
    assert body(ask(server, request.replace(b"GET", b"HEAD"))) == b""
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "Unexpected error")
    assert (vars(record)["method"], vars(record)["path"]) == ("GET", "/path")
    assert "RuntimeError: detail" in caplog.text
    assert "query" not in caplog.text
    assert "secret" not in caplog.text


def test_an_application_that_starts_no_response_is_a_500(serve: Serve) -> None:
    """An application that never calls `start_response` is answered with 500."""
    assert status(ask(serve(lambda _environ, _start: []))) == b"500 Internal Server Error"


def test_an_error_within_the_body_cuts_the_answer_short(serve: Serve) -> None:
    """The body is shorter than its `Content-Length`, so the client notices the error."""

    def fail(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        del environ
        start_response("200 OK", [("Content-Length", "200000")])
        yield b"a" * 100_000
        raise RuntimeError

    answer = ask(serve(fail))
    assert status(answer) == b"200 OK"
    assert len(body(answer)) == 100_000


def test_extra_headers_are_in_every_answer(serve: Serve) -> None:
    """Answers and errors have the extra headers, which replace the application's of these names."""

    def fail_or_answer(
        environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/error":
            raise RuntimeError
        start_response("200 OK", [("x-frame-options", "sameorigin")])
        return [BODY]

    server = serve(fail_or_answer, extra_headers=lambda: [("X-Frame-Options", "deny"), ("B", "c")])
    for request in (GET, b"HEAD / HTTP/1.1\r\n\r\n", b"GET /error HTTP/1.1\r\n\r\n", b"a b c\n"):
        head = ask(server, request).partition(b"\r\n\r\n")[0]
        assert head.lower().count(b"x-frame-options: ") == 1
        assert b"\r\nX-Frame-Options: deny\r\n" in head
        assert b"\r\nB: c" in head


def test_the_environment_has_no_variables_of_the_process(serve: Serve) -> None:
    """A request's environment has no variable of the process: one of them may be the token."""
    assert "PATH" in os.environ

    def show(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        return [" ".join(environ).encode()]

    assert {"PATH_INFO", *os.environ} & {*body(ask(serve(show))).decode().split()} == {"PATH_INFO"}


def test_unexpected_errors_do_not_fill_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The server logs a traceback at most once a minute for each type of exception."""
    errors: list[Exception] = [ValueError("1"), ValueError("2"), KeyError("3"), ValueError("4")]

    def fail(_environ: "WSGIEnvironment", _start: "StartResponse") -> Iterable[bytes]:
        raise errors.pop(0)

    server = serve(fail)
    for _ in range(4):
        assert status(ask(server))[:3] == b"500"
    assert [str(record.exc_info and record.exc_info[1]) for record in caplog.records] == [
        "1",
        "'3'",
    ]


def test_a_long_path_is_cut_in_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The log shows at most 64 characters of a path: a client cannot make log lines long."""

    def fail(_environ: "WSGIEnvironment", _start: "StartResponse") -> Iterable[bytes]:
        raise RuntimeError

    ask(serve(fail), b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n")
    assert vars(caplog.records[0])["path"] == "/" + "a" * 63


# Clients that misbehave


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # A TLS handshake contains the number of an extension, 10, which is also a line feed.
        (b"\x16\x03\x01\x02\x00\x01\x00\x0a", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 99_000, b"431"),
        (b"GET / HTTP/3.0\r\n\r\n", b"505"),
        (b"GET /" + b"a" * 9000, b"414"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 9000, b"431"),
    ],
    ids=["TLS handshake", "long header", "unknown version", "long target", "many headers"],
)
def test_an_invalid_request_is_answered_at_once(serve: Serve, data: bytes, expected: bytes) -> None:
    """The server answers an invalid request with the matching status, without reading more."""
    with within(0.5):
        assert status(ask(serve(), data))[:3] == expected


@pytest.mark.parametrize(
    "value",
    [
        b'multipart/x; a="' + b";" * 64_000,
        b"multipart/x; boundary*=a; boundary*0=b",
        b"message/external-body; access-type=" + b"a;" * 30_000,
        b"text/x; charset*=" + b"%41" * 20_000,
    ],
    ids=["many semicolons", "continued parameter", "many parameters", "many escapes"],
)
@pytest.mark.parametrize("name", [b"Content-Type", b"Content-Disposition", b"Cookie"])
def test_a_head_is_not_parsed_as_mail(
    serve: Serve, caplog: pytest.LogCaptureFixture, name: bytes, value: bytes
) -> None:
    """Headers that would keep the parser of e-mails busy, or make it fail, have no effect."""
    server = serve()
    used = time.process_time()
    assert status(ask(server, GET[:-2] + name + b": " + value + b"\r\n\r\n")) == b"200 OK"
    assert time.process_time() - used < 0.3
    assert caplog.records == []


def test_the_size_of_a_head_is_limited(serve: Serve) -> None:
    """Ninety header lines of 800 bytes, each short enough, are too large together."""
    lines = b"".join(b"A%d: %s\r\n" % (number, b"b" * 800) for number in range(90))
    assert status(ask(serve(), GET[:-2] + lines + b"\r\n"))[:3] == b"431"


@pytest.mark.parametrize("expect", [b"100-continue", b"100-Continue", b"200-ok"])
def test_100_continue_is_never_sent(serve: Serve, expect: bytes) -> None:
    """Bodies are not read, so a request with `Expect` gets only its final answer."""
    request = b"POST / HTTP/1.1\r\nContent-Length: 9\r\nExpect: " + expect + b"\r\n\r\n"
    answer = ask(serve(), request)
    assert status(answer) == b"200 OK"
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/a?b", "/a b"),
        (b"http://localhost/a?b", "/a b"),
        (b"HTTPS://[::1]:9/a?b", "/a b"),
        (b"http://localhost", "/ "),
        (b"http:///a", "/a "),
        (b"ftp://localhost/a", "ftp://localhost/a "),
        (b"*", "* "),
        (b"//a//b", "/a//b "),
        (b"http://localhost//a", "/a "),
        (b"http://[::1]example", "/ "),
    ],
)
def test_a_request_target_may_be_an_absolute_url(
    serve: Serve, target: bytes, expected: str
) -> None:
    """A client that uses the exporter like a proxy, with whole URLs, gets the same pages."""

    def show(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        return [f"{environ['PATH_INFO']} {environ['QUERY_STRING']}".encode()]

    assert body(ask(serve(show), b"GET %s HTTP/1.1\r\n\r\n" % target)).decode() == expected


def test_an_error_does_not_repeat_the_request(serve: Serve) -> None:
    """The answer to an invalid request contains nothing that the client sent."""
    answer = ask(serve(), b"GET <script> secret HTTP/1.1\r\n\r\n")
    assert status(answer) == b"400 Bad Request"
    assert b"secret" not in answer


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=100) | st.binary(max_size=60).map(lambda end: GET[:-2] + end))
def test_arbitrary_bytes_cause_no_500_and_no_traceback(
    serve: Serve, capfd: pytest.CaptureFixture[str], data: bytes
) -> None:
    """Any bytes lead to an answer, to a client error, or to the end of the connection."""
    server = serve()
    with connect(server) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    server.close(1)
    assert status(answer)[:3] in {b"", b"200", b"400", b"505"}
    assert capfd.readouterr().err == ""


def test_a_client_that_sends_slowly_is_cut_off(serve: Serve) -> None:
    """The deadline is for the whole request, so sending one byte at a time does not extend it."""
    server = serve(head_seconds=0.2)
    with within(0.5), connect(server) as client:
        client.settimeout(0.02)
        received = b""
        for byte in GET:
            client.send(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                received = client.recv(65536)
                break
    assert received == b""


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n"])
def test_a_connection_without_a_request_gets_no_answer(serve: Serve, data: bytes) -> None:
    """The server closes a connection without a request at the deadline and sends nothing."""
    server = serve(head_seconds=0.1)
    assert ask(server, data) == b""


def test_empty_lines_do_not_extend_the_deadline(serve: Serve) -> None:
    """The server also closes a connection at the deadline if the client sends only empty lines."""
    server = serve(head_seconds=0.1)
    begin = time.monotonic()
    with within(0.5), connect(server) as client, contextlib.suppress(OSError):
        while time.monotonic() - begin < 1:
            client.send(b"\r\n")
            client.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                if client.recv(1) == b"":
                    break


def test_a_connection_reset_is_not_logged(
    serve: Serve, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A reset before, within or after the request is logged at level debug at most."""
    caplog.set_level(logging.INFO)
    blocking_app = BlockingApp()
    server = serve(blocking_app)
    for data in (b"", b"GET / HT", GET):
        client = connect(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(data)
        if data == GET:
            assert blocking_app.called.wait(5)
        client.close()
    blocking_app.release.set()
    server.close(1)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_client_that_stops_reading_is_cut_off(serve: Serve, seconds: float) -> None:
    """A client that does not read its answer occupies a thread for a limited time."""
    sent = threading.Event()

    class Body(list[bytes]):
        def close(self) -> None:
            sent.set()

    def large(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        del environ
        start_response("200 OK", [])
        return Body([b"a" * 90_000_000])

    server = serve(large, send_seconds=seconds)
    with connect(server) as client:
        client.sendall(GET)
        assert sent.wait(2)


def test_a_client_that_stays_after_its_answer_is_dropped(serve: Serve) -> None:
    """A client that does not close its connection occupies a thread only briefly."""
    server = serve()
    threads = threading.active_count()
    with connect(server) as client:
        client.sendall(GET)
        assert status(read_all(client)) == b"200 OK"
        with within(0.9):
            wait_until(lambda: threading.active_count() <= threads, "its thread ends")


@pytest.mark.parametrize("data", [b"", b"GET", b"GET / HTTP/1.1\r\nA"])
def test_two_hundred_idle_clients_do_not_delay_others(serve: Serve, data: bytes) -> None:
    """While 200 clients are idle before or within a request, the next is answered in a second."""
    server = serve()
    with idle_clients(server, 200, data):
        ask(server)  # connections are accepted in order: all are open now
        with within(1):
            assert status(ask(server)) == b"200 OK"


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_two_hundred_idle_tls_clients_do_not_delay_others(
    serve: Serve, tls: ssl.SSLContext, client_tls: ssl.SSLContext, data: bytes
) -> None:
    """While 200 clients are idle before or within a handshake, the next is answered in a second."""
    server = serve(tls=lambda: tls)
    with idle_clients(server, 200, data):
        ask_tls(server, client_tls)  # connections are accepted in order: all are open now
        with within(1):
            assert status(ask_tls(server, client_tls)) == b"200 OK"


# TLS


def test_an_answer_over_tls_is_complete(
    serve: Serve, tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """An answer over TLS has the whole body, and the server ends TLS before the connection."""
    server = serve(tls=lambda: tls)
    assert server.url == f"https://127.0.0.1:{server.server_port}"
    assert body(ask_tls(server, client_tls)) == BODY


def test_each_connection_uses_the_current_tls_context(
    serve: Serve, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    """A new certificate takes effect with the next connection."""
    contexts: list[ssl.SSLContext] = []
    serials = set()
    server = serve(tls=lambda: contexts[-1])
    for _ in range(2):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        contexts.append(context)
        with client_tls.wrap_socket(connect(server), server_hostname="localhost") as client:
            certificate = client.getpeercert()
            assert certificate
            serials.add(certificate["serialNumber"])
    assert len(serials) == 2


def test_plain_http_to_a_tls_port_is_a_400(serve: Serve, tls: ssl.SSLContext) -> None:
    """A client that uses http instead of https gets an error that says so."""
    answer = ask(serve(tls=lambda: tls))
    assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    assert body(answer) == b"Client sent an HTTP request to an HTTPS server.\n"


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x00\x05garbage", b"\x16" + b"\0" * 100],
    ids=["invalid message", "invalid version"],
)
def test_an_invalid_handshake_is_not_logged(
    serve: Serve,
    tls: ssl.SSLContext,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    data: bytes,
) -> None:
    """Bytes that only begin like TLS end the connection without a log line."""
    caplog.set_level(logging.INFO)
    server = serve(tls=lambda: tls)
    assert b"HTTP" not in ask(server, data)
    server.close(1)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_client_that_rejects_the_certificate_does_not_affect_others(
    serve: Serve, tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """After a client has aborted its handshake, the next handshake succeeds."""
    server = serve(tls=lambda: tls)
    with pytest.raises(ssl.SSLError):
        ask_tls(server, ssl.create_default_context())
    assert status(ask_tls(server, client_tls)) == b"200 OK"


def test_a_slow_handshake_is_cut_off(serve: Serve, tls: ssl.SSLContext) -> None:
    """The TLS handshake and the request share one deadline."""
    server = serve(tls=lambda: tls, head_seconds=0.1)
    with within(0.9):
        assert ask(server, b"") == b""
        assert b"HTTP" not in ask(server, b"\x16\x03\x01\x02\x00\x01")


def test_an_error_of_the_tls_settings_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error while the TLS context is made ends the connection and is logged."""

    def fail() -> ssl.SSLContext:
        raise RuntimeError("detail")

    assert ask(serve(tls=fail)) == b""
    wait_until(lambda: "Unexpected error" in caplog.text, "the error is logged")
    assert "RuntimeError: detail" in caplog.text


# Too many connections


@contextlib.contextmanager
def busy_server(serve: Serve, count: int, **options: Any) -> Iterator[Server]:  # noqa: ANN401 -- those of Server
    """Run a server with `count` requests in flight until the end of the block."""
    blocking_app = BlockingApp()
    server = serve(blocking_app, **options)
    with idle_clients(server, count, GET):
        wait_until(lambda: blocking_app.calls == count, "the application was called")
        yield server
        blocking_app.release.set()


def test_connections_beyond_the_limit_are_refused(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection beyond the limit receives 503 at once; this is logged once a minute."""
    with busy_server(serve, 1, max_connections=1) as server:
        for _ in range(3):
            answer = ask(server)
            assert status(answer) == b"503 Service Unavailable"
            assert body(answer) == b"Too many connections are open.\n"
    assert caplog.messages == ["Request refused: too many connections are open"]


def test_one_address_gets_a_quarter_of_the_concurrent_answers(serve: Serve) -> None:
    """One address may use a quarter of the places for concurrent answers; others use the rest."""
    all_addresses = ("", 0)
    with busy_server(serve, 2, max_connections=8, address=all_addresses) as server:
        assert status(ask(server)) == b"503 Service Unavailable"
        with socket.create_connection(("::1", server.server_port), timeout=5) as client:
            client.sendall(b"HEAD")
            client.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.recv(1)


def test_a_place_is_free_again_after_its_connection_closes(serve: Serve) -> None:
    """The limit applies to the connections that are open now."""
    with busy_server(serve, 1, max_connections=1) as server:
        assert status(ask(server)) == b"503 Service Unavailable"
    wait_until(lambda: status(ask(server)) == b"200 OK", "the place is free")


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nA"])
def test_a_silent_connection_is_evicted_for_a_new_one(
    serve: Serve, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """When all places are taken, a new connection evicts one that has not sent its request."""
    server = serve(max_connections=4)
    with idle_clients(server, 4, data) as clients:

        def one_is_closed() -> bool:
            assert status(ask(server)) == b"200 OK"
            return bool(select.select(clients, [], [], 0)[0])

        wait_until(one_is_closed, "a connection is closed")
    assert caplog.messages == ["Slow connection closed: too many connections are open"]


def test_a_log_that_hangs_keeps_no_place(serve: Serve) -> None:
    """While the line about a closed connection cannot be written, other requests are answered."""
    server = serve(max_connections=4)
    with (
        hanging_log("exporter.server.listener") as hangs,
        idle_clients(server, 4) as clients,
        connect(server),
    ):
        assert hangs.wait(PATIENCE)
        wait_until(lambda: select.select(clients, [], [], 0)[0], "a connection is closed")
        for _ in range(8):
            assert status(ask(server)) == b"200 OK"


def test_six_hundred_silent_connections_do_not_block_scrapes(serve: Serve) -> None:
    """Silent connections that take all places do not prevent new ones from being answered."""
    server = serve()
    with idle_clients(server, 600):
        for _ in range(20):
            assert status(ask(server)) == b"200 OK"


def test_silent_tls_connections_are_evicted(
    serve: Serve, tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Connections within the TLS handshake, or after it without a request, count as silent."""
    server = serve(tls=lambda: tls, max_connections=4)
    with (
        idle_clients(server, 2, b"\x16\x03\x01\x02\x00\x01"),
        client_tls.wrap_socket(connect(server), server_hostname="localhost"),
        client_tls.wrap_socket(connect(server), server_hostname="localhost"),
    ):
        for _ in range(5):
            assert status(ask_tls(server, client_tls)) == b"200 OK"


def test_a_slow_reader_of_another_address_is_evicted(serve: Serve) -> None:
    """A client that does not read its answer loses its place when no other place is free."""
    called = threading.Semaphore(0)

    def large(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        if environ["PATH_INFO"] != "/large":
            return [b"a"]
        called.release()
        return [b"a" * 90_000_000]

    server = serve(large, address=("", 0), max_connections=8)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(idle_clients(server, 1, b"GET /large HTTP/1.1\r\n\r\n"))
        assert all(called.acquire(timeout=20) for _ in range(2))
        assert status(ask(server))[:3] == b"503"
        # Clients that have not sent their request yet take the other places.
        for _ in range(6):
            client = socket.create_connection(("127.0.0.1", server.server_port), timeout=5)
            stack.enter_context(client)
        with socket.create_connection(("::1", server.server_port), timeout=5) as client:
            client.sendall(GET)
            assert status(read_all(client)) == b"200 OK"


def test_a_refusal_over_tls_is_a_503(
    serve: Serve, tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """The server performs the handshake before it refuses, so that the client can read the 503."""
    blocking_app = BlockingApp()
    server = serve(blocking_app, tls=lambda: tls, max_connections=1)
    with client_tls.wrap_socket(connect(server), server_hostname="localhost") as client:
        client.sendall(GET)
        assert blocking_app.called.wait(5)
        assert status(ask_tls(server, client_tls)) == b"503 Service Unavailable"
        blocking_app.release.set()


def test_many_refusals_in_a_row_are_all_503(serve: Serve) -> None:
    """After many refusals, the next connection still receives 503."""
    with busy_server(serve, 1, max_connections=1) as server:
        for _ in range(70):
            assert status(ask(server)) == b"503 Service Unavailable"


def test_a_refused_client_that_keeps_sending_receives_the_503(serve: Serve) -> None:
    """The server reads on for a moment; otherwise the kernel's reset could discard the 503."""
    with busy_server(serve, 1, max_connections=1) as server:
        assert status(ask(server, GET + b"a" * 3_000_000)) == b"503 Service Unavailable"


def test_a_refused_client_has_half_a_second_for_its_request(serve: Serve) -> None:
    """The server closes a connection beyond the limit that sends no request for half a second."""
    with busy_server(serve, 1, max_connections=1) as server:
        begin = time.monotonic()
        with within(2):
            assert ask(server, b"") == b""
        assert time.monotonic() - begin > 0.4


def test_connections_beyond_the_limit_of_refusals_are_closed(serve: Serve) -> None:
    """A limited number of connections beyond the limit receive 503 at a time; others are closed."""
    with busy_server(serve, 1, max_connections=1) as server:

        def ask_in_the_flood() -> bytes:
            with idle_clients(server, 64):
                return ask_or_reset(server)

        wait_until(lambda: ask_in_the_flood() == b"", "there is no answer")


def test_the_server_survives_running_out_of_file_descriptors(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection waits until there is a file descriptor; the server neither spins nor stops."""
    server = serve()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack, socket.socket() as client:
        client.settimeout(5)
        # Standard input, output and error have the numbers below 3: no other can be opened.
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        client.connect(("127.0.0.1", server.server_port))
        client.sendall(GET)
        wait_until(lambda: caplog.records, "it is told")
        used = time.process_time()
        time.sleep(0.2)
        assert time.process_time() - used < 0.1
        stack.close()
        assert status(read_all(client)) == b"200 OK"
    assert "Cannot accept connections" in caplog.text


def test_a_log_that_hangs_does_not_end_the_accepting(serve: Serve) -> None:
    """While it cannot be logged that no file descriptor is free, connections are accepted again."""
    server = serve()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        contextlib.ExitStack() as stack,
        hanging_log("exporter.server.listener") as hangs,
        socket.socket() as client,
    ):
        client.settimeout(5)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        client.connect(("127.0.0.1", server.server_port))
        client.sendall(GET)
        assert hangs.wait(PATIENCE)
        stack.close()
        assert status(read_all(client)) == b"200 OK"


def test_the_server_survives_running_out_of_threads(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The server closes a connection that it cannot start a thread for, and serves the next one."""
    server = serve()
    before = threading.stack_size(1 << 46)
    try:
        assert ask_or_reset(server) == b""
    finally:
        threading.stack_size(before)
    assert status(ask(server)) == b"200 OK"
    assert "Cannot serve connections" in caplog.text


def count_files() -> int:
    """Return the number of open files of this process."""
    return len(list(FILES.iterdir()))


def ask_or_reset(server: Server) -> bytes:
    """Return the answer, or nothing if the connection is reset."""
    with contextlib.suppress(ConnectionError):
        return ask(server)
    return b""


# Closing the server


def test_closing_waits_for_answers_in_flight(serve: Serve) -> None:
    """The server answers a scrape in flight before it closes; idle clients do not delay it."""
    blocking_app = BlockingApp()
    server = serve(blocking_app)
    answers = []
    scraper = threading.Thread(target=lambda: answers.append(ask(server)))
    with idle_clients(server, 3):
        scraper.start()
        assert blocking_app.called.wait(5)
        threading.Timer(0.1, blocking_app.release.set).start()
        with within(1):
            server.close(5)
        assert blocking_app.release.is_set()
        scraper.join()
        assert [status(answer) for answer in answers] == [b"200 OK"]


def test_closing_waits_at_most_the_grace_period(serve: Serve) -> None:
    """The server abandons an answer that is not ready within the grace period."""
    blocking_app = BlockingApp()
    server = serve(blocking_app)
    with connect(server) as client:
        client.sendall(GET)
        assert blocking_app.called.wait(5)
        with within(0.5):
            server.close(0.1)
        blocking_app.release.set()


def test_a_closed_server_refuses_connections(serve: Serve) -> None:
    """A closed server refuses connections, and another server can use its port."""
    server = serve()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    serve(address=("127.0.0.1", server.server_port))


def test_a_server_that_was_never_started_can_be_closed() -> None:
    """Closing does not fail when there is no thread to stop."""
    Server(app, LOOPBACK).close()


def test_connections_leak_no_threads_and_no_files(serve: Serve) -> None:
    """A hundred connections, half of them without a request, leave no thread and no open file."""
    server = serve(head_seconds=0.1)
    ask(server)
    threads, files = threading.active_count(), count_files()
    for number in range(100):
        ask_or_reset(server) if number % 2 else connect(server).close()
    wait_until(lambda: threading.active_count() <= threads, "all threads end")
    wait_until(lambda: count_files() <= files, "all files are closed")
