"""TLS as the web configuration asks for it, on the wire."""

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from exporter.server import Server
from exporter.webconfig import WebConfigFile

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Serve = Callable[[str], Server]

REQUIRED = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt"
IF_GIVEN = "client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.crt"


def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer every request that gets so far."""
    start_response("200 OK", [])
    return [b"sample"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return the authority of the server and of its clients."""
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger() -> trustme.CA:
    """Return an authority that the server does not know."""
    return trustme.CA()


def write_certificate(directory: Path, certificate: trustme.LeafCert) -> None:
    """Write certificate and key under the names that the tests configure."""
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    (directory / "server.crt").write_bytes(chain)
    certificate.private_key_pem.write_to_path(str(directory / "server.key"))


@pytest.fixture
def serve(authority: trustme.CA, tmp_path: Path) -> Iterator[Serve]:
    """Return a function that serves with additional settings; `ca.crt` is the authority's."""
    write_certificate(tmp_path, authority.issue_cert("localhost"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    with ExitStack() as stack:

        def start(more: str = "") -> Server:
            path = tmp_path / "web.yml"
            settings = f"{{cert_file: server.crt, key_file: server.key, {more}}}"
            # Of few suites some lack what HTTP/2 needs.
            text = f"tls_server_config: {settings}\nhttp_server_config: {{http2: false}}"
            path.write_text(text, encoding="utf-8")
            server = Server(app, ("127.0.0.1", 0), tls=WebConfigFile(path).ssl_context)
            stack.callback(server.close)
            server.start()
            return server

        yield start


@pytest.fixture
def client(authority: trustme.CA) -> ssl.SSLContext:
    """Return a client that trusts the server."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def ask(server: Server, client: ssl.SSLContext) -> tuple[bytes, int]:
    """Return the body of the answer and the serial number of the server's certificate."""
    plain = socket.create_connection(("127.0.0.1", server.server_port), timeout=5)
    with client.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = b""
        while received := connection.recv(65536):
            answer += received
        certificate = connection.getpeercert()
        assert certificate
        return answer.partition(b"\r\n\r\n")[2], int(str(certificate["serialNumber"]), 16)


def test_a_server_with_a_certificate(serve: Serve, client: ssl.SSLContext) -> None:
    """A client that trusts the certificate is answered."""
    assert ask(serve(""), client)[0] == b"sample"


@pytest.mark.parametrize("settings", [REQUIRED, IF_GIVEN])
def test_a_known_client_is_accepted(
    serve: Serve, client: ssl.SSLContext, authority: trustme.CA, settings: str
) -> None:
    """A certificate of the configured authority is accepted."""
    authority.issue_cert("prometheus").configure_cert(client)
    assert ask(serve(settings), client)[0] == b"sample"


@pytest.mark.parametrize("settings", [REQUIRED, IF_GIVEN])
def test_an_unknown_client_is_refused(
    serve: Serve, client: ssl.SSLContext, stranger: trustme.CA, settings: str
) -> None:
    """A certificate of another authority is refused with a TLS alert."""
    stranger.issue_cert("prometheus").configure_cert(client)
    with pytest.raises(ssl.SSLError, match="ALERT_UNKNOWN_CA"):
        ask(serve(settings), client)


def test_a_client_without_certificate_is_refused(serve: Serve, client: ssl.SSLContext) -> None:
    """A missing certificate is refused with a TLS alert."""
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        ask(serve(REQUIRED), client)


@pytest.mark.parametrize("settings", [IF_GIVEN, "client_auth_type: RequestClientCert"])
def test_a_client_without_certificate_is_accepted(
    serve: Serve, client: ssl.SSLContext, settings: str
) -> None:
    """If no certificate is required, none is needed."""
    assert ask(serve(settings), client)[0] == b"sample"


def test_an_intermediate_authority_can_be_the_trusted_one(
    serve: Serve, client: ssl.SSLContext, authority: trustme.CA, tmp_path: Path
) -> None:
    """As with Go, every certificate in `client_ca_file` is trusted, intermediate ones included."""
    between = authority.create_child_ca()
    between.cert_pem.write_to_path(str(tmp_path / "between.crt"))
    settings = REQUIRED.replace("ca.crt", "between.crt")
    between.issue_cert("prometheus").configure_cert(client)
    assert ask(serve(settings), client)[0] == b"sample"


@pytest.mark.parametrize(
    ("settings", "minimum", "maximum"),
    [
        ("min_version: TLS13", ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
        ("max_version: TLS12", ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3),
        (
            "cipher_suites: [TLS_AES_128_GCM_SHA256]",
            ssl.TLSVersion.TLSv1_2,
            ssl.TLSVersion.TLSv1_2,
        ),
    ],
)
def test_versions_outside_the_range_are_refused(
    serve: Serve,
    client: ssl.SSLContext,
    settings: str,
    minimum: ssl.TLSVersion,
    maximum: ssl.TLSVersion,
) -> None:
    """A client without a common version gets a TLS alert."""
    client.minimum_version, client.maximum_version = minimum, maximum
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        ask(serve(settings), client)


def test_a_suite_that_is_not_listed_is_refused(serve: Serve, client: ssl.SSLContext) -> None:
    """Only the listed suites of TLS 1.2 are accepted."""
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        ask(serve("cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"), client)
    assert ask(
        serve("cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]"),
        client,
    )


def test_a_renewed_certificate_holds_from_the_next_connection(
    serve: Serve, client: ssl.SSLContext, authority: trustme.CA, tmp_path: Path
) -> None:
    """A renewed certificate is used from the next connection on."""
    server = serve("")
    _, before = ask(server, client)
    write_certificate(tmp_path, authority.issue_cert("localhost"))
    _, after = ask(server, client)
    assert before != after


def test_a_renewed_authority_holds_from_the_next_connection(
    serve: Serve,
    client: ssl.SSLContext,
    authority: trustme.CA,
    stranger: trustme.CA,
    tmp_path: Path,
) -> None:
    """Clients of an authority that was replaced are refused."""
    server = serve(REQUIRED)
    authority.issue_cert("prometheus").configure_cert(client)
    assert ask(server, client)[0] == b"sample"
    stranger.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    with pytest.raises(ssl.SSLError, match="ALERT_UNKNOWN_CA"):
        ask(server, client)
