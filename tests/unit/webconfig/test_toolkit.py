"""Files like those in exporter-toolkit's own test data: all load, and take effect."""

import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from exporter.server import Server
from exporter.webconfig import WebConfigFile
from exporter.webconfig.context import accept_any_certificate, trust_presented
from exporter.webconfig.ratelimit import RATE_KEYS
from exporter.webconfig.reading import HTTP_KEYS, KEYS
from exporter.webconfig.tls import TLS_KEYS
from tests.support.certificates import self_signed
from tests.support.curves import needs_curve
from tests.support.waits import wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "webconfig" / "toolkit"
PAGE = (ROOT / "docs" / "web-configuration.md").read_text(encoding="utf-8")
GOOD = sorted(path.name.removesuffix(".good.yml") for path in DATA.glob("*.good.yml"))
AUTHORIZATION = "Authorization: Basic YWxpY2U6Y29ycmVjdC1ob3JzZQ==\r\n"

Serve = Callable[[str], Server]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer that a client receives.

    Attributes:
        status: The status code.
        headers: The headers, names in lower case.
        cipher: OpenSSL's name of the cipher suite; empty without TLS.
    """

    status: int
    headers: Mapping[str, str]
    cipher: str


def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer every request that the web configuration lets pass."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"sample 42\n"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return the authority that issues the certificates of the server and of its clients."""
    return trustme.CA()


@pytest.fixture(scope="module")
def leaf(authority: trustme.CA) -> trustme.LeafCert:
    """Return the server's certificate."""
    return authority.issue_cert("localhost")


@pytest.fixture
def serve(
    authority: trustme.CA,
    leaf: trustme.LeafCert,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Serve]:
    """Yield a function that starts a server with a file; the system trusts only the authority."""
    pems = {
        "ca.crt": authority.cert_pem.bytes(),
        "server.crt": leaf.cert_chain_pems[0].bytes(),
        "server.key": leaf.private_key_pem.bytes(),
    }
    for name, pem in pems.items():
        (tmp_path / name).write_bytes(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))
    with ExitStack() as stack:

        def start(name: str) -> Server:
            text = (DATA / f"{name}.good.yml").read_text(encoding="utf-8")
            for each, pem in pems.items():
                place = each.replace(".", "_").upper()
                text = text.replace(place, indent(pem.decode(), "    "))
            path = tmp_path / "web.yml"
            path.write_text(text, encoding="utf-8")
            file = WebConfigFile(path)
            server = Server(
                file.wrap(app),
                ("127.0.0.1", 0),
                tls=file.ssl_context,
                extra_headers=file.headers,
            )
            stack.callback(server.close)
            server.start()
            return server

        yield start


