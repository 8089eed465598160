"""One HTTP request that ends by its deadline in all cases, and leaves nothing behind."""

import base64
import gc
import gzip
import json
import os
import re
import socket
import ssl
import threading
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import certifi
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from exporter.cavatica.redaction import Redactor
from exporter.cavatica.transport import Response, Transport, TransportError
from scripts.ports import reserved_port
from tests.support.raw_server import Peer, listen, open_descriptors
from tests.support.timing import within
from tests.support.waits import PATIENCE, wait_until

TOKEN = "0123456789abcdef0123456789abcdef"
MAX_ANSWER_BYTES = 4 * 2**20
PAYLOAD = {"export_ids": ["A"]}
DEADLINE = 0.25
# Seconds that a busy machine may add: without a deadline a test would take at least 10 s.
TOLERANCE = 2.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HEAD = b"HTTP/1.1 200 OK\r\n"
# urllib3 does not close the connection of an answer with two lengths; garbage collection does.
LEFT_TO_THE_COLLECTOR = "ignore::pytest.PytestUnraisableExceptionWarning"
MAX_MEMORY_BYTES = 32 * 2**20


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a certificate authority."""
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return a TLS context whose certificate the environment's CA bundle trusts."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    return server_context(authority)


@pytest.fixture(autouse=True)
def _nothing_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that a test, and its transport, leave no thread and no descriptor."""
    threads, descriptors = threading.active_count(), open_descriptors()
    yield
    wait_until(lambda: threading.active_count() <= threads, "the threads have ended")
    if open_descriptors() > descriptors:
        # Log records of exceptions refer to frames, and so to connections.
        caplog.get_records("call").clear()
        gc.collect()
    wait_until(lambda: open_descriptors() <= descriptors, "the descriptors are closed")


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """Return a server's TLS context with a certificate for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def make_transport(token: Callable[[], str] = lambda: TOKEN) -> Transport:
    """Return a transport configured as the client configures it."""
    return Transport(token, {"User-Agent": "a-test"})


def post(
    port: int,
    *,
    scheme: str = "http",
    timeout: float = PATIENCE,
    transport: Transport | None = None,
    payload: object = PAYLOAD,
) -> Response:
    """Send one request to the port."""
    url = f"{scheme}://127.0.0.1:{port}/path"
    return (transport or make_transport()).post(url, payload, timeout, max_bytes=MAX_ANSWER_BYTES)


def answer_with(*answer: bytes) -> Callable[[Peer], None]:
    """Return a function that answers one request and closes the connection."""

    def talk(peer: Peer) -> None:
        peer.receive()
        for data in answer:
            peer.send(data)

    return talk


def drip(data: bytes, *, after: bytes = b"") -> Callable[[Peer], None]:
    """Return a function that answers one request: `after` at once, then `data` byte by byte."""

    def talk(peer: Peer) -> None:
        peer.receive()
        peer.send(after)
        peer.drip(data)

    return talk


@contextmanager
def in_time(timeout: float) -> Iterator[None]:
    """Check that the block ends by its deadline and leaves no request thread behind."""
    with within(max(timeout, 0) + TOLERANCE):
        yield
    wait_until(lambda: "api-call" not in thread_names(), "it ends")


def failure(port: int, *, scheme: str = "http", timeout: float = PATIENCE) -> tuple[str, str]:
    """Return reason and text of a request that fails by its deadline."""
    with in_time(timeout), pytest.raises(TransportError) as caught:
        post(port, scheme=scheme, timeout=timeout)
    return caught.value.reason, str(caught.value)


def failure_of(host: str, timeout: float = DEADLINE) -> tuple[str, str]:
    """Return reason and text of a failed request to a host."""
    with pytest.raises(TransportError) as caught:
        make_transport().post(f"http://{host}/", PAYLOAD, timeout, max_bytes=MAX_ANSWER_BYTES)
    return caught.value.reason, str(caught.value)


def thread_names() -> set[str]:
    """Return the names of the running threads."""
    return {thread.name for thread in threading.enumerate()}


def reason_of(transport: Transport, port: int) -> str | None:
    """Return the reason why a request fails, or None."""
    try:
        post(port, transport=transport, timeout=2)
    except TransportError as error:
        return error.reason
    return None


class TestRequest:
    """Requests, as the server receives them."""

    def test_has_method_path_headers_and_body(self) -> None:
        """A request is sent exactly like this; the token is in its header and nowhere else."""
        received = []

        def talk(peer: Peer) -> None:
            received.append(peer.receive())
            peer.send(OK)

        with listen(talk) as port:
            assert post(port).status == 200
        head, body = received[0].split(b"\r\n\r\n")
        first, *headers = head.split(b"\r\n")
        assert first == b"POST /path HTTP/1.1"
        assert sorted(headers) == [
            b"Accept-Encoding: gzip",
            b"Accept: */*",
            b"Connection: close",
            b"Content-Length: 21",
            b"Content-Type: application/json",
            b"Host: 127.0.0.1:%d" % port,
            b"User-Agent: a-test",
            b"X-SBG-Auth-Token: %s" % TOKEN.encode(),
        ]
        assert json.loads(body) == PAYLOAD
        assert received[0].count(TOKEN.encode()) == 1

    def test_uses_the_current_token(self) -> None:
        """A changed token is used from the next request on."""
        received = []

        def talk(peer: Peer) -> None:
            received.append(peer.receive())
            peer.send(OK)

        tokens = iter(["first", "second"])
        transport = make_transport(lambda: next(tokens))
        with listen(talk) as port:
            for _ in range(2):
                post(port, transport=transport)
        found = [re.findall(rb"X-SBG-Auth-Token: (\w+)", each) for each in received]
        assert found == [[b"first"], [b"second"]]

    def test_has_a_connection_of_its_own(self) -> None:
        """Each request opens a connection: a server need answer only the first request of each."""
        connections = []

        def talk(peer: Peer) -> None:
            connections.append(peer)
            peer.receive()
            peer.send(OK)
            peer.hang()

        transport = make_transport()
        with listen(talk) as port:
            for _ in range(4):
                assert post(port, transport=transport, timeout=1).status == 200
        assert len(connections) == 4

    def test_sends_no_cookies_back(self) -> None:
        """Cookies of an answer are not sent with the next request."""
        received = []

        def talk(peer: Peer) -> None:
            received.append(peer.receive())
            peer.send(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n\r\n"))

        transport = make_transport()
        with listen(talk) as port:
            for _ in range(2):
                post(port, transport=transport)
        assert len(received) == 2
        assert b"ookie" not in b"".join(received)

    def test_takes_no_password_from_netrc(
        self, tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """~/.netrc is not read, even if it has the host."""
        netrc = tmp_path / "netrc"
        netrc.write_text("default login somebody password secret\n", encoding="utf-8")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        received = []

        def talk(peer: Peer) -> None:
            received.append(peer.receive())
            peer.send(OK)

        with listen(talk, tls=tls) as port:
            assert post(port, scheme="https").status == 200
        assert b"uthorization" not in received[0]


class TestRedirect:
    """An answer that redirects the client to another URL."""

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_is_not_followed(self, status: int) -> None:
        """A redirect is not followed: the token would be sent along."""
        visits: list[Peer] = []
        with ExitStack() as stack:
            other = stack.enter_context(listen(visits.append))
            answer = (
                f"HTTP/1.1 {status} Elsewhere\r\nLocation: http://127.0.0.1:{other}/\r\n"
                "Content-Length: 0\r\n\r\n"
            )
            port = stack.enter_context(listen(answer_with(answer.encode())))
            response = post(port)
        assert (response.status, response.body) == (status, b"")
        assert visits == []

    @pytest.mark.parametrize("place", [b"http://[", b"\xff\xfe", b"//", b"http://a b/", b"?"])
    def test_with_an_invalid_location_is_an_answer(self, place: bytes) -> None:
        """The location of a redirect is not used, so an invalid one is no error."""
        answer = b"HTTP/1.1 302 Found\r\nLocation: " + place + b"\r\nContent-Length: 0\r\n\r\n"
        with listen(answer_with(answer)) as port:
            assert post(port).status == 302

    def test_with_a_large_body_is_an_error(self) -> None:
        """The body of a redirect is limited like any other."""
        head = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n"
        with listen(answer_with(head, *[b" " * 2**20] * 200)) as port:
            assert failure(port)[0] == "invalid_response"


class TestResponse:
    """Answers, as the transport returns them."""

    def test_has_status_headers_and_body(self) -> None:
        """A response has status, headers and body; header names are case-insensitive."""
        answer = b"HTTP/1.1 503 Busy\r\nX-RateLimit-Limit: 1000\r\nContent-Length: 4\r\n\r\nbusy"
        with listen(answer_with(answer)) as port:
            reply = post(port)
        assert (reply.status, reply.body) == (503, b"busy")
        assert reply.headers["x-ratelimit-limit"] == "1000"

    def test_is_decompressed(self) -> None:
        """A body in gzip, which the request asks for, is decompressed."""
        body = gzip.compress(b"{}")
        head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
        with listen(answer_with(head, body)) as port:
            assert post(port).body == b"{}"

    def test_may_come_in_chunks_or_until_the_connection_ends(self) -> None:
        """The end of a body is known by its length, its chunks or the end of the connection."""
        chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
        for answer in (OK, chunked, HEAD + b"\r\n{}"):
            with listen(answer_with(answer)) as port:
                assert post(port).body == b"{}"

    def test_may_be_as_large_as_the_limit(self) -> None:
        """A body as large as the limit is accepted."""
        body = b" " * MAX_ANSWER_BYTES
        with listen(answer_with(HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body)) as port:
            assert len(post(port).body) == MAX_ANSWER_BYTES

    def test_belongs_to_its_request(self) -> None:
        """Each of several concurrent requests gets its own response."""

        def talk(peer: Peer) -> None:
            body = peer.receive().partition(b"\r\n\r\n")[2]
            peer.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)

        transport = make_transport()
        replies: dict[int, bytes] = {}

        def ask(number: int) -> None:
            replies[number] = post(port, transport=transport, payload=number).body

        with listen(talk) as port:
            threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert replies == {number: str(number).encode() for number in range(8)}

    @pytest.mark.parametrize(
        "interim",
        [
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
            b"HTTP/1.1 102 Processing\r\nContent-Length: 99\r\n\r\n",
        ],
        ids=["103", "100 three times", "102 with a length"],
    )
    def test_may_follow_interim_answers(self, interim: bytes) -> None:
        """Interim answers, with a status 1xx, are skipped."""
        with listen(answer_with(interim + OK)) as port:
            assert post(port) == Response(200, {"Content-Length": "2"}, b"{}", Redactor(""))

    def test_with_status_101_is_final(self) -> None:
        """A 101 is a final answer, not an interim one: another protocol follows it."""
        with listen(answer_with(b"HTTP/1.1 101 Switching\r\n\r\n" + OK)) as port:
            assert post(port).status == 101

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param(b"Content-Type: multipart/x; boundary*=a; boundary*0=b", id="MIME"),
            pytest.param(b"Content-Type: x/y; a=" + b";" * 60000, id="many parameters"),
            pytest.param(
                b"Set-Cookie: a=b; expires=Mon, 01 Jan " + b"1" * 5000 + b" 00:00:00 GMT",
                id="a cookie's year",
            ),
            pytest.param(b"\r\n".join([b"Set-Cookie: " + b"a;" * 500] * 60), id="many cookies"),
            pytest.param(b"\r\n".join([b"X-%d: y" % n for n in range(500)]), id="many fields"),
            pytest.param(b"no field at all\r\n: nor this\r\n  nor that", id="no fields"),
            pytest.param(b"Set-Cookie: a\r\n\tContent-Length: 9", id="a field that continues"),
            pytest.param(b"Link: \xff\xfe\x00", id="no text"),
        ],
    )
    def test_may_have_any_unused_fields(self, fields: bytes) -> None:
        """Unused header fields are not parsed, so they cannot cost time or raise an exception."""
        answer = HEAD + fields + b"\r\nContent-Length: 2\r\n\r\n{}"
        began = time.process_time()
        with listen(answer_with(answer)) as port:
            response = post(port)
        assert (response.body, dict(response.headers)) == (b"{}", {"Content-Length": "2"})
        assert time.process_time() - began < 1

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(HEAD + b"Set-Cookie: " + b"a" * 70000, id="one field"),
            pytest.param(HEAD + b"Set-Cookie: a=b\r\n" * 5000, id="many fields"),
            pytest.param(b"HTTP/1.1 103 Early\r\n\r\n" * 5000, id="many interim answers"),
            pytest.param(b"H" * 70000, id="no line"),
        ],
    )
    def test_has_a_head_of_64_kib_at_most(self, head: bytes) -> None:
        """The limit applies to the whole head, not to each line."""
        with listen(answer_with(head + b"\r\n\r\n")) as port:
            problem = "the answer's head is larger than 65536 bytes"
            assert failure(port) == ("invalid_response", problem)


class TestDeadline:
    """A request ends at its deadline, and so do its thread and its connection."""

    @pytest.mark.parametrize(
        "talk",
        [
            pytest.param(Peer.hang, id="silence before the request is read"),
            pytest.param(lambda peer: (peer.receive(), peer.hang()), id="silence"),
            pytest.param(drip(HEAD * 99), id="drip in a header"),
            pytest.param(
                drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 99), id="drip of answers before the answer"
            ),
            pytest.param(
                drip(b" " * 999, after=HEAD + b"Content-Length: 999\r\n\r\n"),
                id="drip in the body",
            ),
            pytest.param(
                drip(b"1\r\n \r\n" * 99, after=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
                id="drip in chunks",
            ),
            pytest.param(
                lambda peer: (
                    peer.receive(),
                    peer.send(HEAD + b"Content-Length: 999\r\n\r\n{"),
                    peer.hang(),
                ),
                id="silence in the body",
            ),
        ],
    )
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_holds_against_silence_and_drip(
        self, talk: Callable[[Peer], object], scheme: str, tls: ssl.SSLContext
    ) -> None:
        """A request times out even if bytes keep arriving."""
        with listen(talk, tls=tls if scheme == "https" else None) as port:
            assert failure(port, scheme=scheme, timeout=DEADLINE)[0] == "timeout"

    def test_holds_against_a_drip_in_the_tls_handshake(self, tls: ssl.SSLContext) -> None:
        """A handshake that arrives byte by byte, up to 16 kB, does not extend the deadline."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        record = b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb"
        with listen(lambda peer: peer.drip(record + b"\x00" * 999)) as port:
            assert failure(port, scheme="https", timeout=DEADLINE)[0] == "timeout"

    def test_holds_against_a_silent_tls_handshake(self, tls: ssl.SSLContext) -> None:
        """A request times out if the server accepts but never answers the handshake."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        with listen(Peer.hang) as port:
            assert failure(port, scheme="https", timeout=DEADLINE)[0] == "timeout"

    def test_holds_against_a_proxy(
        self, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The deadline includes the time that the proxy takes."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        with listen(drip(HEAD * 99)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
            assert failure(1, scheme="https", timeout=DEADLINE)[0] == "timeout"

    def test_holds_if_no_server_accepts(self) -> None:
        """A connection that is not accepted in time times out."""
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)  # noqa: FBT003 # its only way
                waiting.connect_ex(listener.getsockname())
            assert failure(listener.getsockname()[1], timeout=DEADLINE)[0] == "timeout"

    def test_holds_against_the_resolver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The resolver cannot be interrupted; an address that it finds too late is not used."""
        proceed = threading.Event()
        visits: list[Peer] = []

        def resolve(*_: object) -> list[object]:
            proceed.wait(PATIENCE)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        with listen(visits.append) as port:
            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            with in_time(DEADLINE):
                assert failure_of("api.invalid") == (
                    "timeout",
                    "timed out resolving the name of the API",
                )
            proceed.set()
            wait_until(lambda: "resolver" not in thread_names(), "the lookup has ended")
        assert visits == []

    @pytest.mark.parametrize("timeout", [0, -1])
    def test_that_has_passed_is_a_timeout(self, timeout: float) -> None:
        """Without time left, the request times out at once."""
        with listen(Peer.hang) as port:
            assert failure(port, timeout=timeout)[0] == "timeout"

    def test_does_not_affect_other_requests(self) -> None:
        """A request that times out does not affect a concurrent one."""

        def talk(peer: Peer) -> None:
            late = b'"late"' in peer.receive()
            if late:
                peer.hang()
            time.sleep(2 * DEADLINE)
            peer.send(OK)

        transport = make_transport()
        with listen(talk) as port:
            replies: list[Response] = []
            beside = threading.Thread(
                target=lambda: replies.append(post(port, transport=transport, payload="beside"))
            )
            beside.start()
            with pytest.raises(TransportError, match="timed out"):
                post(port, transport=transport, payload="late", timeout=DEADLINE)
            beside.join()
        assert [reply.status for reply in replies] == [200]

    @pytest.mark.parametrize(
        ("talk", "phase"),
        [
            pytest.param(Peer.hang, "waiting for the answer", id="an answer"),
            pytest.param(
                lambda peer: (peer.receive(), peer.send(HEAD + b"\r\n{"), peer.hang()),
                "reading the answer",
                id="the rest of it",
            ),
        ],
    )
    def test_is_an_error_that_names_the_step(
        self, talk: Callable[[Peer], object], phase: str
    ) -> None:
        """A timeout names the step that it was waiting for."""
        with listen(talk) as port:
            assert failure(port, timeout=1) == ("timeout", f"timed out {phase}")

    def test_is_an_error_that_names_a_silent_proxy(
        self, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If a proxy accepts the connection and sends nothing, the error names the proxy."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        with listen(Peer.hang) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
            problem = "timed out waiting for the proxy"
            assert failure(1, scheme="https", timeout=1) == ("timeout", problem)

    def test_is_an_error_that_names_a_silent_handshake(self, tls: ssl.SSLContext) -> None:
        """If a firewall allows the connection but drops its data, the error names the handshake."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        with listen(Peer.hang) as port:
            problem = "timed out in the TLS handshake"
            assert failure(port, scheme="https", timeout=1) == ("timeout", problem)

    def test_holds_against_a_token_that_cannot_be_read(self) -> None:
        """The deadline includes reading the token from a hanging file server."""
        proceed = threading.Event()

        def token() -> str:
            proceed.wait(PATIENCE)
            return TOKEN

        with pytest.raises(TransportError, match="timed out reading the token"):
            post(1, transport=make_transport(token), timeout=0.2)
        proceed.set()

    def test_is_not_used_up_by_an_address_that_drops_packets(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If the first address of a name drops packets, the second is tried in time."""
        with ExitStack() as stack:
            hole = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.settimeout(0)
                waiting.connect_ex(hole.getsockname())
            port = stack.enter_context(listen(answer_with(OK)))
            places = [hole.getsockname(), ("127.0.0.1", port)]
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
            url = "http://api.invalid/"
            response = make_transport().post(url, PAYLOAD, 3, max_bytes=MAX_ANSWER_BYTES)
            assert response.status == 200


class TestConnection:
    """A connection that cannot be made, or breaks."""

    def test_that_is_refused_is_an_error(self) -> None:
        """A closed port is an error with the system's reason."""
        with reserved_port() as port:
            assert failure(port) == (
                "connection",
                "failed connecting to the API: Connection refused",
            )

    def test_to_an_unknown_host_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An unknown host name is an error with the resolver's reason."""

        def resolve(*_: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        assert failure_of("api.invalid", PATIENCE) == (
            "connection",
            "failed resolving the name of the API: Name or service not known",
        )

    @pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".invalid", ".invalid"])
    def test_to_an_invalid_host_name_is_an_error(self, host: str) -> None:
        """An invalid host name is a connection failure."""
        assert failure_of(host, PATIENCE)[0] == "connection"

    @pytest.mark.parametrize(
        "talk",
        [
            pytest.param(Peer.reset, id="reset at once"),
            pytest.param(lambda peer: (peer.receive(), peer.reset()), id="reset after the request"),
            pytest.param(answer_with(), id="closed without an answer"),
            pytest.param(
                answer_with(HEAD + b"Content-Length: 3\r\n\r\n{}"), id="closed in the body"
            ),
            pytest.param(
                answer_with(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}"),
                id="closed in a chunk",
            ),
            pytest.param(
                answer_with(HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n{}\r\n"),
                id="invalid chunk size",
            ),
            pytest.param(answer_with(b"SSH-2.0-OpenSSH_9.2\r\n"), id="another protocol"),
            pytest.param(
                answer_with(HEAD + b"X-RateLimit-A: b\r\n" * 200 + b"\r\n"), id="too many fields"
            ),
            pytest.param(answer_with(HEAD + b"Content-Length: 2\r\n"), id="closed in the head"),
            pytest.param(
                answer_with(
                    HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", *[b" " * 2**20] * 9
                ),
                id="negative chunk size",
            ),
            pytest.param(
                answer_with(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b" " * 70000),
                id="long chunk extension",
            ),
            pytest.param(
                answer_with(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b" " * 70000),
                id="long trailer",
            ),
        ],
    )
    def test_that_breaks_is_an_error(self, talk: Callable[[Peer], object]) -> None:
        """An answer that is incomplete, or is not HTTP, counts as a broken connection."""
        with listen(talk) as port:
            reason, text = failure(port)
        assert reason == "connection"
        assert re.fullmatch(
            "failed (connecting to the API|sending the request|(waiting for|reading) the answer)"
            "(: Connection reset by peer)?",
            text,
        )


class TestStatus:
    """The status of an answer that cannot be used."""

    @pytest.mark.parametrize(
        ("talk", "status"),
        [
            pytest.param(answer_with(), None, id="no answer"),
            pytest.param(drip(HEAD * 99), None, id="late in the head"),
            pytest.param(
                answer_with(b"HTTP/1.1 502 Bad\r\nContent-Length: 9\r\n\r\n{}"),
                502,
                id="closed in the body",
            ),
            pytest.param(
                drip(b" " * 999, after=HEAD + b"Content-Length: 999\r\n\r\n"), 200, id="late"
            ),
            pytest.param(
                answer_with(HEAD + b"\r\n", b" " * (MAX_ANSWER_BYTES + 1)),
                200,
                id="larger than the limit",
            ),
            pytest.param(
                answer_with(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
                200,
                id="broken compression",
            ),
        ],
    )
    def test_is_in_the_error(self, talk: Callable[[Peer], object], status: int | None) -> None:
        """An error after an answer has begun has the status of the answer."""
        with listen(talk) as port, pytest.raises(TransportError) as caught:
            post(port, timeout=4 * DEADLINE)
        assert caught.value.status == status


class TestUnexpected:
    """Unexpected errors."""

    def test_is_a_failure_with_a_reason(self) -> None:
        """An unexpected error is a failure that names its type, not its text."""

        def token() -> str:
            raise LookupError(TOKEN)

        with pytest.raises(TransportError) as caught:
            post(1, transport=make_transport(token))
        assert caught.value.reason == "invalid_response"
        assert str(caught.value) == "failed reading the token: unexpected LookupError"


class TestThreads:
    """A machine that cannot start another thread."""

    def test_without_one_the_request_fails(self) -> None:
        """Without a thread the request fails like others, so the next scrape makes another."""
        before = threading.stack_size(1 << 46)
        try:
            assert failure(1) == ("connection", "no thread can be started for the call")
        finally:
            threading.stack_size(before)


class TestTLS:
    """TLS connections to the API."""

    def test_works_with_the_environments_authorities(self, tls: ssl.SSLContext) -> None:
        """With REQUESTS_CA_BUNDLE an institution's own authority is trusted."""
        with listen(answer_with(OK), tls=tls) as port:
            assert post(port, scheme="https").status == 200

    def test_needs_a_certificate_of_a_trusted_authority(self, authority: trustme.CA) -> None:
        """A certificate of an unknown authority ends the request before the token is sent."""
        received = []

        def talk(peer: Peer) -> None:
            received.append(peer.receive())

        with listen(talk, tls=server_context(authority)) as port:
            reason, text = failure(port, scheme="https")
        assert reason == "tls"
        assert text == (
            "the certificate is not trusted: unable to get local issuer certificate"
            " (set SSL_CERT_FILE to the certificates of a private authority)"
        )
        assert received == []

    def test_needs_the_certificate_of_the_host(
        self, authority: trustme.CA, tls: ssl.SSLContext
    ) -> None:
        """The certificate of another host is refused."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("api.example").configure_cert(context)
        with listen(Peer.hang, tls=context) as port:
            assert failure(port, scheme="https")[0] == "tls"

    def test_needs_a_server_with_tls(self, tls: ssl.SSLContext) -> None:
        """A server that does not speak TLS is an error."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        with listen(lambda peer: peer.send(OK)) as port:
            reason, text = failure(port, scheme="https")
        assert reason == "tls"
        assert text.startswith("failed in the TLS handshake: [SSL")

    def test_error_names_the_variable_with_the_authorities(
        self, authority: trustme.CA, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If a certificate is not trusted, the error names the variable with the authorities."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
        with listen(Peer.hang, tls=server_context(authority)) as port:
            assert failure(port, scheme="https") == (
                "tls",
                (
                    "the certificate is not trusted: unable to get local issuer certificate"
                    " (SSL_CERT_FILE sets the trusted authorities)"
                ),
            )

    def test_works_with_the_authority_of_a_file(
        self, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With SSL_CERT_FILE the authority in a file is trusted, as by other programs."""
        monkeypatch.setenv("SSL_CERT_FILE", os.environ["REQUESTS_CA_BUNDLE"])
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with listen(answer_with(OK), tls=tls) as port:
            assert post(port, scheme="https").status == 200

    def test_needs_a_ca_bundle_that_exists(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A missing bundle is an error that names its path."""
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
        reason, text = failure(1, scheme="https")
        assert reason == "tls"
        assert "/nowhere/ca.pem" in text


class TestProxy:
    """Proxies from the environment."""

    def test_is_not_used_for_plain_http(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Plain HTTP uses no proxy, which would see the token; loopback needs none."""
        visits: list[Peer] = []
        with listen(visits.append) as proxy, listen(answer_with(OK)) as port:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
            assert post(port).status == 200
        assert visits == []

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 Connected\r\n\r\n",
            b"HTTP/1.0 201 Connected\r\nProxy-Agent: a\r\n\r\n",
            b"HTTP/1.1 103 Early\r\nLink: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ],
        ids=["200", "201", "200 after 103"],
    )
    def test_sees_only_the_host(
        self, answer: bytes, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Requests go through a tunnel, so the proxy sees neither the path nor the token."""
        requests_seen = []
        received = []

        def connect(peer: Peer) -> None:
            requests_seen.append(peer.receive())
            peer.send(answer)
            with tls.wrap_socket(peer.sock, server_side=True) as inner:
                end = Peer(inner)
                received.append(end.receive())
                end.send(OK)

        with listen(connect) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
            assert post(1, scheme="https").status == 200
        assert requests_seen == [b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n"]
        assert [each.count(TOKEN.encode()) for each in received] == [1]

    @pytest.mark.parametrize(
        ("head", "text"),
        [
            (
                b"HTTP/1.1 407 Who-are-you\r\nProxy-Authenticate: Basic\r\n",
                (
                    "the proxy refused the tunnel with HTTP 407: it requires a user and a password"
                    " (HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT)"
                ),
            ),
            (b"HTTP/1.0 403 No\r\n", "the proxy refused the tunnel with HTTP 403"),
            (b"HTTP/1.1 302 Found\r\n", "the proxy refused the tunnel with HTTP 302"),
            (b"HTTP/1.1 502 Bad\r\n", "the proxy refused the tunnel with HTTP 502"),
        ],
        ids=["407", "403", "302", "502"],
    )
    def test_that_refuses_is_an_error_with_its_status(
        self, head: bytes, text: str, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error has the status, which says what to do, and nothing else that the proxy sent."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        with listen(answer_with(head + b"Content-Length: 0\r\n\r\n")) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
            assert failure(1, scheme="https") == ("proxy", text)

    @pytest.mark.parametrize(
        "answer",
        [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n"],
        ids=["nothing", "SSH", "half a head", "an empty line"],
    )
    def test_with_another_protocol_is_a_connection_error(
        self, answer: bytes, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If the proxy's answer is not HTTP, the error names the step that failed."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        with listen(answer_with(answer)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
            assert failure(1, scheme="https") == ("connection", "failed waiting for the proxy")

    def test_receives_user_and_password_in_utf_8(
        self, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A password may have any character; the library `requests` allows only Latin-1."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        received = []

        def talk(peer: Peer) -> None:
            received.append(peer.receive())

        with listen(talk) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%C4%85ss%20w\u0105rd@127.0.0.1:{proxy}")
            assert failure(1, scheme="https")[0] == "connection"
        user = base64.b64encode("me:p\u0105ss w\u0105rd".encode())
        assert b"\r\nProxy-Authorization: Basic " + user + b"\r\n" in received[0]

    def test_may_be_reached_over_tls(
        self, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection to the proxy itself may use TLS."""
        with listen(answer_with(OK), tls=tls) as port:

            def connect(peer: Peer) -> None:
                peer.receive()
                with socket.create_connection(("127.0.0.1", port)) as api:
                    peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
                    peer.splice(api)

            with listen(connect, tls=tls) as proxy:
                monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy}")
                assert post(port, scheme="https").status == 200

    def test_that_cannot_be_reached_is_named_in_the_error(
        self, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If the proxy cannot be reached, the error names the proxy, not the API."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        problem = "failed connecting to the proxy: Connection refused"
        with reserved_port() as port:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
            assert failure(1, scheme="https") == ("connection", problem)

    def test_with_an_invalid_url_is_an_error_with_its_variable(
        self, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An invalid proxy URL is an error with the variable, without the password."""
        del tls  # only sets REQUESTS_CA_BUNDLE
        monkeypatch.setenv("HTTPS_PROXY", "socks5://me:a-secret@127.0.0.1:1080")
        problem = "HTTPS_PROXY: not a valid proxy URL (use http://HOST:PORT or https://HOST:PORT)"
        assert failure(1, scheme="https") == ("proxy", problem)


class TestSize:
    """The size of answers, before and after decompression."""

    TOO_LARGE = ("invalid_response", "the answer is larger than 4194304 bytes")

    @pytest.fixture(autouse=True)
    def _little_memory_is_used(self) -> Iterator[None]:
        """Check that little memory is used for an answer."""
        tracemalloc.start()
        yield
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MAX_MEMORY_BYTES

    @pytest.mark.parametrize("length", [b"", b"Content-Length: 209715200\r\n"])
    def test_is_limited(self, length: bytes) -> None:
        """Of an answer of 200 MB, announced or not, little more than the limit is read."""
        megabyte = b" " * 2**20
        with listen(answer_with(HEAD + length + b"\r\n", *[megabyte] * 200)) as port:
            assert failure(port) == self.TOO_LARGE

    @pytest.mark.parametrize("is_chunked", [False, True])
    @pytest.mark.parametrize("times", [1, 2, 3])
    def test_is_limited_after_decompression(self, times: int, *, is_chunked: bool) -> None:
        """Decompression ends at the limit for a body that grows a thousandfold or a millionfold."""
        bomb = gzip.compress(b" " * 2**20 * 64, 1)
        for _ in range(times - 1):
            bomb = gzip.compress(bomb * 4, 1)
        head = HEAD + b"Content-Encoding: " + b", ".join([b"gzip"] * times) + b"\r\n"
        if is_chunked:
            head += b"Transfer-Encoding: chunked\r\n\r\n"
            bomb = b"%x\r\n%s\r\n0\r\n\r\n" % (len(bomb), bomb)
        else:
            head += b"Content-Length: %d\r\n\r\n" % len(bomb)
        tracemalloc.reset_peak()
        with listen(answer_with(head, bomb)) as port:
            assert failure(port) == self.TOO_LARGE

    @pytest.mark.parametrize(
        ("encoding", "body"),
        [
            pytest.param(b"gzip", b"{}", id="no gzip"),
            pytest.param(b"gzip", gzip.compress(b"{}")[:-8] + b"\x00" * 8, id="a wrong checksum"),
            pytest.param(b", ".join([b"gzip"] * 99), b"{}", id="99 times"),
        ],
    )
    def test_of_broken_compression_is_an_error(self, encoding: bytes, body: bytes) -> None:
        """A body that cannot be decompressed is an error."""
        head = HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body))
        with listen(answer_with(head, body)) as port:
            assert failure(port) == ("invalid_response", "the answer's compression is broken")

    @pytest.mark.filterwarnings(LEFT_TO_THE_COLLECTOR)
    def test_with_two_values_is_an_error(self) -> None:
        """Two contradicting lengths are an error."""
        with listen(answer_with(HEAD + b"Content-Length: 2, 3\r\n\r\n{}")) as port:
            assert failure(port) == ("invalid_response", "the answer's length is not a number")

    def test_smaller_than_what_is_sent_ends_the_body(self) -> None:
        """Bytes after the declared length are not read as the next answer."""
        with listen(answer_with(HEAD + b"Content-Length: 2\r\n\r\n{}garbage" + OK)) as port:
            transport = make_transport()
            for _ in range(2):
                reply = post(port, transport=transport)
                assert reply.body == b"{}"


http_like = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: ",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.0 ",
            b"Content-Length: 2\r\n",
            b"Content-Length: -1\r\n",
            b"Content-Encoding: gzip\r\n",
            b"Content-Encoding: deflate\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Set-Cookie: a=b; Max-Age=",
            b"\r\n",
            b"{}",
            b"2\r\n{}\r\n0\r\n\r\n",
            gzip.compress(b"{}"),
        ]
    )
    | st.binary(max_size=20),
    max_size=8,
).map(b"".join)


@pytest.fixture(scope="module")
def answers() -> deque[bytes]:
    """Return the scripted answers, one for each connection."""
    return deque()


@pytest.fixture(scope="module")
def scripted_port(answers: deque[bytes]) -> Iterator[int]:
    """Run one server for all examples of a property-based test; yield its port."""

    def talk(peer: Peer) -> None:
        peer.receive()
        peer.send(answers.popleft())

    with listen(talk) as port:
        yield port


@pytest.mark.filterwarnings(LEFT_TO_THE_COLLECTOR)
class TestAnything:
    """Arbitrary bytes of a server."""

    @given(script=st.lists(http_like, min_size=1, max_size=2))
    def test_is_an_answer_or_a_failure_with_a_reason(
        self, script: list[bytes], answers: deque[bytes], scripted_port: int
    ) -> None:
        """Any bytes lead to an answer or to a failure with one of these reasons."""
        transport = make_transport()
        answers.extend(script)
        reasons = {reason_of(transport, scripted_port) for _ in script}
        assert reasons <= {None, "connection", "invalid_response"}
