"""The HTTP server, over real sockets: whoever misbehaves, everybody else is answered."""

import contextlib
import http.client
import logging
import resource
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
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.go = threading.Event()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer after `go`."""
        self.called.set()
        assert self.go.wait(10)
        return app(environ, start_response)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Give a function that starts servers; they are closed at the end."""
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
    """A certificate authority of this run."""
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """The server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """The client's side."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def connect(server: Server) -> socket.socket:
    """A plain connection."""
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=5)


def read_all(client: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    while data := client.recv(65536):
        received += data
    return received


def ask(server: Server, data: bytes = GET) -> bytes:
    """The answer to some bytes."""
    with connect(server) as client:
        client.sendall(data)
        return read_all(client)


def ask_tls(server: Server, context: ssl.SSLContext, data: bytes = GET) -> bytes:
    """The answer to some bytes over TLS."""
    with context.wrap_socket(
        connect(server), server_hostname="localhost", suppress_ragged_eofs=False
    ) as client:
        client.sendall(data)
        return read_all(client)


def status(answer: bytes) -> bytes:
    """The status line without the version."""
    return answer.partition(b"\r\n")[0].removeprefix(b"HTTP/1.1 ")


def body(answer: bytes) -> bytes:
    """What follows the head."""
    return answer.partition(b"\r\n\r\n")[2]


@contextlib.contextmanager
def idle(server: Server, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that send a little and then nothing."""
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
def test_anything_else_is_no_listen_address(text: str) -> None:
    """The error shows what was given and what is needed."""
    with pytest.raises(ValueError, match="is no listen address: HOST:PORT is needed") as error:
        parse_listen_address(text)
    assert str(error.value).startswith(repr(text))


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
    """An IPv6 address stands in brackets in the URL."""
    server = serve(address=("::1", 0))
    assert server.url == f"http://[::1]:{server.server_port}"
    with socket.create_connection(("::1", server.server_port), timeout=5) as client:
        client.sendall(GET)
        assert status(read_all(client)) == b"200 OK"


def test_localhost_is_ipv4(serve: Serve) -> None:
    """Of a name's addresses IPv4 is taken first."""
    assert status(ask(serve(address=("localhost", 0)))) == b"200 OK"


def test_a_port_in_use_is_an_error_that_names_it(serve: Serve) -> None:
    """Two exporters on one port: the second says so."""
    port = serve().server_port
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
        Server(app, ("127.0.0.1", port))


def test_an_unknown_host_is_an_error_that_names_it() -> None:
    """What is no address of this machine cannot be listened on."""
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
    """There is no word of Python, and none of the standard library's server."""
    for answer in (ask(serve()), ask(serve(), b"a b\n")):
        assert b"Server: WSGI" not in answer
        assert b"python" not in answer.lower()


def test_head_has_no_body(serve: Serve) -> None:
    """HEAD gives the same head as GET, with the length, and nothing behind it."""
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
        keys = ["SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR"]
        return [" ".join(environ[key] for key in keys).encode()]

    server = serve(show)
    assert body(ask(server)).decode() == f"127.0.0.1 {server.server_port} 127.0.0.1"


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
    """However the body is cut, it arrives as it is."""
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
    """A request with a body is answered, although nobody reads the body."""
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
    answer = ask(serve(fail), request)
    assert status(answer) == b"500 Internal Server Error"
    assert body(answer) == b"Internal error; the log tells more.\n"
    assert body(ask(serve(fail), request.replace(b"GET", b"HEAD"))) == b""
    record = caplog.records[0]
    assert (record.levelname, record.getMessage()) == ("ERROR", "unexpected error at GET /path")
    assert "RuntimeError: detail" in caplog.text
    assert "query" not in caplog.text
    assert "secret" not in caplog.text


def test_an_application_that_starts_no_response_is_a_500(serve: Serve) -> None:
    """A mistake of the application's is told as such."""
    assert status(ask(serve(lambda _environ, _start: []))) == b"500 Internal Server Error"


def test_an_error_in_the_middle_cuts_the_answer_short(serve: Serve) -> None:
    """What was promised and does not come is seen by the client, as the length is missing."""

    def fail(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        del environ
        start_response("200 OK", [("Content-Length", "200000")])
        yield b"a" * 100_000
        raise RuntimeError

    answer = ask(serve(fail))
    assert status(answer) == b"200 OK"
    assert len(body(answer)) == 100_000


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
    """The status tells what is wrong, without waiting for the rest."""
    begin = time.monotonic()
    assert status(ask(serve(), data))[:3] == expected
    assert time.monotonic() - begin < 0.5


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=100) | st.binary(max_size=60).map(lambda end: GET[:-2] + end))
def test_no_bytes_are_a_500_or_a_traceback(
    serve: Serve, capfd: pytest.CaptureFixture[str], data: bytes
) -> None:
    """Whatever a client sends, it is an answer, an error of the client's, or silence."""
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
    """Who never began a request gets no answer to it."""
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
    """Who has the answer and does not hang up costs a thread for a moment only."""
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
    """Who forgot the `s` reads so."""
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
    """What begins like TLS and is none ends the connection, without a word in the log."""
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
    """A mistake of ours ends the connection and is in the log."""

    def fail() -> ssl.SSLContext:
        raise RuntimeError("detail")

    assert ask(serve(tls=fail)) == b""
    assert "unexpected error on a connection" in caplog.text
    assert "RuntimeError: detail" in caplog.text


# Too many


def test_connections_beyond_the_limit_are_refused(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Who comes beyond the limit reads so at once; the log says it once a minute."""
    server = serve(max_connections=2)
    with idle(server, 2):
        for _ in range(3):
            answer = ask(server)
            assert status(answer) == b"503 Service Unavailable"
            assert body(answer) == b"Too many connections are open.\n"
    assert [record.getMessage() for record in caplog.records] == [
        "2 connections are open: no more are served"
    ]


def test_places_are_free_again_when_others_have_gone(serve: Serve) -> None:
    """The limit is on those that are open now."""
    server = serve(max_connections=1)
    with idle(server, 1):
        assert status(ask(server)) == b"503 Service Unavailable"
    deadline = time.monotonic() + 5
    while status(ask(server)) != b"200 OK":
        assert time.monotonic() < deadline


def test_a_refusal_over_tls_is_one_too(
    serve: Serve, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """The handshake is made, so that the client can read why."""
    server = serve(tls=lambda: tls, max_connections=1)
    with idle(server, 1):
        assert status(ask_tls(server, trusting)) == b"503 Service Unavailable"


def test_a_flood_beyond_the_refusals_is_cut_off(serve: Serve, tls: ssl.SSLContext) -> None:
    """Even telling that there are too many is done for so many only."""
    server = serve(tls=lambda: tls, max_connections=1)
    with idle(server, 65), connect(server) as client:
        assert client.recv(1) == b""


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
    assert "cannot accept a connection" in caplog.text


def test_running_out_of_threads_passes(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that cannot have a thread is closed, and the next one is served."""
    server = serve()
    before = threading.stack_size(1 << 46)
    try:
        assert ask_or_reset(server) == b""
    finally:
        threading.stack_size(before)
    assert status(ask(server)) == b"200 OK"
    assert "cannot serve a connection" in caplog.text


def count_files() -> int:
    """How many files this process has open."""
    return len(list(FILES.iterdir()))


def ask_or_reset(server: Server) -> bytes:
    """The answer, or nothing where the connection is torn."""
    with contextlib.suppress(ConnectionError):
        return ask(server)
    return b""


# The end


def test_closing_waits_for_answers_under_way(serve: Serve) -> None:
    """A scrape that runs when the server is told to end is answered; idle clients do not count."""
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
    """An answer that does not come in time is given up."""
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
    """What listens must be able to stop, whatever happened in between."""
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
