"""TLS contexts with what Python's own lack: curve preference, allowed names, any certificate."""

import ipaddress
import ssl
from collections.abc import Mapping
from socket import socket
from types import MappingProxyType
from typing import Any, Final

from exporter.webconfig.hello import peek_groups
from exporter.webconfig.pem import as_file

#: The Certificate message of a handshake (RFC 8446, 4.4.2; RFC 5246, 7.4.2).
_CERTIFICATE: Final = 11
_MESSAGE_HEAD_BYTES: Final = 4
_LENGTH_BYTES: Final = 3
#: OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which has no name in Python.
_NO_CHECK_TIME: Final = 0x200000
#: OpenSSL's SSL_OP_NO_RX_CERTIFICATE_COMPRESSION, which has no name in Python.
_NO_COMPRESSED_CERTIFICATE: Final = 1 << 33


class _ServerSocket(ssl.SSLSocket):
    """A connection whose handshake fails if the client's certificate has no allowed name."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 # as the base class
        super().do_handshake(block)
        allowed = getattr(self.context, "allowed_sans", None)
        if allowed is None:
            return
        try:
            names = _names(self.getpeercert() or {})
        except ValueError as error:
            # An IP address of five bytes, or a name in no valid encoding.
            problem = "the client's certificate has an invalid name"
            raise ConnectionAbortedError(problem) from error
        if allowed.isdisjoint(names):
            problem = "the client's certificate has none of client_allowed_sans"
            raise ConnectionAbortedError(problem)


class ServerContext(ssl.SSLContext):
    """A server's TLS context.

    Attributes:
        allowed_sans: Names of which a client's certificate must have one; None: any name.
        by_group: Contexts with one curve each, by TLS group number, in order of preference. The
            first one that the client supports is used instead of this one.
    """

    sslsocket_class = _ServerSocket
    allowed_sans: frozenset[str] | None = None
    by_group: "Mapping[int, ServerContext]" = MappingProxyType({})

    def wrap_socket(self, sock: socket, *args: Any, **options: Any) -> ssl.SSLSocket:  # noqa: ANN401 # as the base class
        """Return the connection, before its handshake."""
        context = self
        if self.by_group:
            offered = peek_groups(sock)
            context = next((self.by_group[each] for each in self.by_group if each in offered), self)
        return super(ServerContext, context).wrap_socket(sock, *args, **options)


def load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load the server's certificate and key, both PEM.

    Raises:
        ssl.SSLError: They are not valid, or do not match.
        OSError: A temporary file cannot be created.
    """
    with as_file(certificate) as certificate_path, as_file(key) as key_path:
        # Without a password, OpenSSL would prompt on the terminal, and wait.
        context.load_cert_chain(certificate_path, key_path, password=lambda: b"")


def load_authorities(context: ssl.SSLContext, authorities: bytes | None) -> None:
    """Load the authorities that may issue client certificates, as PEM; None: the system's.

    Raises:
        ssl.SSLError: They are not valid.
        OSError: A temporary file cannot be created.
    """
    if authorities is None:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    with as_file(authorities) as path:
        context.load_verify_locations(path)


def accept_any_certificate(context: ssl.SSLContext) -> None:
    """Require a client certificate, and trust whichever one the client presents.

    Python's TLS verifies every certificate that it requests. So the presented certificate is added
    to the trusted ones before it is verified, and may have expired; that the client has its key is
    verified as usual. If Python drops this hook, every client is refused. Such a context must serve
    one connection only, or trusted certificates would accumulate.
    """
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    context.verify_mode = ssl.CERT_REQUIRED
    # OpenSSL 3.2 and later ask for a message that is not the one below (RFC 8879).
    context.options |= _NO_COMPRESSED_CERTIFICATE
    context._msg_callback = trust_presented  # type: ignore[attr-defined] # noqa: SLF001 # above


def trust_presented(
    connection: ssl.SSLSocket,
    direction: str,
    version: int,
    _content_type: int,
    message_type: int,
    data: bytes,
) -> None:
    """Trust the certificate in a client's Certificate message."""
    if direction != "read" or message_type != _CERTIFICATE:
        return
    at = _MESSAGE_HEAD_BYTES
    if version == ssl.TLSVersion.TLSv1_3:
        at += 1 + int.from_bytes(data[at : at + 1], "big")
    at += _LENGTH_BYTES
    length = int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
    at += _LENGTH_BYTES
    try:
        connection.context.load_verify_locations(cadata=data[at : at + length])
    except (ValueError, ssl.SSLError):
        # There is no valid certificate: OpenSSL reports that to the client.
        return


def _names(certificate: Mapping[str, Any]) -> set[str]:
    """Return the subject alternative names of a certificate, written as Go writes them."""
    return {
        _address(value) if kind == "IP Address" else value
        for kind, value in certificate.get("subjectAltName", ())
        if kind in {"DNS", "email", "URI", "IP Address"}
    }


def _address(text: str) -> str:
    # Python writes an IPv6 address in capitals and without `::`.
    address = ipaddress.ip_address(text.strip())
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
