"""`tls_server_config` and the `SSLContext` that it asks for."""

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from exporter import files
from exporter.text import printable
from exporter.webconfig.section import Section

TLS_KEYS: Final = (
    "cert_file",
    "key_file",
    "client_ca_file",
    "client_auth_type",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
)
TLS_REFUSED: Final[Mapping[str, str]] = {
    "cert": "use cert_file",
    "key": "use key_file",
    "client_ca": "use client_ca_file",
    "client_allowed_sans": "use a certificate authority for nobody but those who may come in",
    "curve_preferences": "leave it out",
}

#: All authorities of a system are a quarter of it.
_MAX_FILE_BYTES: Final = 2**20

_CLIENT_AUTH_TYPES: Final[Mapping[str, ssl.VerifyMode]] = {
    "NoClientCert": ssl.CERT_NONE,
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED: Final = ("RequireAnyClientCert", "RequireClientCert")
_VERSIONS: Final[Mapping[str, ssl.TLSVersion]] = {
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_OLD_VERSIONS: Final = ("TLS10", "TLS11")
#: Go's names of the suites that it counts as secure (https://pkg.go.dev/crypto/tls#CipherSuites),
#: and OpenSSL's. Those of TLS 1.3 cannot be chosen, neither in Go nor in Python: all are on.
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


def make_context(section: Section, find: Callable[[str], Path]) -> ssl.SSLContext | None:
    """The context that the section asks for; None if it is empty.

    Args:
        section: `tls_server_config`.
        find: Gives the path for a file name in the section; asked before the file is read.

    Raises:
        WebConfigError: It asks for what cannot be had, or a file cannot be used.
    """
    if not section:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_versions(context, section)
    _set_certificate(context, section, find)
    _set_client_auth(context, section, find)
    return context


def _set_versions(context: ssl.SSLContext, section: Section) -> None:
    for key in ("min_version", "max_version"):
        if section.text(key) in _OLD_VERSIONS:
            raise section.error(key, "must be TLS12 or TLS13: what is older is broken")
    minimum = _VERSIONS[section.choice("min_version", _VERSIONS) or "TLS12"]
    maximum = _VERSIONS[section.choice("max_version", _VERSIONS) or "TLS13"]
    if minimum > maximum:
        raise section.error("max_version", "is below min_version")
    chosen = section.choices("cipher_suites", _CIPHER_SUITES)
    suites = [_CIPHER_SUITES[name] for name in chosen if _CIPHER_SUITES[name]]
    if suites:
        context.set_ciphers(":".join(suites))
    elif chosen and maximum < ssl.TLSVersion.TLSv1_3:
        raise section.error("cipher_suites", "has none for TLS 1.2, which max_version asks for")
    elif chosen:
        minimum = ssl.TLSVersion.TLSv1_3
    context.minimum_version = minimum
    context.maximum_version = maximum
    section.choice("prefer_server_cipher_suites", ("true", "false"))


def _set_certificate(
    context: ssl.SSLContext, section: Section, find: Callable[[str], Path]
) -> None:
    certificate = _readable_file(section, "cert_file", find)
    key = _readable_file(section, "key_file", find)
    try:
        # Without this password OpenSSL would ask for one on the terminal, and wait.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise section.error("cert_file", "and key_file do not belong together") from None
        raise section.error(
            "cert_file", "or key_file is not PEM, or the key is encrypted"
        ) from None


def _set_client_auth(
    context: ssl.SSLContext, section: Section, find: Callable[[str], Path]
) -> None:
    if section.text("client_auth_type") in _UNVERIFIED:
        raise section.error(
            "client_auth_type",
            "cannot ask for a certificate without verifying it; use RequireAndVerifyClientCert",
        )
    wanted = section.choice("client_auth_type", _CLIENT_AUTH_TYPES) or "NoClientCert"
    mode = _CLIENT_AUTH_TYPES[wanted]
    if mode or section.text("client_ca_file"):
        authorities = _readable_file(section, "client_ca_file", find)
        if wanted == "NoClientCert":
            raise section.error(
                "client_ca_file",
                "has no effect without client_auth_type RequireAndVerifyClientCert",
            )
        try:
            context.load_verify_locations(authorities)
        except ssl.SSLError:
            raise section.error("client_ca_file", "holds no certificate in PEM") from None
    # As in Go, what stands in the file is trusted, intermediate authorities too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = mode


def _readable_file(section: Section, key: str, find: Callable[[str], Path]) -> Path:
    if not (name := section.text(key)):
        raise section.error(key, "is missing")
    path = find(name)
    try:
        # OpenSSL tells too little of what is wrong, and would wait for a pipe.
        files.read(path, _MAX_FILE_BYTES)
    except (OSError, ValueError) as error:  # ValueError: there is a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise section.error(key, f"cannot be read: {printable(str(path))}: {reason}") from None
    return path
