"""The settings of `tls_server_config`, and the contexts made from them."""

import ssl
from dataclasses import dataclass, field
from enum import IntEnum

from exporter.webconfig.context import (
    ServerContext,
    accept_any_certificate,
    load_authorities,
    load_certificate,
)


class ClientAuth(IntEnum):
    """What a client must present; greater values protect more."""

    NONE = 0
    VERIFIED_IF_GIVEN = 1
    ANY = 2
    VERIFIED = 3


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The settings of `tls_server_config`.

    Attributes:
        certificate: The server's certificate, as PEM.
        key: Its key, as PEM.
        client_auth: What a client must present.
        authorities: Issuers of client certificates, as PEM; None: the system's authorities.
        allowed_sans: Names of which a client's certificate must have one; None: any name.
        minimum: The lowest version.
        maximum: The highest version.
        ciphers: OpenSSL's names of the TLS 1.2 suites, colon-separated; empty: the default.
        prefers_own_ciphers: Whether the server's order of suites counts, not the client's.
        curves: OpenSSL's names of curves and their groups, in order of preference; empty: default.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    client_auth: ClientAuth
    authorities: bytes | None
    allowed_sans: frozenset[str] | None
    minimum: ssl.TLSVersion
    maximum: ssl.TLSVersion
    ciphers: str
    prefers_own_ciphers: bool
    curves: tuple[tuple[str, int], ...]

    @property
    def trusts_system_authorities(self) -> bool:
        """Whether a client certificate may come from any of the system's authorities."""
        is_verified = self.client_auth in {ClientAuth.VERIFIED_IF_GIVEN, ClientAuth.VERIFIED}
        return is_verified and self.authorities is None

    def context(self) -> ServerContext:
        """Return a new context; one that accepts any certificate must serve one connection only.

        Raises:
            OSError: A temporary file cannot be created.
        """
        contexts = {group: self._with_curve(curve) for curve, group in self.curves}
        if not contexts:
            return self._with_curve(None)
        # For clients that support none of the curves, or list none.
        first = next(iter(contexts.values()))
        if len(contexts) > 1:
            first.by_group = contexts
        return first

    def protection(self) -> tuple[int, ...]:
        """Return how strictly clients are checked; greater numbers are stricter."""
        return (
            2 * self.client_auth + (not self.trusts_system_authorities),
            self.allowed_sans is not None,
            self.minimum,
        )

    def _with_curve(self, curve: str | None) -> ServerContext:
        context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self.minimum
        context.maximum_version = self.maximum
        if self.ciphers:
            context.set_ciphers(self.ciphers)
        if not self.prefers_own_ciphers:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        if curve:
            context.set_ecdh_curve(curve)
        load_certificate(context, self.certificate, self.key)
        context.allowed_sans = self.allowed_sans
        if self.client_auth is ClientAuth.ANY:
            accept_any_certificate(context)
        elif self.client_auth is not ClientAuth.NONE:
            load_authorities(context, self.authorities)
            # As in Go, every listed certificate is trusted, intermediate authorities included.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            is_required = self.client_auth is ClientAuth.VERIFIED
            context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
        return context
