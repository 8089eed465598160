"""TLS connections to a server with the settings of the web configuration."""

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
    """Answer every request that passes the handshake."""
    start_response("200 OK", [])
    return [b"sample"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return the authority that issues the certificates of the server and of its clients."""
    return trustme.CA()


@pytest.fixture(scope="module")
def unknown_authority() -> trustme.CA:
    """Return an authority that the server does not trust."""
    return trustme.CA()


def write_certificate(directory: Path, certificate: trustme.LeafCert) -> None:
    """Write a certificate and its key under the names that the tests configure."""
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    (directory / "server.crt").write_bytes(chain)
    certificate.private_key_pem.write_to_path(str(directory / "server.key"))


@pytest.fixture
def serve(authority: trustme.CA, tmp_path: Path) -> Iterator[Serve]:
    """Yield a function that starts a server with more settings; `ca.crt` is the authority's."""
    write_certificate(tmp_path, authority.issue_cert("localhost"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    with ExitStack() as stack:

        def start(more: str = "") -> Server:
            path = tmp_path / "web.yml"
            settings = f"{{cert_file: server.crt, key_file: server.key, {more}}}"
            # Otherwise the listed suites would have to include one that HTTP/2 needs.
            text = f"tls_server_config: {settings}\nhttp_server_config: {{http2: false}}"
            path.write_text(text, encoding="utf-8")
            server = Server(app, ("127.0.0.1", 0), tls=WebConfigFile(path).ssl_context)
            stack.callback(server.close)
            server.start()
            return server

        yield start


@pytest.fixture
def client(authority: trustme.CA) -> ssl.SSLContext:
    """Return the context of a client that trusts the server."""
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


def test_server_with_a_certificate_answers(serve: Serve, client: ssl.SSLContext) -> None:
    """A client that trusts the certificate is answered."""
    assert ask(serve(""), client)[0] == b"sample"


@pytest.mark.parametrize("settings", [REQUIRED, IF_GIVEN])
def test_client_certificate_of_the_authority_is_accepted(
    serve: Serve, client: ssl.SSLContext, authority: trustme.CA, settings: str
) -> None:
    """A client whose certificate is from the configured authority is answered."""
    authority.issue_cert("prometheus").configure_cert(client)
    assert ask(serve(settings), client)[0] == b"sample"


@pytest.mark.parametrize("settings", [REQUIRED, IF_GIVEN])
def test_client_certificate_of_another_authority_is_refused(
    serve: Serve, client: ssl.SSLContext, unknown_authority: trustme.CA, settings: str
) -> None:
    """A client whose certificate is from another authority receives a TLS alert."""
    unknown_authority.issue_cert("prometheus").configure_cert(client)
    with pytest.raises(ssl.SSLError, match="ALERT_UNKNOWN_CA"):
        ask(serve(settings), client)


def test_client_without_a_required_certificate_is_refused(
    serve: Serve, client: ssl.SSLContext
) -> None:
    """If a certificate is required, a client without one receives a TLS alert."""
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        ask(serve(REQUIRED), client)


@pytest.mark.parametrize("settings", [IF_GIVEN, "client_auth_type: RequestClientCert"])
def test_client_without_an_optional_certificate_is_accepted(
    serve: Serve, client: ssl.SSLContext, settings: str
) -> None:
    """If a certificate is optional, a client without one is answered."""
    assert ask(serve(settings), client)[0] == b"sample"


def test_intermediate_authority_can_be_trusted(
    serve: Serve, client: ssl.SSLContext, authority: trustme.CA, tmp_path: Path
) -> None:
    """As in Go, every certificate in `client_ca_file` is trusted, intermediate ones included."""
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
    """A client that supports no allowed version of TLS receives a TLS alert."""
    client.minimum_version, client.maximum_version = minimum, maximum
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        ask(serve(settings), client)


def test_suite_that_is_not_listed_is_refused(serve: Serve, client: ssl.SSLContext) -> None:
    """Only the listed suites of TLS 1.2 are accepted."""
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        ask(serve("cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"), client)
    assert ask(
        serve("cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]"),
        client,
    )


def test_renewed_certificate_is_used_by_the_next_connection(
    serve: Serve, client: ssl.SSLContext, authority: trustme.CA, tmp_path: Path
) -> None:
    """After the certificate was replaced, no restart is needed."""
    server = serve("")
    _, before = ask(server, client)
    write_certificate(tmp_path, authority.issue_cert("localhost"))
    _, after = ask(server, client)
    assert before != after


def test_renewed_authority_is_used_by_the_next_connection(
    serve: Serve,
    client: ssl.SSLContext,
    authority: trustme.CA,
    unknown_authority: trustme.CA,
    tmp_path: Path,
) -> None:
    """After the authority was replaced, clients with a certificate of the old one are refused."""
    server = serve(REQUIRED)
    authority.issue_cert("prometheus").configure_cert(client)
    assert ask(server, client)[0] == b"sample"
    unknown_authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    with pytest.raises(ssl.SSLError, match="ALERT_UNKNOWN_CA"):
        ask(server, client)
