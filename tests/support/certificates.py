"""Certificates that trustme cannot make."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtensionOID

_BROKEN_NAME = x509.UnrecognizedExtension(
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x03\x82\x01\xff"
)


def self_signed(path: Path, *, uri: str | None, is_expired: bool = False) -> None:
    """Write a certificate, signed by its own key, and the key.

    Args:
        path: The file to write.
        uri: The URI that it is for; None: a subject alternative name that is not valid.
        is_expired: Whether it has expired.
    """
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]) if uri else None
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    end = datetime.now(timezone.utc) + timedelta(days=-1 if is_expired else 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=30))
        .not_valid_after(end)
        .add_extension(names or _BROKEN_NAME, critical=False)
        .sign(key, SHA256())
    )
    path.write_bytes(
        certificate.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
