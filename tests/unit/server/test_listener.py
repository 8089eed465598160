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
from tests.support.raw_server import wait_for

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


class Held:
    """An application that answers when the test allows it."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.calls = 0
        self.go = threading.Event()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer after `go`."""
        self.calls += 1
        self.called.set()
        assert self.go.wait(10)
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
    """Return the context of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return the context of a client that trusts the server."""
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
def idle(server: Server, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections that send a little and then nothing."""
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
    """A host may be a name, an IPv4 address, an IPv6 address in brackets, or all of them."""
    assert address == parse_listen_address(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "10036", "localhost", "localhost:", "localhost:http", "http://localhost:1"),
        *(":-1", ":+1", ":65536", ":1_0", ":\N{SUPERSCRIPT TWO}"),
        *("::1:9", "[::1]", "[localhost]:1", "[]:1", "a b:1", "a..b:1", f"{'a' * 64}:1"),
    ],
)
def test_anything_else_is_not_a_listen_address(text: str) -> None:
    """The error shows the text and the valid forms."""
    with pytest.raises(ValueError, match="not a valid listen address: ") as error:
        parse_listen_address(text)
    assert str(error.value).startswith(f"not a valid listen address: {text!r} (use HOST:PORT")


def test_the_port_is_the_bound_one(serve: Serve) -> None:
    """Port 0 picks one, and the URL says which."""
    server = serve()
    assert server.server_port > 0
    assert server.url == f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize("host", ["", "::"])
def test_every_address_means_ipv4_and_ipv6(serve: Serve, host: str) -> None:
    """Without a host a server answers on both."""
    server = serve(address=(host, 0))
    assert server.url == f"http://localhost:{server.server_port}"
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, server.server_port), timeout=5) as client:
            client.sendall(GET)
            assert status(read_all(client)) == b"200 OK"


def test_one_ipv6_address(serve: Serve) -> None:
    """An IPv6 address is in brackets in the URL."""
    server = serve(address=("::1", 0))
    assert server.url == f"http://[::1]:{server.server_port}"
    with socket.create_connection(("::1", server.server_port), timeout=5) as client:
        client.sendall(GET)
        assert status(read_all(client)) == b"200 OK"


def test_a_name_s_ipv4_address_comes_first(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with addresses of both kinds is listened on as by Go's exporters: on IPv4."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
    server = serve(address=("name.example", 0))
    monkeypatch.undo()
    assert status(ask(server)) == b"200 OK"


def test_a_port_in_use_is_an_error_that_names_it(serve: Serve) -> None:
    """The second exporter on one port names the port."""
    port = serve().server_port
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
        Server(app, ("127.0.0.1", port))


def test_an_unknown_host_is_an_error_that_names_it() -> None:
    """An address of another machine cannot be listened on."""
    with pytest.raises(OSError, match=r"cannot listen on \[fe80::1%nowhere\]:0: .+"):
        Server(app, ("fe80::1%nowhere", 0))


# Answers


def test_an_answer_is_whole(serve: Serve) -> None:
    """Status, the application's headers, length, date and body arrive, and the connection ends."""
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


def test_nothing_tells_the_version_of_the_server(serve: Serve) -> None:
    """Answers name neither Python nor the standard library's server."""
    for answer in (ask(serve()), ask(serve(), b"a b\n")):
        assert b"Server: WSGI" not in answer
        assert b"python" not in answer.lower()


def test_head_has_no_body(serve: Serve) -> None:
    """HEAD has the same head as GET, with the length, and no body."""
    head, _, content = ask(serve(), b"HEAD / HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert b"Content-Length: 14" in head
    assert content == b""


def test_the_application_is_served_as_pep_3333_says(serve: Serve) -> None:
    """The standard library's validator finds nothing wrong with the environment."""
    assert status(ask(serve(validator(app)))) == b"200 OK"


def test_the_environment_tells_both_ends(serve: Serve) -> None:
    """The server's address and the client's are in the environment."""

    def show(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        keys = ["SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "exporter.network"]
        return [" ".join(environ[key] for key in keys).encode()]

    server = serve(show)
    assert body(ask(server)).decode() == f"127.0.0.1 {server.server_port} 127.0.0.1 127.0.0.1"


def test_a_generator_is_served(serve: Serve) -> None:
    """A body that is made while it is sent ends with the connection."""

    def generate(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        del environ
        start_response("200 OK", [])
        yield b"a"
        yield b"b"

    answer = ask(serve(generate))
    assert b"Content-Length" not in answer
    assert body(answer) == b"ab"
    assert body(ask(serve(generate), b"HEAD / HTTP/1.1\r\n\r\n")) == b""


def test_the_application_may_tell_the_length(serve: Serve) -> None:
    """A `Content-Length` of the application's is not repeated."""

    def tell(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        del environ
        start_response("200 OK", [("content-length", "1")])
        return [b"a"]

    assert ask(serve(tell)).lower().count(b"content-length") == 1


def test_many_small_chunks_and_large_ones_are_one_body(serve: Serve) -> None:
    """A body arrives unchanged, in chunks of any size."""
    chunks = [b"a" * 100] * 2000 + [b"b" * 3_000_000] + [b"c"]

    def cut(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        del environ
        start_response("200 OK", [])
        return chunks

    assert body(ask(serve(cut))) == b"".join(chunks)


def test_the_body_is_closed(serve: Serve) -> None:
    """A body's `close` is called when it was sent, and when the client has gone."""

    class Body:
        def __init__(self) -> None:
            self.closed = threading.Event()

        def __iter__(self) -> Iterator[bytes]:
            while not self.closed.is_set():
                yield b"a" * 100_000

        def close(self) -> None:
            self.closed.set()

    endless = Body()

    def give(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        del environ
        start_response("200 OK", [])
        return endless

    server = serve(give)
    with connect(server) as client:
        client.sendall(GET)
        client.recv(1)
    assert endless.closed.wait(5)


def test_twenty_answers_take_no_pause(serve: Serve) -> None:
    """No answer waits for an acknowledgement that the client holds back for 40 ms."""
    server = serve()
    begin = time.monotonic()
    for _ in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
        connection.request("GET", "/")
        assert connection.getresponse().read() == BODY
        connection.close()
    assert time.monotonic() - begin < 20 * 0.03


def test_a_body_of_the_client_does_not_hide_the_answer(serve: Serve) -> None:
    """A request with a body is answered without reading the body."""
    answer = ask(
        serve(), b"POST / HTTP/1.1\r\nContent-Length: 20000000\r\n\r\n" + b"a" * 20_000_000
    )
    assert status(answer) == b"200 OK"


def test_an_unexpected_error_is_a_500_that_tells_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The client reads a fixed text; the log has the traceback, and neither query nor headers."""

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
    """A mistake of the application is an error of the server."""
    assert status(ask(serve(lambda _environ, _start: []))) == b"500 Internal Server Error"


def test_an_error_in_the_middle_cuts_the_answer_short(serve: Serve) -> None:
    """The client notices, because the length is not reached."""

    def fail(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        del environ
        start_response("200 OK", [("Content-Length", "200000")])
        yield b"a" * 100_000
        raise RuntimeError

    answer = ask(serve(fail))
    assert status(answer) == b"200 OK"
    assert len(body(answer)) == 100_000


def test_extra_headers_are_in_every_answer(serve: Serve) -> None:
    """Answers of the application, refusals and errors have them; they replace its own."""

    def several(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/error":
            raise RuntimeError
        start_response("200 OK", [("x-frame-options", "sameorigin")])
        return [BODY]

    server = serve(several, extra_headers=lambda: [("X-Frame-Options", "deny"), ("B", "c")])
    for request in (GET, b"HEAD / HTTP/1.1\r\n\r\n", b"GET /error HTTP/1.1\r\n\r\n", b"a b c\n"):
        head = ask(server, request).partition(b"\r\n\r\n")[0]
        assert head.lower().count(b"x-frame-options: ") == 1
        assert b"\r\nX-Frame-Options: deny\r\n" in head
        assert b"\r\nB: c" in head


def test_the_process_s_environment_is_not_in_that_of_a_request(serve: Serve) -> None:
    """The process's environment, which may hold the token, is not in the request's."""
    assert "PATH" in os.environ

    def show(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        return [" ".join(environ).encode()]

    assert {"PATH_INFO", *os.environ} & {*body(ask(serve(show))).decode().split()} == {"PATH_INFO"}


def test_unexpected_errors_do_not_fill_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A traceback is written once a minute for each kind of error."""
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
    """A client cannot choose how long a line of the log is."""

    def fail(_environ: "WSGIEnvironment", _start: "StartResponse") -> Iterable[bytes]:
        raise RuntimeError

    ask(serve(fail), b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n")
    assert vars(caplog.records[0])["path"] == "/" + "a" * 63


# Clients that misbehave


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # Of TLS: the number of an extension that every handshake begins with is a line's end.
        (b"\x16\x03\x01\x02\x00\x01\x00\x0a", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 99_000, b"431"),
        (b"GET / HTTP/3.0\r\n\r\n", b"505"),
        (b"GET /" + b"a" * 9000, b"414"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 9000, b"431"),
    ],
)
def test_nonsense_is_answered_at_once(serve: Serve, data: bytes, expected: bytes) -> None:
    """An invalid request is answered with its status at once."""
    begin = time.monotonic()
    assert status(ask(serve(), data))[:3] == expected
    assert time.monotonic() - begin < 0.5


@pytest.mark.parametrize(
    "value",
    [
        b'multipart/x; a="' + b";" * 64_000,
        b"multipart/x; boundary*=a; boundary*0=b",
        b"message/external-body; access-type=" + b"a;" * 30_000,
        b"text/x; charset*=" + b"%41" * 20_000,
    ],
)
@pytest.mark.parametrize("name", [b"Content-Type", b"Content-Disposition", b"Cookie"])
def test_a_head_is_not_parsed_as_mail(
    serve: Serve, caplog: pytest.LogCaptureFixture, name: bytes, value: bytes
) -> None:
    """No header about the body costs time or raises an error."""
    server = serve()
    used = time.process_time()
    assert status(ask(server, GET[:-2] + name + b": " + value + b"\r\n\r\n")) == b"200 OK"
    assert time.process_time() - used < 0.3
    assert caplog.records == []


def test_a_head_of_many_lines_is_limited_as_a_whole(serve: Serve) -> None:
    """Ninety lines of 800 bytes are each short enough, and too many together."""
    lines = b"".join(b"A%d: %s\r\n" % (number, b"b" * 800) for number in range(90))
    assert status(ask(serve(), GET[:-2] + lines + b"\r\n"))[:3] == b"431"


@pytest.mark.parametrize("expect", [b"100-continue", b"100-Continue", b"200-ok"])
def test_nobody_is_told_to_continue(serve: Serve, expect: bytes) -> None:
    """A body is never read, so the answer to a request that announces one is the only one."""
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
def test_a_target_may_be_a_whole_url(serve: Serve, target: bytes, expected: str) -> None:
    """A client that takes the exporter for a proxy gets the same pages."""

    def show(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        return [f"{environ['PATH_INFO']} {environ['QUERY_STRING']}".encode()]

    assert body(ask(serve(show), b"GET %s HTTP/1.1\r\n\r\n" % target)).decode() == expected


def test_an_error_does_not_repeat_the_request(serve: Serve) -> None:
    """What a client sent is not sent back to it."""
    answer = ask(serve(), b"GET <script> secret HTTP/1.1\r\n\r\n")
    assert status(answer) == b"400 Bad Request"
    assert b"secret" not in answer


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=100) | st.binary(max_size=60).map(lambda end: GET[:-2] + end))
def test_no_bytes_are_a_500_or_a_traceback(
    serve: Serve, capfd: pytest.CaptureFixture[str], data: bytes
) -> None:
    """Any bytes lead to an answer, an error of the client, or silence."""
    server = serve()
    with connect(server) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    server.close(1)
    assert status(answer)[:3] in {b"", b"200", b"400", b"505"}
    assert capfd.readouterr().err == ""


def test_a_slow_client_is_cut_off_whatever_it_drips(serve: Serve) -> None:
    """The whole request has a deadline, not each of its bytes."""
    server = serve(head_seconds=0.2)
    begin = time.monotonic()
    with connect(server) as client:
        client.settimeout(0.02)
        received = b""
        for byte in GET:
            client.send(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                received = client.recv(65536)
                break
    assert time.monotonic() - begin < 0.5
    assert received == b""


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n"])
def test_a_silent_client_is_left_without_a_word(serve: Serve, data: bytes) -> None:
    """A client that sent no request gets no answer."""
    server = serve(head_seconds=0.1)
    assert ask(server, data) == b""


def test_dripping_empty_lines_is_no_way_around_the_deadline(serve: Serve) -> None:
    """A client that sends line ends and no request is closed too."""
    server = serve(head_seconds=0.1)
    begin = time.monotonic()
    with connect(server) as client, contextlib.suppress(OSError):
        while time.monotonic() - begin < 1:
            client.send(b"\r\n")
            client.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                if client.recv(1) == b"":
                    break
    assert time.monotonic() - begin < 0.5


def test_a_client_that_goes_early_leaves_no_trace(
    serve: Serve, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A reset before, in and after the request is a line in the debug log at most."""
    caplog.set_level(logging.INFO)
    held = Held()
    server = serve(held)
    for data in (b"", b"GET / HT", GET):
        client = connect(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(data)
        if data == GET:
            assert held.called.wait(5)
        client.close()
    held.go.set()
    server.close(1)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_reader_that_stops_is_cut_off(serve: Serve, seconds: float) -> None:
    """A client that does not take its answer costs a thread for a bounded time."""
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


def test_a_client_that_stays_after_its_answer_is_left_alone(serve: Serve) -> None:
    """A client that does not close the connection after its answer blocks a thread only briefly."""
    server = serve()
    threads = threading.active_count()
    with connect(server) as client:
        client.sendall(GET)
        assert status(read_all(client)) == b"200 OK"
        deadline = time.monotonic() + 0.9
        while threading.active_count() > threads:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("data", [b"", b"GET", b"GET / HTTP/1.1\r\nA"])
def test_two_hundred_idle_clients_block_nobody(serve: Serve, data: bytes) -> None:
    """While 200 clients stand before or in their request, the next is answered within a second."""
    server = serve()
    with idle(server, 200, data):
        ask(server)  # connections are accepted in order: all are open now
        begin = time.monotonic()
        assert status(ask(server)) == b"200 OK"
        assert time.monotonic() - begin < 1


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_two_hundred_idle_tls_clients_block_nobody(
    serve: Serve, tls: ssl.SSLContext, trusting: ssl.SSLContext, data: bytes
) -> None:
    """While 200 clients stand before or in their handshake, the next is answered in a second."""
    server = serve(tls=lambda: tls)
    with idle(server, 200, data):
        ask_tls(server, trusting)  # connections are accepted in order: all are open now
        begin = time.monotonic()
        assert status(ask_tls(server, trusting)) == b"200 OK"
        assert time.monotonic() - begin < 1


# TLS


def test_tls(serve: Serve, tls: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """An answer over TLS is as one without, and its end is not a torn connection."""
    server = serve(tls=lambda: tls)
    assert server.url == f"https://127.0.0.1:{server.server_port}"
    assert body(ask_tls(server, trusting)) == BODY


def test_the_context_is_asked_for_each_connection(
    serve: Serve, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    """A new certificate holds from the next connection."""
    contexts: list[ssl.SSLContext] = []
    serials = set()
    server = serve(tls=lambda: contexts[-1])
    for _ in range(2):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        contexts.append(context)
        with trusting.wrap_socket(connect(server), server_hostname="localhost") as client:
            certificate = client.getpeercert()
            assert certificate
            serials.add(certificate["serialNumber"])
    assert len(serials) == 2


def test_plain_http_to_a_tls_port_is_told(serve: Serve, tls: ssl.SSLContext) -> None:
    """A client that uses http instead of https gets an error that says so."""
    answer = ask(serve(tls=lambda: tls))
    assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    assert body(answer) == b"Client sent an HTTP request to an HTTPS server.\n"


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\x05garbage", b"\x16" + b"\0" * 100])
def test_garbage_in_the_handshake_is_dropped(
    serve: Serve,
    tls: ssl.SSLContext,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    data: bytes,
) -> None:
    """Bytes that only begin like TLS end the connection, without a word in the log."""
    caplog.set_level(logging.INFO)
    server = serve(tls=lambda: tls)
    assert b"HTTP" not in ask(server, data)
    server.close(1)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_client_that_does_not_trust_the_certificate_harms_nobody(
    serve: Serve, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """A handshake that the client breaks off is followed by ones that succeed."""
    server = serve(tls=lambda: tls)
    with pytest.raises(ssl.SSLError):
        ask_tls(server, ssl.create_default_context())
    assert status(ask_tls(server, trusting)) == b"200 OK"


def test_a_slow_handshake_is_cut_off(serve: Serve, tls: ssl.SSLContext) -> None:
    """Handshake and request have one deadline together."""
    server = serve(tls=lambda: tls, head_seconds=0.1)
    begin = time.monotonic()
    assert ask(server, b"") == b""
    assert b"HTTP" not in ask(server, b"\x16\x03\x01\x02\x00\x01")
    assert time.monotonic() - begin < 0.9


def test_an_error_of_the_tls_settings_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error ends the connection and is in the log."""

    def fail() -> ssl.SSLContext:
        raise RuntimeError("detail")

    assert ask(serve(tls=fail)) == b""
    wait_for(lambda: "Unexpected error" in caplog.text, "the error is logged")
    assert "RuntimeError: detail" in caplog.text


# Too many


@contextlib.contextmanager
def working(serve: Serve, count: int, **options: Any) -> Iterator[Server]:  # noqa: ANN401 -- those of Server
    """Serve with `count` requests that the application works on until the end of the block."""
    held = Held()
    server = serve(held, **options)
    with idle(server, count, GET):
        wait_for(lambda: held.calls == count, "the application was called")
        yield server
        held.go.set()


def test_connections_beyond_the_limit_are_refused(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection beyond the limit is answered 503 at once; the log says it once a minute."""
    with working(serve, 1, max_connections=1) as server:
        for _ in range(3):
            answer = ask(server)
            assert status(answer) == b"503 Service Unavailable"
            assert body(answer) == b"Too many connections are open.\n"
    assert caplog.messages == ["Request refused: too many connections are open"]


def test_one_address_is_answered_so_many_requests_at_once_and_no_more(serve: Serve) -> None:
    """A quarter of the places is left to each address; others find the rest free."""
    server_of_all = ("", 0)
    with working(serve, 2, max_connections=8, address=server_of_all) as server:
        assert status(ask(server)) == b"503 Service Unavailable"
        with socket.create_connection(("::1", server.server_port), timeout=5) as client:
            client.sendall(b"HEAD")
            client.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.recv(1)


def test_places_are_free_again_when_others_have_gone(serve: Serve) -> None:
    """The limit applies to the connections that are open now."""
    with working(serve, 1, max_connections=1) as server:
        assert status(ask(server)) == b"503 Service Unavailable"
    wait_for(lambda: status(ask(server)) == b"200 OK", "the place is free")


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nA"])
def test_a_silent_connection_gives_way_to_a_new_one(
    serve: Serve, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A request comes before silence: one silent connection is closed."""
    server = serve(max_connections=4)
    with idle(server, 4, data) as clients:

        def one_is_closed() -> bool:
            assert status(ask(server)) == b"200 OK"
            return bool(select.select(clients, [], [], 0)[0])

        wait_for(one_is_closed, "a connection is closed")
    assert caplog.messages == ["Slow connection closed: too many connections are open"]


def test_six_hundred_silent_connections_do_not_keep_scrapers_out(serve: Serve) -> None:
    """An address that takes all places does not keep others out."""
    server = serve()
    with idle(server, 600):
        for _ in range(20):
            assert status(ask(server)) == b"200 OK"


def test_silence_over_tls_gives_way_too(
    serve: Serve, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """A client that began its handshake, or finished it, has not sent a request yet."""
    server = serve(tls=lambda: tls, max_connections=4)
    with (
        idle(server, 2, b"\x16\x03\x01\x02\x00\x01"),
        trusting.wrap_socket(connect(server), server_hostname="localhost"),
        trusting.wrap_socket(connect(server), server_hostname="localhost"),
    ):
        for _ in range(5):
            assert status(ask_tls(server, trusting)) == b"200 OK"


def test_a_slow_reader_of_another_address_gives_way(serve: Serve) -> None:
    """A client that does not take its answer holds its place only as long as there are others."""

    def large(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"a" * (90_000_000 if environ["PATH_INFO"] == "/large" else 1)]

    server = serve(large, address=("", 0), max_connections=8)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(idle(server, 1, b"GET /large HTTP/1.1\r\n\r\n"))
        wait_for(lambda: status(ask(server))[:3] == b"503", "both answers are under way")
        # The places that are left are taken by requests that the server waits for.
        for _ in range(6):
            client = socket.create_connection(("127.0.0.1", server.server_port), timeout=5)
            stack.enter_context(client)
        with socket.create_connection(("::1", server.server_port), timeout=5) as client:
            client.sendall(GET)
            assert status(read_all(client)) == b"200 OK"


def test_a_refusal_over_tls_is_one_too(
    serve: Serve, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """The handshake is made, so that the client can read why."""
    held = Held()
    server = serve(held, tls=lambda: tls, max_connections=1)
    with trusting.wrap_socket(connect(server), server_hostname="localhost") as client:
        client.sendall(GET)
        assert held.called.wait(5)
        assert status(ask_tls(server, trusting)) == b"503 Service Unavailable"
        held.go.set()


def test_refusals_leave_room_for_further_ones(serve: Serve) -> None:
    """After many refusals, the next connection still receives 503."""
    with working(serve, 1, max_connections=1) as server:
        for _ in range(70):
            assert status(ask(server)) == b"503 Service Unavailable"


def test_a_refused_client_that_sends_on_reads_why(serve: Serve) -> None:
    """The connection is read for a moment, or the kernel would take the refusal back."""
    with working(serve, 1, max_connections=1) as server:
        assert status(ask(server, GET + b"a" * 3_000_000)) == b"503 Service Unavailable"


def test_a_refused_client_is_waited_for_a_moment_only(serve: Serve) -> None:
    """A connection without a place has half a second for its request."""
    with working(serve, 1, max_connections=1) as server:
        begin = time.monotonic()
        assert ask(server, b"") == b""
        assert 0.4 < time.monotonic() - begin < 2


def test_a_flood_beyond_the_refusals_is_cut_off(serve: Serve) -> None:
    """Only some connections beyond the limit receive 503 at a time; others are closed."""
    with working(serve, 1, max_connections=1) as server:

        def ask_in_the_flood() -> bytes:
            with idle(server, 64):
                return ask_or_reset(server)

        wait_for(lambda: ask_in_the_flood() == b"", "there is no answer")


def test_running_out_of_file_descriptors_passes(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that cannot be accepted waits until it can; the server does not spin or end."""
    server = serve()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack, socket.socket() as client:
        client.settimeout(5)
        # Below are standard input, output and error: no number is left, whatever is closed.
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        client.connect(("127.0.0.1", server.server_port))
        client.sendall(GET)
        deadline = time.monotonic() + 5
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
        used = time.process_time()
        time.sleep(0.2)
        assert time.process_time() - used < 0.1
        stack.close()
        assert status(read_all(client)) == b"200 OK"
    assert "Cannot accept connections" in caplog.text


def test_running_out_of_threads_passes(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that cannot have a thread is closed, and the next one is served."""
    server = serve()
    before = threading.stack_size(1 << 46)
    try:
        assert ask_or_reset(server) == b""
    finally:
        threading.stack_size(before)
    assert status(ask(server)) == b"200 OK"
    assert "Cannot serve connections" in caplog.text


def count_files() -> int:
    """Return how many files this process has open."""
    return len(list(FILES.iterdir()))


def ask_or_reset(server: Server) -> bytes:
    """Return the answer; nothing if the connection is torn."""
    with contextlib.suppress(ConnectionError):
        return ask(server)
    return b""


# The end


def test_closing_waits_for_answers_under_way(serve: Serve) -> None:
    """A scrape in flight at the end is answered; idle clients are not waited for."""
    held = Held()
    server = serve(held)
    answers = []
    scraper = threading.Thread(target=lambda: answers.append(ask(server)))
    with idle(server, 3):
        scraper.start()
        assert held.called.wait(5)
        threading.Timer(0.1, held.go.set).start()
        begin = time.monotonic()
        server.close(5)
        assert 0.05 < time.monotonic() - begin < 1
        scraper.join()
        assert [status(answer) for answer in answers] == [b"200 OK"]


def test_closing_waits_no_longer_than_the_grace(serve: Serve) -> None:
    """An answer that is not ready in time is abandoned."""
    held = Held()
    server = serve(held)
    with connect(server) as client:
        client.sendall(GET)
        assert held.called.wait(5)
        begin = time.monotonic()
        server.close(0.1)
        assert time.monotonic() - begin < 0.5
        held.go.set()


def test_a_closed_server_takes_no_more_connections(serve: Serve) -> None:
    """After the end the port is free."""
    server = serve()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    serve(address=("127.0.0.1", server.server_port))


def test_a_server_that_was_never_started_can_be_closed() -> None:
    """A server can be closed at any time."""
    Server(app, LOOPBACK).close()


def test_no_thread_and_no_file_is_left(serve: Serve) -> None:
    """A hundred connections, good and bad, leave nothing behind."""
    server = serve(head_seconds=0.1)
    ask(server)
    threads, files = threading.active_count(), count_files()
    for number in range(100):
        ask_or_reset(server) if number % 2 else connect(server).close()
    deadline = time.monotonic() + 5
    while threading.active_count() > threads or count_files() > files:
        assert time.monotonic() < deadline
        time.sleep(0.01)
