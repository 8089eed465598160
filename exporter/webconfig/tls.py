"""The parser of `tls_server_config`."""

import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from exporter.text import excerpt
from exporter.webconfig.context import load_authorities, load_certificate
from exporter.webconfig.section import Section
from exporter.webconfig.tls_settings import ClientAuth, TlsSettings

TLS_KEYS: Final = (
    "cert",
    "cert_file",
    "key",
    "key_file",
    "client_ca",
    "client_ca_file",
    "client_auth_type",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
)


_log = logging.getLogger(__name__)

_CLIENT_AUTH_TYPES: Final[Mapping[str, ClientAuth]] = {
    "NoClientCert": ClientAuth.NONE,
    # Nothing would check the certificate, so it is not requested.
    "RequestClientCert": ClientAuth.NONE,
    "VerifyClientCertIfGiven": ClientAuth.VERIFIED_IF_GIVEN,
    "RequireAnyClientCert": ClientAuth.ANY,
    "RequireClientCert": ClientAuth.ANY,
    "RequireAndVerifyClientCert": ClientAuth.VERIFIED,
}
_VERSIONS: Final[Mapping[str, ssl.TLSVersion]] = {
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_OLD_VERSIONS: Final = ("TLS10", "TLS11")
#: Go's names of the suites that it considers secure (https://pkg.go.dev/crypto/tls#CipherSuites),
#: and OpenSSL's names. TLS 1.3 suites are always enabled, in Go as in Python.
_CIPHER_SUITES: Final[Mapping[str, str]] = {
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
#: HTTP/2 requires one of these (RFC 7540, 9.2.2).
_HTTP2_SUITES: Final = (
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
)
#: Go's names of the curves, with OpenSSL's names and TLS group numbers.
_CURVES: Final[Mapping[str, tuple[str, int]]] = {
    "CurveP256": ("prime256v1", 23),
    "CurveP384": ("secp384r1", 24),
    "CurveP521": ("secp521r1", 25),
    "X25519": ("X25519", 29),
    "X25519MLKEM768": ("X25519MLKEM768", 4588),
}


def parse_tls(section: Section, read: Callable[[str], bytes], *, http2: bool) -> TlsSettings | None:
    """Parse `tls_server_config`; None if it is empty.

    Args:
        section: The section.
        read: Returns the content of a file that the section names.
        http2: Whether HTTP/2 is on: it is never spoken, but restricts the cipher suites.

    Raises:
        WebConfigError: It is not valid, or a file cannot be used.
    """
    if not section:
        return None
    minimum, maximum = _versions(section)
    ciphers = _ciphers(section)
    if ciphers is not None and not ciphers:
        if maximum < ssl.TLSVersion.TLSv1_3:
            raise section.error(
                "cipher_suites",
                "has only suites of TLS 1.3, but max_version is TLS12: add a suite of TLS 1.2",
            )
        minimum = ssl.TLSVersion.TLSv1_3
    elif ciphers and http2 and minimum < ssl.TLSVersion.TLSv1_3:
        _check_http2(section, ciphers)
    certificate, key = _certificate(section, read)
    client_auth, authorities = _client_auth(section, read)
    return TlsSettings(
        certificate=certificate,
        key=key,
        client_auth=client_auth,
        authorities=authorities,
        allowed_sans=_allowed_sans(section, client_auth),
        minimum=minimum,
        maximum=maximum,
        ciphers=":".join(ciphers or ()),
        prefers_own_ciphers=section.flag("prefer_server_cipher_suites"),
        curves=_curves(section),
    )


def _versions(section: Section) -> tuple[ssl.TLSVersion, ssl.TLSVersion]:
    for key in ("min_version", "max_version"):
        if section.text(key) in _OLD_VERSIONS:
            raise section.error(key, "must be TLS12 or TLS13: older versions are broken")
    minimum = _VERSIONS[section.choice("min_version", _VERSIONS) or "TLS12"]
    maximum = _VERSIONS[section.choice("max_version", _VERSIONS) or "TLS13"]
    if minimum > maximum:
        raise section.error("max_version", "must not be lower than min_version")
    return minimum, maximum


def _ciphers(section: Section) -> list[str] | None:
    """Return OpenSSL's names of the listed TLS 1.2 suites; None without a list."""
    chosen = section.choices("cipher_suites", _CIPHER_SUITES)
    return [_CIPHER_SUITES[name] for name in chosen if _CIPHER_SUITES[name]] if chosen else None


def _check_http2(section: Section, ciphers: list[str]) -> None:
    if not any(_CIPHER_SUITES[name] in ciphers for name in _HTTP2_SUITES):
        raise section.error(
            "cipher_suites", f"must have {' or '.join(_HTTP2_SUITES)} unless http2 is false"
        )


def _curves(section: Section) -> tuple[tuple[str, int], ...]:
    """Return the listed curves that Python's TLS supports."""
    chosen = section.choices("curve_preferences", _CURVES)
    available = [name for name in chosen if _is_available(_CURVES[name][0])]
    if chosen and not available:
        raise section.error(
            "curve_preferences", "has no curve that Python's TLS supports here: add CurveP256"
        )
    for name in chosen:
        if name not in available:
            _log.warning("Skipping unsupported curve", extra={"curve": name})
    return tuple(_CURVES[name] for name in available)


def _is_available(curve: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(curve)
    except (ValueError, ssl.SSLError):
        return False
    return True


def _certificate(section: Section, read: Callable[[str], bytes]) -> tuple[bytes, bytes]:
    certificate_key, certificate = _pem(section, "cert", read)
    key_key, key = _pem(section, "key", read)
    try:
        load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"and {key_key} do not match"
        else:
            problem = f"or {key_key} is not PEM, or the key is encrypted"
        raise section.error(certificate_key, problem) from None
    return certificate, key


def _client_auth(section: Section, read: Callable[[str], bytes]) -> tuple[ClientAuth, bytes | None]:
    wanted = section.choice("client_auth_type", _CLIENT_AUTH_TYPES) or "NoClientCert"
    client_auth = _CLIENT_AUTH_TYPES[wanted]
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if not (section.text("client_ca") or section.text("client_ca_file")):
        is_verified = client_auth in {ClientAuth.VERIFIED_IF_GIVEN, ClientAuth.VERIFIED}
        if is_verified and not _has_system_authorities(probe):
            raise section.error("client_ca_file", "is missing, and this system has no authorities")
        return client_auth, None
    key, authorities = _pem(section, "client_ca", read)
    if wanted == "NoClientCert":
        raise section.error(
            key, "has no effect without client_auth_type RequireAndVerifyClientCert"
        )
    try:
        load_authorities(probe, authorities)
    except ssl.SSLError:
        raise section.error(key, "has no certificate in PEM") from None
    return client_auth, authorities


def _has_system_authorities(probe: ssl.SSLContext) -> bool:
    load_authorities(probe, None)
    # Those in a directory are only loaded on demand.
    directory = ssl.get_default_verify_paths().capath
    return bool(probe.cert_store_stats()["x509"]) or (
        directory is not None and any(Path(directory).glob("*"))
    )


def _allowed_sans(section: Section, client_auth: ClientAuth) -> frozenset[str] | None:
    names = section.texts("client_allowed_sans")
    if not section.has("client_allowed_sans"):
        return None
    if client_auth < ClientAuth.ANY:
        raise section.error(
            "client_allowed_sans", "needs client_auth_type RequireAndVerifyClientCert"
        )
    if not names:
        raise section.error("client_allowed_sans", "is empty: no client could connect")
    return frozenset(names)


def _pem(section: Section, inline: str, read: Callable[[str], bytes]) -> tuple[str, bytes]:
    """Return the key that is set, `inline` or its `_file` form, and the PEM."""
    text, in_file = section.text(inline), f"{inline}_file"
    name = section.text(in_file)
    if text and name:
        raise section.error(inline, f"excludes {in_file}: remove one of them")
    if text:
        return inline, text.encode()
    if not name:
        raise section.error(in_file, "is missing")
    # It may be a private key, which must not be shown.
    if "-----BEGIN" in name:
        raise section.error(in_file, f"holds the PEM itself: name its file, or use {inline}")
    try:
        return in_file, read(name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the name contains a NUL"
        raise section.error(in_file, f"cannot be read: {excerpt(name)}: {reason}") from None