@pytest.fixture
def client(authority: trustme.CA) -> ssl.SSLContext:
    """Return the context of a client that trusts the server and has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


def ask(server: Server, client: ssl.SSLContext | None, more: str = "") -> Answer:
    """Send a request; `client` is None for plain HTTP."""
    connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=5)
    cipher = ""
    if client:
        connection = client.wrap_socket(connection, server_hostname="localhost")
        cipher = (connection.cipher() or ("",))[0]
    with connection:
        connection.sendall(f"GET / HTTP/1.1\r\n{more}\r\n".encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    first, *lines = received.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    if not first:
        raise ConnectionResetError("there was no answer")
    fields = (line.split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), {name.lower(): value for name, value in fields}, cipher)


def is_refused(server: Server, client: ssl.SSLContext) -> bool:
    """Return whether a client receives no answer."""
    try:
        ask(server, client)
    except (ssl.SSLError, ConnectionError):
        return True
    return False


WITHOUT_TLS = {
    "empty",
    "headers",
    "no-burst",
    "no-rate-limit",
    "rate-limit",
    "users",
}
CLIENTS_NEED_A_CERTIFICATE = {
    "allowed-names",
    "any-client",
    "clients-of-the-system",
    "inline",
    "inline-key",
    "verified-clients",
}


@pytest.mark.parametrize("name", GOOD)
def test_every_file_answers_a_matching_client(
    serve: Serve, client: ssl.SSLContext, authority: trustme.CA, name: str
) -> None:
    """A client that meets the requirements is answered, unless the rate limit has no burst."""
    authority.issue_cert("prometheus.example").configure_cert(client)
    answer = ask(serve(name), None if name in WITHOUT_TLS else client, AUTHORIZATION)
    assert answer.status == (429 if name == "no-burst" else 200)


@pytest.mark.parametrize("name", [name for name in GOOD if name not in WITHOUT_TLS])
def test_plain_http_is_refused_if_the_file_configures_tls(serve: Serve, name: str) -> None:
    """A plain HTTP request to a TLS server is answered 400."""
    assert ask(serve(name), None, AUTHORIZATION).status == 400


@pytest.mark.parametrize("name", [name for name in GOOD if name not in WITHOUT_TLS])
def test_client_certificate_is_required_if_the_file_says_so(
    serve: Serve, client: ssl.SSLContext, name: str
) -> None:
    """A client without a certificate is refused by these files, and answered by all others."""
    server = serve(name)
    assert is_refused(server, client) == (name in CLIENTS_NEED_A_CERTIFICATE)


@pytest.mark.parametrize("name", [*sorted(CLIENTS_NEED_A_CERTIFICATE), "tls"])
def test_certificate_of_an_unknown_authority_is_refused_if_it_is_verified(
    serve: Serve, client: ssl.SSLContext, name: str
) -> None:
    """Only `RequireAnyClientCert` accepts the certificate of an unknown authority."""
    trustme.CA().issue_cert("prometheus.example").configure_cert(client)
    assert is_refused(serve(name), client) == (name not in {"any-client", "inline-key"})


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("is_expired", [False, True])
def test_require_any_client_cert_accepts_self_signed_certificates(
    serve: Serve,
    client: ssl.SSLContext,
    tmp_path: Path,
    version: ssl.TLSVersion,
    *,
    is_expired: bool,
) -> None:
    """Any certificate is accepted, even an expired one, and each connection must have one."""
    client.minimum_version = client.maximum_version = version
    server = serve("any-client")
    assert is_refused(server, client)
    self_signed(tmp_path / "own.pem", uri="spiffe://example/other", is_expired=is_expired)
    client.load_cert_chain(tmp_path / "own.pem")
    for _ in range(3):
        assert ask(server, client).status == 200


def test_compressed_client_certificates_are_not_requested() -> None:
    """Newer versions of OpenSSL request compressed certificates, which hide what to trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accept_any_certificate(context)
    assert context.options & 1 << 33


def test_without_pythons_hook_no_certificate_is_accepted(
    serve: Serve, client: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If Python lacks the hook for TLS messages, every client is refused, not accepted."""
    monkeypatch.setattr(ssl.SSLContext, "_msg_callback", None)
    self_signed(tmp_path / "own.pem", uri="spiffe://example/other")
    client.load_cert_chain(tmp_path / "own.pem")
    assert is_refused(serve("any-client"), client)


def test_allowed_name_may_be_a_uri(serve: Serve, client: ssl.SSLContext, tmp_path: Path) -> None:
    """A URI that names a service, as in SPIFFE, is compared like any other name."""
    self_signed(tmp_path / "own.pem", uri="spiffe://example/prometheus")
    (tmp_path / "ca.crt").write_bytes((tmp_path / "own.pem").read_bytes())
    client.load_cert_chain(tmp_path / "own.pem")
    assert ask(serve("allowed-names"), client).status == 200


@pytest.mark.parametrize(
    ("identity", "is_allowed"),
    [
        ("prometheus.example", True),
        ("fd00::1", True),
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("other.example", True),
        ("fd00::2", False),
        ("127.0.0.1", False),
        ("example", False),
        ("prometheus@example", False),
        ("*.example", False),
    ],
)
def test_client_certificate_needs_an_allowed_name(
    serve: Serve,
    client: ssl.SSLContext,
    authority: trustme.CA,
    caplog: pytest.LogCaptureFixture,
    identity: str,
    *,
    is_allowed: bool,
) -> None:
    """A certificate is refused, and that is logged, if none of its names is exactly in the list."""
    caplog.set_level(logging.DEBUG, "exporter")
    authority.issue_cert(identity).configure_cert(client)
    server = serve("allowed-names")
    threads = {*threading.enumerate()}
    assert is_refused(server, client) is not is_allowed
    wait_until(lambda: {*threading.enumerate()} <= threads, "the connection's thread has ended")
    assert [str(vars(record)["err"]) for record in caplog.records if "err" in vars(record)] == (
        [] if is_allowed else ["the client's certificate has none of client_allowed_sans"]
    )


def test_client_certificate_with_an_invalid_name_is_refused(
    serve: Serve, client: ssl.SSLContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name in no valid encoding is refused, and not logged as an unexpected error."""
    self_signed(tmp_path / "own.pem", uri=None)
    (tmp_path / "ca.crt").write_bytes((tmp_path / "own.pem").read_bytes())
    client.load_cert_chain(tmp_path / "own.pem")
    server = serve("allowed-names")
    threads = {*threading.enumerate()}
    assert is_refused(server, client)
    wait_until(lambda: {*threading.enumerate()} <= threads, "the connection's thread has ended")
    assert caplog.records == []


@given(data=st.binary(max_size=40), version=st.sampled_from([771, 772]))
def test_invalid_certificate_message_trusts_nothing(data: bytes, version: int) -> None:
    """An invalid Certificate message adds no trusted certificate, and raises nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    connection = cast("ssl.SSLSocket", SimpleNamespace(context=context))
    trust_presented(connection, "read", version, 22, 11, data)
    assert context.cert_store_stats()["x509"] == 0


@pytest.mark.parametrize(
    ("curve", "version"),
    [
        ("prime256v1", ssl.TLSVersion.TLSv1_3),
        ("secp384r1", ssl.TLSVersion.TLSv1_3),
        ("secp521r1", ssl.TLSVersion.TLSv1_3),
        pytest.param("X25519", ssl.TLSVersion.TLSv1_3, marks=needs_curve("X25519")),
        # The curve of the server's certificate, which the client must support in TLS 1.2.
        ("prime256v1", ssl.TLSVersion.TLSv1_2),
    ],
)
def test_listed_curve_is_accepted(
    serve: Serve, client: ssl.SSLContext, curve: str, version: ssl.TLSVersion
) -> None:
    """A client that supports only one of the listed curves can connect."""
    client.maximum_version = version
    client.set_ecdh_curve(curve)
    assert ask(serve("all-curves"), client).status == 200


@pytest.mark.parametrize(
    ("name", "curve", "is_accepted"),
    [
        pytest.param("all-curves", "X448", False, marks=needs_curve("X448")),
        ("one-curve", "secp384r1", False),
        pytest.param("one-curve", "X25519", False, marks=needs_curve("X25519")),
        ("one-curve", "secp521r1", True),
    ],
)
def test_curve_that_is_not_listed_is_refused(
    serve: Serve, client: ssl.SSLContext, name: str, curve: str, *, is_accepted: bool
) -> None:
    """A client that supports none of the listed curves is refused."""
    client.set_ecdh_curve(curve)
    assert is_refused(serve(name), client) is not is_accepted


@pytest.mark.parametrize(
    ("name", "cipher"),
    [
        ("some-suites", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("client-s-order", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ],
)
def test_order_of_the_suites_is_the_servers_or_the_clients(
    serve: Serve, client: ssl.SSLContext, name: str, cipher: str
) -> None:
    """`prefer_server_cipher_suites` decides whose order of suites counts."""
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    assert ask(serve(name), client).cipher == cipher


@pytest.mark.parametrize("name", ["some-suites", "no-http2"])
def test_suite_that_is_not_listed_is_refused(
    serve: Serve, client: ssl.SSLContext, name: str
) -> None:
    """A client that supports none of the listed suites of TLS 1.2 is refused."""
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    assert is_refused(serve(name), client)


def test_headers_are_in_every_answer(serve: Serve) -> None:
    """The headers of the file are in every answer, also in errors."""
    server = serve("headers")
    for more in ("", "Expect: 100-continue\r\n", "A: b\r\n" * 9000):
        headers = ask(server, None, more).headers
        assert headers["strict-transport-security"] == "max-age=600"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "sameorigin"
        assert headers["x-xss-protection"] == "0"
        assert headers["content-security-policy"] == "default-src 'none'"


def test_requests_beyond_the_rate_are_refused(serve: Serve) -> None:
    """After a burst of three, requests are answered 429, with the headers of the file."""
    server = serve("rate-limit")
    answers = [ask(server, None) for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].headers["x-frame-options"] == "deny"


def test_interval_of_0_means_no_limit(serve: Serve) -> None:
    """A file whose rate limit has an interval of 0 answers every request."""
    server = serve("no-rate-limit")
    assert {ask(server, None).status for _ in range(10)} == {200}


@pytest.mark.parametrize(("user", "status"), [("Basic YWxpY2U6eA==", 401), ("", 401)])
def test_password_is_required(serve: Serve, user: str, status: int) -> None:
    """A request with a wrong password, or without one, is answered 401."""
    assert ask(serve("users"), None, f"Authorization: {user}\r\n").status == status


@pytest.mark.parametrize("key", [*KEYS, *HTTP_KEYS, *TLS_KEYS, *RATE_KEYS])
def test_every_key_is_in_the_documentation(key: str) -> None:
    """Every key has a row in docs/web-configuration.md."""
    assert re.search(rf"^\| [^|]*`{key}`[^|]*\|", PAGE, re.MULTILINE)
